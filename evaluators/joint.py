"""Training a whole codec: encoder, entropy model and decoder together, resumable at any step.

The loss moves from distortion to perception on a stated schedule: rate and squared error first,
then MS-SSIM and LPIPS join with weights that rise, while the squared error keeps half of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from evaluators import losses
from evaluators.branches import Branch, begun, leave
from evaluators.checkpoint import load_checkpoint, save_checkpoint
from evaluators.photos import Photo
from evaluators.run import Run
from evaluators.schedule import risen, warmed_up_cosine
from evaluators.training import parameter_groups, random_crops
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.model import Codec, one_hot

log = logging.getLogger(__name__)

Watch = Callable[[int, Codec], None]


@dataclass(frozen=True)
class JointRecipe:
    """How a codec is trained; two scores are comparable only when theirs are equal.

    Attributes:
        steps: optimiser steps.
        batch: crops a step. At equal time, three times the steps on a third of the crops saved a
            quarter of the bits within a minute.
        crop: side of a crop in pixels, a multiple of 32 above 96.
        learning_rate: of Adam, cosine to a twentieth after the warm-up; by kind of parameter it
            is multiplied (`parameter_groups`).
        perceptual_from: share of the steps after which MS-SSIM and LPIPS join.
        ms_ssim_weight: of 1 - MS-SSIM at the end, in bits a pixel at the middle level.
        lpips_weight: of LPIPS at the end, likewise.
        average: of the exponential moving average of the weights.
    """

    steps: int
    batch: int = 2
    crop: int = 128
    learning_rate: float = 2e-3
    perceptual_from: float = 0.5
    ms_ssim_weight: float = 0.5
    lpips_weight: float = 0.6
    average: float = 0.995

    def perception(self, step: int) -> float:
        """How far the loss has moved to perception, 0 to 1: up to full within a quarter."""
        return risen(step, self.perceptual_from * self.steps, 0.25 * self.steps)

    @property
    def branch_step(self) -> int:
        """Steps that longer trainings take over: of distortion alone, at most half of them."""
        return int(min(self.perceptual_from, 0.5) * self.steps)

    def rate_factor(self, step: int) -> float:
        """Share of the learning rate."""
        return warmed_up_cosine(step, self.steps)


def train_joint(
    codec: Codec,
    photos: Sequence[Photo],
    recipe: JointRecipe,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    every_seconds: float = 60.0,
    watch: Watch | None = None,
    branches: Sequence[Branch] = (),
) -> Codec:
    """Trains a codec from where it starts, or goes on from a checkpoint.

    A training that was broken off and one that was not end with the same weights.

    Args:
        codec: as built, or with weights inherited.
        photos: to train on.
        recipe: of the training.
        seed: of crops, levels and noise.
        device: where it runs.
        checkpoint: written now and then, read if it is there, kept at the end.
        every_seconds: between two checkpoints.
        watch: is shown the averaged codec after each tenth of the steps.
        branches: of shorter trainings, ascending, that this one goes on from, and its own.

    Returns:
        The codec with averaged weights and the entropy model's integers, in evaluation mode.

    Raises:
        EvaluationError: the loss is no longer finite.
        SetupError: the checkpoint is of another training.
    """
    codec.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def new(recipe: Any) -> Run:
        return joint_run(codec, recipe, seed)

    def take_step(run: Run) -> None:
        _step(run, photos)

    if checkpoint is not None and checkpoint.is_file():
        run = new(recipe)
        load_checkpoint(checkpoint, run)
        log.info("going on from step %d of %d", run.step, recipe.steps)
    else:
        run = begun(new, take_step, branches) if branches else new(recipe)
    saved = time.monotonic()
    while run.step < recipe.steps:
        leave(run, branches)
        take_step(run)
        if checkpoint is not None and time.monotonic() - saved > every_seconds:
            save_checkpoint(checkpoint, run)
            saved = time.monotonic()
        if watch is not None and run.step % max(1, recipe.steps // 10) == 0:
            with run.shown():
                codec.freeze()
                watch(run.step, codec)
    if checkpoint is not None:
        save_checkpoint(checkpoint, run)
    run.averages.take()
    codec.freeze()
    return codec.eval()


def joint_run(codec: Codec, recipe: JointRecipe, seed: int) -> Run:
    """A training of a codec at its start."""
    groups = parameter_groups(codec, recipe.learning_rate)
    return Run(codec, recipe, seed, groups, recipe.average)


@torch.no_grad()
def distortion_loss(codec: Codec, photos: Sequence[Photo], crop: int) -> float:
    """Rate and squared error of a codec in training, on some crops of every level; on the CPU."""
    images = random_crops(photos, LEVELS, np.random.default_rng(0), crop)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return loss_of(codec, images, np.arange(LEVELS), 0.0, JointRecipe(1))[0].item()


def step_seconds(codec: Codec, recipe: JointRecipe, device: torch.device) -> float:
    """Time of one step here, the perceptual phase by its share; from four timed steps.

    The codec is changed.
    """
    codec.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = joint_run(codec, recipe, 0)
    noise = run.rng.integers(0, 255, (recipe.crop, recipe.crop, 3), dtype=np.uint8)
    share = 1 - recipe.perceptual_from
    seconds = []
    for at in (0, recipe.steps - 1) if share > 0 else (0,):
        for timed in (1, 2):  # the first step of each kind allocates and compiles
            began = time.perf_counter()
            for _ in range(timed):
                run.step = at
                _step(run, [Photo("noise", noise)])
        seconds.append((time.perf_counter() - began) / timed)
    return (1 - share) * seconds[0] + share * seconds[-1]


def _step(run: Run, photos: Sequence[Photo]) -> None:
    recipe = cast(JointRecipe, run.recipe)
    run.codec.train()
    levels = run.rng.integers(LEVELS, size=recipe.batch)
    device = run.trained[0].device
    images = random_crops(photos, recipe.batch, run.rng, recipe.crop).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    torch.set_rng_state(run.noise)
    codec, perception = cast(Codec, run.codec), recipe.perception(run.step)
    loss, _ = loss_of(codec, images, levels, perception, recipe)
    run.noise = torch.get_rng_state()
    run.take_step(loss, "codec: step %d of %d, loss %.4f")


def loss_of(
    codec: Codec,
    images: Tensor,
    levels: Any,
    perception: float,
    recipe: JointRecipe,
    teacher: Tensor | None = None,
    share: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Rate and distortion, divided by the cost's usual growth: no level drowns the others.

    Args:
        codec: in training.
        images: crops, shape (N, 3, S, S) in [0, 1].
        levels: of each, shape (N,).
        perception: how far the loss has moved to perception.
        recipe: of the training.
        teacher: another codec's images of the same crops, same shape.
        share: of the squared error, that is taken from the teacher's images.

    Returns:
        The mean loss, and the decoded images, shape (N, 3, S, S).
    """
    level = one_hot(*levels.tolist()).to(images.device)
    bpp, decoded = losses.passed_through(codec, images, level)
    squared = losses.squared_error(decoded, images)
    if teacher is not None:
        squared = (1 - share) * squared + share * losses.squared_error(decoded, teacher)
    cost = losses.distortion_cost(bpp, squared, levels, 1 - perception / 2)
    if perception > 0:
        dissimilarity, lpips = losses.perceptual_distances(decoded, images)
        seen = recipe.ms_ssim_weight * dissimilarity + recipe.lpips_weight * lpips
        cost = cost + perception / losses.MIDDLE * seen
    return losses.SCALE * cost.mean(), decoded
