"""Making a study's supernet: from what it begins with to the file, resumable, scored on the way."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
from evaluators.supernet_codecs import CodecLesson, given
from evaluators.supernet_file import save_supernet
from evaluators.supernet_training import (
    DecoderLesson,
    DesignAt,
    Lesson,
    extremes,
    train_supernet,
)
from evaluators.watching import WATCHED_CROPS
from search_spaces.blocks import Design
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.model import Codec
from search_spaces.files import write_atomically
from search_spaces.space import SearchSpace

log = logging.getLogger(__name__)

_DRAWN_TO_WATCH = 3
_COMPARED = 64  # architectures whose encoders are compared

# A network's figures at the watched level: `psnr`, of whole codecs `bpp` too.
Score = Callable[[Design], dict[str, float]]


@dataclass(frozen=True)
class _Begun:
    """A supernet before its training.

    Attributes:
        supernet: with the weights that it begins from.
        lesson: that it is trained on.
        score: of one of its networks.
        shared: the codec whose encoder its decoders stand behind; None where codecs are whole.
    """

    supernet: Supernet
    lesson: Lesson
    score: Score
    shared: Codec | None


def make_supernet(space: SearchSpace, proxy: ProxyEvaluator, recipe: Any, file: Path) -> None:
    """Trains a supernet and writes it; a training that broke off goes on.

    Beside the file, while it is trained: a checkpoint, and as JSON `steps` and the `curve` so far.

    Args:
        space: of the decoders, or of the codecs where the proxy trains jointly.
        proxy: whose shared part, data, seed and anchor they have.
        recipe: of the training: `DecodersRecipe` or `CodecsRecipe`.
        file: in the study's folder.

    Raises:
        SetupError: the space's encoders differ, so that decoders do not share latents.
        EvaluationError: the loss is no longer finite.
    """

    def design_at(code: NDArray[np.int64]) -> Design:
        return proxy.design_of(space, space.architecture(code))

    data = proxy.data_in(file.parent)
    torch.manual_seed(proxy.seed)
    begin = _begin_codecs if proxy.training == "joint" else _begin_decoders
    begun = begin(space, proxy, recipe, data, design_at)
    checkpoint = file.with_suffix(".checkpoint")
    watch = _Watch(begun, design_at, space, file.with_suffix(".json"))
    if checkpoint.is_file():
        watch.go_on()
    train_supernet(
        begun.supernet, space, design_at, begun.lesson, recipe, proxy.seed, data.device,
        checkpoint, watch,
    )  # fmt: skip
    levels = list(range(LEVELS)) if begun.supernet.whole else list(proxy.levels)
    about = {
        "recipe": asdict(recipe), "data": proxy.data, "levels": levels, "seed": proxy.seed,
        "seconds": watch.seconds, "curve": watch.curve,
        "trained_apart": begun.supernet.sharing(), "torch": torch.__version__,
    }  # fmt: skip
    save_supernet(begun.supernet, begun.shared, space, about, file)
    checkpoint.unlink(missing_ok=True)


def _begin_decoders(
    space: SearchSpace, proxy: ProxyEvaluator, recipe: Any, data: Data, design_at: DesignAt
) -> _Begun:
    """Calibrated behind the shared part, with as much of an anchor's decoder as helps."""
    _require_one_encoder(space, design_at)
    folder = proxy.shared_folder(proxy.design_of(space, space.reference), data)
    weights, cache = folder / SHARED_WEIGHTS, TrainingCache(folder)
    codec = shared.load_shared(proxy.design_of(space, space.reference), weights)
    supernet = Supernet(space)
    decoder.calibrate(codec, cache, supernet.steps.values())
    if proxy.anchor is not None:
        begun = shared.load_shared(design_at(extremes(space)[1]), weights)
        candidates.from_anchor(load_anchor(proxy.anchor))(begun, cache)
        supernet.take(begun)
    index = data.levels.index(data.level)
    crops = scoring.chosen(scoring.load_held_back(folder), slice(WATCHED_CROPS))

    def score(design: Design) -> dict[str, float]:
        scored = shared.load_shared(design, weights).to(data.device)
        supernet.give(scored)
        images = to_8_bit(scoring.decoded(scored, crops, index, data.level, data.device))
        return {"psnr": psnr(images.cpu(), crops.pixels / 255).mean().item()}

    lesson = DecoderLesson(supernet, codec, cache, recipe, data.device)
    return _Begun(supernet, lesson, score, codec)


def _begin_codecs(
    space: SearchSpace, proxy: ProxyEvaluator, recipe: Any, data: Data, design_at: DesignAt
) -> _Begun:
    """With what the largest codec begins from: the fitted entropy model, or the anchor."""
    training, crops = data.training(), data.held_back()[:WATCHED_CROPS]
    supernet = Supernet(space, whole=True)
    largest = Codec(design_at(extremes(space, True)[1]))
    proxy.joint_start(space, proxy.seed)(largest, training)
    supernet.take(largest)

    def score(design: Design) -> dict[str, float]:
        codec = given(supernet, design)
        coded = scoring.code_held_back(codec, crops, (data.level,))
        (point,) = scoring.score(codec, coded, (data.level,), data.device)["rd_points"]
        return {"psnr": point["psnr"], "bpp": point["bpp_coded"]}

    return _Begun(supernet, CodecLesson(supernet, training, recipe, data.device), score, None)


class _Watch:
    """Scores some networks while their supernet trains, for whoever waits.

    Attributes:
        curve: an entry a watched step: `step`, `seconds`, and each figure by network.
    """

    def __init__(self, begun: _Begun, design_at: DesignAt, space: SearchSpace, file: Path) -> None:
        smallest, largest = extremes(space, begun.supernet.whole)
        drawn = space.sample(np.random.default_rng(1), _DRAWN_TO_WATCH)
        codes = {"smallest": smallest, "largest": largest}
        codes |= {f"drawn {i}": code for i, code in enumerate(drawn, 1)}
        self._designs = {name: design_at(code) for name, code in codes.items()}
        self._score, self._file = begun.score, file
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
        scores = {name: self._score(design) for name, design in self._designs.items()}
        figures = {
            figure: {name: score[figure] for name, score in scores.items()}
            for figure in scores["largest"]
        }
        kept = [entry for entry in self.curve if entry["step"] < step]
        self.curve = [*kept, {"step": step, "seconds": self.seconds, **figures}]
        write_atomically(self._file, json.dumps({"steps": steps, "curve": self.curve}))
        shown = ", ".join(f"{name} {score['psnr']:.2f} dB" for name, score in scores.items())
        log.info("supernet: step %d of %d: %s", step, steps, shown)


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
            f"supernet: {space.name} searches encoders too; share them with training: joint, name"
            " an anchor with shared_steps: 0, or fix the encoder in the space"
        )
