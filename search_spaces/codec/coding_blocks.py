"""Blocks of the transform and the entropy model: shapes and counts for one 512 x 512 tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.blocks import Shape
from search_spaces.codec.constants import HYPER_SIZE, LATENT_SIZE, PATCH_CHANNELS
from search_spaces.codec.counting import IMAGE, LEVEL, Convolution, Counted

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Analysis(Counted):
    """Linear part of g_a: image, level -> y. Orthonormal patches, a gain a channel and level."""

    latent_channels: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return IMAGE, LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (Convolution(PATCH_CHANNELS, self.latent_channels, 1, LATENT_SIZE, bias=False),)

    @property
    def level_channels(self) -> int:
        return self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import coding_modules

        return coding_modules.Analysis(self.latent_channels)


@dataclass(frozen=True)
class Synthesis(Counted):
    """Linear part of g_s: latents, level -> image. Inverse of `Analysis` at the start."""

    latent_channels: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return _latents(self.latent_channels), LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (Convolution(self.latent_channels, PATCH_CHANNELS, 1, LATENT_SIZE, bias=False),)

    @property
    def level_channels(self) -> int:
        return self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import coding_modules

        return coding_modules.Synthesis(self.latent_channels)


@dataclass(frozen=True)
class HyperAnalysis(Counted):
    """h_a: y, level -> z, rounded. Log-magnitudes of the latents, summarised at half their size."""

    latent_channels: int
    hyper_channels: int
    width: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return _latents(self.latent_channels), LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (
            Convolution(self.latent_channels, self.hyper_channels, 1, LATENT_SIZE),
            Convolution(self.latent_channels, self.width, 3, HYPER_SIZE),
            Convolution(self.width, self.hyper_channels, 1, HYPER_SIZE, bias=False),
        )

    @property
    def level_channels(self) -> int:
        return self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import coding_modules

        return coding_modules.HyperAnalysis(self)


@dataclass(frozen=True)
class _HyperDecoder(Counted):
    """z, level -> values at the latents' resolution: a linear map and a learned refinement."""

    latent_channels: int
    hyper_channels: int
    width: int

    @property
    def values(self) -> int:
        """Values a latent."""
        return 1

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (self.hyper_channels, HYPER_SIZE, HYPER_SIZE), LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        outputs = self.values * self.latent_channels
        return (
            Convolution(self.hyper_channels, outputs, 1, HYPER_SIZE, bias=False),
            Convolution(self.hyper_channels, self.width, 3, HYPER_SIZE),
            Convolution(self.width, 4 * outputs, 1, HYPER_SIZE, bias=False),
        )


@dataclass(frozen=True)
class ScaleDecoder(_HyperDecoder):
    """z, level -> log sigma of every symbol. Runs on the CPU in 8-bit integers.

    Attributes:
        grouped: symbols of equal scale are coded together, and those of negligible scale are not
            coded at all; otherwise every symbol is.
    """

    grouped: bool

    @property
    def level_channels(self) -> int:
        return 4 * self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import scale_decoder

        return scale_decoder.ScaleDecoder(self.latent_channels, self.hyper_channels, self.width)


@dataclass(frozen=True)
class ContextDecoder(_HyperDecoder):
    """z, level -> mu and, when learned, the log quantisation width of every latent."""

    learned_width: bool

    @property
    def values(self) -> int:
        return 1 + self.learned_width

    @property
    def level_channels(self) -> int:
        return self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import coding_modules

        return coding_modules.ContextDecoder(self)


@dataclass(frozen=True)
class _OnLatents(Counted):
    """Takes latents or symbols, and the parameters of all of them."""

    latent_channels: int
    learned_width: bool

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        parameters = (1 + self.learned_width) * self.latent_channels
        return _latents(self.latent_channels), _latents(parameters)


@dataclass(frozen=True)
class Quantise(_OnLatents):
    """y, parameters -> integer symbols round((y - mu) / q)."""

    def build(self) -> nn.Module:
        from search_spaces.codec import coding_modules

        return coding_modules.Quantise(self.learned_width)


@dataclass(frozen=True)
class Dequantise(_OnLatents):
    """symbols, parameters -> latents q * symbols + mu."""

    def build(self) -> nn.Module:
        from search_spaces.codec import coding_modules

        return coding_modules.Dequantise(self.learned_width)


@dataclass(frozen=True)
class ContextStep(_OnLatents):
    """latents, parameters, level -> parameters, those of one group refined by the groups before.

    Attributes:
        width: channels within.
        context: kind of context.
        group: the group that is refined, from 1.
    """

    width: int
    context: str
    group: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return *super().input_shapes, LEVEL

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        values = (1 + self.learned_width) * self.latent_channels
        return (
            Convolution(self.latent_channels, self.width, 3, LATENT_SIZE),
            Convolution(values, self.width, 1, LATENT_SIZE, bias=False),
            Convolution(self.width, values, 1, LATENT_SIZE),
        )

    @property
    def level_channels(self) -> int:
        return self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import coding_modules

        return coding_modules.ContextStep(self)


def _latents(channels: int) -> Shape:
    return (channels, LATENT_SIZE, LATENT_SIZE)
