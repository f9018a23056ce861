"""AVIF's curve on the crops that candidates are scored on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators import classics
from evaluators.photos import find_photos, load_photos
from evaluators.proxy import ProxyEvaluator

BOX = st.tuples(st.sampled_from([b"mdat", b"meta", b"ftyp"]), st.binary(max_size=40))

needs_avif = pytest.mark.skipif(not classics.has_avif(), reason="this Pillow writes no AVIF")


def crops(count: int) -> list[np.ndarray]:
    photos = load_photos(find_photos("sample").held_back, 192)
    return [photo.pixels[:192, :192] for photo in photos[:count]]


@given(st.lists(BOX, max_size=6))
def test_media_data_is_what_its_boxes_hold(boxes: list[tuple[bytes, bytes]]) -> None:
    file = b"".join((8 + len(body)).to_bytes(4) + kind + body for kind, body in boxes)
    assert classics.media_bytes(file) == sum(len(b) for kind, b in boxes if kind == b"mdat")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_boxes_end_in_a_number_or_an_error(data: bytes) -> None:
    with suppress(ValueError):
        assert 0 <= classics.media_bytes(data) < 2**32 * len(data) + 1


@needs_avif
def test_curve_rises_and_counts_what_was_written() -> None:
    pixels = crops(2)
    points = classics.avif_points(pixels)
    rates = [point["bpp_coded"] for point in points]
    assert rates == sorted(rates)
    assert points[0]["psnr"] < points[-1]["psnr"]
    assert points[0]["lpips"] > points[-1]["lpips"]
    avif = classics.CLASSICS["avif"]
    files = [classics.encoded(avif, crop, points[0]["quality"]) for crop in pixels]
    media = sum(map(classics.media_bytes, files))
    assert rates[0] == 8 * media / (2 * 192 * 192)
    assert 0 < media < sum(map(len, files)) - 2 * 200


@needs_avif
def test_peers_of_a_study_are_the_same_each_time(tmp_path: Path) -> None:
    ((name, points),) = ProxyEvaluator(crops=2).peers(tmp_path).items()
    assert name.startswith("AVIF (libavif ")
    assert set(points[0]) == {"quality", "bpp_coded", "psnr", "ms_ssim", "lpips"}
    assert points == ProxyEvaluator(crops=2).peers(tmp_path)[name]
