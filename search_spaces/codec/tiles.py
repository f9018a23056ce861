"""Tiles: an image of any size as overlapping windows, each coded alone.

One axis of 1100 pixels; every window pastes back only its core:

    0            504           1008   1100
    |----core-----|----core-----|-core-|
    [ window 0..508 ]
                [ window 500..1012 ]
                            [ 1004..1100 ]

A window ends where the image does, so that nothing beyond image and margin is coded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.codec.constants import LATENT_STRIDE, TILE

Pixels = NDArray[np.uint8]

MARGIN = 4
CORE = TILE - 2 * MARGIN


@dataclass(frozen=True)
class Span:
    """One window along one axis, in pixels of the image.

    Attributes:
        start: first pixel that the window sees.
        stop: after the last one.
        core_start: first pixel that is taken from it.
        core_stop: after the last one.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int

    @property
    def length(self) -> int:
        """Pixels as coded: what is seen, rounded up to a multiple of 16."""
        return -(-(self.stop - self.start) // LATENT_STRIDE) * LATENT_STRIDE

    @property
    def core(self) -> slice:
        """Where the core lies in the image."""
        return slice(self.core_start, self.core_stop)

    @property
    def core_inside(self) -> slice:
        """Where the core lies in the window."""
        return slice(self.core_start - self.start, self.core_stop - self.start)


@dataclass(frozen=True)
class Window:
    """A rectangle of an image that is coded alone."""

    rows: Span
    columns: Span

    @property
    def height(self) -> int:
        """As coded, a multiple of 16, at most 512."""
        return self.rows.length

    @property
    def width(self) -> int:
        """As coded, a multiple of 16, at most 512."""
        return self.columns.length


def windows(height: int, width: int) -> Iterator[Window]:
    """The windows of an image, row by row; their cores cover every pixel once.

    Args:
        height: of the image in pixels, at least 1.
        width: of the image in pixels, at least 1.
    """
    return (Window(rows, columns) for rows in _spans(height) for columns in _spans(width))


def count_windows(height: int, width: int) -> int:
    """How many `windows` an image has, without making them."""
    return _count_spans(height) * _count_spans(width)


def cut(pixels: Pixels, window: Window) -> Pixels:
    """What a window sees, filled up to its coded size by repeating the last row and column.

    Args:
        pixels: the image, shape (H, W, 3).
        window: one of `windows(H, W)`.

    Returns:
        Shape (window.height, window.width, 3).
    """
    rows, columns = window.rows, window.columns
    seen = pixels[rows.start : rows.stop, columns.start : columns.stop]
    below, right = window.height - seen.shape[0], window.width - seen.shape[1]
    return np.pad(seen, ((0, below), (0, right), (0, 0)), mode="edge")


def paste(pixels: Pixels, window: Window, decoded: Pixels) -> None:
    """Puts a decoded window's core into its place.

    Args:
        pixels: the image, shape (H, W, 3); changed.
        window: one of `windows(H, W)`.
        decoded: shape (window.height, window.width, 3).
    """
    core = decoded[window.rows.core_inside, window.columns.core_inside]
    pixels[window.rows.core, window.columns.core] = core


def _spans(length: int) -> Iterator[Span]:
    if length <= TILE:
        yield Span(0, length, 0, length)
        return
    for start in range(0, length, CORE):
        stop = min(start + CORE, length)
        yield Span(max(0, start - MARGIN), min(length, stop + MARGIN), start, stop)


def _count_spans(length: int) -> int:
    return 1 if length <= TILE else -(-length // CORE)
