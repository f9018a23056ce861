"""Training one codec in full, alone or on several workers, resumable at any step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from evaluators import losses
from evaluators.checkpoint import load_checkpoint, save_checkpoint, whole
from evaluators.discriminator import Adversary
from evaluators.full_crops import Batch, Crops
from evaluators.full_recipe import FullRecipe
from evaluators.photos import Photo
from evaluators.run import Run
from evaluators.together import ALONE, Place
from evaluators.training import parameter_groups
from search_spaces.codec.model import Codec, one_hot

log = logging.getLogger(__name__)

TERMS = (
    "loss", "bpp", "squared_error", "ms_ssim_loss", "lpips", "seam", "adversarial", "discriminator",
)  # fmt: skip


class FullTraining:
    """A codec in training, and the discriminator beside it.

    With several workers each step's gradient is the mean over all crops of the batch, each worker
    having had its share: what one worker would follow but for the noise that stands in for
    rounding, which each draws for itself, and the rounding of sums. What is recorded in the curve
    is of the first worker's share.

    Attributes:
        run: of the codec.
        curve: means over windows of steps, a mapping a window: `step` and `TERMS`, where known.
    """

    def __init__(
        self,
        codec: Codec,
        photos: Sequence[Photo],
        recipe: FullRecipe,
        seed: int,
        device: torch.device,
        place: Place = ALONE,
    ) -> None:
        """At step 0.

        Args:
            codec: as built, or with weights to begin from.
            photos: to train on, at least `recipe.crop` pixels each way.
            recipe: of the training.
            seed: of crops, levels, noise and the discriminator.
            device: where it runs.
            place: among the processes that train together.

        Raises:
            SetupError: the batch cannot be shared among the workers.
        """
        codec.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = parameter_groups(codec, recipe.learning_rate)
        self.run = Run(codec, recipe, seed, groups, recipe.average)
        self.curve: list[dict[str, float]] = []
        self._recipe, self._place, self._device = recipe, place, device
        self._crops = Crops(photos, recipe, seed)
        self._places = place.of_batch(recipe.batch)
        self._passing = place.shared(_Passing(codec))
        self._adversary = Adversary(seed, device, place)
        self._sums: dict[str, list[Tensor]] = {}

    @property
    def has_pairs(self) -> bool:
        """Whether any photograph is long enough for a pair of windows."""
        return self._crops.has_pairs

    @property
    def ended(self) -> bool:
        """Whether all steps are done."""
        return self.run.step >= self._recipe.steps

    def take_step(self) -> None:
        """One step of the codec, and of the discriminator where it is its turn.

        Raises:
            EvaluationError: a loss is no longer finite.
        """
        run, recipe, step = self.run, self._recipe, self.run.step
        batch = self._crops.draw(step, self._places, self._device)
        run.codec.train()
        torch.manual_seed(_noise_seed(run.seed, step, self._place.rank))
        level = one_hot(*batch.levels.tolist()).to(self._device)
        bpp, decoded = self._passing(batch.images, level)
        made = batch.put_together(decoded)
        terms = self._terms(batch, bpp, decoded, made, step)
        run.take_step(terms["loss"], "codec: step %d of %d, loss %.4f")
        if recipe.learns_to_discriminate(step):
            terms["discriminator"] = self._adversary.learn(made, batch.pictures)
        self._note(terms)

    def save(self, file: Path, notes: Any) -> None:
        """Writes a checkpoint; between two windows of the curve only.

        Args:
            file: of the checkpoint.
            notes: to be had back from `load`, JSON-ready.
        """
        assert not self._sums, "the curve would lose what its window holds"
        held = {"curve": self.curve, "notes": notes}
        save_checkpoint(file, self.run, self._adversary.tensors(), held)

    def load(self, file: Path) -> Any:
        """Goes on from a checkpoint; returns its notes.

        Raises:
            SetupError: the file is damaged, or of another training.
        """
        others, held = load_checkpoint(file, self.run)
        with whole(file):
            self._adversary.restore(others)
            self.curve = [dict(row) for row in held["curve"]]
            if not all(type(x) in (int, float) for row in self.curve for x in row.values()):
                raise ValueError("its curve is not of numbers")
            return held["notes"]

    def _terms(
        self, batch: Batch, bpp: Tensor, decoded: Tensor, made: Tensor, step: int
    ) -> dict[str, Tensor]:
        """The loss and what it is made of, each of shape ()."""
        recipe, perception = self._recipe, self._recipe.perception(step)
        squared = losses.squared_error(decoded, batch.images)
        cost = losses.distortion_cost(bpp, squared, batch.levels, 1 - perception / 2).mean()
        terms = {"bpp": bpp.mean(), "squared_error": squared.mean()}
        seen: Tensor | float = 0.0
        if perception > 0:
            unlike, lpips = losses.perceptual_distances(made, batch.pictures, anew=True)
            terms |= {"ms_ssim_loss": unlike.mean(), "lpips": lpips.mean()}
            weighed = recipe.ms_ssim_weight * terms["ms_ssim_loss"]
            seen = perception * (weighed + recipe.lpips_weight * terms["lpips"])
        if batch.axis is not None:
            pairs = (batch.seam_in_width(x) for x in (made, batch.pictures))
            terms["seam"] = losses.seam_cost(*pairs).mean()
            seen = seen + perception * recipe.seam_weight * terms["seam"]
        if (weight := recipe.adversarial(step)) > 0:
            terms["adversarial"] = self._adversary.cost(made, batch.pictures).mean()
            seen = seen + weight * terms["adversarial"]
        return {"loss": losses.SCALE * (cost + seen / losses.MIDDLE), **terms}

    def _note(self, terms: dict[str, Tensor]) -> None:
        """Adds to the window's sums, and closes a window that is full."""
        for name, value in terms.items():
            self._sums.setdefault(name, []).append(value.detach())
        if self.at_window:
            means = {n: torch.stack(self._sums[n]).mean().item() for n in TERMS if n in self._sums}
            self.curve.append({"step": self.run.step, **means})
            self._sums = {}

    @property
    def at_window(self) -> bool:
        """Whether a window of the curve has just been closed."""
        return self.run.step % self._recipe.window == 0 or self.ended


class _Passing(nn.Module):
    """A codec's forward pass as a module: what is shared among processes."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, images: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Bits a pixel and decoded images, see `losses.passed_through`."""
        return losses.passed_through(self.codec, images, level)


def _noise_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def codec_of(training: FullTraining) -> Codec:
    """The codec of a training that has ended: averaged weights, the entropy model's integers."""
    training.run.averages.take()
    codec = cast(Codec, training.run.codec)
    codec.freeze()
    return codec.eval()
