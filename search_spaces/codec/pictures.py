"""Whole pictures through a codec: pixels to the bytes of a file, and back.

Two pools of threads make a pipeline: while the network runs on one window, the integers of another
are entropy-coded. Within a window every operator is computed by one thread, so that the number of
threads changes neither the bytes nor the pixels; several windows are computed at once. At most a
few windows are held in floating point, whatever the size of the picture.

    encode    cut, network ──── integers ──── entropy coder ── bytes
    decode    bytes ── entropy coder ──── integers ──── network, paste
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from search_spaces.codec import bitstream, tiles
from search_spaces.codec.bitstream import MAX_PIXELS, MAX_QUALITY_STEP, Stream
from search_spaces.codec.constants import QUALITY_STEPS
from search_spaces.codec.entropy import BitstreamError
from search_spaces.codec.model import Codec, sixteenths
from search_spaces.codec.pipeline import pipelined
from search_spaces.codec.tiles import Pixels, Window

Given = TypeVar("Given")
Between = TypeVar("Between")
Made = TypeVar("Made")
Integers = tuple[Tensor, Tensor]

# Called with windows done and windows in all.
Progress = Callable[[int, int], None]

_MAX_ROUNDS = (MAX_QUALITY_STEP + 1).bit_length()


class PictureError(ValueError):
    """A picture that cannot be coded, or not as small as asked; says what can."""


class Tile(Protocol):
    """One coded window."""

    @property
    def data(self) -> bytes:
        """What is to be stored."""
        ...


class TileCodec(Protocol):
    """What codes windows: a `Codec`, or any codec of one's own that has a key.

    Networks and entropy coder apart, so that one can run beside the other. What passes between
    them are symbols and hyper-latents; another codec may pass what it likes.
    """

    def analyse(self, image: Tensor, quality: float) -> Integers:
        """The encoder's network on an image, shape (1, 3, H, W) in [0, 1], sides of 16 n."""
        ...

    def write(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tile:
        """Codes what `analyse` gave."""
        ...

    def read(self, data: bytes, height: int, width: int, quality: float) -> Integers:
        """What was written for an image of this size."""
        ...

    def decode(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        """The decoder's network on what `read` gave: shape (1, 3, height, width), not clipped."""
        ...


def encode_picture(
    codec: TileCodec,
    pixels: Pixels,
    quality: float,
    threads: int = 1,
    progress: Progress | None = None,
    key: bytes | None = None,
) -> bytes:
    """Compresses a picture.

    Args:
        codec: ready to run.
        pixels: shape (H, W, 3), from 1 x 1 to 2**28 pixels.
        quality: 0 to 7 in steps of 1/16.
        threads: windows computed at once; the bytes do not depend on it.
        progress: called after every window.
        key: names the codec's weights, 8 bytes; default `codec_key(codec)`.

    Returns:
        The file's bytes.

    Raises:
        PictureError: wrong shape or size, or latents of a diverged codec that cannot be coded.
        ValueError: wrong quality.
    """
    step, (height, width) = sixteenths(quality), _checked_size(pixels)

    def analyse(window: Window) -> Integers:
        return _analyse(codec, tiles.cut(pixels, window), quality)

    def write(integers: Integers) -> bytes:
        return _write(codec, integers, quality)

    windows, count = tiles.windows(height, width), tiles.count_windows(height, width)
    coded = _all(analyse, write, windows, count, threads, progress)
    return bitstream.pack(Stream(step, key or _key(codec), height, width, tuple(coded)))


def encode_to_size(
    codec: TileCodec,
    pixels: Pixels,
    max_bytes: int,
    threads: int = 1,
    progress: Progress | None = None,
    key: bytes | None = None,
) -> bytes:
    """Compresses a picture at the best quality found whose file has at most `max_bytes`.

    Bisects the 113 qualities, which takes seven encodings. Sizes may fail to rise with quality by
    a few bytes, so that the next better quality can fit too; the result never exceeds.

    Args:
        codec: as for `encode_picture`, like all others.
        pixels: the picture.
        max_bytes: of the whole file.
        threads: windows computed at once.
        progress: called after every window of every encoding.
        key: of the codec's weights.

    Raises:
        PictureError: not even quality 0 fits; says how large that is.
    """
    key = key or _key(codec)
    best, size, fits, fails = b"", 0, -1, MAX_QUALITY_STEP + 1
    for round_ in range(_MAX_ROUNDS):
        if fails - fits == 1:
            break
        step = (fits + fails) // 2
        quality, rest = step / QUALITY_STEPS, _round_of(progress, round_)
        data = encode_picture(codec, pixels, quality, threads, rest, key)
        size = len(data)
        if size <= max_bytes:
            best, fits = data, step
        else:
            fails = step
    if not best:
        raise PictureError(f"it takes {size} bytes at quality 0, and {max_bytes} are allowed")
    return best


def decode_picture(
    codec: TileCodec,
    data: bytes,
    threads: int = 1,
    progress: Progress | None = None,
    key: bytes | None = None,
) -> Pixels:
    """Decompresses what `encode_picture` wrote.

    Args:
        codec: the one that wrote it.
        data: the file's bytes.
        threads: windows computed at once; the pixels do not depend on it.
        progress: called after every window.
        key: names the codec's weights, 8 bytes; default `codec_key(codec)`.

    Returns:
        Shape (H, W, 3).

    Raises:
        BitstreamError: no encoder wrote these bytes, or another model did; one line says which.
    """
    stream = bitstream.unpack(data)
    _require_key(stream.model_key, key or _key(codec))
    pixels = np.empty((stream.height, stream.width, 3), dtype=np.uint8)

    def read(coded: tuple[Window, bytes]) -> tuple[Window, Integers]:
        window, tile = coded
        return window, _read(codec, tile, window, stream.quality)

    def decode(given: tuple[Window, Integers]) -> None:
        window, integers = given
        tiles.paste(pixels, window, _decode(codec, integers, stream.quality))

    windows = tiles.windows(stream.height, stream.width)
    coded = zip(windows, stream.tiles, strict=True)
    _all(read, decode, coded, len(stream.tiles), threads, progress)
    return pixels


@torch.inference_mode()
def _analyse(codec: TileCodec, pixels: Pixels, quality: float) -> Integers:
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with _coding_errors():
        return codec.analyse(image, quality)


@torch.inference_mode()
def _write(codec: TileCodec, integers: Integers, quality: float) -> bytes:
    with _coding_errors():
        return codec.write(*integers, quality).data


@contextmanager
def _coding_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as problem:
        raise PictureError(f"the codec cannot code it: {problem}") from problem


@torch.inference_mode()
def _read(codec: TileCodec, data: bytes, window: Window, quality: float) -> Integers:
    try:
        return codec.read(data, window.height, window.width, quality)
    except BitstreamError as problem:
        raise BitstreamError(f"malformed: within a tile, {problem}") from None


@torch.inference_mode()
def _decode(codec: TileCodec, integers: Integers, quality: float) -> Pixels:
    image = codec.decode(*integers, quality)[0]
    # Forged symbols can be large enough to overflow; what an encoder wrote never is.
    if not torch.isfinite(image).all():
        raise BitstreamError("malformed: a tile decodes to numbers that are not finite")
    decoded: Pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return decoded


def _all(
    first: Callable[[Given], Between],
    second: Callable[[Between], Made],
    given: Iterable[Given],
    count: int,
    threads: int,
    progress: Progress | None,
) -> list[Made]:
    made: list[Made] = []
    for result in pipelined(first, second, given, threads):
        made.append(result)
        if progress:
            progress(len(made), count)
    return made


def _round_of(progress: Progress | None, done_rounds: int) -> Progress | None:
    """The progress of one encoding as part of all that a bisection may take."""
    if progress is None:
        return None
    return lambda done, count: progress(done_rounds * count + done, _MAX_ROUNDS * count)


def _checked_size(pixels: Pixels) -> tuple[int, int]:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise PictureError(f"pixels {pixels.dtype} {pixels.shape}; expected uint8 (H, W, 3)")
    height, width = pixels.shape[:2]
    if not 1 <= height * width <= MAX_PIXELS:
        raise PictureError(f"a picture of {width} x {height}; expected 1 to {MAX_PIXELS} pixels")
    return height, width


def _require_key(written: bytes, here: bytes) -> None:
    if written != here:
        raise BitstreamError(
            f"another model wrote it: it needs {written.hex()}, this one is {here.hex()}"
        )


def _key(codec: TileCodec) -> bytes:
    from search_spaces.codec.saved import codec_key

    if not isinstance(codec, Codec):
        raise TypeError(f"a {type(codec).__name__} needs its key stated")
    return codec_key(codec)
