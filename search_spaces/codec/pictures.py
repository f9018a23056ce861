"""Whole pictures through a codec: pixels to the bytes of a file, and back.

Every window is computed by one thread, so that the number of threads changes neither the bytes nor
the pixels; several windows are computed at once. At most a few windows are held in floating point,
whatever the size of the picture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
from search_spaces.codec.tiles import Pixels, Window

Given = TypeVar("Given")
Made = TypeVar("Made")

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
    """What codes windows: a `Codec`, or any codec of one's own that has a key."""

    def compress(self, image: Tensor, quality: float) -> Tile:
        """Codes an image, shape (1, 3, H, W) in [0, 1], sides multiples of 16."""
        ...

    def decompress(self, data: bytes, height: int, width: int, quality: float) -> Tensor:
        """Decodes an image, shape (1, 3, height, width), not clipped."""
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

    def encode(window: Window) -> bytes:
        return _encode(codec, tiles.cut(pixels, window), quality)

    windows = tiles.windows(height, width)
    coded = _all(encode, windows, tiles.count_windows(height, width), threads, progress)
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

    def decode(coded: tuple[Window, bytes]) -> None:
        window, tile = coded
        tiles.paste(pixels, window, _decode(codec, tile, window, stream.quality))

    windows = tiles.windows(stream.height, stream.width)
    coded = zip(windows, stream.tiles, strict=True)
    _all(decode, coded, len(stream.tiles), threads, progress)
    return pixels


@torch.inference_mode()
def _encode(codec: TileCodec, pixels: Pixels, quality: float) -> bytes:
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    try:
        return codec.compress(image, quality).data
    except ValueError as problem:
        raise PictureError(f"the codec cannot code it: {problem}") from problem


@torch.inference_mode()
def _decode(codec: TileCodec, data: bytes, window: Window, quality: float) -> Pixels:
    try:
        image = codec.decompress(data, window.height, window.width, quality)[0]
    except BitstreamError as problem:
        raise BitstreamError(f"malformed: within a tile, {problem}") from None
    # Forged symbols can be large enough to overflow; what an encoder wrote never is.
    if not torch.isfinite(image).all():
        raise BitstreamError("malformed: a tile decodes to numbers that are not finite")
    decoded: Pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return decoded


def _all(
    work: Callable[[Given], Made],
    given: Iterable[Given],
    count: int,
    threads: int,
    progress: Progress | None,
) -> list[Made]:
    made: list[Made] = []
    for result in _in_threads(work, given, threads):
        made.append(result)
        if progress:
            progress(len(made), count)
    return made


def _in_threads(
    work: Callable[[Given], Made], given: Iterable[Given], threads: int
) -> Iterator[Made]:
    """Results in the order of what was given, which is drawn only as fast as it is worked off."""
    pending: deque[Future[Made]] = deque()
    with _one_thread_each():
        pool = ThreadPoolExecutor(threads)
        try:
            for item in given:
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Torch computes every operator in the thread that calls it; threads started within inherit.

    How a sum is shared out among threads changes its last digits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
