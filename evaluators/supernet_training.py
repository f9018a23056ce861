"""Training a supernet by the sandwich rule (Yu et al. 2019, arXiv 1903.05134).

A step trains a drawn network; every eighth one the largest and the smallest too, on the same crops.
The largest learns from the photographs; the others then also from what the largest makes of the
crops. What a step trains on is a lesson: of decoders, on cached latents (`DecoderLesson`), or of
whole codecs (`evaluators.supernet_codecs`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.cache import TrainingCache
from evaluators.checkpoint import load_checkpoint, save_checkpoint
from evaluators.decoder import Batch, Recipe, loss_of, prepared
from evaluators.devices import mixed_precision
from evaluators.run import Run
from evaluators.supernet import Supernet, is_shared
from evaluators.training import grouped
from search_spaces import operators
from search_spaces.blocks import Design
from search_spaces.codec.model import Codec
from search_spaces.parts import Piece, Place, find_parts
from search_spaces.space import Codes, SearchSpace

log = logging.getLogger(__name__)

Watch = Callable[[int, int], None]
Code = NDArray[np.int64]
DesignAt = Callable[[Code], Design]

_AVERAGE = 0.995
_CHECKPOINT_EVERY = 100  # steps
_DRAWN = 4000  # architectures that the extremes are looked for from


@dataclass(frozen=True)
class Sandwich:
    """Which networks a step trains.

    Attributes:
        drawn: networks a step.
        sandwich_every: steps from one that trains the largest and the smallest too to the next.
        distillation: share of the largest one's image in what the others learn from there.
    """

    drawn: int = 1
    sandwich_every: int = 8
    distillation: float = 0.5


@dataclass(frozen=True)
class DecodersRecipe(Sandwich, Recipe):
    """How a supernet of decoders is trained."""


class Lesson(Protocol):
    """What a step trains on."""

    def batch(self, run: Run) -> Any:
        """Draws the crops of a step."""
        ...

    def loss(
        self, design: Design, batch: Any, run: Run, teacher: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """A network's loss on a batch, and its images.

        Args:
            design: of it.
            batch: of `batch`.
            run: whose step it is.
            teacher: images that it learns from too, by the recipe's share.
        """
        ...

    def rate_factor(self, name: str) -> float:
        """Factor of the learning rate by a parameter's name."""
        ...


def train_supernet(
    supernet: Supernet,
    space: SearchSpace,
    design_at: DesignAt,
    lesson: Lesson,
    recipe: Any,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    watch: Watch | None = None,
) -> Supernet:
    """Trains all networks of a space at once.

    Args:
        supernet: calibrated, or trained before.
        space: whose networks are drawn.
        design_at: what is built of a code of it.
        lesson: of this supernet.
        recipe: of the training: the lesson's, with the fields of `Sandwich`.
        seed: of networks and crops.
        device: where torch runs.
        checkpoint: that a training which broke off goes on from.
        watch: is told the steps done and all of them after each twentieth, and sees averaged
            weights.

    Returns:
        The supernet with averaged weights, in evaluation mode.

    Raises:
        EvaluationError: the loss is no longer finite.
        SetupError: the checkpoint is of another training.
    """
    supernet.to(device).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ends = tuple(design_at(code) for code in extremes(space, supernet.whole))
    parameters = dict(supernet.named_parameters())
    groups = grouped(parameters, recipe.learning_rate, lesson.rate_factor)
    run = Run(supernet, recipe, seed, groups, _AVERAGE)
    if checkpoint is not None and checkpoint.is_file():
        load_checkpoint(checkpoint, run)
    while run.step < recipe.steps:
        batch = lesson.batch(run)
        drawn = [design_at(code) for code in space.sample(run.rng, recipe.drawn)]
        if run.step % recipe.sandwich_every == 0:
            losses = _sandwiched(lesson, ends[1], [ends[0], *drawn], batch, run)
        else:
            losses = [lesson.loss(design, batch, run)[0] for design in drawn]
        run.take_step(torch.stack(losses).mean(), "supernet: step %d of %d, loss %.4f")
        if checkpoint is not None and run.step % _CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, run)
        if watch is not None and run.step % max(1, recipe.steps // 20) == 0:
            with run.shown():
                watch(run.step, recipe.steps)
    run.averages.take()
    return supernet.eval()


def _sandwiched(
    lesson: Lesson, largest: Design, others: list[Design], batch: Any, run: Run
) -> list[Tensor]:
    """Losses of the largest network and of the others, which learn from it too."""
    loss, images = lesson.loss(largest, batch, run)
    teacher = images.detach().float()
    return [loss, *(lesson.loss(design, batch, run, teacher)[0] for design in others)]


@dataclass(frozen=True)
class DecoderLesson:
    """Decoders on cached latents.

    Attributes:
        supernet: of decoders.
        codec: its shared part, which is trained and stays as it is.
        cache: of the shared part's latents.
        recipe: of the training.
        device: where torch runs.
    """

    supernet: Supernet
    codec: Codec
    cache: TrainingCache
    recipe: DecodersRecipe
    device: torch.device

    def batch(self, run: Run) -> Batch:
        """Crops with what the linear decoder makes of them."""
        drawn = self.cache.draw(self.recipe.batch, run.rng)
        steps = self.supernet.steps.values()
        return prepared(self.codec.to(self.device), drawn, self.device, run.rng, steps)

    def loss(
        self, design: Design, batch: Batch, run: Run, teacher: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Squared error as a share of the linear decoder's, and LPIPS once its time has come."""
        with mixed_precision(self.device):
            images = self.supernet.path(design).refine(batch.image, batch.latents, batch.level)
        loss = loss_of(images, batch.pixels, batch, self.recipe.lpips_weight(run.step))
        if teacher is not None:
            share = self.recipe.distillation
            loss = (1 - share) * loss + share * loss_of(images, teacher, batch, 0.0)
        return loss, images

    def rate_factor(self, name: str) -> float:
        """As in training a decoder alone."""
        return 1.0


@lru_cache(maxsize=4)  # who trains a supernet, watches it and begins it asks for the same
def extremes(
    space: SearchSpace, whole: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes of the network with the fewest and of that with the most multiply-adds.

    From the best of many drawn ones, one decision changed at a time as long as that helps.

    Args:
        space: of codecs.
        whole: counts whole codecs, not decoders alone.
    """
    return _extreme(space, whole, 1.0), _extreme(space, whole, -1.0)


def _extreme(space: SearchSpace, whole: bool, sign: float) -> Code:
    def macs(place: Place, piece: Piece) -> float:
        counts = place[1] == "network" and is_shared(place[2], whole)
        return float(piece.macs) if counts and not isinstance(piece, int) else 0.0

    def cost(codes: Codes) -> NDArray[np.float64]:
        return np.asarray(sign * find_parts(space).total(codes, macs))

    codes = np.vstack([[space.reference.code], space.sample(np.random.default_rng(0), _DRAWN)])
    best = codes[cost(codes).argmin()]
    while True:
        around = operators.neighbours(space, best[None])
        costs = cost(around) if len(around) else np.array([np.inf])
        if costs.min() >= cost(best[None])[0]:
            return np.asarray(best)
        best = around[costs.argmin()]
