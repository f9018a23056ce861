"""Rates, distortions and what compares two codecs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from pytorch_msssim import ms_ssim as _ms_ssim
from torch import Tensor

from evaluators.protocol import EvaluationError, SetupError

RdPoint = dict[str, Any]
_Curve = tuple[list[float], list[float]]  # rates and qualities, both rising

COMPARED = ("lpips", "ms_ssim", "psnr")
CURVES = ("the candidate", "the reference")  # what the two of a BD-rate are called

# MS-SSIM halves an image four times, and its window of 11 pixels must still move on the smallest.
_MS_SSIM_SIDE = 160

# What a BD-rate must rest on, as a share of the reference's range of quality. `bjontegaard` warns
# below 0.75 of both ranges together and goes on; VMAF's tool refuses only curves that share
# nothing. With four levels a segment is about a third of the range, and an overlap well inside one
# compares one codec's best level with the other's worst, on slopes known from one side: that is a
# ratio of rates at one quality and no mean over a range.
MIN_OVERLAP = 0.2


def to_8_bit(images: Tensor) -> Tensor:
    """What a file or a screen would hold: clipped and rounded to 256 levels, still in [0, 1]."""
    return (images.float().clamp(0, 1) * 255).round() / 255


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image over all channels, in dB.

    Args:
        images: shape (N, 3, H, W) in [0, 1].
        originals: same shape.

    Returns:
        Shape (N,); identical images give 100.
    """
    mse = (images - originals).pow(2).flatten(1).mean(1)
    return -10 * torch.log10(mse.clamp_min(1e-10))


def ms_ssim(images: Tensor, originals: Tensor) -> Tensor:
    """Multi-scale structural similarity of each image, mean over its channels.

    Wang, Simoncelli and Bovik 2003, by `pytorch-msssim`: five scales, Gaussian window of 11 pixels,
    no padding but for odd sides, which are padded with zeros as they are halved. Multiples of 16
    never are.

    Args:
        images: shape (N, 3, H, W) in [0, 1], H and W above 160.
        originals: same shape.

    Returns:
        Shape (N,), in [0, 1]; identical images give 1.

    Raises:
        SetupError: a side is 160 pixels or less.
    """
    require_ms_ssim_side(*images.shape[-2:])
    similarities: Tensor = _ms_ssim(images, originals, data_range=1, size_average=False)
    return similarities


def require_ms_ssim_side(height: int, width: int) -> None:
    """Fails where a picture is too small for all scales of MS-SSIM.

    Raises:
        SetupError: a side is 160 pixels or less.
    """
    if min(height, width) <= _MS_SSIM_SIDE:
        raise SetupError(
            f"no ms_ssim of {width} x {height} pixels: its five scales need more than"
            f" {_MS_SSIM_SIDE} each way; give larger photographs or crops"
        )


def bd_rates(points: Sequence[RdPoint], reference: Sequence[RdPoint]) -> dict[str, float]:
    """The BD-rate of every compared metric, and what they rest on.

    Returns:
        `bd_rate_lpips`, `bd_rate_ms_ssim` and `bd_rate_psnr` in per cent, negative is better;
        `bd_overlap`, the smallest share of the reference's range of quality that one rests on.

    Raises:
        EvaluationError: one of them cannot be had; it names the metric and the curve.
    """
    rates = {f"bd_rate_{metric}": bd_rate(points, reference, metric) for metric in COMPARED}
    return rates | {"bd_overlap": min(bd_overlap(points, reference, name) for name in COMPARED)}


def bd_rate(
    points: Sequence[RdPoint],
    reference: Sequence[RdPoint],
    metric: str,
    min_overlap: float = MIN_OVERLAP,
    names: tuple[str, str] = CURVES,
) -> float:
    """Rate saved at equal quality against a reference, in per cent; negative is better.

    Bjøntegaard's delta over written bytes, piecewise-cubic in the log of the rate. LPIPS enters
    as -10 log10 and MS-SSIM as -10 log10(1 - x), so that every quality rises and is near linear in
    the log of the rate.

    Args:
        points: one a quality level, with `bpp_coded` and `metric`.
        reference: likewise.
        metric: `psnr`, `ms_ssim` or `lpips`, also followed by a backbone.
        min_overlap: the least share of the reference's range of quality that will do.
        names: of the two curves, for errors.

    Raises:
        EvaluationError: a curve does not rise or holds what is no finite number, or the two share
            less than `min_overlap` of the reference's range of quality.
    """
    share = bd_overlap(points, reference, metric, names)
    if share < min_overlap:
        raise EvaluationError(
            f"no bd_rate_{metric}: {names[0]}'s curve shares {share:.1%} of {names[1]}'s"
            f" range of quality, and less than {min_overlap:.0%} compares nothing"
        )
    ours, theirs = _curve(points, metric, names[0]), _curve(reference, metric, names[1])
    value = _bjontegaard(ours, theirs)
    if not math.isfinite(value):
        raise EvaluationError(f"no bd_rate_{metric}: the curves give no finite number")
    return value


def _bjontegaard(ours: _Curve, theirs: _Curve) -> float:
    """Bjøntegaard's delta; NaN where curves are too steep for floating point."""
    import bjontegaard

    try:
        value = bjontegaard.bd_rate(
            *theirs, *ours, method="pchip", require_matching_points=False, min_overlap=0.0
        )
    except ValueError:
        return math.nan
    return float(value)


def bd_overlap(
    points: Sequence[RdPoint],
    reference: Sequence[RdPoint],
    metric: str,
    names: tuple[str, str] = CURVES,
) -> float:
    """Share of the reference's range of quality that a curve covers, 0 to 1.

    Args:
        points: as of `bd_rate`.
        reference: likewise.
        metric: as of `bd_rate`.
        names: of the two curves, for errors.

    Raises:
        EvaluationError: a curve does not rise or holds what is no finite number.
    """
    ours = _curve(points, metric, names[0])[1]
    theirs = _curve(reference, metric, names[1])[1]
    shared = min(ours[-1], theirs[-1]) - max(ours[0], theirs[0])
    return max(shared, 0.0) / (theirs[-1] - theirs[0])


def _curve(points: Sequence[RdPoint], metric: str, whose: str) -> _Curve:
    """Rates and qualities in order of the rate, both strictly rising."""
    ordered = sorted(points, key=lambda point: point["bpp_coded"])
    rates = [point["bpp_coded"] for point in ordered]
    qualities = [_quality(point[metric], metric) for point in ordered]
    problem = _problem(rates, qualities)
    if problem:
        raise EvaluationError(f"no bd_rate_{metric}: {whose}'s curve {problem}")
    return rates, qualities


def _problem(rates: Sequence[float], qualities: Sequence[float]) -> str | None:
    if len(rates) < 2:
        return "has fewer than two points"
    if not all(map(math.isfinite, [*rates, *qualities])) or min(rates) <= 0:
        return "holds a value that cannot be"
    if not all(a < b for a, b in pairwise(rates)):
        return "has two points at one rate"
    if not all(a < b for a, b in pairwise(qualities)):
        return "does not improve with the rate"
    return None


def _quality(value: float, metric: str) -> float:
    """A metric as a quality in dB that rises; NaN for what the metric cannot be."""
    if metric == "psnr":
        return value
    error = value if metric.startswith("lpips") else 1 - value
    if not error > -1e-6:  # rounding may put MS-SSIM a little above 1
        return math.nan
    return -10 * math.log10(max(error, 1e-9))
