"""Photographs in: from a folder, or those that installed packages carry."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from evaluators.protocol import SetupError

Pixels = NDArray[np.uint8]

log = logging.getLogger(__name__)

ALIGNMENT = 32
SEARCHED_PHOTOS = 64
_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".ppm"}
_MAX_PIXELS = 1_500_000

# Photographs inside scikit-image, scikit-learn and matplotlib; the last ones are held back.
_SAMPLE_TRAIN = (
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
_SAMPLE_HELD_BACK = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/camera.png"),
    ("sklearn", "datasets/images/china.jpg"),
)


@dataclass(frozen=True)
class Photo:
    """One photograph: its name and its pixels, shape (H, W, 3), sides multiples of 32."""

    name: str
    pixels: Pixels


@dataclass(frozen=True)
class PhotoFiles:
    """Files to train on and files held back for scoring; no file is in both."""

    train: tuple[Path, ...]
    held_back: tuple[Path, ...]


def find_photos(data: str, max_photos: int = SEARCHED_PHOTOS) -> PhotoFiles:
    """Chooses photographs and splits them, the same way every time.

    Args:
        data: a folder, searched with its subfolders, or `sample`: photographs that scikit-image,
            scikit-learn and matplotlib carry.
        max_photos: at most this many of a folder are used, chosen by the hash of their names.

    Returns:
        A third of a folder's photographs is held back, but no more than with 64 of them: so those
        that a search held back are never trained on, however many there are.

    Raises:
        SetupError: no such folder, or fewer than two images in it.
    """
    if data == "sample":
        return PhotoFiles(_packaged(_SAMPLE_TRAIN), _packaged(_SAMPLE_HELD_BACK))
    folder = Path(data)
    if not folder.is_dir():
        raise SetupError(f"data: no folder {folder}; give a folder of photographs, or `sample`")
    files = [f for f in sorted(folder.rglob("*")) if f.suffix.lower() in _ENDINGS]
    if len(files) < 2:
        raise SetupError(
            f"data: {folder} holds {len(files)} images; at least 2 are needed"
            f" ({', '.join(sorted(_ENDINGS))}), or use `sample`"
        )
    files.sort(key=lambda file: hashlib.sha256(str(file.relative_to(folder)).encode()).digest())
    chosen = files[:max_photos]
    held_back = max(1, min(len(chosen), SEARCHED_PHOTOS) // 3)
    return PhotoFiles(tuple(chosen[held_back:]), tuple(chosen[:held_back]))


def load_photos(files: Iterable[Path], smallest_side: int) -> list[Photo]:
    """Reads photographs as RGB; what cannot be used is skipped and named in the log.

    Files above 1.5 megapixels are reduced to that size. EXIF rotation is applied, transparency
    laid on grey, 16-bit and CMYK files are converted.

    Args:
        files: what to read.
        smallest_side: photographs with a shorter side are skipped, pixels.

    Raises:
        SetupError: none of the files can be used.
    """
    photos = []
    for file in files:
        try:
            pixels = _read(file)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
            log.warning("skipped %s: %s", file, problem)
            continue
        if min(pixels.shape[:2]) < smallest_side:
            log.warning("skipped %s: shorter than %d pixels", file, smallest_side)
            continue
        photos.append(Photo(file.name, pixels))
    if not photos:
        raise SetupError(
            f"data: none of {len(list(files))} images can be used; each must be readable and at"
            f" least {smallest_side} pixels wide and high"
        )
    return photos


def textured_crops(photos: Sequence[Photo], side: int, count: int) -> list[Pixels]:
    """Square crops for scoring, spread over the photographs and over how textured they are.

    Args:
        photos: where to cut.
        side: of a crop, in pixels.
        count: how many at most; each photograph gives nearly the same number.

    Returns:
        At most `count` crops, shape (side, side, 3).
    """
    share = -(-count // len(photos))
    crops: list[Pixels] = []
    for photo in photos:
        candidates = _grid(photo.pixels, side)
        candidates.sort(key=_texture)
        picks = np.unique(np.linspace(0, len(candidates) - 1, share + 2)[1:-1].round().astype(int))
        crops += [candidates[i] for i in picks]
    return crops[:count]


def _grid(pixels: Pixels, side: int) -> list[Pixels]:
    height, width = pixels.shape[:2]
    return [
        pixels[top : top + side, left : left + side]
        for top in range(0, height - side + 1, side)
        for left in range(0, width - side + 1, side)
    ]


def _texture(pixels: Pixels) -> float:
    green = pixels[..., 1].astype(np.float32)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def _packaged(names: Iterable[tuple[str, str]]) -> tuple[Path, ...]:
    files = []
    for package, name in names:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            files.append(Path(spec.origin).parent / name)
    return tuple(file for file in files if file.is_file())


def _read(file: Path) -> Pixels:
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
        image = _to_rgb(image)
    scale = (_MAX_PIXELS / (image.width * image.height)) ** 0.5
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    height, width = (side // ALIGNMENT * ALIGNMENT for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        full = 65535.0 if values.max() > 255 else 255.0
        image = Image.fromarray((values / full * 255).clip(0, 255).round().astype(np.uint8))
    if "A" in image.mode or "transparency" in image.info:
        grey = Image.new("RGBA", image.size, (128, 128, 128, 255))
        image = Image.alpha_composite(grey, image.convert("RGBA"))
    return image.convert("RGB")
