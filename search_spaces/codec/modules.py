"""Torch modules of the codec family, at any image size that is a multiple of 32.

Every codec starts as an orthonormal transform codec: learned paths are zero at their output. The
quality level arrives as one-hot rows, so that one batch may mix levels and one exported program
serves all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.codec.blocks import HYPER_WIDTH, LATENT_STRIDE, LEVELS
from search_spaces.codec.transforms import patch_basis

_SLOPE = 0.1
_LOG_FLOOR = 0.1


def _activation() -> nn.Module:
    """Of refinement blocks: GELU earned about 0.1 dB over leaky ReLU in equal short trainings."""
    return nn.GELU()


def _zero(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _unshuffle(image: Tensor, stride: int) -> Tensor:
    """Pixel-unshuffle; at stride 1 nothing, where the operator would copy."""
    return image if stride == 1 else F.pixel_unshuffle(image, stride)


def _shuffle(patches: Tensor, stride: int) -> Tensor:
    """Inverse of `_unshuffle`."""
    return patches if stride == 1 else F.pixel_shuffle(patches, stride)


def _basis(size: int) -> Tensor:
    return torch.from_numpy(patch_basis(size)).float()


class LevelTable(nn.Module):
    """One value a channel and quality level."""

    def __init__(self, channels: int, value: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.full((LEVELS, channels), value))

    def forward(self, level: Tensor) -> Tensor:
        """One-hot levels, shape (N, LEVELS) -> (N, channels, 1, 1)."""
        return (level @ self.table)[:, :, None, None]


class Analysis(nn.Module):
    """image (N, 3, H, W) in [0, 1], level -> y (N, M, H/16, W/16) in units of the quantiser."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(3 * LATENT_STRIDE**2, latent_channels, 1, bias=False)
        self.log_gain = LevelTable(latent_channels)
        self.transform.weight.data = _basis(LATENT_STRIDE)[:latent_channels, :, None, None].clone()

    def forward(self, image: Tensor, level: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(image - 0.5, LATENT_STRIDE)
        coefficients: Tensor = self.transform(patches)
        y: Tensor = coefficients * self.log_gain(level).exp()
        return y


class HyperAnalysis(nn.Module):
    """y (N, M, h, w), level -> z (N, K, h/2, w/2); rounded unless training."""

    def __init__(self, latent_channels: int, hyper_channels: int) -> None:
        super().__init__()
        self.log_scale = LevelTable(latent_channels)
        self.bands = nn.Conv2d(latent_channels, hyper_channels, 1)
        self.down = nn.Conv2d(latent_channels, HYPER_WIDTH, 3, 2, 1)
        self.out = _zero(nn.Conv2d(HYPER_WIDTH, hyper_channels, 1, bias=False))

    def features(self, y: Tensor, level: Tensor) -> Tensor:
        """Log-magnitudes relative to each channel's usual magnitude at the level."""
        return torch.log(y.abs() * torch.exp(-self.log_scale(level)) + _LOG_FLOOR)

    def forward(self, y: Tensor, level: Tensor) -> Tensor:
        features = self.features(y, level)
        z = F.avg_pool2d(self.bands(features), 2)
        z = z + self.out(F.leaky_relu(self.down(features), _SLOPE))
        return z if self.training else torch.round(z)


class _HyperSynthesis(nn.Module):
    """z (N, K, h, w) -> (N, M, 2h, 2w): a linear map of each value and a learned refinement."""

    def __init__(self, latent_channels: int, hyper_channels: int) -> None:
        super().__init__()
        self.linear = _zero(nn.Conv2d(hyper_channels, latent_channels, 1, bias=False))
        self.inner = nn.Conv2d(hyper_channels, HYPER_WIDTH, 3, 1, 1)
        self.out = _zero(nn.Conv2d(HYPER_WIDTH, 4 * latent_channels, 1, bias=False))
        self.level = LevelTable(latent_channels)

    def expand(self, z: Tensor) -> Tensor:
        coarse = F.interpolate(self.linear(z), scale_factor=2.0, mode="nearest")
        return coarse + F.pixel_shuffle(self.out(F.leaky_relu(self.inner(z), _SLOPE)), 2)


class ScaleDecoder(_HyperSynthesis):
    """z, level -> log of the Laplace scale of every latent."""

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        log_scale: Tensor = self.expand(z) + self.level(level)
        return log_scale


class ContextDecoder(_HyperSynthesis):
    """z, level -> mu of every latent, in units of the quantiser."""

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        mu: Tensor = self.expand(z) * self.level(level).exp()
        return mu


class Quantise(nn.Module):
    """y, mu -> round(y - mu)."""

    def forward(self, y: Tensor, mu: Tensor) -> Tensor:
        return torch.round(y - mu)


class Synthesis(nn.Module):
    """symbols and mu (N, M, h, w), level -> image (N, 3, 16 h, 16 w), not clipped."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(latent_channels, 3 * LATENT_STRIDE**2, 1, bias=False)
        self.log_gain = LevelTable(latent_channels)
        basis = _basis(LATENT_STRIDE)[:latent_channels]
        self.transform.weight.data = basis.T[:, :, None, None].clone()

    def forward(self, symbols: Tensor, mu: Tensor, level: Tensor) -> Tensor:
        patches = self.transform((symbols + mu) * self.log_gain(level).exp())
        return F.pixel_shuffle(patches, LATENT_STRIDE) + 0.5


class Stem(nn.Module):
    """image (N, 3, H, W), level -> features (N, width, H/stride, W/stride).

    The convolution sees the coefficients of an orthonormal patch basis, each divided by its usual
    magnitude; both fold into its weights.
    """

    basis: Tensor
    band_scale: Tensor

    def __init__(self, stride: int, width: int) -> None:
        super().__init__()
        bands = 3 * stride**2
        self.stride = stride
        self.convolution = nn.Conv2d(bands, width, 3, 1, 1)
        self.gain = LevelTable(width, 1.0)
        self.register_buffer("basis", _basis(stride))
        self.register_buffer("band_scale", torch.ones(bands))

    def coefficients(self, image: Tensor) -> Tensor:
        """Basis coefficients of an image's patches, shape (N, 3 stride², H/stride, W/stride)."""
        # Full precision: in bfloat16 the differences between neighbouring pixels are lost.
        with torch.autocast(image.device.type, enabled=False):
            patches = _unshuffle(image.float() - 0.5, self.stride)
            return F.conv2d(patches, self.basis[:, :, None, None])

    def forward(self, image: Tensor, level: Tensor) -> Tensor:
        features = self._unfolded(image) if self.training else self._folded(image)
        scaled: Tensor = features * self.gain(level)
        return scaled

    def _unfolded(self, image: Tensor) -> Tensor:
        """As it trains: unit coefficients in front of the convolution's own weights."""
        features: Tensor = self.convolution(
            self.coefficients(image) / self.band_scale[:, None, None]
        )
        return features

    def _folded(self, image: Tensor) -> Tensor:
        """Basis, scales and convolution as the one convolution that a device runs."""
        weight = torch.einsum(
            "oikl,ij->ojkl", self.convolution.weight, self.basis / self.band_scale[:, None]
        )
        patches = _unshuffle(image - 0.5, self.stride)
        return F.conv2d(patches, weight, self.convolution.bias, padding=1)


class Residual(nn.Module):
    """x (N, width, h, w) -> same shape."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(width, width, kernel, 1, kernel // 2),
            _activation(),
            nn.Conv2d(width, width, kernel, 1, kernel // 2),
        )
        _halve(self.path[-1])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.path(x)
        return y


class Inverted(nn.Module):
    """x (N, width, h, w) -> same shape."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            _Depthwise(width, kernel),
            nn.Conv2d(width, 2 * width, 1),
            _activation(),
            nn.Conv2d(2 * width, width, 1),
        )
        _halve(self.path[-1])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.path(x)
        return y


