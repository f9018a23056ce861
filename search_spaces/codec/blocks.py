"""Blocks on features: what each computes, on which shapes, at what count.

All sizes are those of one 512 x 512 tile. Torch is imported only to build.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.blocks import Shape
from search_spaces.codec.counting import Convolution, Counted

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _OnFeatures(Counted):
    """Maps features of one shape to features of the same shape."""

    width: int
    size: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return ((self.width, self.size, self.size),)


@dataclass(frozen=True)
class ConvScale311(_OnFeatures):
    """x + 3x3, 1x1, 1x1 convolutions over C, E C, F C and C channels (arXiv 2605.05148)."""

    expand: int
    expand_out: int
    activation: str
    scaled: bool

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        inner, outer = self.expand * self.width, self.expand_out * self.width
        return (
            Convolution(self.width, inner, 3, self.size),
            Convolution(inner, outer, 1, self.size),
            Convolution(outer, self.width, 1, self.size),
        )

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.ConvScale311(self)


@dataclass(frozen=True)
class Residual(_OnFeatures):
    """x + two dense convolutions."""

    kernel: int
    activation: str
    scaled: bool

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        return (Convolution(self.width, self.width, self.kernel, self.size),) * 2

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Residual(self)


@dataclass(frozen=True)
class Inverted(_OnFeatures):
    """x + depthwise convolution, expansion, projection."""

    kernel: int
    expand: int
    activation: str
    scaled: bool

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        inner = self.expand * self.width
        return (
            Convolution(self.width, self.width, self.kernel, self.size, groups=self.width),
            Convolution(self.width, inner, 1, self.size),
            Convolution(inner, self.width, 1, self.size),
        )

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Inverted(self)


@dataclass(frozen=True)
class ConvNeXt(Inverted):
    """x + depthwise convolution, normalised channels, expansion, projection."""

    @property
    def other_parameters(self) -> int:
        return 2 * self.width

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.ConvNeXt(self)


@dataclass(frozen=True)
class SqueezeExcite(_OnFeatures):
    """x scaled by a gate a channel, computed from all channel means."""

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        inner = max(self.width // 4, 1)
        return Convolution(self.width, inner, 1, 1), Convolution(inner, self.width, 1, 1)

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.SqueezeExcite(self.width)


@dataclass(frozen=True)
class EfficientAttention(_OnFeatures):
    """ECA: x scaled by a gate a channel, computed from the means of three neighbouring channels."""

    @property
    def macs(self) -> int:
        return 3 * self.width

    @property
    def other_parameters(self) -> int:
        return 3

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.EfficientAttention()


@dataclass(frozen=True)
class Scale(_OnFeatures):
    """x times a learned value a channel: closes a scale (arXiv 2605.05148)."""

    @property
    def other_parameters(self) -> int:
        return self.width

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Scale(self.width)


@dataclass(frozen=True)
class Resample(Counted):
    """features, lateral -> features of another scale, plus the lateral ones there.

    Attributes:
        kind: `haar` (convolution and Haar wavelet, folded into one), `shuffle` (pixel-shuffle and
            1x1 convolution) or `strided` (convolution with overlapping kernels).
        inputs: channels read.
        outputs: channels written.
        size: side of the coarser of the two scales.
        factor: between the scales, a power of two.
        upwards: towards the finer scale.
        scaled: with learned scales, folded away.
        silent: starts at zero. What has had its say in the image need not disturb the next scale.
    """

    kind: str
    inputs: int
    outputs: int
    size: int
    factor: int
    upwards: bool
    scaled: bool
    silent: bool

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        fine = self.size * self.factor
        read, written = (self.size, fine) if self.upwards else (fine, self.size)
        return (self.inputs, read, read), (self.outputs, written, written)

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        if self.kind != "shuffle":
            kernel = self.factor * (2 if self.kind == "strided" else 1)
            return (Convolution(self.inputs, self.outputs, kernel, self.size),)
        taps = self.factor**2
        if self.upwards:
            return (Convolution(self.inputs, self.outputs * taps, 1, self.size),)
        return (Convolution(self.inputs * taps, self.outputs, 1, self.size),)

    def build(self) -> nn.Module:
        from search_spaces.codec import modules

        return modules.Resample(self)
