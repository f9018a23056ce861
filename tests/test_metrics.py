"""Metrics against values known otherwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from torch import Tensor

from evaluators.metrics import (
    COMPARED,
    MIN_OVERLAP,
    RdPoint,
    bd_overlap,
    bd_rate,
    bd_rates,
    ms_ssim,
    psnr,
    to_8_bit,
)
from evaluators.protocol import EvaluationError, SetupError


def curve(scale: float = 1.0, gain_db: float = 0.0) -> list[RdPoint]:
    """A curve on which every metric, as a quality in dB, is linear in the log of the rate."""
    return [
        {
            "bpp_coded": scale * r,
            "psnr": 30 + 5 * math.log2(r) + gain_db,
            "lpips": 0.1 / r / 10 ** (gain_db / 10),
            "ms_ssim": 1 - 0.05 / r / 10 ** (gain_db / 10),
        }
        for r in (0.25, 0.5, 1.0, 2.0)
    ]


def range_db(metric: str) -> float:
    return 15.0 if metric == "psnr" else 10 * math.log10(8)


@st.composite
def curves(draw: st.DrawFn) -> list[RdPoint]:
    """Any curve of four levels that rises, of PSNR between 20 and 50 dB."""
    logs = draw(st.lists(st.floats(-2, 2), min_size=4, max_size=4))
    steps = draw(st.lists(st.floats(0.5, 5), min_size=4, max_size=4))
    rates = np.exp(np.sort(logs) + 0.1 * np.arange(4))
    points = zip(rates.tolist(), (20 + np.cumsum(steps)).tolist(), strict=True)
    return [{"bpp_coded": rate, "psnr": quality} for rate, quality in points]


def scaled(points: list[RdPoint], factor: float) -> list[RdPoint]:
    return [point | {"bpp_coded": factor * point["bpp_coded"]} for point in points]


def photograph(width: int = 192, height: int = 192) -> Tensor:
    pixels = skimage.data.astronaut()[:height, 100 : 100 + width]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def noisy(image: Tensor, strength: float) -> Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return to_8_bit(image + strength * noise)


def test_psnr_of_a_known_error() -> None:
    image = torch.full((2, 3, 8, 8), 0.5)
    assert psnr(image + 0.1, image).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert psnr(image, image).tolist() == [100.0, 100.0]


def test_images_are_scored_as_a_screen_would_show_them() -> None:
    shown = to_8_bit(torch.tensor([-0.2, 0.5001, 1.7]))
    assert shown.tolist() == pytest.approx([0.0, 128 / 255, 1.0])


def wang_2003(image: NDArray[Any], original: NDArray[Any]) -> float:
    """MS-SSIM of one channel, H and W multiples of 16, from the definition and in float64."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blurred(x: NDArray[Any]) -> NDArray[Any]:
        filtered = correlate1d(correlate1d(x, window, 0), window, 1)
        return np.asarray(filtered[5:-5, 5:-5])

    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            halves = [x.reshape(len(x) // 2, 2, -1, 2).mean((1, 3)) for x in (image, original)]
            image, original = halves
        a, b = blurred(image), blurred(original)
        variances = blurred(image**2) - a**2 + blurred(original**2) - b**2
        contrast = (2 * (blurred(image * original) - a * b) + 0.03**2) / (variances + 0.03**2)
        luminance = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)
        mean = (luminance * contrast).mean() if scale == 4 else contrast.mean()
        product *= mean**weight
    return float(product)


@pytest.mark.parametrize("strength", [0.02, 0.1, 0.3])
def test_ms_ssim_is_the_published_definition(strength: float) -> None:
    original = photograph(208, 192)
    image = noisy(original, strength)
    pairs = zip(image[0].double().numpy(), original[0].double().numpy(), strict=True)
    expected = np.mean([wang_2003(a, b) for a, b in pairs])
    assert ms_ssim(image, original).item() == pytest.approx(expected, abs=2e-5)


def test_ms_ssim_is_one_for_equal_images_and_falls_with_distortion() -> None:
    original = photograph()
    values = [ms_ssim(noisy(original, s), original).item() for s in (0, 0.02, 0.1, 0.3, 1)]
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < 0.5


def test_every_image_has_an_ms_ssim_of_its_own() -> None:
    original = photograph().expand(2, -1, -1, -1)
    values = ms_ssim(torch.cat([noisy(original[:1], 0.1), original[:1]]), original)
    assert values.shape == (2,)
    assert values[0] < values[1] == 1


@pytest.mark.parametrize("size", [(160, 192), (192, 160), (64, 64)])
def test_ms_ssim_of_images_too_small_for_it_is_an_error(size: tuple[int, int]) -> None:
    image = photograph(*size)
    with pytest.raises(SetupError, match=f"no ms_ssim of {size[0]} x {size[1]} pixels"):
        ms_ssim(image, image)
    assert ms_ssim(photograph(161, 161), photograph(161, 161)).item() == 1


@pytest.mark.parametrize("metric", COMPARED)
def test_half_the_rate_at_equal_quality_is_minus_fifty_per_cent(metric: str) -> None:
    assert bd_rate(curve(0.5), curve(), metric) == pytest.approx(-50, abs=1e-9)
    assert bd_rate(curve(), curve(), metric) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("metric", COMPARED)
def test_a_gain_in_quality_is_the_rate_that_it_saves(metric: str) -> None:
    doubling = range_db(metric) / 3  # the curve's dB for twice the rate
    assert bd_rate(curve(gain_db=doubling), curve(), metric) == pytest.approx(-50, abs=1e-6)


@given(curves(), st.floats(0.2, 5))
def test_a_curve_at_another_rate_is_off_by_that_rate(points: list[RdPoint], factor: float) -> None:
    expected = 100 * (factor - 1)
    assert bd_rate(scaled(points, factor), points, "psnr") == pytest.approx(expected, abs=1e-6)


@given(curves(), curves(), st.floats(0.2, 5), st.floats(-10, 10), st.permutations(range(4)))
def test_units_and_order_of_points_do_not_matter(
    points: list[RdPoint],
    reference: list[RdPoint],
    factor: float,
    shift: float,
    order: list[int],
) -> None:
    assume(bd_overlap(points, reference, "psnr") > 1.01 * MIN_OVERLAP)
    value = bd_rate(points, reference, "psnr")
    moved = [
        [point | {"psnr": point["psnr"] + shift} for point in scaled(given_points, factor)]
        for given_points in ([points[i] for i in order], reference)
    ]
    assert bd_rate(*moved, "psnr") == pytest.approx(value, rel=1e-6, abs=1e-6)


@given(curves(), curves())
def test_the_way_there_and_back_ends_at_the_start(
    points: list[RdPoint], reference: list[RdPoint]
) -> None:
    shares = [bd_overlap(*pair, "psnr") for pair in ((points, reference), (reference, points))]
    assume(min(shares) >= MIN_OVERLAP)
    there, back = bd_rate(points, reference, "psnr"), bd_rate(reference, points, "psnr")
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, rel=1e-9)


