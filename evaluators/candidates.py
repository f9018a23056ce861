"""Training one candidate, of either kind, up to the codec that is scored.

*Decoder only*: encoder and entropy model are trained once and frozen, their latents cached; a
candidate is its decoder. *Joint*: everything trains together, for candidates that change encoder,
entropy model or rate. Either begins from scratch or from an anchor's weights.
"""

from __future__ import annotations

import json
import logging
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import safe_open
from torch import Tensor

from evaluators import decoder, joint, photos, scoring, shared
from evaluators.branches import Branch
from evaluators.cache import TrainingCache, write_cache
from evaluators.inheritance import drop_what_harms, inherit
from evaluators.passes import dequantised
from evaluators.photo_store import stored
from evaluators.photos import Photo, Pixels
from evaluators.protocol import SetupError
from evaluators.scoring import HeldBack
from evaluators.stopping import NO_BAR
from evaluators.training import CROP, fit_entropy_model, random_crops
from evaluators.watching import WATCHED_CROPS, Watcher
from search_spaces.blocks import Design
from search_spaces.codec.model import Codec, one_hot
from search_spaces.codec.saved import CodecFileError, load_codec
from search_spaces.space import Choice

log = logging.getLogger(__name__)

SCORED_CROP = 192
SHARED_WEIGHTS = "shared.safetensors"

Start = Callable[[Codec, TrainingCache], None]
JointStart = Callable[[Codec, Sequence[Photo]], None]


@dataclass(frozen=True)
class Data:
    """What a study trains and scores on.

    Attributes:
        photographs: a folder, or `sample`.
        crops: held-back crops that are scored, at most.
        levels: quality levels that are scored.
        level: the one that is watched while a candidate trains.
        directory: the study's folder for what evaluations share.
        device: where torch runs.
    """

    photographs: str
    crops: int
    levels: tuple[int, ...]
    level: int
    directory: Path
    device: torch.device

    def training(self) -> list[Photo]:
        """Photographs to train on, mapped into memory."""

        def decoded() -> list[Photo]:
            found = photos.find_photos(self.photographs)
            return photos.load_photos(found.train, CROP)

        return stored(self._folder("photographs"), decoded)

    def held_back(self) -> list[Pixels]:
        """Crops to score."""

        def decoded() -> list[Photo]:
            found = photos.find_photos(self.photographs)
            whole = photos.load_photos(found.held_back, SCORED_CROP)
            crops = photos.textured_crops(whole, SCORED_CROP, self.crops)
            return [Photo(str(i), crop) for i, crop in enumerate(crops)]

        return [crop.pixels for crop in stored(self._folder(f"crops-{self.crops}"), decoded)]

    def _folder(self, name: str) -> Path:
        return self.directory / f"{name}-{zlib.crc32(self.photographs.encode()):08x}"


@dataclass(frozen=True)
class Trained:
    """A candidate that is ready to be scored.

    Attributes:
        codec: with its final weights.
        held_back: crops as it codes them.
        latents: of training crops, that 8-bit activations take their ranges from.
        conditions: the level of each, shape (N, LEVELS).
        curve: `step`, `seconds`, `psnr`, from where perception joins `lpips`, and in joint
            training `bpp_estimated`, at the watched level on a few held-back crops, after each
            tenth of the steps.
    """

    codec: Codec
    held_back: HeldBack
    latents: Tensor
    conditions: Tensor
    curve: list[dict[str, Any]] = field(default_factory=list)


@lru_cache(maxsize=1)
def load_anchor(file: str) -> Codec:
    """The codec that candidates begin from; read once a process, and never changed.

    Raises:
        SetupError: it is no codec file.
    """
    try:
        return load_codec(Path(file))
    except CodecFileError as problem:
        raise SetupError(f"anchor: {problem}") from None


def with_anchors_encoder(choices: Mapping[str, Choice], file: str) -> dict[str, Choice]:
    """A candidate's decoder behind the encoder and entropy model of an anchor.

    Args:
        choices: of the candidate, complete.
        file: the anchor.

    Raises:
        SetupError: it is no codec file.
    """
    load_anchor(file)  # says what is wrong with a file that is none
    with safe_open(file, "pt") as content:
        others: dict[str, Choice] = json.loads(content.metadata()["choices"])
    kept = {name: value for name, value in others.items() if not name.startswith("decoder.")}
    return kept | {name: value for name, value in choices.items() if name.startswith("decoder.")}


def decoder_candidate(
    design: Design,
    data: Data,
    recipe: decoder.Recipe,
    seed: int,
    folder: Path,
    start: Start,
    bar: Mapping[str, float] = NO_BAR,
    branches: Sequence[Branch] = (),
) -> Trained:
    """Trains a decoder on the latents of a shared part.

    Args:
        design: the candidate.
        data: of the study.
        recipe: of the training.
        seed: of first weights and crops.
        folder: that `shared_part` filled.
        start: gives it scales and weights to begin from.
        bar: what each phase has to come to, see `evaluators.stopping`.
        branches: of shorter trainings that this one goes on from, and its own.

    Raises:
        EvaluationError: the loss is no longer finite.
        StoppedEarly: it will not come to the bar.
    """
    cache = TrainingCache(folder)
    torch.manual_seed(seed)  # of the decoder's first weights; crops have their own
    codec = shared.load_shared(design, folder / SHARED_WEIGHTS)
    start(codec, cache)
    held_back = scoring.load_held_back(folder)
    share = recipe.perceptual_from if recipe.perceptual_weight else 1.0
    watcher = Watcher(recipe.steps, share, data.level, bar)
    watched, index = scoring.chosen(held_back, slice(WATCHED_CROPS)), data.levels.index(data.level)

    def watch(step: int, current: Codec) -> None:
        watcher.add(step, watched, index, current, data.device)

    codec = decoder.train_decoder(codec, cache, recipe, seed, data.device, watch, branches)
    rng = np.random.default_rng(0)
    crops = [cache.draw(recipe.batch, rng, level) for level in data.levels]
    latents = torch.cat([crop.latents for crop in crops]).to(data.device)
    conditions = torch.cat([one_hot(*crop.levels.tolist()) for crop in crops]).to(data.device)
    return Trained(codec, held_back, latents, conditions, watcher.curve)


