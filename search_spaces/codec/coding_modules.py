"""Torch modules of the transform and the entropy model, for latents of any size.

Images are centred: -0.5 is black, 0.5 white.

Untrained, they make a transform codec: an orthonormal transform of fitted gains, scales that
follow the log-magnitudes which the hyper-latents carry, mu = 0 and q = 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.codec import coding_blocks, statistics
from search_spaces.codec.constants import LATENT_SIZE, LATENT_STRIDE, PATCH_CHANNELS
from search_spaces.codec.context import Context
from search_spaces.codec.layers import SLOPE, LevelTable, basis, zeroed

LARGEST_HYPER = 127  # hyper-latents are 8-bit integers
_BAND_GAIN = 1.5  # hyper-latents a unit of log-magnitude


class Analysis(nn.Module):
    """image (N, 3, H, W), level -> y (N, M, H/16, W/16) in units of the quantiser."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(PATCH_CHANNELS, latent_channels, 1, bias=False)
        self.transform.weight.data = _kept_basis(latent_channels)[:, :, None, None].clone()
        self.log_gain = LevelTable(-_log_steps(latent_channels))

    def forward(self, image: Tensor, level: Tensor) -> Tensor:
        coefficients: Tensor = self.transform(F.pixel_unshuffle(image, LATENT_STRIDE))
        y: Tensor = coefficients * self.log_gain(level).exp()
        return y


