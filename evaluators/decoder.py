"""Training a candidate's decoder on cached latents.

Everything before the learned path is frozen, so that a step costs no more than the candidate's own
blocks. The start, crops and schedule are the recipe of a score: two candidates are comparable only
when theirs are equal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.branches import Branch, begun, leave
from evaluators.cache import Crops, TrainingCache
from evaluators.devices import mixed_precision
from evaluators.passes import linear_image, refine
from evaluators.perceptual import load_lpips
from evaluators.run import Run
from evaluators.training import grouped
from search_spaces.codec.edge_modules import Head, LatentStem, PatchCoefficients, Stem
from search_spaces.codec.model import Codec, is_of_decoder, one_hot

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)
Watch = Callable[[int, Codec], None]

_AVERAGE = 0.99
_DECAY = 0.25  # share of the steps over which the learning rate falls


@dataclass(frozen=True)
class Recipe:
    """How a decoder is trained.

    Attributes:
        steps: optimiser steps.
        batch: crops a step.
        learning_rate: of Adam after 30 steps of warm-up, decayed linearly over the last quarter.
        perceptual_from: share of the steps after which LPIPS joins the squared error.
        perceptual_weight: of LPIPS beside a squared error that starts at 1.
    """

    steps: int
    batch: int
    learning_rate: float
    perceptual_from: float
    perceptual_weight: float

    @property
    def branch_step(self) -> int:
        """Steps that longer trainings take over: they do the same until perception or decay."""
        joins = self.perceptual_from if self.perceptual_weight else 1.0
        return int(min(joins, 1 - _DECAY) * self.steps)

    def lpips_weight(self, step: int) -> float:
        """Of LPIPS in the loss at a step."""
        joined = step >= self.perceptual_from * self.steps
        return self.perceptual_weight if joined else 0.0

    def rate_factor(self, step: int) -> float:
        """Share of the learning rate: warm-up, constant, linear decay over the last quarter."""
        decay = max(0.02, (1 - step / self.steps) / _DECAY)
        return min(1.0, (step + 1) / 30) * min(1.0, decay)


@dataclass(frozen=True)
class Batch:
    """Crops on their way through a decoder's learned path.

    Attributes:
        image: what the linear decoder makes of them, shape (N, 3, S, S).
        latents: shape (N, M, S/16, S/16).
        level: shape (N, LEVELS).
        pixels: what they should become, shape (N, 3, S, S).
        linear_mse: squared error of the linear decoder at each crop's level, shape (N,).
    """

    image: Tensor
    latents: Tensor
    level: Tensor
    pixels: Tensor
    linear_mse: Tensor


@torch.no_grad()
def calibrate(codec: Codec, cache: TrainingCache, modules: Iterable[nn.Module] = ()) -> None:
    """Sets the scales of stems and heads from the statistics of crops.

    Stems see coefficients of unit size, heads give corrections in units of the linear decoder's
    error at the level. Before weights are inherited, which bring scales of their own.

    Args:
        codec: its shared part is trained.
        cache: of its latents.
        modules: of decoders; default the codec's own.
    """
    steps = list(modules) or [m for n, m in codec.steps.items() if n.startswith("decoder_")]
    rng = np.random.default_rng(0)
    crops = [cache.draw(64, rng, level) for level in cache.levels]
    images = [linear_image(codec, c.latents, one_hot(*c.levels.tolist())) for c in crops]
    for stem in _of_kind(steps, Stem):
        energy = torch.stack([_energy(stem.coefficients, image - 0.5) for image in images])
        stem.band_scale.copy_(energy.mean(0).sqrt().clamp_min(1e-3))
    for head in _of_kind(steps, Head):
        errors = [
            _energy(head.coefficients, crop.pixels - image).sqrt()
            for crop, image in zip(crops, images, strict=True)
        ]
        table = _at_all_levels(torch.stack(errors), cache.levels)
        head.error_scale.table.copy_(table.clamp_min(1e-4))


@torch.no_grad()
def error_of_linear(codec: Codec, cache: TrainingCache) -> float:
    """Squared error on some crops of every level, as a share of the linear decoder's."""
    rng, device = np.random.default_rng(0), torch.device("cpu")
    crops = [cache.draw(8, rng, level) for level in cache.levels]
    return float(np.mean([_loss(codec, some, 0.0, device, rng).item() for some in crops]))


