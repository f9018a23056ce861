"""Rates, distortions and what compares two codecs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from evaluators.protocol import EvaluationError

RdPoint = dict[str, Any]

_LOWER_IS_BETTER = frozenset({"lpips"})


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


def bd_rate(points: Sequence[RdPoint], reference: Sequence[RdPoint], metric: str) -> float:
    """Rate saved at equal quality against a reference, in per cent; negative is better.

    Bjøntegaard's delta over written bytes, piecewise-cubic in the log of the rate. LPIPS enters
    as -10 log10, so that both kinds of quality rise and are near linear in the log of the rate.

    Args:
        points: one a quality level, with `bpp_coded` and `metric`.
        reference: likewise.
        metric: `psnr` or `lpips`.

    Raises:
        EvaluationError: a curve is not monotone, or the two share no range of quality.
    """
    import bjontegaard

    rates, qualities = _curve(points, metric, "its")
    reference_rates, reference_qualities = _curve(reference, metric, "the reference's")
    common_best = min(qualities[-1], reference_qualities[-1])
    if common_best <= max(qualities[0], reference_qualities[0]):
        raise EvaluationError(f"no BD-rate: {metric} shares no range with the reference")
    value = bjontegaard.bd_rate(
        reference_rates, reference_qualities, rates, qualities,
        method="pchip", require_matching_points=False, min_overlap=0.0,
    )  # fmt: skip
    return float(value)


def _curve(points: Sequence[RdPoint], metric: str, whose: str) -> tuple[list[float], list[float]]:
    ordered = sorted(points, key=lambda point: point["bpp_coded"])
    rates = [point["bpp_coded"] for point in ordered]
    qualities = [_quality(point[metric], metric) for point in ordered]
    rises = all(a < b for a, b in pairwise(qualities))
    if not rises or not all(math.isfinite(q) for q in qualities):
        raise EvaluationError(f"no BD-rate: {whose} {metric} does not improve with the rate")
    return rates, qualities


def _quality(value: float, metric: str) -> float:
    return -10 * math.log10(max(value, 1e-9)) if metric in _LOWER_IS_BETTER else value