def from_scratch(codec: Codec, cache: TrainingCache) -> None:
    """A start with the weights that a decoder draws."""
    decoder.calibrate(codec, cache)


def from_anchor(anchor: Codec | None) -> Start:
    """A start with as much of an anchor's decoder as helps."""
    if anchor is None:
        return from_scratch

    def start(codec: Codec, cache: TrainingCache) -> None:
        decoder.calibrate(codec, cache)
        inherit_what_helps(
            codec, anchor, lambda: decoder.error_of_linear(codec, cache), decoder_only=True
        )

    return start


def jointly_from(anchor: Codec | None, crop: int, seed: int) -> JointStart:
    """A start of a whole codec with as much of an anchor as helps.

    Args:
        anchor: None fits the entropy model alone.
        crop: side of the crops that say whether it helps.
        seed: of the fit.
    """

    def start(codec: Codec, training: Sequence[Photo]) -> None:
        if anchor is None:
            fit_entropy_model(codec, training, np.random.default_rng(seed))
        else:
            inherit_what_helps(codec, anchor, lambda: joint.distortion_loss(codec, training, crop))

    return start


def joint_candidate(
    design: Design,
    data: Data,
    recipe: joint.JointRecipe,
    seed: int,
    start: JointStart,
    checkpoint: Path | None = None,
    bar: Mapping[str, float] = NO_BAR,
    branches: Sequence[Branch] = (),
) -> Trained:
    """Trains a whole codec.

    Args:
        design: the candidate.
        data: of the study.
        recipe: of the training.
        seed: of first weights, crops, levels and noise.
        start: gives it weights to begin from.
        checkpoint: that a training which broke off goes on from.
        bar: what each phase has to come to, see `evaluators.stopping`.

    Raises:
        EvaluationError: the loss is no longer finite.
        StoppedEarly: it will not come to the bar.
    """
    training, crops = data.training(), data.held_back()
    torch.manual_seed(seed)
    codec = Codec(design)
    start(codec, training)
    watcher = Watcher(recipe.steps, recipe.perceptual_from, data.level, bar)

    def watch(step: int, current: Codec) -> None:
        coded = scoring.code_held_back(current, crops[:WATCHED_CROPS], (data.level,))
        watcher.add(step, coded, 0, current, data.device, rate=True)

    codec = joint.train_joint(
        codec, training, recipe, seed, data.device, checkpoint, watch=watch, branches=branches
    )
    held_back = scoring.code_held_back(codec.cpu(), crops, data.levels)
    some = random_crops(training, 4 * len(data.levels), np.random.default_rng(0))
    levels = [level for level in data.levels for _ in range(4)]
    pairs = zip(some, levels, strict=True)
    latents = torch.cat([dequantised(codec, image[None], level) for image, level in pairs])
    codec.to(data.device)
    return Trained(
        codec, held_back, latents.to(data.device), one_hot(*levels).to(data.device), watcher.curve
    )


def inherit_what_helps(
    codec: Codec, anchor: Codec, loss: Callable[[], float], decoder_only: bool = False
) -> tuple[float, list[str]]:
    """Gives a new codec as much of an anchor as helps; see `evaluators.inheritance`.

    Args:
        codec: as built.
        anchor: whose weights it takes.
        loss: of the codec as it stands.
        decoder_only: leaves everything but the decoder's learned path as it is.

    Returns:
        The share of the codec's steps that inherited, and the sides, of `encoder` and `decoder`,
        whose backbone begins from scratch since the anchor's does not fit.
    """
    fresh = {name: value.clone() for name, value in codec.state_dict().items()}
    share = inherit(codec, anchor, decoder_only)
    sides = ("decoder",) if decoder_only else ("encoder", "decoder")
    dropped = drop_what_harms(codec, fresh, loss, sides)
    for side in dropped:
        log.info("the anchor's %s does not fit: it begins from scratch", side)
    return share, dropped


def shared_part(data: Data, folder: Path, make: Callable[[], Codec]) -> Path:
    """The folder of a trained encoder and entropy model, their latents cached.

    Args:
        data: of the study.
        folder: made whole or not at all, by whoever comes first.
        make: gives the codec that they are taken from.
    """
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            _make_shared_part(data, folder, make())
    return folder


def _make_shared_part(data: Data, folder: Path, codec: Codec) -> None:
    training, crops = data.training(), data.held_back()
    log.info("%d photographs to train on, %d crops to score", len(training), len(crops))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="shared-") as name:
        unfinished = Path(name) / "content"
        unfinished.mkdir()
        shared.save_shared(codec, unfinished / SHARED_WEIGHTS)
        write_cache(codec, training, data.levels, unfinished)
        held_back = scoring.code_held_back(codec, crops, data.levels)
        scoring.save_held_back(held_back, unfinished)
        unfinished.rename(folder)
