"""Several codecs on the same photographs: what each picture is worth, curves, BD-rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.metrics import MIN_OVERLAP, bd_overlap, bd_rate, psnr
from evaluators.passes import to_tensor
from evaluators.perceptual import described, load_lpips, lpips_of_images
from evaluators.photos import Pixels
from evaluators.protocol import EvaluationError, SetupError
from evaluators.strips import ms_ssim_of_image

Point = dict[str, Any]
# Of each picture its points, in order of quality.
ByImage = Mapping[str, Sequence[Point]]

METRICS = ("psnr", "ms_ssim", "lpips", "lpips_vgg")
BACKBONES = {"lpips": "alex", "lpips_vgg": "vgg"}
_RISING = ("psnr", "ms_ssim")  # more is better
_LPIPS_SIDE = 32
_COUNTED = ("bpp", "bytes", "encode_seconds", "decode_seconds")


def prepare(metrics: Sequence[str]) -> dict[str, str]:
    """Loads what the metrics need, before work is spent; says which LPIPS it is.

    Raises:
        SetupError: LPIPS weights are not installed.
    """
    backbones = [BACKBONES[name] for name in metrics if name in BACKBONES]
    for backbone in backbones:
        load_lpips(backbone)
    return {backbone: described(backbone) for backbone in backbones}


@torch.no_grad()
def scores(
    images: Sequence[Pixels], original: Pixels, metrics: Sequence[str]
) -> list[dict[str, float]]:
    """What versions of one picture are worth, as a screen would show them.

    One float copy of a picture at a time is in memory, and LPIPS goes tile by tile, so that a
    photograph of a phone's camera fits.

    Args:
        images: 8-bit, shape (H, W, 3) each.
        original: same shape.
        metrics: of `METRICS`.

    Raises:
        SetupError: a picture is too small for a metric.
        EvaluationError: a metric is no finite number.
    """
    _check_sides(original, metrics)
    columns = {name: _column(name, images, original) for name in metrics}
    for name, values in columns.items():
        if not all(map(math.isfinite, values)):
            raise EvaluationError(f"{name} is not a finite number: {values}")
    return [{name: columns[name][i] for name in metrics} for i in range(len(images))]


def curve(by_image: ByImage) -> list[Point]:
    """Means over the pictures at each quality, and what the worst tenth of them comes to.

    Args:
        by_image: as many points of each, the same qualities in the same order.

    Returns:
        A point a quality: `quality` (or none), means of all figures, `worst_decile` by metric.
    """
    return [_mean(points) for points in zip(*by_image.values(), strict=True)]


def worst_decile(values: Sequence[float], more_is_better: bool) -> float:
    """Mean of the worst tenth of the values, of one at least."""
    ordered = sorted(values, reverse=not more_is_better)
    return float(np.mean(ordered[: math.ceil(len(values) / 10)]))


def rate_saved(
    points: Sequence[Point], reference: Sequence[Point], metric: str, names: tuple[str, str]
) -> dict[str, Any]:
    """The BD-rate of two curves, or why there is none.

    A point that another one of its own curve beats with fewer bits is left out: classical codecs'
    lowest qualities have such. Of a curve that loses half of its points nothing is left to compare.

    Returns:
        `percent`, negative when `points` need fewer bits, or None; `overlap`, the share of the
        narrower range of quality that both cover, 0 to 1, or None; `left_out`, points of either;
        `why` there is none, or None.
    """
    curves = [_distinct(points, metric), _distinct(reference, metric)]
    kept = [_unbeaten(curve, metric) for curve in curves]
    left_out = [len(curve) - len(best) for curve, best in zip(curves, kept, strict=True)]
    # What falls apart is told as it is, by its whole curve.
    ours, theirs = (
        best if 2 * len(best) > len(curve) else curve
        for curve, best in zip(curves, kept, strict=True)
    )
    try:
        # Of the narrower range: a reference that reaches far beyond a curve compares all of it.
        overlap = max(
            bd_overlap(ours, theirs, metric, names),
            bd_overlap(theirs, ours, metric, (names[1], names[0])),
        )
        if overlap < MIN_OVERLAP:
            raise EvaluationError(_apart(ours, theirs, metric, names, overlap))
        percent = bd_rate(ours, theirs, metric, min_overlap=0, names=names)
    except EvaluationError as problem:
        return {"percent": None, "overlap": None, "left_out": left_out, "why": str(problem)}
    return {"percent": percent, "overlap": overlap, "left_out": left_out, "why": None}


def rates_saved(
    ours: ByImage, theirs: ByImage, metric: str, names: tuple[str, str]
) -> dict[str, Any]:
    """BD-rates of the mean curves and picture by picture.

    Returns:
        `of_means` as from `rate_saved`; `mean` and `worst_decile` of the pictures' own BD-rates, in
        per cent, over the `images` that have one (None without any); `by_image`, a BD-rate or
        None each; `undefined`, picture -> why it has none.
    """
    single = {name: rate_saved(ours[name], theirs[name], metric, names) for name in ours}
    known = [one["percent"] for one in single.values() if one["percent"] is not None]
    return {
        "of_means": rate_saved(curve(ours), curve(theirs), metric, names),
        "mean": float(np.mean(known)) if known else None,
        "worst_decile": worst_decile(known, more_is_better=False) if known else None,
        "images": len(known),
        "by_image": {name: one["percent"] for name, one in single.items()},
        "undefined": {name: one["why"] for name, one in single.items() if one["why"]},
    }


def _check_sides(original: Pixels, metrics: Sequence[str]) -> None:
    if min(original.shape[:2]) < _LPIPS_SIDE and set(metrics) & set(BACKBONES):
        height, width = original.shape[:2]
        raise SetupError(f"no LPIPS of {width} x {height} pixels: it needs {_LPIPS_SIDE} each way")


def _column(metric: str, images: Sequence[Pixels], original: Pixels) -> list[float]:
    if metric in BACKBONES:
        tensors = [_eight_bit(image) for image in images]
        return lpips_of_images(tensors, _eight_bit(original), BACKBONES[metric])
    reference = to_tensor(original)
    if metric == "ms_ssim":
        return [ms_ssim_of_image(to_tensor(image), reference) for image in images]
    return [psnr(to_tensor(image), reference).item() for image in images]


def _eight_bit(pixels: Pixels) -> Tensor:
    """Shape (1, 3, H, W), 8-bit; the same memory where that may be written, as torch asks."""
    own = pixels if pixels.flags.writeable else pixels.copy()
    return torch.from_numpy(own).permute(2, 0, 1)[None]


def _mean(points: Sequence[Point]) -> Point:
    names = [name for name in points[0] if name in (*_COUNTED, *METRICS)]
    mean = {name: float(np.mean([point[name] for point in points])) for name in names}
    worst = {
        name: worst_decile([point[name] for point in points], name in _RISING)
        for name in names
        if name in METRICS
    }
    return {"quality": points[0].get("quality"), **mean, "worst_decile": worst}


def _distinct(points: Sequence[Point], metric: str) -> list[Point]:
    """As `bd_rate` takes them; what is there twice, since two qualities gave one file, once."""
    pairs = dict.fromkeys((float(point["bpp"]), float(point[metric])) for point in points)
    return [{"bpp_coded": bpp, metric: value} for bpp, value in pairs]


def _unbeaten(points: Sequence[Point], metric: str) -> list[Point]:
    """Without points that another one beats or equals with no more bits."""
    sign = 1 if metric in _RISING else -1
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p["bpp_coded"], -sign * p[metric])):
        if not kept or sign * point[metric] > sign * kept[-1][metric]:
            kept.append(point)
    return kept


def _apart(
    ours: Sequence[Point],
    theirs: Sequence[Point],
    metric: str,
    names: tuple[str, str],
    overlap: float,
) -> str:
    """Where two curves lie that share too little."""
    spans = [sorted(point[metric] for point in points) for points in (ours, theirs)]
    (a, *_, b), (c, *_, d) = spans
    return (
        f"no bd_rate_{metric}: {names[0]} covers {a:.4g} to {b:.4g} and {names[1]} {c:.4g} to"
        f" {d:.4g}; they share {overlap:.0%} of the narrower range, and less than"
        f" {MIN_OVERLAP:.0%} compares nothing"
    )