@st.composite
def any_curves(draw: st.DrawFn) -> list[RdPoint]:
    """Whatever floats there are, in rising order more often than not."""
    rates, values = (draw(st.lists(st.floats(), max_size=5)) for _ in range(2))
    if draw(st.booleans()):
        rates, values = sorted(map(abs, rates)), sorted(values)
    return [
        {"bpp_coded": rate, "psnr": value, "lpips": value, "ms_ssim": value}
        for rate, value in zip(rates, values, strict=False)
    ]


@given(any_curves(), any_curves() | st.none(), st.sampled_from(COMPARED))
def test_a_bd_rate_is_finite_or_an_error_that_names_it(
    points: list[RdPoint], reference: list[RdPoint] | None, metric: str
) -> None:
    try:
        assert math.isfinite(bd_rate(points, points if reference is None else reference, metric))
    except EvaluationError as problem:
        assert f"no bd_rate_{metric}" in str(problem)  # noqa: PT017


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_curves_too_steep_for_floating_point_are_an_error() -> None:
    steep = [p | {"psnr": q} for p, q in zip(curve(), (0.0, 1.0, 2.0, 6e307), strict=True)]
    with pytest.raises(EvaluationError, match="the curves give no finite number"):
        bd_rate(steep, curve(gain_db=-29), "psnr")


@pytest.mark.parametrize("metric", COMPARED)
@pytest.mark.parametrize(("whose", "wrong_first"), [("candidate", True), ("reference", False)])
def test_a_curve_that_cannot_be_compared_is_named(
    metric: str, whose: str, wrong_first: bool
) -> None:
    good = curve()
    swapped = [p | {metric: q[metric]} for p, q in zip(good, good[::-1], strict=True)]
    flat = [p | {metric: good[0][metric]} for p in good]
    for points, said in [
        (swapped, "does not improve with the rate"),
        (flat, "does not improve with the rate"),
        ([p | {"bpp_coded": 0.5} for p in good], "two points at one rate"),
        ([p | {metric: math.nan} for p in good], "a value that cannot be"),
        ([*good[:3], good[3] | {metric: math.inf}], "a value that cannot be"),
        ([good[0] | {"bpp_coded": 0.0}, *good[1:]], "a value that cannot be"),
        (good[:1], "fewer than two points"),
    ]:
        pair = (points, good) if wrong_first else (good, points)
        with pytest.raises(EvaluationError, match=f"no bd_rate_{metric}: the {whose}'s .*{said}"):
            bd_rate(*pair, metric)


@pytest.mark.parametrize(("metric", "value"), [("ms_ssim", 1.1), ("lpips", -0.1)])
def test_a_metric_out_of_its_range_is_no_quality(metric: str, value: float) -> None:
    points = [*curve()[:3], curve()[3] | {metric: value}]
    with pytest.raises(EvaluationError, match="a value that cannot be"):
        bd_rate(points, curve(), metric)


@pytest.mark.parametrize("metric", COMPARED)
def test_an_overlap_of_less_than_a_fifth_compares_nothing(metric: str) -> None:
    gain_db = 0.79 * range_db(metric)
    assert bd_overlap(curve(gain_db=gain_db), curve(), metric) == pytest.approx(0.21)
    assert math.isfinite(bd_rate(curve(gain_db=gain_db), curve(), metric))
    for share, said in ((0.81, "19.0%"), (1.0, "0.0%"), (2.0, "0.0%")):
        better = curve(gain_db=share * range_db(metric))
        for pair in ((better, curve()), (curve(), better)):
            with pytest.raises(EvaluationError, match=f"no bd_rate_{metric}.* shares {said}"):
                bd_rate(*pair, metric)


def test_all_bd_rates_come_with_the_smallest_overlap_they_rest_on() -> None:
    better = [p | {"psnr": p["psnr"] + 9} for p in curve(0.8)]
    rates = bd_rates(better, curve())
    assert {name: rates[f"bd_rate_{name}"] for name in ("lpips", "ms_ssim")} == pytest.approx(
        {"lpips": -20, "ms_ssim": -20}
    )
    assert rates["bd_overlap"] == pytest.approx(6 / 15)
    assert bd_rates(curve(), curve())["bd_overlap"] == 1


def test_one_metric_without_a_bd_rate_is_an_error_for_all() -> None:
    broken = [p | {"ms_ssim": 0.9} for p in curve()]
    with pytest.raises(EvaluationError, match="no bd_rate_ms_ssim"):
        bd_rates(broken, curve())
