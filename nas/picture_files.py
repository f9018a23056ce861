"""Pictures in from any file that Pillow opens, and out as 8-bit RGB."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from search_spaces.files import replacing

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

# What decompressed pictures can be written as. All lose nothing but JPEG, which asks to be chosen.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".ppm": ("PPM", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
    ".webp": ("WEBP", {"lossless": True}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}


# Read by Pillow in name only, or no pictures: left alone in folders.
_OTHERS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


class PictureFileError(ValueError):
    """A file that is no picture, or none that can be kept as it is; says what next."""


class OutputError(RuntimeError):
    """A result that could not be written; what was there before still is."""


@dataclass(frozen=True)
class Picture:
    """What a file shows.

    Attributes:
        pixels: 8-bit sRGB, shape (H, W, 3), turned as the file's EXIF says.
        remarks: what was left out or assumed, a line each.
    """

    pixels: Pixels
    remarks: tuple[str, ...] = ()


def read_picture(file: Path, flatten: Colour | None = None) -> Picture:
    """Reads a picture; of several frames, the first.

    Colour profiles are converted to sRGB, for what is decoded later carries none. Grey of 16 bits
    is brought to 8. An alpha channel without effect is dropped.

    Args:
        file: anything that Pillow opens.
        flatten: red, green and blue, 0 to 255, laid behind what is transparent.

    Raises:
        PictureFileError: unreadable, too large for Pillow, or transparent and `flatten` is None.
    """
    with _one_line_errors(file), _quiet_libraries(), Image.open(file) as opened:
        remarks = _frames_remark(opened)
        # Pillow's own conversion from Lab ends in sRGB.
        profile = None if opened.mode == "LAB" else opened.info.get("icc_profile")
        ImageOps.exif_transpose(opened, in_place=True)
        opened.load()
    with _one_line_errors(file):
        image, range_remarks = _eight_bits(opened)
        image, profile_remarks = _to_srgb(_plain_mode(image), profile)
        pixels = np.asarray(_flattened(image, flatten, file))
    return Picture(pixels, (*remarks, *range_remarks, *profile_remarks))


def picture_suffixes() -> frozenset[str]:
    """Endings of files that Pillow reads, in lower case."""
    known = Image.registered_extensions()
    return frozenset(s for s, kind in known.items() if kind in Image.OPEN and kind not in _OTHERS)


def picture_bytes(pixels: Pixels, suffix: str) -> bytes:
    """A picture as the content of a file.

    Args:
        pixels: shape (H, W, 3).
        suffix: of the file, one of `FORMATS`; without one, PNG.

    Raises:
        PictureFileError: the format has no room for so large a picture.
    """
    kind, options = FORMATS[suffix.lower() or ".png"]
    content = io.BytesIO()
    try:
        Image.fromarray(pixels).save(content, kind, **options)
    except (OSError, ValueError) as problem:
        height, width = pixels.shape[:2]
        raise PictureFileError(f"{kind} cannot hold {width} x {height}: {problem}") from None
    return content.getvalue()


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all.

    Raises:
        OutputError: the disk is full, or the folder may not be written.
    """
    try:
        with replacing(file) as unfinished:
            unfinished.write_bytes(content)
    except OSError as problem:
        raise OutputError(f"cannot write {file}: {problem.strerror or problem}") from None


@contextmanager
def _one_line_errors(file: Path) -> Iterator[None]:
    """Whatever Pillow's many decoders raise on damaged files, as one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not used, and large pictures
            yield
    except MemoryError:
        raise PictureFileError(f"{file}: not enough memory for a picture of its size") from None
    except PictureFileError:
        raise
    except UnidentifiedImageError:
        raise PictureFileError(f"{file}: no picture that Pillow can read") from None
    except Exception as problem:
        reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        raise PictureFileError(f"cannot read {file}: {reason}") from None


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Without what libtiff prints to stderr by itself, beside the error that Pillow raises."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _frames_remark(image: Image.Image) -> tuple[str, ...]:
    frames = getattr(image, "n_frames", 1)
    # An MPO is a photograph with previews of itself.
    return (f"the first of {frames} frames",) if frames > 1 and image.format != "MPO" else ()


def _eight_bits(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Deep grey brought to 8 bits: 16-bit integers, or floats of 0 to 1 or of 0 to 255."""
    if not image.mode.startswith(("I", "F")):
        return image, ()
    values = np.asarray(image, dtype=np.float64)
    top = float(values.max())
    full = 65535.0 if image.mode.startswith("I") else 1.0 if top <= 1 else 255.0
    if not (values.min() >= 0 and top <= full):
        raise ValueError(f"values from {values.min():g} to {top:g}; expected 0 to {full:g}")
    grey = Image.fromarray(np.rint(values / full * 255).astype(np.uint8))
    if "transparency" in image.info:
        opaque = values != image.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey, ("floating-point values taken as 0 to 255",) if full == 255 else ()


def _plain_mode(image: Image.Image) -> Image.Image:
    """L, RGB, RGBA or CMYK."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    if not profile:
        return image, ()
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image, ()
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, srgb, outputMode=mode)
    except (ImageCms.PyCMSError, OSError) as problem:
        return image, (f"its colour profile was ignored: {problem}",)
    assert converted is not None
    return converted, ()


def _flattened(image: Image.Image, colour: Colour | None, file: Path) -> Image.Image:
    if image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255):
        return image if image.mode == "RGB" else image.convert("RGB")
    if colour is None:
        raise PictureFileError(
            f"{file} has transparent parts, which cannot be kept; nas compress lays a colour behind"
            " them, for example with --flatten white"
        )
    behind = Image.new("RGBA", image.size, (*colour, 255))
    return Image.alpha_composite(behind, image).convert("RGB")