class Synthesis(nn.Module):
    """latents (N, M, h, w), level -> image (N, 3, 16 h, 16 w)."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(latent_channels, PATCH_CHANNELS, 1, bias=False)
        self.transform.weight.data = _kept_basis(latent_channels).T.contiguous()[:, :, None, None]
        self.log_gain = LevelTable(_log_steps(latent_channels))

    def forward(self, latents: Tensor, level: Tensor) -> Tensor:
        patches = self.transform(latents * self.log_gain(level).exp())
        return F.pixel_shuffle(patches, LATENT_STRIDE)


class HyperAnalysis(nn.Module):
    """y (N, M, h, w), level -> z (N, K, ⌈h/2⌉, ⌈w/2⌉); rounded unless training."""

    def __init__(self, block: coding_blocks.HyperAnalysis) -> None:
        super().__init__()
        channels = block.latent_channels
        self.log_scale = LevelTable.log_rms(channels)
        self.bands = nn.Conv2d(channels, block.hyper_channels, 1)
        members = _band_members(channels, block.hyper_channels)
        means = members / members.sum(1, keepdim=True).clamp_min(1)
        self.bands.weight.data = _BAND_GAIN * means[:, :, None, None]
        self.bands.bias.data = -_BAND_GAIN * statistics.MEAN_LOG_MAGNITUDE * means.sum(1)  # type: ignore[union-attr]
        self.down = nn.Conv2d(channels, block.width, 3, 2, 1)
        self.out = zeroed(nn.Conv2d(block.width, block.hyper_channels, 1, bias=False))

    def forward(self, y: Tensor, level: Tensor) -> Tensor:
        features = torch.log(y.abs() * torch.exp(-self.log_scale(level)) + statistics.LOG_FLOOR)
        z = F.avg_pool2d(_even(self.bands(features)), 2)
        z = z + self.out(F.leaky_relu(self.down(features), SLOPE))
        return z if self.training else torch.round(z).clamp(-LARGEST_HYPER, LARGEST_HYPER)


class ContextDecoder(nn.Module):
    """z (N, K, h, w), level -> parameters (N, M or 2 M, 2h, 2w): mu, then the raw width."""

    def __init__(self, block: coding_blocks.ContextDecoder) -> None:
        super().__init__()
        outputs = block.values * block.latent_channels
        self.learned_width = block.learned_width
        self.linear = zeroed(nn.Conv2d(block.hyper_channels, outputs, 1, bias=False))
        self.inner = nn.Conv2d(block.hyper_channels, block.width, 3, 1, 1)
        self.out = zeroed(nn.Conv2d(block.width, 4 * outputs, 1, bias=False))
        self.log_scale = LevelTable.log_rms(block.latent_channels)

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        coarse = F.interpolate(self.linear(z), scale_factor=2.0, mode="nearest")
        fine = F.pixel_shuffle(self.out(F.leaky_relu(self.inner(z), SLOPE)), 2)
        return _in_steps(coarse + fine, self.log_scale(level), self.learned_width)


class Quantise(nn.Module):
    """y (N, M, h, w), parameters -> symbols round((y - mu) / q), straight-through in training."""

    def __init__(self, learned_width: bool) -> None:
        super().__init__()
        self.learned_width = learned_width

    def residual(self, y: Tensor, parameters: Tensor) -> Tensor:
        """(y - mu) / q, not rounded."""
        mu, width = _mu_and_width(_like(parameters, y), self.learned_width)
        return y - mu if width is None else (y - mu) / width

    def forward(self, y: Tensor, parameters: Tensor) -> Tensor:
        residual = self.residual(y, parameters)
        if self.training:
            return residual + (torch.round(residual) - residual).detach()
        return torch.round(residual)


class Dequantise(nn.Module):
    """symbols (N, M, h, w), parameters -> latents q * symbols + mu."""

    def __init__(self, learned_width: bool) -> None:
        super().__init__()
        self.learned_width = learned_width

    def forward(self, symbols: Tensor, parameters: Tensor) -> Tensor:
        mu, width = _mu_and_width(_like(parameters, symbols), self.learned_width)
        return (symbols if width is None else symbols * width) + mu


class ContextStep(nn.Module):
    """latents (N, M, h, w), parameters, level -> parameters cropped to the latents' size."""

    def __init__(self, block: coding_blocks.ContextStep) -> None:
        super().__init__()
        channels = block.latent_channels
        values = (1 + block.learned_width) * channels
        self.context, self.group = Context(block.context), block.group
        self.learned_width = block.learned_width
        self.log_scale = LevelTable.log_rms(channels)
        self.known = nn.Conv2d(channels, block.width, 3, 1, 1)
        self.given = nn.Conv2d(values, block.width, 1, bias=False)
        self.out = zeroed(nn.Conv2d(block.width, values, 1))

    def forward(self, latents: Tensor, parameters: Tensor, level: Tensor) -> Tensor:
        parameters, log_scale = _like(parameters, latents), self.log_scale(level)
        known, refined = self._masks(latents)
        unit = torch.exp(-log_scale)
        features = self.known(latents * unit * known)
        features = features + self.given(self._relative(parameters, unit))
        added = _in_steps(self.out(F.leaky_relu(features, SLOPE)), log_scale, self.learned_width)
        return parameters + added * self._repeated(refined)

    def _masks(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """1 where latents are known, and where parameters are refined; both broadcastable."""
        group = self._groups(latents)
        known, refined = group < self.group, group == self.group
        return known.to(latents.dtype)[None], refined.to(latents.dtype)[None]

    def _groups(self, latents: Tensor) -> Tensor:
        """Group of every latent, broadcastable to (M, h, w)."""
        channels, height, width = latents.shape[1:]
        if torch.onnx.is_in_onnx_export():  # one graph for every size up to a tile's
            whole = self.context.group_of(int(channels), LATENT_SIZE, LATENT_SIZE)
            return torch.from_numpy(whole)[..., :height, :width]
        return torch.from_numpy(self.context.group_of(channels, height, width)).to(latents.device)

    def _repeated(self, mask: Tensor) -> Tensor:
        """For mu and width alike."""
        both = self.learned_width and mask.shape[1] > 1
        return torch.cat([mask, mask], 1) if both else mask

    def _relative(self, parameters: Tensor, unit: Tensor) -> Tensor:
        if not self.learned_width:
            return parameters * unit
        mu, raw = parameters.chunk(2, 1)
        return torch.cat([mu * unit, raw], 1)


def _kept_basis(channels: int) -> Tensor:
    return basis(LATENT_STRIDE)[torch.from_numpy(statistics.kept_coefficients(channels))]


def _log_steps(channels: int) -> Tensor:
    log_steps = np.log(statistics.STEPS_8_BIT / 255)[:, None]
    return torch.from_numpy(np.repeat(log_steps, channels, 1))


def _band_members(channels: int, hyper_channels: int) -> Tensor:
    """1 where a latent channel belongs to the band of a hyper-channel, shape (K, M)."""
    return torch.from_numpy(
        np.arange(hyper_channels)[:, None] == statistics.bands(channels)[None]
    ).float()


def band_slopes(latent_channels: int, hyper_channels: int) -> Tensor:
    """Change of each latent's log-scale a unit of each hyper-latent at the start, shape (M, K)."""
    return 1.0 / _BAND_GAIN * _band_members(latent_channels, hyper_channels).T


def _even(values: Tensor) -> Tensor:
    """Repeats the last row or column where their number is odd."""
    height, width = values.shape[-2:]
    if height % 2 == 0 and width % 2 == 0:
        return values
    return F.pad(values, (0, width % 2, 0, height % 2), mode="replicate")


def _like(parameters: Tensor, latents: Tensor) -> Tensor:
    """Cropped to the size of the latents, which may be odd."""
    height, width = latents.shape[-2:]
    if parameters.shape[-2:] == (height, width):
        return parameters
    return parameters[..., :height, :width]


def _in_steps(values: Tensor, log_scale: Tensor, learned_width: bool) -> Tensor:
    """Turns mu from units of each latent's usual magnitude into steps; raw widths stay."""
    if not learned_width:
        return values * torch.exp(log_scale)
    mu, raw = values.chunk(2, 1)
    return torch.cat([mu * torch.exp(log_scale), raw], 1)


def _mu_and_width(parameters: Tensor, learned_width: bool) -> tuple[Tensor, Tensor | None]:
    """mu, and the quantisation width between 1/e and e; None stands for 1."""
    if not learned_width:
        return parameters, None
    mu, raw = parameters.chunk(2, 1)
    return mu, torch.exp(torch.tanh(raw))
