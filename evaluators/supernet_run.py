"""Making a study's supernet: from its shared part to the file, resumable, scored on the way."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluators import candidates, decoder, scoring, shared
from evaluators.cache import TrainingCache
from evaluators.candidates import SHARED_WEIGHTS, Data, load_anchor
from evaluators.metrics import psnr, to_8_bit
from evaluators.protocol import SetupError
from evaluators.proxy import ProxyEvaluator
from evaluators.supernet import DECODER, Supernet
from evaluators.supernet_file import save_supernet
from evaluators.supernet_training import DesignAt, SupernetRecipe, extremes, train_supernet
from evaluators.watching import WATCHED_CROPS
from search_spaces.blocks import Design
from search_spaces.files import write_atomically
from search_spaces.space import SearchSpace

log = logging.getLogger(__name__)

_DRAWN_TO_WATCH = 3
_COMPARED = 64  # architectures whose encoders are compared


def make_supernet(
    space: SearchSpace, proxy: ProxyEvaluator, recipe: SupernetRecipe, file: Path
) -> None:
    """Trains a supernet and writes it; a training that broke off goes on.

    Beside the file, while it is trained: a checkpoint, and as JSON `steps` and the `curve` so far.

    Args:
        space: of the decoders.
        proxy: whose shared part, data, seed and anchor they have.
        recipe: of the training.
        file: in the study's folder.

    Raises:
        SetupError: the space's encoders differ, so that decoders do not share latents.
        EvaluationError: the loss is no longer finite.
    """

    def design_at(code: NDArray[np.int64]) -> Design:
        return proxy.design_of(space, space.architecture(code))

    _require_one_encoder(space, design_at)
    design, data = proxy.design_of(space, space.reference), proxy.data_in(file.parent)
    folder = proxy.shared_folder(design, data)
    cache = TrainingCache(folder)
    torch.manual_seed(proxy.seed)
    codec = shared.load_shared(design, folder / SHARED_WEIGHTS)
    supernet = Supernet(space)
    decoder.calibrate(codec, cache, supernet.steps.values())
    if proxy.anchor is not None:
        _, largest = extremes(space)
        begun = shared.load_shared(design_at(largest), folder / SHARED_WEIGHTS)
        candidates.from_anchor(load_anchor(proxy.anchor))(begun, cache)
        supernet.take(begun)
    checkpoint = file.with_suffix(".checkpoint")
    watch = _Watch(supernet, design_at, space, folder, data, file.with_suffix(".json"))
    if checkpoint.is_file():
        watch.go_on()
    train_supernet(
        supernet, space, design_at, codec, cache, recipe, proxy.seed, data.device, checkpoint,
        watch,
    )  # fmt: skip
    about = {
        "recipe": asdict(recipe), "data": proxy.data, "levels": list(proxy.levels),
        "seed": proxy.seed, "seconds": watch.seconds, "curve": watch.curve,
        "trained_apart": supernet.sharing(), "torch": torch.__version__,
    }  # fmt: skip
    save_supernet(supernet, codec, space, about, file)
    checkpoint.unlink(missing_ok=True)


class _Watch:
    """Scores some decoders while their supernet trains, for whoever waits.

    Attributes:
        curve: `step`, `seconds` and `psnr` of each decoder, an entry a watched step.
    """

    def __init__(
        self,
        supernet: Supernet,
        design_at: DesignAt,
        space: SearchSpace,
        folder: Path,
        data: Data,
        file: Path,
    ) -> None:
        smallest, largest = extremes(space)
        drawn = space.sample(np.random.default_rng(1), _DRAWN_TO_WATCH)
        codes = {"smallest": smallest, "largest": largest}
        codes |= {f"drawn {i}": code for i, code in enumerate(drawn, 1)}
        self._designs = {name: design_at(code) for name, code in codes.items()}
        self._supernet, self._folder = supernet, folder
        self._data, self._file = data, file
        self._began = time.monotonic()
        self.curve: list[dict[str, Any]] = []

    def go_on(self) -> None:
        """From what a training wrote that broke off."""
        if self._file.is_file():
            self.curve = json.loads(self._file.read_text())["curve"]
            self._began -= self.curve[-1]["seconds"]

    @property
    def seconds(self) -> float:
        """Since the training began, without what passed while it was broken off."""
        return time.monotonic() - self._began

    @torch.no_grad()
    def __call__(self, step: int, steps: int) -> None:
        crops = scoring.chosen(scoring.load_held_back(self._folder), slice(WATCHED_CROPS))
        scores = {name: self._psnr(design, crops) for name, design in self._designs.items()}
        kept = [entry for entry in self.curve if entry["step"] < step]
        self.curve = [*kept, {"step": step, "seconds": self.seconds, "psnr": scores}]
        write_atomically(self._file, json.dumps({"steps": steps, "curve": self.curve}))
        shown = ", ".join(f"{name} {value:.2f} dB" for name, value in scores.items())
        log.info("supernet: step %d of %d: %s", step, steps, shown)

    def _psnr(self, design: Design, crops: scoring.HeldBack) -> float:
        """Of a decoder at the watched level."""
        index, device = self._data.levels.index(self._data.level), self._data.device
        codec = shared.load_shared(design, self._folder / SHARED_WEIGHTS).to(device)
        self._supernet.give(codec)
        images = to_8_bit(scoring.decoded(codec, crops, index, self._data.level, device))
        return psnr(images.cpu(), crops.pixels / 255).mean().item()


def _require_one_encoder(space: SearchSpace, design_at: DesignAt) -> None:
    """Fails where decoders of a space do not decode the same latents.

    Raises:
        SetupError: says what to do.
    """
    codes = space.sample(np.random.default_rng(0), _COMPARED)
    built = [design_at(code).blocks.items() for code in codes]
    encoders = {frozenset(x for x in blocks if not x[0].startswith(DECODER)) for blocks in built}
    if len(encoders) > 1:
        raise SetupError(
            f"supernet: {space.name} searches encoders too; name an anchor with shared_steps: 0,"
            " or fix the encoder in the space"
        )
