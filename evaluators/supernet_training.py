"""Training a supernet: the sandwich rule (Yu et al. 2019, arXiv 1903.05134) on cached latents.

A step trains a drawn decoder; every eighth one the largest and the smallest too, on the same crops.
The largest learns from the photographs; the others then also from what the largest makes of the
crops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.cache import TrainingCache
from evaluators.checkpoint import load_checkpoint, save_checkpoint
from evaluators.decoder import Batch, Recipe, loss_of, prepared
from evaluators.devices import mixed_precision
from evaluators.run import Run
from evaluators.supernet import DECODER, Supernet
from evaluators.training import grouped
from search_spaces import operators
from search_spaces.blocks import Design
from search_spaces.codec.model import Codec
from search_spaces.parts import Piece, Place, find_parts
from search_spaces.space import Codes, SearchSpace

log = logging.getLogger(__name__)

Watch = Callable[[int, int], None]
DesignAt = Callable[[NDArray[np.int64]], Design]

_AVERAGE = 0.995
_CHECKPOINT_EVERY = 100  # steps
_DRAWN = 4000  # architectures that the extremes are looked for from


@dataclass(frozen=True)
class SupernetRecipe(Recipe):
    """How a supernet is trained.

    Attributes:
        drawn: decoders a step.
        sandwich_every: steps from one that trains the largest and the smallest too to the next.
        distillation: share of the largest one's image in what the others learn from there.
    """

    drawn: int = 1
    sandwich_every: int = 8
    distillation: float = 0.5


def train_supernet(
    supernet: Supernet,
    space: SearchSpace,
    design_at: DesignAt,
    codec: Codec,
    cache: TrainingCache,
    recipe: SupernetRecipe,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    watch: Watch | None = None,
) -> Supernet:
    """Trains all decoders of a space at once.

    Args:
        supernet: calibrated, or trained before.
        space: whose decoders are drawn.
        design_at: what is built of a code of it.
        codec: its shared part, which is trained and stays as it is.
        cache: of the shared part's latents.
        recipe: of the training.
        seed: of decoders and crops.
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
    codec.to(device)
    supernet.to(device).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    smallest, largest = (design_at(code) for code in extremes(space))
    groups = grouped(dict(supernet.named_parameters()), recipe.learning_rate, lambda name: 1.0)
    run = Run(supernet, recipe, seed, groups, _AVERAGE)
    if checkpoint is not None and checkpoint.is_file():
        load_checkpoint(checkpoint, run)
    while run.step < recipe.steps:
        batch = prepared(
            codec, cache.draw(recipe.batch, run.rng), device, run.rng, supernet.steps.values()
        )
        drawn = [design_at(code) for code in space.sample(run.rng, recipe.drawn)]
        if run.step % recipe.sandwich_every == 0:
            loss = _sandwich_loss(supernet, largest, [smallest, *drawn], batch, run)
        else:
            loss = _mean_loss(supernet, drawn, batch, run)
        run.take_step(loss, "supernet: step %d of %d, error %.4f of linear")
        if checkpoint is not None and run.step % _CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, run)
        if watch is not None and run.step % max(1, recipe.steps // 20) == 0:
            with run.shown():
                watch(run.step, recipe.steps)
    run.averages.take()
    return supernet.eval()


def _mean_loss(supernet: Supernet, designs: Sequence[Design], batch: Batch, run: Run) -> Tensor:
    weight = cast(SupernetRecipe, run.recipe).lpips_weight(run.step)
    images = (_decoded(supernet, design, batch) for design in designs)
    return torch.stack([loss_of(i, batch.pixels, batch, weight) for i in images]).mean()


def _sandwich_loss(
    supernet: Supernet, largest: Design, others: Sequence[Design], batch: Batch, run: Run
) -> Tensor:
    """Mean loss of the largest decoder and the others, which learn from it too."""
    recipe = cast(SupernetRecipe, run.recipe)
    weight, share = recipe.lpips_weight(run.step), recipe.distillation
    taught = _decoded(supernet, largest, batch)
    losses, teacher = [loss_of(taught, batch.pixels, batch, weight)], taught.detach().float()
    for design in others:
        decoded = _decoded(supernet, design, batch)
        loss = loss_of(decoded, batch.pixels, batch, weight)
        losses.append((1 - share) * loss + share * loss_of(decoded, teacher, batch, 0.0))
    return torch.stack(losses).mean()


@lru_cache(maxsize=2)  # who trains a supernet, watches it and begins it asks for the same
def extremes(space: SearchSpace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes of the decoder with the fewest and of that with the most multiply-adds.

    From the best of many drawn ones, one decision changed at a time as long as that helps.
    """
    return _extreme(space, 1.0), _extreme(space, -1.0)


def _extreme(space: SearchSpace, sign: float) -> NDArray[np.int64]:
    def cost(codes: Codes) -> NDArray[np.float64]:
        return np.asarray(sign * find_parts(space).total(codes, _decoder_macs))

    codes = np.vstack([[space.reference.code], space.sample(np.random.default_rng(0), _DRAWN)])
    best = codes[cost(codes).argmin()]
    while True:
        around = operators.neighbours(space, best[None])
        costs = cost(around) if len(around) else np.array([np.inf])
        if costs.min() >= cost(best[None])[0]:
            return np.asarray(best)
        best = around[costs.argmin()]


def _decoder_macs(place: Place, piece: Piece) -> float:
    of_decoder = place[1] == "network" and place[2].startswith(DECODER)
    return float(piece.macs) if of_decoder and not isinstance(piece, int) else 0.0


def _decoded(supernet: Supernet, design: Design, batch: Batch) -> Tensor:
    with mixed_precision(batch.image.device):
        return supernet.path(design).refine(batch.image, batch.latents, batch.level)
