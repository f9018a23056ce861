"""What a step of a full training sees: crops, or pairs of windows that abut as tiles do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.full_recipe import FullRecipe
from evaluators.photos import Photo
from evaluators.training import as_images, textured_crop
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.tiles import MARGIN

_ROWS, _COLUMNS = 2, 3  # axes of a batch that pairs may abut along


@dataclass(frozen=True)
class Batch:
    """One process's share of a step.

    Attributes:
        images: what the codec sees, shape (N, 3, S, S) in [0, 1].
        levels: quality level of each, an integer array (N,).
        axis: that pairs abut along; None of single crops.
        pictures: what is to come out: the images, or of each pair its whole picture.
    """

    images: Tensor
    levels: Any
    axis: int | None
    pictures: Tensor

    def put_together(self, decoded: Tensor) -> Tensor:
        """Decoded images as pictures: of a pair, each window up to the seam."""
        if self.axis is None:
            return decoded
        first, second = decoded.chunk(2)
        owned = decoded.shape[self.axis] - MARGIN
        both = [first.narrow(self.axis, 0, owned), second.narrow(self.axis, MARGIN, owned)]
        return torch.cat(both, self.axis)

    def seam_in_width(self, pictures: Tensor) -> Tensor:
        """Pictures of pairs turned so that the seam is in the middle of the width."""
        return pictures.mT if self.axis == _ROWS else pictures


class Crops:
    """Draws batches: a crop hangs on seed, step and its place in the batch alone.

    So several workers see what one would see, and a training that broke off goes on alike.
    """

    def __init__(self, photos: Sequence[Photo], recipe: FullRecipe, seed: int) -> None:
        self._photos, self._recipe, self._seed = photos, recipe, seed
        length = recipe.pair_length
        long = {
            axis: [p for p in photos if p.pixels.shape[axis - _ROWS] >= length]
            for axis in (_ROWS, _COLUMNS)
        }
        self._long = {axis: some for axis, some in long.items() if some}

    @property
    def has_pairs(self) -> bool:
        """Whether any photograph is long enough for a pair of windows."""
        return bool(self._long)

    def draw(self, step: int, places: Sequence[int], device: torch.device) -> Batch:
        """The crops at some places of a step's batch."""
        pairs = self._recipe.pairs(step) and self.has_pairs
        return self._pairs(step, places, device) if pairs else self._single(step, places, device)

    def _single(self, step: int, places: Sequence[int], device: torch.device) -> Batch:
        side = self._recipe.crop
        generators = [self._generator(step, place) for place in places]
        levels = np.array([generator.integers(LEVELS) for generator in generators])
        crops = [textured_crop(self._photos, generator, side, side) for generator in generators]
        images = _on(as_images(crops), device)
        return Batch(images, levels, None, images)

    def _pairs(self, step: int, places: Sequence[int], device: torch.device) -> Batch:
        axes = sorted(self._long)
        axis = axes[int(self._generator(step).integers(len(axes)))]
        sides = [self._recipe.crop, self._recipe.crop]
        sides[axis - _ROWS] = self._recipe.pair_length
        generators = [self._generator(step, place) for place in places[: max(1, len(places) // 2)]]
        levels = np.array([generator.integers(LEVELS) for generator in generators])
        crops = [textured_crop(self._long[axis], generator, *sides) for generator in generators]
        pictures = _on(as_images(crops), device)
        length, side = pictures.shape[axis], self._recipe.crop
        windows = [pictures.narrow(axis, start, side) for start in (0, length - side)]
        images = _on(torch.cat(windows), device)
        return Batch(images, np.concatenate([levels, levels]), axis, pictures)

    def _generator(self, step: int, *place: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, step, *place])


def _on(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device).contiguous(memory_format=torch.channels_last)
