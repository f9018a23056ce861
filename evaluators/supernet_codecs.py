"""A supernet of whole codecs: what a step of it trains on, and how its slices are scored.

Encoder, entropy model and decoder of a codec are slices of one set of weights, trained on the joint
loss. The entropy model's integers belong to no slice: they are made anew of each slice's weights
when it is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from evaluators import joint
from evaluators.joint import JointRecipe
from evaluators.photos import Photo
from evaluators.run import Run
from evaluators.supernet import Supernet
from evaluators.supernet_training import Sandwich
from evaluators.training import random_crops, rate_factor
from search_spaces.blocks import Design
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.model import Codec


@dataclass(frozen=True)
class CodecsRecipe(Sandwich, JointRecipe):
    """How a supernet of whole codecs is trained."""


@dataclass(frozen=True)
class CodecLesson:
    """Whole codecs on photographs.

    Attributes:
        supernet: of whole codecs.
        photos: to train on.
        recipe: of the training.
        device: where torch runs.
    """

    supernet: Supernet
    photos: Sequence[Photo]
    recipe: CodecsRecipe
    device: torch.device

    def batch(self, run: Run) -> tuple[Tensor, Any]:
        """Crops, and the quality level of each."""
        levels = run.rng.integers(LEVELS, size=self.recipe.batch)
        crops = random_crops(self.photos, self.recipe.batch, run.rng, self.recipe.crop)
        crops = crops.to(self.device).contiguous(memory_format=torch.channels_last)
        return crops, levels

    def loss(
        self, design: Design, batch: tuple[Tensor, Any], run: Run, teacher: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As in training a codec alone; the teacher's images take a share of the squared error."""
        path = _CodecPath(self.supernet, design)
        perception, share = self.recipe.perception(run.step), self.recipe.distillation
        torch.set_rng_state(run.noise)
        loss, images = path.loss(*batch, perception, self.recipe, teacher, share)
        run.noise = torch.get_rng_state()
        return loss, images

    def rate_factor(self, name: str) -> float:
        """As in training a codec alone."""
        return rate_factor(name)


def given(supernet: Supernet, design: Design) -> Codec:
    """A codec that is a slice, with the entropy model's integers of its own weights."""
    codec = Codec(design)
    supernet.give(codec)
    codec.freeze()
    return codec.eval()


class _CodecPath(nn.Module):
    """One codec, trained with a supernet's weights in place of its own."""

    def __init__(self, supernet: Supernet, design: Design) -> None:
        super().__init__()
        self.codec = Codec(design).to(next(supernet.parameters()).device).train()
        slices = supernet.slices(design, self.codec)
        self._values = {f"codec.{name}": part.value for name, part in slices.items()}

    def loss(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        """As `joint.loss_of`, without the codec; gradients reach the supernet."""
        result: tuple[Tensor, Tensor] = functional_call(self, self._values, arguments)
        return result

    def forward(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        """With the weights that are there."""
        return joint.loss_of(self.codec, *arguments)
