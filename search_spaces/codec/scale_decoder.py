"""The scales of all symbols, from 8-bit integers: equal bits on every machine.

Trained in floating point, then frozen once by whoever trained it: the integers travel with the
weights, and coding uses nothing else. Every product and sum is an integer; matrix products run in
floating point only where all of them are exact, so that their order does not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.codec import entropy
from search_spaces.codec.coding_modules import LARGEST_HYPER, band_slopes
from search_spaces.codec.constants import LEVELS, QUALITY_STEPS
from search_spaces.codec.layers import LevelTable, zeroed
from search_spaces.codec.statistics import log_rms_in_steps

_STEP = float(entropy.LOG_SCALES[1] - entropy.LOG_SCALES[0])
_HIDDEN_UNIT = 1 / 32  # hidden values are 0 to 255 of these
_HIDDEN_MAX = 255 * _HIDDEN_UNIT
_INDEX_BITS = 8  # fractional bits of a table index
LARGEST_SHIFT = 20

# At the start: from log RMS to log Laplace scale, and the log scale of hyper-latents. The values
# that coded 25 photographs in the fewest bits.
_LOG_SCALE_OFFSET = -0.95
_HYPER_LOG_SCALE = -0.6


class ScaleDecoder(nn.Module):
    """z (N, K, h, w), level -> log of the Laplace scale of every latent (N, M, 2h, 2w)."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    hidden_shift: Tensor
    linear_weight: Tensor
    linear_shift: Tensor
    out_weight: Tensor
    out_shift: Tensor
    index_bias: Tensor

    def __init__(self, latent_channels: int, hyper_channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(hyper_channels, latent_channels, 1, bias=False)
        self.linear.weight.data = band_slopes(latent_channels, hyper_channels)[:, :, None, None]
        self.inner = nn.Conv2d(hyper_channels, width, 3, 1, 1)
        self.out = zeroed(nn.Conv2d(width, 4 * latent_channels, 1, bias=False))
        usual = torch.from_numpy(log_rms_in_steps(latent_channels)) + _LOG_SCALE_OFFSET
        self.level = LevelTable(usual.repeat_interleave(4, 1))
        self._register(latent_channels, hyper_channels, width)
        self.freeze()

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        hidden = self.inner(z).clamp(0, _HIDDEN_MAX)
        fine = F.pixel_shuffle(self.out(hidden) + self.level(level), 2)
        return F.interpolate(self.linear(z), scale_factor=2.0, mode="nearest") + fine

    @torch.no_grad()
    def freeze(self) -> None:
        """Makes the integers from the weights as they are now."""
        weights = {
            "hidden": self.inner.weight / _HIDDEN_UNIT,
            "linear": self.linear.weight / _STEP,
            "out": self.out.weight * _HIDDEN_UNIT / _STEP,
        }
        for name, weight in weights.items():
            shift = _shifts(weight.flatten(1))
            integers = _scaled(weight.flatten(1), shift).clamp(-127, 127)
            getattr(self, f"{name}_shift").copy_(shift)
            getattr(self, f"{name}_weight").copy_(integers)
        bias = self.inner.bias
        assert bias is not None
        scaled = _scaled(bias[:, None] / _HIDDEN_UNIT, self.hidden_shift)[:, 0]
        self.hidden_bias.copy_(scaled.clamp(-(2**30), 2**30))
        offset = (self.level.table - float(entropy.LOG_SCALES[0])) / _STEP
        self.index_bias.copy_(torch.round(offset * 2**_INDEX_BITS))

    def indices(self, hyper: NDArray[np.int32], quality: int) -> entropy.Indices:
        """Table index of every symbol, from integers alone.

        Args:
            hyper: shape (K, h, w), -127 to 127.
            quality: in sixteenths of a level.

        Returns:
            Shape (M, 2h, 2w).
        """
        channels, height, width = hyper.shape
        hidden = _product(_integers(self.hidden_weight), _neighbourhoods(hyper), LARGEST_HYPER)
        hidden += _integers(self.hidden_bias)[:, None]
        hidden = np.clip(_shifted(hidden, _integers(self.hidden_shift)), 0, 255)
        index = _product(_integers(self.out_weight), hidden, 255) << _INDEX_BITS
        index = _shifted(index, _integers(self.out_shift))
        linear = _product(_integers(self.linear_weight), hyper.reshape(channels, -1), LARGEST_HYPER)
        linear = _shifted(linear << _INDEX_BITS, _integers(self.linear_shift))
        index += linear.repeat(4, 0) + blended(_integers(self.index_bias), quality)[:, None]
        index = np.clip((index + 2 ** (_INDEX_BITS - 1)) >> _INDEX_BITS, 0, entropy.TABLES - 1)
        fine = index.astype(np.uint8).reshape(-1, 2, 2, height, width)
        return np.asarray(fine.transpose(0, 3, 1, 4, 2).reshape(-1, 2 * height, 2 * width))

    def _register(self, latent_channels: int, hyper_channels: int, width: int) -> None:
        sizes = {
            "hidden_weight": ((width, 9 * hyper_channels), torch.int8),
            "hidden_bias": ((width,), torch.int32),
            "hidden_shift": ((width,), torch.uint8),
            "linear_weight": ((latent_channels, hyper_channels), torch.int8),
            "linear_shift": ((latent_channels,), torch.uint8),
            "out_weight": ((4 * latent_channels, width), torch.int8),
            "out_shift": ((4 * latent_channels,), torch.uint8),
            "index_bias": ((LEVELS, 4 * latent_channels), torch.int32),
        }
        for name, (size, dtype) in sizes.items():
            self.register_buffer(name, torch.zeros(size, dtype=dtype))


class HyperPrior(nn.Module):
    """level -> log of the Laplace scale of every hyper-latent, (N, K, 1, 1); none is coded."""

    table_indices: Tensor

    def __init__(self, hyper_channels: int) -> None:
        super().__init__()
        self.log_scale = LevelTable.constant(hyper_channels, _HYPER_LOG_SCALE)
        size = LEVELS, hyper_channels
        self.register_buffer("table_indices", torch.zeros(size, dtype=torch.uint8))
        self.freeze()

    def forward(self, level: Tensor) -> Tensor:
        log_scale: Tensor = self.log_scale(level)
        return log_scale

    @torch.no_grad()
    def freeze(self) -> None:
        """Makes the integers from the weights as they are now."""
        indices = entropy.scale_indices(self.log_scale.table.cpu().numpy())
        # None may be left out: both sides need every hyper-latent.
        self.table_indices.copy_(torch.from_numpy(indices).clamp_min(entropy.DEAD_BELOW))

    def indices(self, quality: int) -> entropy.Indices:
        """Table index of each channel at a quality in sixteenths, shape (K,)."""
        return blended(_integers(self.table_indices), quality).astype(np.uint8)


def blended(table: NDArray[np.int64], quality: int) -> NDArray[np.int64]:
    """A row between those of two neighbouring levels, in integers.

    Args:
        table: shape (LEVELS, C).
        quality: in sixteenths of a level.
    """
    level, share = divmod(quality, QUALITY_STEPS)
    above = min(level + 1, len(table) - 1)
    row = table[level] * (QUALITY_STEPS - share) + table[above] * share
    return np.asarray((row + QUALITY_STEPS // 2) // QUALITY_STEPS)


def _integers(values: Tensor) -> NDArray[np.int64]:
    return values.cpu().numpy().astype(np.int64)


def _shifts(weights: Tensor) -> Tensor:
    """Binary places by row that bring weights nearest to 127 without passing it."""
    largest = weights.abs().amax(1).clamp_min(1e-9)
    return torch.floor(torch.log2(127 / largest)).clamp(0, LARGEST_SHIFT)


def _scaled(weights: Tensor, shift: Tensor) -> Tensor:
    return torch.round(weights * torch.exp2(shift)[:, None])


def _shifted(values: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divides rows by powers of two, to nearest."""
    half = (1 << shift) >> 1
    return np.asarray((values + half[:, None]) >> shift[:, None])


def _product(
    weights: NDArray[np.int64], values: NDArray[np.int64] | NDArray[np.int32], largest: int
) -> NDArray[np.int64]:
    """Exact integer matrix product, by a floating-point one that cannot round.

    Args:
        weights: shape (R, C).
        values: shape (C, N), of magnitude at most `largest`.
        largest: bounds every partial sum.
    """
    bound = int(np.abs(weights).sum(1).max(initial=0)) * largest
    exact: Any = np.float32 if bound < 2**24 else np.float64
    return np.asarray((weights.astype(exact) @ values.astype(exact)).astype(np.int64))


def _neighbourhoods(hyper: NDArray[np.int32]) -> NDArray[np.int32]:
    """The 3 x 3 values around every place, shape (9 K, h w), channels outermost."""
    padded = np.pad(hyper, ((0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))  # type: ignore[call-overload]
    return np.asarray(windows.transpose(0, 3, 4, 1, 2).reshape(9 * len(hyper), -1))
