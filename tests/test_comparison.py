"""Scores of several pictures, mean curves, and BD-rates with the reasons why there is none."""

from __future__ import annotations

import math
import sys
from typing import Any

import bjontegaard
import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators import classics, comparison
from evaluators.classics import CLASSICS
from evaluators.comparison import METRICS, Point, rate_saved, rates_saved, scores
from evaluators.metrics import ms_ssim, psnr
from evaluators.passes import to_tensor
from evaluators.perceptual import load_lpips, lpips_of_images
from evaluators.photos import Pixels
from evaluators.protocol import SetupError
from evaluators.strips import ms_ssim_of_image

NAMES = ("the model", "AVIF")
PHOTO: Pixels = skimage.data.astronaut()[:192, 100:292].copy()


@st.composite
def curves(draw: st.DrawFn) -> list[Point]:
    """A curve of 4 to 9 points that improves in every metric."""
    count = draw(st.integers(4, 9))
    steps = draw(st.lists(st.floats(0.1, 0.9), min_size=count, max_size=count))
    gains = draw(st.lists(st.floats(0.3, 3), min_size=count, max_size=count))
    rates, decibels = np.exp(np.cumsum(steps) - 4).tolist(), np.cumsum(gains).tolist()
    return [
        {
            "quality": i,
            "bpp": rate,
            "psnr": 22 + db,
            "ms_ssim": 1 - 10 ** (-(6 + db) / 10),
            "lpips": 10 ** (-(3 + db) / 10),
            "lpips_vgg": 10 ** (-(2 + db) / 10),
        }
        for i, (rate, db) in enumerate(zip(rates, decibels, strict=True))
    ]


def scaled(points: list[Point], factor: float) -> list[Point]:
    return [point | {"bpp": factor * point["bpp"]} for point in points]


@given(curves(), st.sampled_from(METRICS), st.floats(0.2, 5))
def test_a_curve_of_a_share_of_the_rate_saves_the_rest(
    points: list[Point], metric: str, share: float
) -> None:
    same = rate_saved(points, points, metric, NAMES)
    assert same == {
        "percent": pytest.approx(0, abs=1e-9),
        "overlap": 1,
        "left_out": [0, 0],
        "why": None,
    }
    half = rate_saved(scaled(points, 0.5), points, metric, NAMES)
    assert half["percent"] == pytest.approx(-50, abs=1e-6)
    saved = rate_saved(scaled(points, share), points, metric, NAMES)["percent"]
    assert saved == pytest.approx(100 * (share - 1), rel=1e-6, abs=1e-6)


@given(curves(), curves(), st.sampled_from(METRICS))
def test_a_bd_rate_is_the_peer_implementations_or_has_a_reason(
    ours: list[Point], theirs: list[Point], metric: str
) -> None:
    found = rate_saved(ours, theirs, metric, NAMES)
    assert (found["percent"] is None) == (found["why"] is not None)
    if found["percent"] is None:
        assert found["why"].startswith(f"no bd_rate_{metric}: ")
        return
    columns = [column for points in (theirs, ours) for column in peers_columns(points, metric)]
    expected = bjontegaard.bd_rate(
        *columns, method="pchip", require_matching_points=False, min_overlap=0
    )
    assert found["percent"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def peers_columns(points: list[Point], metric: str) -> tuple[list[float], list[float]]:
    """Rates, and the metric as a quality in dB."""
    in_db = {
        "psnr": lambda x: x,
        "ms_ssim": lambda x: -10 * math.log10(1 - x),
        "lpips": lambda x: -10 * math.log10(x),
        "lpips_vgg": lambda x: -10 * math.log10(x),
    }[metric]
    return [p["bpp"] for p in points], [in_db(p[metric]) for p in points]


def curve_from(low_db: float, count: int = 5) -> list[Point]:
    return [{"quality": i, "bpp": 0.1 * 2**i, "psnr": low_db + 2.0 * i} for i in range(count)]


def test_curves_that_share_no_quality_have_no_bd_rate_and_say_where_they_lie() -> None:
    found = rate_saved(curve_from(20), curve_from(40), "psnr", NAMES)
    assert found["percent"] is None
    assert "the model covers 20 to 28 and AVIF 40 to 48; they share 0%" in found["why"]


def test_a_wide_reference_compares_all_of_a_narrow_curve() -> None:
    narrow = [{"bpp": 0.4 + 0.02 * i, "psnr": 30 + 0.2 * i} for i in range(4)]
    wide = curve_from(20, count=10)
    assert rate_saved(narrow, wide, "psnr", NAMES)["overlap"] == pytest.approx(1)
    assert rate_saved(narrow, wide, "psnr", NAMES)["percent"] is not None


def test_a_point_that_its_own_curve_beats_is_left_out_and_counted() -> None:
    dipped = [*curve_from(25), {"quality": 9, "bpp": 0.15, "psnr": 24.0}]
    found = rate_saved(dipped, curve_from(25), "psnr", NAMES)
    assert found["left_out"] == [1, 0]
    assert found["percent"] == pytest.approx(0, abs=1e-9)


def test_a_file_that_two_qualities_gave_counts_once() -> None:
    doubled = [curve_from(25)[0], *curve_from(25)]
    found = rate_saved(curve_from(25), doubled, "psnr", NAMES)
    assert (found["percent"], found["left_out"]) == (pytest.approx(0, abs=1e-9), [0, 0])


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (curve_from(25, count=1), "the model's curve has fewer than two points"),
        ([p | {"psnr": 50 - p["psnr"]} for p in curve_from(20)], "does not improve with the rate"),
        ([p | {"psnr": 30.0} for p in curve_from(20)], "does not improve with the rate"),
        ([p | {"bpp": -1.0} for p in curve_from(20)], "holds a value that cannot be"),
    ],
)
def test_what_cannot_be_compared_has_no_bd_rate(points: list[Point], why: str) -> None:
    found = rate_saved(points, curve_from(24), "psnr", NAMES)
    assert found["percent"] is None
    assert why in found["why"]