def train_decoder(
    codec: Codec,
    cache: TrainingCache,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    watch: Watch | None = None,
    branches: Sequence[Branch] = (),
) -> Codec:
    """Trains the decoder's learned path of a codec whose shared part is trained, from its start.

    The loss is the squared error relative to the linear decoder's at the same level, so that every
    level weighs the same; towards the end LPIPS is added, since the squared error alone learns to
    blur. Weights are averaged exponentially; `watch` is shown the averaged codec after each tenth
    of the steps. `branches` are those of shorter trainings, ascending, that this one goes on from,
    and its own.

    Returns:
        The codec with averaged weights, on `device`, in evaluation mode.

    Raises:
        EvaluationError: the loss is no longer finite.
    """
    codec.to(device).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learned = {name: p for name, p in codec.named_parameters() if is_of_decoder(name)}
    if not learned:
        return codec.eval()

    def new(recipe: Any) -> Run:
        groups = grouped(learned, recipe.learning_rate, lambda name: 1.0)
        return Run(codec, recipe, seed, groups, _AVERAGE)

    def take_step(run: Run) -> None:
        _step(run, cache)

    run = begun(new, take_step, branches) if branches else new(recipe)
    while run.step < recipe.steps:
        leave(run, branches)
        take_step(run)
        if watch is not None and run.step % max(1, recipe.steps // 10) == 0:
            with run.shown():
                watch(run.step, codec)
    run.averages.take()
    return codec.eval()


def _step(run: Run, cache: TrainingCache) -> None:
    recipe, device = cast(Recipe, run.recipe), run.trained[0].device
    weight = recipe.lpips_weight(run.step)
    loss = _loss(cast(Codec, run.codec), cache.draw(recipe.batch, run.rng), weight, device, run.rng)
    run.take_step(loss, "decoder: step %d of %d, error %.4f of linear")


def step_seconds(codec: Codec, recipe: Recipe, device: torch.device) -> float:
    """Time of one training step here, the perceptual phase by its share; from six timed steps.

    The codec's decoder is changed.
    """
    rng = np.random.default_rng(0)
    codec.to(device).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    crops = Crops.blank(recipe.batch, codec.latent_channels)
    seconds = []
    for weight in (0.0, recipe.perceptual_weight):
        for timed in (1, 2):  # the first step of each kind allocates and compiles
            began = time.perf_counter()
            for _ in range(timed):
                _loss(codec, crops, weight, device, rng).backward()  # type: ignore[no-untyped-call]
        seconds.append((time.perf_counter() - began) / timed)
    share = 1 - recipe.perceptual_from
    return (1 - share) * seconds[0] + share * seconds[1]


def _loss(
    codec: Codec,
    crops: Crops,
    lpips_weight: float,
    device: torch.device,
    rng: np.random.Generator,
) -> Tensor:
    batch = prepared(codec, crops, device, rng, codec.steps.values())
    with mixed_precision(device):
        decoded = refine(codec, batch.image, batch.latents, batch.level)
    return loss_of(decoded, batch.pixels, batch, lpips_weight)


def prepared(
    codec: Codec,
    crops: Crops,
    device: torch.device,
    rng: np.random.Generator,
    steps: Iterable[nn.Module],
) -> Batch:
    """Runs what all decoders share, and turns crops where no decoder reads latents.

    Args:
        codec: its shared part is trained.
        crops: to train on.
        device: where to.
        rng: of the turn.
        steps: modules of the decoders that are trained.
    """
    pixels, level = crops.pixels.to(device), one_hot(*crops.levels.tolist()).to(device)
    latents = crops.latents.to(device)
    with torch.no_grad():
        image = linear_image(codec, latents, level)
    if not any(isinstance(module, LatentStem) for module in steps):
        image, pixels = _turned(image, pixels, rng)
    image = image.contiguous(memory_format=torch.channels_last)
    return Batch(image, latents, level, pixels, crops.linear_mse.to(device))


def loss_of(decoded: Tensor, target: Tensor, batch: Batch, lpips_weight: float) -> Tensor:
    """Squared error relative to the linear decoder's, and LPIPS; means over the crops.

    Args:
        decoded: shape (N, 3, S, S).
        target: what it should be.
        batch: of both.
        lpips_weight: 0 leaves LPIPS out.
    """
    error = (decoded.float() - target).pow(2).mean((1, 2, 3))
    loss = (error / batch.linear_mse).mean()
    if lpips_weight:
        device = decoded.device
        with mixed_precision(device):
            loss = loss + lpips_weight * load_lpips("alex").to(device)(decoded, target).mean()
    return loss


def _turned(image: Tensor, pixels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Both mirrored and transposed alike, at random: the few photographs count eightfold.

    The errors of the transform are as likely in either orientation, so that turned pairs are as
    good as new ones. Latents cannot be turned: decoders that read them train on crops as they are.
    """
    mirrored = [axis for axis in (2, 3) if rng.random() < 0.5]
    image, pixels = image.flip(mirrored), pixels.flip(mirrored)
    if rng.random() < 0.5:
        return image.transpose(2, 3), pixels.transpose(2, 3)
    return image, pixels


def _energy(coefficients: PatchCoefficients, image: Tensor) -> Tensor:
    values: Tensor = coefficients(image)
    return values.pow(2).mean((0, 2, 3))


def _at_all_levels(scored: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Interpolates rows known at some levels to all, shape (LEVELS, C)."""
    known: NDArray[np.float64] = scored.double().numpy()
    every = np.arange(one_hot(0).shape[1])
    columns = [np.interp(every, levels, column) for column in known.T]
    return torch.from_numpy(np.stack(columns, 1)).float()


def _of_kind(modules: Iterable[nn.Module], kind: type[Module]) -> Iterator[Module]:
    return (module for module in modules if isinstance(module, kind))