class _Depthwise(nn.Conv2d):
    """Depthwise convolution, trained in full precision: CPUs are slower at it in bfloat16."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(width, width, kernel, 1, kernel // 2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def _halve(convolution: nn.Module) -> None:
    """Residual outputs start at half strength: deep chains then train at one learning rate."""
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    convolution.weight.data.mul_(0.5)
    convolution.bias.data.zero_()


class SqueezeExcite(nn.Module):
    """x (N, width, h, w) -> same shape; the gate starts at 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // 4, 1)
        self.excite = _zero(nn.Conv2d(width // 4, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * (2 * torch.sigmoid(self.excite(F.relu(self.squeeze(means)))))


class Head(nn.Module):
    """features (N, width, h, w), image (N, 3, H, W), level -> corrected image (N, 3, H, W)."""

    basis: Tensor

    def __init__(self, stride: int, width: int) -> None:
        super().__init__()
        bands = 3 * stride**2
        self.stride = stride
        self.convolution = _zero(nn.Conv2d(width, bands, 3, 1, 1))
        self.error_scale = LevelTable(bands, 1.0)
        self.register_buffer("basis", _basis(stride))

    def forward(self, features: Tensor, image: Tensor, level: Tensor) -> Tensor:
        bands = self.convolution(F.leaky_relu(features, _SLOPE)) * self.error_scale(level)
        patches = F.conv2d(bands, self.basis.T[:, :, None, None])
        return image + _shuffle(patches, self.stride)
