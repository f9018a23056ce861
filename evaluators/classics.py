"""Classical codecs as real files, and AVIF's curve on the crops that candidates are scored on."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image, features

from evaluators.perceptual import Originals
from evaluators.photos import Pixels
from evaluators.scoring import distortions

_AVIF_SPEED = 6  # avifenc's and Pillow's own
_CROP_QUALITIES = (5, 12, 20, 30, 42, 55, 70)


class ClassicError(ValueError):
    """A picture that a classical codec cannot code."""


@dataclass(frozen=True)
class Classic:
    """A codec that Pillow writes and reads, alone or with a plugin.

    Attributes:
        name: for people.
        kind: Pillow's name of the format.
        suffix: of its files.
        qualities: of a curve, 0 to 100, from the smallest files to what is hardly told apart.
        options: as Pillow writes it, in one thread.
        plugin: the package that teaches Pillow the format, if it takes one.
        settings: the options for people.
    """

    name: str
    kind: str
    suffix: str
    qualities: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    plugin: str | None = None
    settings: str = ""


CLASSICS = {
    "jpeg": Classic(
        "JPEG",
        "JPEG",
        ".jpg",
        (2, 5, 9, 14, 22, 32, 45, 60, 75, 88),
        {"optimize": True},
        settings="optimised Huffman tables, 4:2:0",
    ),
    "webp": Classic(
        "WebP",
        "WEBP",
        ".webp",
        (0, 4, 10, 20, 35, 50, 65, 78, 88, 94),
        {"method": 6},
        settings="method 6, 4:2:0",
    ),
    "avif": Classic(
        "AVIF",
        "AVIF",
        ".avif",
        (1, 5, 12, 20, 30, 42, 55, 70, 82),
        {"speed": _AVIF_SPEED, "max_threads": 1},
        settings=f"speed {_AVIF_SPEED}, 4:2:0",
    ),
    # Without x265's pool of threads there is no wavefront, which costs bits.
    "heic": Classic(
        "HEIC",
        "HEIF",
        ".heic",
        (1, 6, 12, 19, 26, 33, 40, 48, 56),
        {"enc_params": {"x265:pools": "none"}},
        "pillow-heif",
        "x265's preset slow, 4:2:0",
    ),
    "jxl": Classic(
        "JPEG XL",
        "JXL",
        ".jxl",
        (1, 7, 15, 25, 38, 52, 66, 78, 88),
        {"effort": 7, "num_threads": 1},
        "pillow-jxl-plugin",
        "effort 7",
    ),
}


def missing(classic: Classic) -> str | None:
    """Why a codec cannot be had here, and what to do; None when it can."""
    if classic.plugin and importlib.util.find_spec(_module(classic.plugin)) is None:
        return f"{classic.name} needs {classic.plugin}: pip install 'nas-codecs[compare]'"
    try:
        _register(classic)
    except ImportError as problem:
        return f"{classic.name}: {classic.plugin} does not load: {problem}"
    if classic.kind not in Image.SAVE or classic.kind not in Image.OPEN:
        return f"this Pillow ({version('pillow')}) was built without {classic.name}"
    return None


def described(classic: Classic) -> str:
    """What belongs beside its figures: the library, its version, the settings."""
    return f"{_library(classic)}, {classic.settings}"


def encoded(classic: Classic, pixels: Pixels, quality: int) -> bytes:
    """A picture, shape (H, W, 3), as the whole file of a codec that is not `missing`.

    Raises:
        ClassicError: the format has no room for so large a picture, or its library fails.
    """
    _register(classic)
    file = io.BytesIO()
    with _one_line_errors(classic, pixels):
        Image.fromarray(pixels).save(file, classic.kind, quality=quality, **classic.options)
    return file.getvalue()


def decoded(classic: Classic, file: bytes) -> Pixels:
    """The picture in a file that `encoded` wrote, shape (H, W, 3)."""
    _register(classic)
    return np.array(Image.open(io.BytesIO(file), formats=[classic.kind]).convert("RGB"))


@contextmanager
def _one_line_errors(classic: Classic, pixels: Pixels) -> Iterator[None]:
    """Whatever the libraries raise."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as problem:
        height, width = pixels.shape[:2]
        raise ClassicError(f"{classic.name} cannot hold {width} x {height}: {problem}") from None


def avif_name() -> str:
    """What stands beside the curve."""
    return f"AVIF (libavif {features.version('avif')}, speed {_AVIF_SPEED}, without its container)"


def has_avif() -> bool:
    """Whether this Pillow writes AVIF."""
    return missing(CLASSICS["avif"]) is None


@torch.no_grad()
def avif_points(crops: Sequence[Pixels]) -> list[dict[str, Any]]:
    """AVIF's curve: files are written and read again; means over the crops.

    Args:
        crops: of one size, 8-bit, shape (S, S, 3) each.

    Returns:
        As `scoring.score`: `quality`, `bpp_coded`, `psnr`, `ms_ssim` and `lpips` (alex). The
        container, some 300 bytes however small the picture, is left out of the rate: it would
        count for as much as the picture on a crop, and for nothing on a photograph.
    """
    originals = Originals(_batch(crops))
    return [_point(crops, originals, quality) for quality in _CROP_QUALITIES]


def _point(crops: Sequence[Pixels], originals: Originals, quality: int) -> dict[str, Any]:
    avif = CLASSICS["avif"]
    files = [encoded(avif, crop, quality) for crop in crops]
    bits = sum(8 * media_bytes(file) for file in files)
    pixels = sum(crop.shape[0] * crop.shape[1] for crop in crops)
    scores = distortions(_batch([decoded(avif, file) for file in files]), originals)
    return {"quality": quality, "bpp_coded": bits / pixels, **scores}


def media_bytes(file: bytes) -> int:
    """Bytes of a file's media data: the payload of its `mdat` boxes (ISO/IEC 14496-12)."""
    position = total = 0
    while position + 8 <= len(file):
        size = int.from_bytes(file[position : position + 4])
        size = len(file) - position if size == 0 else size
        if size < 8:
            raise ValueError(f"a box of {size} bytes at {position}")
        if file[position + 4 : position + 8] == b"mdat":
            total += size - 8
        position += size
    return total


def _batch(images: Sequence[Pixels]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float() / 255


def _module(plugin: str) -> str:
    return plugin.removesuffix("-plugin").replace("-", "_")


def _register(classic: Classic) -> None:
    """Teaches Pillow the format, if it takes a plugin; once more changes nothing."""
    if classic.kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    elif classic.kind == "JXL":
        import pillow_jxl  # noqa: F401, registers itself
    else:
        Image.init()


def _library(classic: Classic) -> str:
    if classic.kind == "HEIF":
        import pillow_heif

        return f"libheif {pillow_heif.libheif_version()}, {pillow_heif.libheif_info()['HEIF']}"
    if classic.plugin:
        return f"{classic.plugin} {version(classic.plugin)}"
    library = {"JPEG": "libjpeg_turbo", "WEBP": "webp", "AVIF": "avif"}[classic.kind]
    return f"{library.replace('_', '-')} {features.version(library)} by Pillow"
