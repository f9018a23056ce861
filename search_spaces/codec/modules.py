"""Torch modules on features: blocks, attention, resampling. For features of any size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.codec import blocks
from search_spaces.codec.folding import with_haar, with_scales
from search_spaces.codec.layers import SLOPE, zeroed

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(SLOPE),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
}


class _Depthwise(nn.Conv2d):
    """Depthwise convolution, trained in full precision: CPUs are slower at it in bfloat16."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(width, width, kernel, 1, kernel // 2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())

    def fold(self) -> None:
        """Becomes the plain convolution that it is outside of training, as other tools know it."""
        self.__class__ = nn.Conv2d  # type: ignore[assignment]


class _ChannelNorm(nn.Module):
    """Zero mean and unit variance over the channels of every place, then a learned affine map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        deviation = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return centred / deviation * self.weight[:, None, None] + self.bias[:, None, None]


class ResidualPath(nn.Module):
    """x + path(x). The path starts at half strength: deep chains then train at one rate."""

    def __init__(self, *path: nn.Module, scaled: bool) -> None:
        super().__init__()
        last = path[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        last.weight.data.mul_(0.5)
        last.bias.data.zero_()
        parts = (with_scales(p, scaled) if isinstance(p, nn.Conv2d) else p for p in path)
        self.path = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.path(x)
        return y


class ConvScale311(ResidualPath):
    """x (N, C, h, w) -> same shape."""

    def __init__(self, block: blocks.ConvScale311) -> None:
        inner, outer = block.expand * block.width, block.expand_out * block.width
        super().__init__(
            nn.Conv2d(block.width, inner, 3, 1, 1),
            ACTIVATIONS[block.activation](),
            nn.Conv2d(inner, outer, 1),
            ACTIVATIONS[block.activation](),
            nn.Conv2d(outer, block.width, 1),
            scaled=block.scaled,
        )


class Residual(ResidualPath):
    """x (N, C, h, w) -> same shape."""

    def __init__(self, block: blocks.Residual) -> None:
        super().__init__(
            nn.Conv2d(block.width, block.width, block.kernel, 1, block.kernel // 2),
            ACTIVATIONS[block.activation](),
            nn.Conv2d(block.width, block.width, block.kernel, 1, block.kernel // 2),
            scaled=block.scaled,
        )


class Inverted(ResidualPath):
    """x (N, C, h, w) -> same shape."""

    def __init__(self, block: blocks.Inverted, *between: nn.Module) -> None:
        inner = block.expand * block.width
        super().__init__(
            _Depthwise(block.width, block.kernel),
            *between,
            nn.Conv2d(block.width, inner, 1),
            ACTIVATIONS[block.activation](),
            nn.Conv2d(inner, block.width, 1),
            scaled=block.scaled,
        )


class ConvNeXt(Inverted):
    """x (N, C, h, w) -> same shape."""

    def __init__(self, block: blocks.ConvNeXt) -> None:
        super().__init__(block, _ChannelNorm(block.width))


class SqueezeExcite(nn.Module):
    """x (N, C, h, w) -> same shape; the gate starts at 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(width // 4, 1)
        self.squeeze = nn.Conv2d(width, inner, 1)
        self.excite = zeroed(nn.Conv2d(inner, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * (2 * torch.sigmoid(self.excite(F.relu(self.squeeze(means)))))


class EfficientAttention(nn.Module):
    """x (N, C, h, w) -> same shape; the gate starts at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        nn.init.zeros_(self.mix.weight)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3))[:, None]
        return x * (2 * torch.sigmoid(self.mix(means)))[:, 0, :, None, None]


class Scale(nn.Module):
    """x (N, C, h, w) -> same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None]


class Resample(nn.Module):
    """features, lateral (N, C', h', w') -> shape of the lateral features."""

    def __init__(self, block: blocks.Resample) -> None:
        super().__init__()
        build = _up if block.upwards else _down
        self.path = build(block.kind, block.inputs, block.outputs, block.factor, block.scaled)
        if block.silent:
            for weight in (p for p in self.path.parameters() if p.dim() == 4):
                nn.init.zeros_(weight)

    def forward(self, features: Tensor, lateral: Tensor) -> Tensor:
        y: Tensor = lateral + self.path(features)
        return y


def _down(kind: str, inputs: int, outputs: int, factor: int, scaled: bool) -> nn.Module:
    if kind == "haar":
        return with_scales(with_haar(nn.Conv2d(inputs, outputs, factor, factor)), scaled)
    if kind == "strided":
        overlapping = nn.Conv2d(inputs, outputs, 2 * factor, factor, factor // 2)
        return with_scales(overlapping, scaled)
    mix = nn.Conv2d(inputs * factor**2, outputs, 1)
    return nn.Sequential(nn.PixelUnshuffle(factor), with_scales(mix, scaled))


def _up(kind: str, inputs: int, outputs: int, factor: int, scaled: bool) -> nn.Module:
    if kind == "haar":
        return with_scales(with_haar(nn.ConvTranspose2d(inputs, outputs, factor, factor)), scaled)
    if kind == "strided":
        overlapping = nn.ConvTranspose2d(inputs, outputs, 2 * factor, factor, factor // 2)
        return with_scales(overlapping, scaled)
    mix = nn.Conv2d(inputs, outputs * factor**2, 1)
    return nn.Sequential(with_scales(mix, scaled), nn.PixelShuffle(factor))
