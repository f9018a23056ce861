"""Tiles cover an image once, see no more than they must, and fit together again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.codec import tiles
from search_spaces.codec.tiles import Pixels

SIDES = st.integers(1, 40) | st.integers(480, 540) | st.integers(1000, 1060) | st.just(1513)


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(SIDES, SIDES)
@settings(max_examples=60, deadline=None)
def test_cutting_and_pasting_gives_back_every_pixel_once(height: int, width: int) -> None:
    pixels = noise(height, width)
    pasted, touched = np.zeros_like(pixels), np.zeros((height, width), dtype=np.int64)
    for window in tiles.windows(height, width):
        tiles.paste(pasted, window, tiles.cut(pixels, window))
        touched[window.rows.core, window.columns.core] += 1
    assert (pasted == pixels).all()
    assert (touched == 1).all()


@given(SIDES, SIDES)
@settings(max_examples=60, deadline=None)
def test_a_window_has_four_pixels_of_context_and_nothing_beyond_the_image(
    height: int, width: int
) -> None:
    for window in tiles.windows(height, width):
        for span, length in ((window.rows, height), (window.columns, width)):
            assert span.start == max(0, span.core_start - 4)
            assert span.stop == min(length, span.core_stop + 4)
            assert 0 <= span.length - (span.stop - span.start) < 16
            assert span.length % 16 == 0
            assert span.length <= 512


@given(SIDES, SIDES)
@settings(max_examples=30, deadline=None)
def test_what_is_filled_repeats_the_edge(height: int, width: int) -> None:
    pixels = noise(height, width)
    for window in tiles.windows(height, width):
        rows = np.minimum(window.rows.start + np.arange(window.height), window.rows.stop - 1)
        columns = np.minimum(
            window.columns.start + np.arange(window.width), window.columns.stop - 1
        )
        assert (tiles.cut(pixels, window) == pixels[np.ix_(rows, columns)]).all()


@given(SIDES, SIDES)
@settings(max_examples=30, deadline=None)
def test_windows_are_counted_without_being_made(height: int, width: int) -> None:
    assert tiles.count_windows(height, width) == len(list(tiles.windows(height, width)))


@pytest.mark.parametrize(
    ("height", "width", "coded"),
    [
        (1, 1, [(16, 16)]),
        (512, 512, [(512, 512)]),
        (300, 512, [(304, 512)]),
        (512, 768, [(512, 512), (512, 272)]),
        (513, 16, [(512, 16), (16, 16)]),
    ],
)
def test_only_image_and_margin_are_coded(
    height: int, width: int, coded: list[tuple[int, int]]
) -> None:
    assert [(w.height, w.width) for w in tiles.windows(height, width)] == coded


def test_a_12_megapixel_photograph_is_eight_by_six_whole_windows() -> None:
    windows = list(tiles.windows(3024, 4032))
    assert len(windows) == 48
    assert {(window.height, window.width) for window in windows} == {(512, 512)}
