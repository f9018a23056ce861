"""Torch modules where a backbone begins and ends, at any image size that is a multiple of 16.

Images are centred: -0.5 is black, 0.5 white. Every codec starts as an orthonormal transform codec:
what a backbone ends in is zero. The quality level arrives as rows that are one-hot, or blend two
neighbouring levels, so that one batch may mix levels and one exported program serves all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.codec.layers import SLOPE, LevelTable, basis, zeroed
from search_spaces.codec.statistics import coefficient_rms, error_rms


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
        bands = self.convolution(F.leaky_relu(features, SLOPE)) * self.error_scale(level)
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
        added: Tensor = self.convolution(F.leaky_relu(features, SLOPE))
        return latents + added * torch.exp(self.log_scale(level))


def _unshuffle(image: Tensor, stride: int) -> Tensor:
    """Pixel-unshuffle; at stride 1 nothing, where the operator would copy."""
    return image if stride == 1 else F.pixel_unshuffle(image, stride)


def _shuffle(patches: Tensor, stride: int) -> Tensor:
    """Inverse of `_unshuffle`."""
    return patches if stride == 1 else F.pixel_shuffle(patches, stride)
