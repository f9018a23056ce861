"""Pictures at equal bytes: ours, and each peer's file that is as large, of a few photographs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from evaluators.comparison import Point, scores
from nas.comparison.coders import Coder, size
from nas.comparison.kept import Kept, fingerprint
from nas.comparison.work import PHOTO_ERRORS, Photo, file_content
from nas.picture_files import Pixels, read_picture, write_whole

# How much larger than ours a peer's file may be: its qualities are steps.
_OVER = 1.02
_SIDE = 320  # pixels of the cut that a page shows
_LARGEST_QUALITY = 100


@dataclass(frozen=True)
class Shown:
    """A photograph to show, why, and the coders whose files are made of it, ours first."""

    photo: Photo
    label: str
    coders: Sequence[Coder]
    quality: float


def chosen(by_image: Mapping[str, Sequence[Point]], place: int, metric: str) -> dict[str, str]:
    """The best, the median and the worst photograph, by name; fewer when there are fewer.

    Args:
        by_image: our points of every photograph.
        place: of the point that counts.
        metric: that decides.
    """
    rising = metric in ("psnr", "ms_ssim")
    ordered = sorted(by_image, key=lambda name: by_image[name][place][metric], reverse=rising)
    picked = {"best": ordered[0], "worst": ordered[-1], "median": ordered[len(ordered) // 2]}
    labels: dict[str, str] = {}
    for label in ("best", "median", "worst"):
        labels.setdefault(picked[label], label)
    return labels


def make(
    shown: Sequence[Shown],
    metrics: Sequence[str],
    folder: Path,
    made: list[dict[str, Any]],
    failed: dict[str, str],
) -> Iterator[tuple[int, int]]:
    """Writes and scores the files that are not there yet; says how much is done and left.

    Args:
        shown: what is to be seen.
        metrics: to score by.
        folder: of the comparison.
        made: filled with a mapping a photograph: `photo`, `label`, `width`, `height` and `figures`,
            ours first: `key`, `name`, `file` (within the folder), `quality`, `bytes`, `bpp` and
            the metrics each.
        failed: filled with what cannot be made and why.
    """
    count, done = sum(len(one.coders) for one in shown), 0
    for one in shown:
        original = read_picture(one.photo.file).pixels
        height, width = original.shape[:2]
        figures: list[dict[str, Any]] = []
        about = {"photo": one.photo.name, "label": one.label, "width": width, "height": height}
        made.append({**about, "figures": figures})
        for coder in one.coders:
            limit = int(_OVER * figures[0]["bytes"]) if figures else 0
            try:
                figures.append(_figure(one, coder, original, limit, metrics, folder))
            except PHOTO_ERRORS as problem:
                failed[f"{one.photo.name}, {coder.key}"] = str(problem)
            done += 1
            yield done, count - done


def _figure(
    shown: Shown, coder: Coder, original: Pixels, limit: int, metrics: Sequence[str], folder: Path
) -> dict[str, Any]:
    """One file and what it is worth, made if it is not there; without a limit at our quality."""
    content = file_content(shown.photo.file)
    of = fingerprint(content, coder.description, shown.quality, limit, tuple(metrics))
    file = folder / "pictures" / shown.photo.name / f"{coder.key}{coder.suffix}"
    kept = Kept(file.with_suffix(".json"), of)
    result = kept.read() if file.is_file() else None
    if result is None:
        quality, data = shown.quality, b""
        if limit:
            quality, data = largest_within(coder, original, limit)
        data = data or coder.encode(original, quality)
        (values,) = scores([coder.decode(data)], original, metrics)
        result = {"quality": quality, **size(data, original), **values}
        write_whole(file, data)
        kept.write(result)
    name = file.relative_to(folder).as_posix()
    return {"key": coder.key, "name": coder.name, "file": name, **result}


def largest_within(coder: Coder, pixels: Pixels, limit: int) -> tuple[int, bytes]:
    """A coder's file of the best whole quality, 0 to 100, that is no larger than `limit` bytes.

    Sizes rise with quality but for a few bytes. When nothing is as small, the smallest file.
    """
    low, data = 0, coder.encode(pixels, 0)
    high = _LARGEST_QUALITY + 1
    while high - low > 1:
        middle = (low + high) // 2
        larger = coder.encode(pixels, middle)
        if len(larger) <= limit:
            low, data = middle, larger
        else:
            high = middle
    return low, data


def cuts(shown: Shown, figures: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """The middle of the original and of each file, as data URIs; `original` and coders' keys."""
    coders = {coder.key: coder for coder in shown.coders}
    found = {"original": _data_uri(_middle(read_picture(shown.photo.file).pixels))}
    for figure in figures:
        data = file_content(folder / figure["file"])
        found[figure["key"]] = _data_uri(_middle(coders[figure["key"]].decode(data)))
    return found


def _middle(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = max(0, (height - _SIDE) // 2), max(0, (width - _SIDE) // 2)
    return pixels[top : top + _SIDE, left : left + _SIDE]


def _data_uri(pixels: Pixels) -> str:
    """A picture without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
