"""Codecs of a comparison, ours and others', as one thing: bytes out, pixels in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from evaluators import classics
from evaluators.classics import CLASSICS, Classic
from evaluators.comparison import Point, scores
from nas.codec_files import SUFFIX, Model
from nas.picture_files import Pixels
from search_spaces.codec import pictures

OURS = "ours"
# Beside every figure in seconds.
TIMING = "seconds of the processor, one thread, file in memory to pixels in memory and back"


@dataclass(frozen=True)
class Coder:
    """A codec whose files are compared.

    Attributes:
        key: names it in files and on the command line.
        name: for people.
        description: versions and settings; with the qualities, what its files depend on.
        suffix: of its files.
        qualities: of its curve, rising.
        encode: a picture, shape (H, W, 3), and a quality to a whole file.
        decode: a whole file to a picture.
    """

    key: str
    name: str
    description: str
    suffix: str
    qualities: tuple[float, ...]
    encode: Callable[[Pixels, float], bytes]
    decode: Callable[[bytes], Pixels]


def model_coder(model: Model, levels: Sequence[float]) -> Coder:
    """The codec under test, as `nas compress` and `nas decompress` run it."""
    codec, key = model.coder, model.key

    def encode(pixels: Pixels, quality: float) -> bytes:
        return pictures.encode_picture(codec, pixels, quality, threads=1, key=key)

    def decode(data: bytes) -> Pixels:
        return pictures.decode_picture(codec, data, threads=1, key=key)

    about = f"{model.file.name}, key {key.hex()}"
    return Coder(OURS, "the model", about, SUFFIX, tuple(levels), encode, decode)


def classic_coder(key: str) -> Coder:
    """A codec of `CLASSICS` that is not missing."""
    classic = CLASSICS[key]
    return Coder(
        key,
        classic.name,
        classics.described(classic),
        classic.suffix,
        classic.qualities,
        partial(_encode, classic),
        partial(classics.decoded, classic),
    )


def found_peers(keys: Sequence[str]) -> tuple[list[Coder], dict[str, str]]:
    """The peers that can be had here, and why the others cannot."""
    reasons = {key: classics.missing(CLASSICS[key]) for key in keys}
    found = [classic_coder(key) for key, reason in reasons.items() if reason is None]
    return found, {key: reason for key, reason in reasons.items() if reason is not None}


def measured(coder: Coder, original: Pixels, metrics: Sequence[str]) -> list[Point]:
    """A coder's curve on one photograph: files are written, read back and scored.

    Returns:
        A point a quality: `quality`, `bytes`, `bpp`, `encode_seconds`, `decode_seconds` and the
        metrics.

    Raises:
        PictureError, ClassicError: the codec cannot code it.
        SetupError: it is too small for a metric.
    """
    points, images = [], []
    for quality in coder.qualities:
        begun = time.process_time()
        data = coder.encode(original, quality)
        encoded = time.process_time()
        images.append(coder.decode(data))
        times = {"encode_seconds": encoded - begun, "decode_seconds": time.process_time() - encoded}
        points.append({"quality": quality, **size(data, original), **times})
    scored = scores(images, original, metrics)
    return [point | values for point, values in zip(points, scored, strict=True)]


def size(data: bytes, original: Pixels) -> Point:
    """A file's bytes, and bits a pixel of what it shows."""
    return {"bytes": len(data), "bpp": 8 * len(data) / (original.shape[0] * original.shape[1])}


def _encode(classic: Classic, pixels: Pixels, quality: float) -> bytes:
    return classics.encoded(classic, pixels, int(quality))
