"""Blocks where a backbone begins and ends: shapes and counts for one 512 x 512 tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.blocks import Shape
from search_spaces.codec.constants import LATENT_SIZE, TILE
from search_spaces.codec.counting import IMAGE, LEVEL, Convolution, Counted

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Stem(Counted):
    """image, level -> features at 1 / stride resolution, through an orthonormal patch basis."""

    stride: int
    width: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return IMAGE, LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (
            Convolution(3 * self.stride**2, self.width, _kernel(self.stride), TILE // self.stride),
        )

    @property
    def level_channels(self) -> int:
        return self.width

    def build(self) -> nn.Module:
        from search_spaces.codec import edge_modules

        return edge_modules.Stem(self.stride, self.width, _kernel(self.stride))


@dataclass(frozen=True)
class Head(Counted):
    """features, image, level -> image plus the correction that the features predict."""

    stride: int
    width: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        size = TILE // self.stride
        return (self.width, size, size), IMAGE, LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (Convolution(self.width, self._bands, _kernel(self.stride), TILE // self.stride),)

    @property
    def level_channels(self) -> int:
        return self._bands

    @property
    def macs(self) -> int:
        return super().macs + self._bands**2 * (TILE // self.stride) ** 2  # the basis

    @property
    def _bands(self) -> int:
        return 3 * self.stride**2

    def build(self) -> nn.Module:
        from search_spaces.codec import edge_modules

        return edge_modules.Head(self.stride, self.width, _kernel(self.stride))


@dataclass(frozen=True)
class LatentStem(Counted):
    """latents, level -> features at their resolution."""

    latent_channels: int
    width: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (self.latent_channels, LATENT_SIZE, LATENT_SIZE), LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (Convolution(self.latent_channels, self.width, 1, LATENT_SIZE),)

    @property
    def level_channels(self) -> int:
        return self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import edge_modules

        return edge_modules.LatentStem(self.latent_channels, self.width)


@dataclass(frozen=True)
class LatentHead(Counted):
    """features, latents, level -> latents plus what the features add to them."""

    latent_channels: int
    width: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        features = (self.width, LATENT_SIZE, LATENT_SIZE)
        return features, (self.latent_channels, LATENT_SIZE, LATENT_SIZE), LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (Convolution(self.width, self.latent_channels, 1, LATENT_SIZE),)

    @property
    def level_channels(self) -> int:
        return self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import edge_modules

        return edge_modules.LatentHead(self.latent_channels, self.width)


def _kernel(stride: int) -> int:
    """3 where patches are small; coarse ones see enough of their own."""
    return 3 if stride <= 4 else 1