def test_by_image_rates_are_means_of_those_that_there_are() -> None:
    theirs = {name: curve_from(25) for name in "abc"}
    ours = {
        "a": scaled(theirs["a"], 0.5),
        "b": scaled(theirs["b"], 0.8),
        "c": [p | {"psnr": p["psnr"] + 60} for p in theirs["c"]],
    }
    found = rates_saved(ours, theirs, "psnr", NAMES)
    assert found["by_image"] == {"a": pytest.approx(-50), "b": pytest.approx(-20), "c": None}
    assert (found["mean"], found["worst_decile"]) == (pytest.approx(-35), pytest.approx(-20))
    assert found["images"] == 2
    assert list(found["undefined"]) == ["c"]


def test_the_worst_tenth_is_the_low_end_of_psnr_and_the_high_end_of_lpips() -> None:
    by_image = {
        str(i): [{"quality": 3, "bpp": 0.1 * (i + 1), "psnr": 30.0 + i, "lpips": 0.01 * i}]
        for i in range(20)
    }
    (point,) = comparison.curve(by_image)
    assert point["psnr"] == pytest.approx(39.5)
    assert point["bpp"] == pytest.approx(1.05)
    assert point["worst_decile"] == {"psnr": 30.5, "lpips": pytest.approx(0.185)}
    assert comparison.worst_decile([3.0], more_is_better=True) == 3


def noisy(strength: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, strength, PHOTO.shape)
    return (PHOTO + noise).clip(0, 255).astype(np.uint8)


def test_pictures_score_together_as_they_do_alone() -> None:
    images = [PHOTO, noisy(30)]
    together = scores(images, PHOTO, METRICS)
    assert together[0] == {
        "psnr": 100,
        "ms_ssim": pytest.approx(1),
        "lpips": pytest.approx(0, abs=1e-6),
        "lpips_vgg": pytest.approx(0, abs=1e-6),
    }
    with torch.no_grad():
        pair = to_tensor(images[1]), to_tensor(PHOTO)
        expected = {
            "psnr": psnr(*pair).item(),
            "ms_ssim": ms_ssim(*pair).item(),
            "lpips": load_lpips("alex")(*pair).item(),
            "lpips_vgg": load_lpips("vgg")(*pair).item(),
        }
    assert together[1] == {name: pytest.approx(x, abs=1e-5) for name, x in expected.items()}


@pytest.mark.parametrize("shape", [(161, 300), (523, 171), (1100, 200)])
def test_ms_ssim_in_strips_is_that_of_one_piece(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    original = torch.rand(1, 3, *shape, generator=generator)
    image = (original + 0.2 * torch.randn(original.shape, generator=generator)).clamp(0, 1)
    assert ms_ssim_of_image(image, original) == pytest.approx(
        ms_ssim(image, original).item(), abs=2e-6
    )


def test_lpips_of_eight_bits_is_that_of_floats() -> None:
    image, original = to_tensor(noisy(9)), to_tensor(PHOTO)
    eight_bit = [(x * 255).round().byte() for x in (image, original)]
    assert lpips_of_images([eight_bit[0]], eight_bit[1]) == pytest.approx(
        lpips_of_images([image], original), abs=1e-6
    )


def test_a_picture_too_small_for_a_metric_says_so() -> None:
    small = PHOTO[:20, :100]
    with pytest.raises(SetupError, match="no LPIPS of 100 x 20 pixels: it needs 32"):
        scores([small], small, ["lpips"])
    with pytest.raises(SetupError, match="no ms_ssim of 100 x 20 pixels"):
        scores([small], small, ["ms_ssim"])


@pytest.mark.parametrize("key", CLASSICS)
def test_a_classic_codec_comes_back_nearer_with_more_bytes(key: str) -> None:
    classic: Any = CLASSICS[key]
    assert classics.missing(classic) is None
    files = [classics.encoded(classic, PHOTO, quality) for quality in classic.qualities]
    images = [classics.decoded(classic, file) for file in files]
    assert all(image.shape == PHOTO.shape for image in images)
    sizes = [len(file) for file in files]
    assert sizes == sorted(sizes)
    values = [point["psnr"] for point in scores(images, PHOTO, ["psnr"])]
    assert values[-1] > values[0] + 8
    assert classic.settings in classics.described(classic)


def test_a_codec_whose_library_is_not_there_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    why = classics.missing(CLASSICS["heic"])
    assert why == "HEIC needs pillow-heif: pip install 'nas-codecs[compare]'"


def test_a_picture_that_a_format_has_no_room_for_is_one_line() -> None:
    wide = np.zeros((4, 17_000, 3), dtype=np.uint8)
    with pytest.raises(classics.ClassicError, match="WebP cannot hold 17000 x 4: "):
        classics.encoded(CLASSICS["webp"], wide, 50)
