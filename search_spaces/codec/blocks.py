"""Blocks of the codec family: what each computes, on which shapes, at what count.

All sizes are those of one 512 x 512 tile. Torch is imported only to build.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from search_spaces.blocks import Shape

if TYPE_CHECKING:
    from torch import nn

TILE = 512
LATENT_STRIDE = 16
HYPER_STRIDE = 32
LEVELS = 8
HYPER_WIDTH = 48
SYNTHESIS_CHANNELS = 3 * LATENT_STRIDE**2

_LATENT = TILE // LATENT_STRIDE
_HYPER = TILE // HYPER_STRIDE
_IMAGE: Shape = (3, TILE, TILE)
_LEVEL: Shape = (LEVELS,)


class _Described:
    """A signature made of the class name and the fields."""

    @property
    def signature(self) -> str:
        settings = (f"{field.name}={getattr(self, field.name)}" for field in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__.lower()}({', '.join(settings)})"


@dataclass(frozen=True)
class Analysis(_Described):
    """g_a: image, level -> y. Orthonormal patch transform with a gain a channel and level."""

    latent_channels: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (_IMAGE, _LEVEL)

    @property
    def macs(self) -> int:
        return (SYNTHESIS_CHANNELS * _LATENT**2 + LEVELS) * self.latent_channels

    @property
    def parameters(self) -> int:
        return (SYNTHESIS_CHANNELS + LEVELS) * self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Analysis(self.latent_channels)


@dataclass(frozen=True)
class HyperAnalysis(_Described):
    """h_a: y, level -> z, rounded. Log-magnitudes of the latents, summarised at half their size."""

    latent_channels: int
    hyper_channels: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return ((self.latent_channels, _LATENT, _LATENT), _LEVEL)

    @property
    def macs(self) -> int:
        bands = self.latent_channels * self.hyper_channels * _LATENT**2
        down = 9 * self.latent_channels * HYPER_WIDTH * _HYPER**2
        out = HYPER_WIDTH * self.hyper_channels * _HYPER**2
        return bands + down + out + LEVELS * self.latent_channels

    @property
    def parameters(self) -> int:
        bands = self.latent_channels * self.hyper_channels + self.hyper_channels
        down = 9 * self.latent_channels * HYPER_WIDTH + HYPER_WIDTH
        out = HYPER_WIDTH * self.hyper_channels
        return bands + down + out + LEVELS * self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.HyperAnalysis(self.latent_channels, self.hyper_channels)


@dataclass(frozen=True)
class HyperSynthesis(_Described):
    """Half of h_s: z, level -> one value a latent (mu, or log sigma when it runs on the CPU)."""

    latent_channels: int
    hyper_channels: int
    output: str

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return ((self.hyper_channels, _HYPER, _HYPER), _LEVEL)

    @property
    def macs(self) -> int:
        linear = self.hyper_channels * self.latent_channels
        inner = 9 * self.hyper_channels * HYPER_WIDTH
        out = HYPER_WIDTH * 4 * self.latent_channels
        return (linear + inner + out) * _HYPER**2 + LEVELS * self.latent_channels

    @property
    def parameters(self) -> int:
        linear = self.hyper_channels * self.latent_channels
        inner = 9 * self.hyper_channels * HYPER_WIDTH + HYPER_WIDTH
        out = HYPER_WIDTH * 4 * self.latent_channels
        return linear + inner + out + LEVELS * self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        kinds = {"mu": modules.ContextDecoder, "log_scale": modules.ScaleDecoder}
        return kinds[self.output](self.latent_channels, self.hyper_channels)


@dataclass(frozen=True)
class Quantise(_Described):
    """y, mu -> integer symbols round(y - mu)."""

    latent_channels: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return ((self.latent_channels, _LATENT, _LATENT),) * 2

    @property
    def macs(self) -> int:
        return 0

    @property
    def parameters(self) -> int:
        return 0

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Quantise()


@dataclass(frozen=True)
class Synthesis(_Described):
    """Linear part of g_s: symbols, mu, level -> image. Inverse of `Analysis` at the start."""

    latent_channels: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        latent = (self.latent_channels, _LATENT, _LATENT)
        return (latent, latent, _LEVEL)

    @property
    def macs(self) -> int:
        return (SYNTHESIS_CHANNELS * _LATENT**2 + LEVELS) * self.latent_channels

    @property
    def parameters(self) -> int:
        return (SYNTHESIS_CHANNELS + LEVELS) * self.latent_channels

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Synthesis(self.latent_channels)


@dataclass(frozen=True)
class Stem(_Described):
    """image, level -> features at 1 / stride resolution, through an orthonormal patch basis."""

    stride: int
    width: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return (_IMAGE, _LEVEL)

    @property
    def macs(self) -> int:
        size = TILE // self.stride
        return 9 * 3 * self.stride**2 * self.width * size**2 + LEVELS * self.width

    @property
    def parameters(self) -> int:
        return 9 * 3 * self.stride**2 * self.width + self.width + LEVELS * self.width

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Stem(self.stride, self.width)


@dataclass(frozen=True)
class Residual(_Described):
    """x + two dense convolutions."""

    width: int
    kernel: int
    size: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return ((self.width, self.size, self.size),)

    @property
    def macs(self) -> int:
        return 2 * self.kernel**2 * self.width**2 * self.size**2

    @property
    def parameters(self) -> int:
        return 2 * (self.kernel**2 * self.width**2 + self.width)

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Residual(self.width, self.kernel)


@dataclass(frozen=True)
class Inverted(_Described):
    """x + depthwise convolution, expansion by 2, projection."""

    width: int
    kernel: int
    size: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return ((self.width, self.size, self.size),)

    @property
    def macs(self) -> int:
        return (self.kernel**2 * self.width + 4 * self.width**2) * self.size**2

    @property
    def parameters(self) -> int:
        return self.kernel**2 * self.width + 4 * self.width**2 + 4 * self.width

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Inverted(self.width, self.kernel)


@dataclass(frozen=True)
class SqueezeExcite(_Described):
    """x scaled by a gate a channel, computed from the channel means."""

    width: int
    size: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return ((self.width, self.size, self.size),)

    @property
    def macs(self) -> int:
        return 2 * self.width * (self.width // 4)

    @property
    def parameters(self) -> int:
        return 2 * self.width * (self.width // 4) + self.width // 4 + self.width

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.SqueezeExcite(self.width)


@dataclass(frozen=True)
class Head(_Described):
    """features, image, level -> image plus the correction that the features predict."""

    stride: int
    width: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        size = TILE // self.stride
        return ((self.width, size, size), _IMAGE, _LEVEL)

    @property
    def macs(self) -> int:
        bands, size = 3 * self.stride**2, TILE // self.stride
        return (9 * bands * self.width + bands**2) * size**2 + LEVELS * bands

    @property
    def parameters(self) -> int:
        bands = 3 * self.stride**2
        return 9 * bands * self.width + bands + LEVELS * bands

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Head(self.stride, self.width)
