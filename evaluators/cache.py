"""Quantised latents of the training photographs on disk, mapped into memory by every worker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evaluators.passes import dequantised, linear_image, to_tensor
from evaluators.photos import Photo
from search_spaces.codec.constants import LATENT_STRIDE
from search_spaces.codec.model import Codec, one_hot

CROP = 64
_CELLS = CROP // LATENT_STRIDE


@dataclass(frozen=True)
class Crops:
    """A batch: what the decoder receives and what it should give.

    Attributes:
        latents: shape (N, M, 4, 4).
        pixels: shape (N, 3, 64, 64) in [0, 1].
        levels: quality level of each crop, shape (N,).
        linear_mse: mean squared error of the linear decoder at each crop's level, shape (N,).
    """

    latents: Tensor
    pixels: Tensor
    levels: NDArray[np.int64]
    linear_mse: Tensor

    @classmethod
    def blank(cls, count: int, latent_channels: int) -> Crops:
        """Crops of nothing, for timing."""
        return cls(
            latents=torch.zeros(count, latent_channels, _CELLS, _CELLS),
            pixels=torch.zeros(count, 3, CROP, CROP),
            levels=np.zeros(count, dtype=np.int64),
            linear_mse=torch.ones(count),
        )


@dataclass(frozen=True)
class TrainingCache:
    """The folder that `write_cache` filled."""

    directory: Path

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The quality levels that are cached."""
        return tuple(self._header["levels"])

    def draw(self, count: int, rng: np.random.Generator, level: int | None = None) -> Crops:
        """Random crops, likelier where the linear decoder errs more.

        Args:
            count: crops in the batch.
            rng: decides place and level of each.
            level: the level of all crops; default any cached level, drawn for each.
        """
        places = self._places[np.searchsorted(self._cumulated, rng.random(count))]
        drawn = rng.integers(len(self.levels), size=count)
        if level is not None:
            drawn[:] = self.levels.index(level)
        cut = [
            self._cut(int(place[0]), int(place[1]), int(place[2]), int(i))
            for place, i in zip(places, drawn, strict=True)
        ]
        return Crops(
            latents=torch.from_numpy(np.stack([latents for latents, _ in cut])).float(),
            pixels=torch.from_numpy(np.stack([pixels for _, pixels in cut])).float() / 255,
            levels=np.array(self.levels)[drawn],
            linear_mse=torch.tensor(self._header["linear_mse"])[drawn],
        )

    @cached_property
    def _header(self) -> dict[str, Any]:
        header: dict[str, Any] = json.loads((self.directory / "cache.json").read_text())
        return header

    @cached_property
    def _photos(self) -> list[tuple[NDArray[np.float16], NDArray[np.uint8]]]:
        return [
            (self._map(i, "latents"), self._map(i, "pixels")) for i in range(self._header["photos"])
        ]

    def _map(self, photo: int, name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(_file(self.directory, photo, name), mmap_mode="r")
        return array

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Photo, row and column (in cells of 16 pixels) of every possible crop, shape (P, 3)."""
        places = []
        for i in range(self._header["photos"]):
            rows, columns = np.indices(self._map(i, "weights").shape)
            places.append(np.stack([np.full_like(rows, i), rows, columns], -1).reshape(-1, 3))
        return np.concatenate(places)

    @cached_property
    def _cumulated(self) -> NDArray[np.float64]:
        """Cumulated probabilities of `_places`, below 1 but for the last."""
        count = self._header["photos"]
        weights = np.concatenate([self._map(i, "weights").ravel() for i in range(count)])
        cumulated = np.cumsum(weights, dtype=np.float64)
        cumulated /= cumulated[-1]
        return np.asarray(cumulated)

    def _cut(
        self, photo: int, row: int, column: int, level: int
    ) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        latents, pixels = self._photos[photo]
        top, left = row * LATENT_STRIDE, column * LATENT_STRIDE
        return (
            latents[level, :, row : row + _CELLS, column : column + _CELLS],
            pixels[:, top : top + CROP, left : left + CROP],
        )


@torch.no_grad()
def write_cache(
    codec: Codec, photos: Sequence[Photo], levels: Sequence[int], directory: Path
) -> None:
    """Codes photographs at every level and keeps latents, pixels and where crops should lie."""
    errors = []
    for i, photo in enumerate(photos):
        image = to_tensor(photo.pixels)
        latents = torch.cat([dequantised(codec, image, level) for level in levels])
        error = _linear_error(codec, latents, image, levels)
        np.save(_file(directory, i, "latents"), latents.half().numpy())
        np.save(_file(directory, i, "pixels"), photo.pixels.transpose(2, 0, 1).copy())
        np.save(_file(directory, i, "weights"), _crop_weights(error))
        errors.append(error.flatten(1))
    linear_mse = torch.cat(errors, 1).mean(1).tolist()
    header = {"levels": list(levels), "photos": len(photos), "linear_mse": linear_mse}
    (directory / "cache.json").write_text(json.dumps(header))


def _linear_error(codec: Codec, latents: Tensor, image: Tensor, levels: Sequence[int]) -> Tensor:
    """Mean squared error of the linear decoder in every 16 x 16 cell, shape (L, h, w)."""
    decoded = linear_image(codec, latents, one_hot(*levels))
    return F.avg_pool2d((decoded - image).pow(2).mean(1), LATENT_STRIDE)


def _crop_weights(error: Tensor) -> NDArray[np.float32]:
    """Root of the error of every crop, mean over levels. Shape (h - 3, w - 3)."""
    relative = error / error.mean((1, 2), keepdim=True)
    crops = F.avg_pool2d(relative.mean(0)[None], _CELLS, 1)[0]
    return crops.sqrt().numpy()


def _file(directory: Path, photo: int, name: str) -> Path:
    return directory / f"photo-{photo:03d}-{name}.npy"
