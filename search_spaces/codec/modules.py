"""Torch modules of the backbones, at any image size that is a multiple of 16.

Images are centred: -0.5 is black, 0.5 white.

Every codec starts as an orthonormal transform codec: learned paths are zero at their output. The
quality level arrives as rows that are one-hot, or blend two neighbouring levels, so that one batch
may mix levels and one exported program serves all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.codec import blocks
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.folding import with_haar, with_scales
from search_spaces.codec.statistics import coefficient_rms, error_rms, log_rms_in_steps
from search_spaces.codec.transforms import patch_basis

_SLOPE = 0.1

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(_SLOPE),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
}


def zeroed(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution with all its parameters 0."""
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


def _unshuffle(image: Tensor, stride: int) -> Tensor:
    """Pixel-unshuffle; at stride 1 nothing, where the operator would copy."""
    return image if stride == 1 else F.pixel_unshuffle(image, stride)


def _shuffle(patches: Tensor, stride: int) -> Tensor:
    """Inverse of `_unshuffle`."""
    return patches if stride == 1 else F.pixel_shuffle(patches, stride)


def basis(size: int) -> Tensor:
    """`patch_basis` as a tensor, shape (3 size², 3 size²)."""
    return torch.from_numpy(patch_basis(size)).float()


class LevelTable(nn.Module):
    """One value a channel and quality level."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(values.float().clone())

    @classmethod
    def constant(cls, channels: int, value: float) -> LevelTable:
        """The same value everywhere."""
        return cls(torch.full((LEVELS, channels), value))

    @classmethod
    def log_rms(cls, channels: int) -> LevelTable:
        """The usual log-magnitude of each latent channel, in steps of the quantiser."""
        return cls(torch.from_numpy(log_rms_in_steps(channels)))

    def forward(self, level: Tensor) -> Tensor:
        """Levels, shape (N, LEVELS) -> (N, channels, 1, 1)."""
        return (level @ self.table)[:, :, None, None]


class _Depthwise(nn.Conv2d):
    """Depthwise convolution, trained in full precision: CPUs are slower at it in bfloat16."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(width, width, kernel, 1, kernel // 2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


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


class _ResidualPath(nn.Module):
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


class ConvScale311(_ResidualPath):
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


class Residual(_ResidualPath):
    """x (N, C, h, w) -> same shape."""

    def __init__(self, block: blocks.Residual) -> None:
        super().__init__(
            nn.Conv2d(block.width, block.width, block.kernel, 1, block.kernel // 2),
            ACTIVATIONS[block.activation](),
            nn.Conv2d(block.width, block.width, block.kernel, 1, block.kernel // 2),
            scaled=block.scaled,
        )


class Inverted(_ResidualPath):
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


class PatchCoefficients(nn.Module):
    """image (N, 3, H, W) -> coefficients of its patches (N, 3 stride², H/stride, W/stride)."""

    basis: Tensor

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer("basis", basis(stride), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        # Full precision: in bfloat16 the differences between neighbouring pixels are lost.
        with torch.autocast(image.device.type, enabled=False):
            patches = _unshuffle(image.float(), self.stride)
            return F.conv2d(patches, self.basis[:, :, None, None])


class Stem(nn.Module):
    """image (N, 3, H, W), level -> features (N, C, H/stride, W/stride).

    The convolution sees the coefficients of an orthonormal patch basis, each divided by its usual
    magnitude; both fold into its weights.
    """

    band_scale: Tensor

    def __init__(self, stride: int, width: int, kernel: int) -> None:
        super().__init__()
        bands = 3 * stride**2
        self.stride = stride
        self.folded = False
        self.coefficients = PatchCoefficients(stride)
        self.convolution = nn.Conv2d(bands, width, kernel, 1, kernel // 2)
        self.gain = LevelTable.constant(width, 1.0)
        self.register_buffer("band_scale", torch.from_numpy(coefficient_rms(stride)).float())

    def forward(self, image: Tensor, level: Tensor) -> Tensor:
        if self.folded:
            patches = _unshuffle(image, self.stride)
        else:
            patches = self.coefficients(image) / self.band_scale[:, None, None]
        features: Tensor = self.convolution(patches) * self.gain(level)
        return features

    @torch.no_grad()
    def fold(self) -> None:
        """Makes basis, scales and convolution the one convolution that a device runs."""
        if self.folded:
            return
        basis = self.coefficients.basis / self.band_scale[:, None]
        weight = torch.einsum("oikl,ij->ojkl", self.convolution.weight, basis)
        self.convolution.weight.copy_(weight)
        self.folded = True


class Head(nn.Module):
    """features (N, C, h, w), image (N, 3, H, W), level -> corrected image (N, 3, H, W)."""

    def __init__(self, stride: int, width: int, kernel: int) -> None:
        super().__init__()
        bands = 3 * stride**2
        self.coefficients = PatchCoefficients(stride)
        self.convolution = zeroed(nn.Conv2d(width, bands, kernel, 1, kernel // 2))
        self.error_scale = LevelTable(torch.from_numpy(error_rms(stride)))

    def forward(self, features: Tensor, image: Tensor, level: Tensor) -> Tensor:
        bands = self.convolution(F.leaky_relu(features, _SLOPE)) * self.error_scale(level)
        patches = F.conv2d(bands, self.coefficients.basis.T[:, :, None, None])
        return image + _shuffle(patches, self.coefficients.stride)


class LatentStem(nn.Module):
    """latents (N, M, h, w), level -> features (N, C, h, w). Sees latents of unit magnitude."""

    def __init__(self, latent_channels: int, width: int) -> None:
        super().__init__()
        self.log_scale = LevelTable.log_rms(latent_channels)
        self.convolution = nn.Conv2d(latent_channels, width, 1)

    def forward(self, latents: Tensor, level: Tensor) -> Tensor:
        features: Tensor = self.convolution(latents * torch.exp(-self.log_scale(level)))
        return features


class LatentHead(nn.Module):
    """features (N, C, h, w), latents (N, M, h, w), level -> latents (N, M, h, w)."""

    def __init__(self, latent_channels: int, width: int) -> None:
        super().__init__()
        self.log_scale = LevelTable.log_rms(latent_channels)
        self.convolution = zeroed(nn.Conv2d(width, latent_channels, 1))

    def forward(self, features: Tensor, latents: Tensor, level: Tensor) -> Tensor:
        added: Tensor = self.convolution(F.leaky_relu(features, _SLOPE))
        return latents + added * torch.exp(self.log_scale(level))
