"""Reconstructions that others made, with the rates that they state: scored as all others are."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.comparison import Point, curve, prepare, scores
from evaluators.protocol import EvaluationError, SetupError
from nas.comparison import document as documents
from nas.comparison.kept import Kept, fingerprint, write_text
from nas.comparison.layout import ComparisonError, codec_document, read_json
from nas.comparison.run import DOCUMENT, require_own
from nas.comparison.work import Photo, file_content, photographs
from nas.display.live import track
from nas.picture_files import read_picture


@dataclass(frozen=True)
class Pair:
    """An original, its reconstruction, and the rate that is stated."""

    original: Photo
    image: Photo
    bpp: float


def score_images(
    reference: Path, folder: Path, bpp: str, metrics: Sequence[str], limit: int | None, out: Path
) -> dict[str, Any]:
    """Scores a folder of reconstructions against one of originals; writes what it found.

    Args:
        reference: folder of originals.
        folder: of reconstructions, of the same names but for the ending.
        bpp: a number, or a CSV or JSON file that states it by file name.
        metrics: to score by.
        limit: at most so many, the first by name.
        out: folder of the results.

    Raises:
        ComparisonError: names, sizes or rates do not fit.
        SetupError: LPIPS weights are not installed, or a picture is too small for a metric.
        PictureFileError: a file is no picture.
        OutputError: a result cannot be written.
    """
    key = f"images of {folder.resolve().name}"
    require_own(out, key)
    pairs = _pairs(photographs(reference, None), photographs(folder, None, but=out), bpp)[:limit]
    lpips = prepare(metrics)
    by_image: dict[str, list[Point]] = {}
    track("scoring", _score(pairs, metrics, lpips, out, by_image))
    name = folder.resolve().name
    about = f"images made elsewhere, bpp as stated by {bpp}"
    means = curve(by_image)
    codec = {"key": name, "name": name, "description": about, "curve": means}
    document = {
        "model": {"file": str(folder), "key": key},
        "reference": str(reference),
        "metrics": list(metrics),
        "codec": {**codec, "by_image": by_image},
        **documents.provenance(lpips),
    }
    layout = codec_document(name, about, means)
    write_text(out / f"codecs/{name}.json", json.dumps(layout, indent=1) + "\n")
    write_text(out / DOCUMENT, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return document


def _score(
    pairs: Sequence[Pair],
    metrics: Sequence[str],
    lpips: Mapping[str, str],
    out: Path,
    by_image: dict[str, list[Point]],
) -> Iterator[tuple[int, int]]:
    for i, pair in enumerate(pairs):
        contents = (file_content(pair.original.file), file_content(pair.image.file))
        of = fingerprint(*contents, tuple(metrics), sorted(lpips.items()))
        kept = Kept(out / "points" / f"{pair.image.name}.json", of)
        values = kept.read()
        if values is None:
            values = _values(pair, metrics)
            kept.write(values)
        by_image[pair.image.name] = [{"bpp": pair.bpp, **values}]
        yield i + 1, len(pairs) - i - 1


def _values(pair: Pair, metrics: Sequence[str]) -> dict[str, float]:
    original, image = (read_picture(p.file).pixels for p in (pair.original, pair.image))
    if original.shape != image.shape:
        ours, theirs = (f"{p.shape[1]} x {p.shape[0]}" for p in (image, original))
        raise ComparisonError(
            f"{pair.image.file} is {ours}, but {pair.original.file} is {theirs}; expected one size"
        )
    try:
        return scores([image], original, metrics)[0]
    except (SetupError, EvaluationError) as problem:
        raise ComparisonError(f"{pair.image.file}: {problem}") from None


def _pairs(originals: Sequence[Photo], images: Sequence[Photo], bpp: str) -> list[Pair]:
    """Originals with their reconstructions, by name without the ending."""
    made, known = _by_stem(images), _by_stem(originals)
    for stem, image in made.items():
        if stem not in known:
            raise ComparisonError(f"{image.file}: no original of its name")
    for stem, original in known.items():
        if stem not in made:
            raise ComparisonError(f"{original.file}: no reconstruction of its name")
    rates = stated_rates(bpp)
    return [Pair(known[stem], image, rates(image)) for stem, image in made.items()]


def stated_rates(bpp: str) -> Callable[[Photo], float]:
    """What `--bpp` says of each image.

    Args:
        bpp: a number; or a file, CSV with the columns `file` and `bpp`, or JSON of name to rate.

    Returns:
        An image's rate in bits per pixel; raises ComparisonError where there is none.

    Raises:
        ComparisonError: neither a rate above zero nor a file of such.
    """
    if _is_number(bpp):
        rate = _rate(bpp, "--bpp")
        return lambda _: rate
    file = Path(bpp)
    if file.suffix.lower() not in (".csv", ".json"):
        raise ComparisonError(f"--bpp: {bpp!r} is no number, no .csv and no .json file")
    stated = _csv(file) if file.suffix.lower() == ".csv" else read_json(file)
    if not isinstance(stated, dict):
        raise ComparisonError(f"{file}: no mapping of file names to bits per pixel")
    rates = {_stem(name): _rate(value, f"{file}: {name}") for name, value in stated.items()}

    def of(image: Photo) -> float:
        if _stem(image.name) not in rates:
            raise ComparisonError(f"{file} states no rate of {image.name}")
        return rates[_stem(image.name)]

    return of


def _csv(file: Path) -> dict[str, Any]:
    rows = list(csv.DictReader(file_content(file).decode("utf-8-sig", "replace").splitlines()))
    if not rows or not {"file", "bpp"} <= set(rows[0]):
        raise ComparisonError(f"{file}: expected a first line with the columns file and bpp")
    return {row["file"] or "": row["bpp"] for row in rows}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rate(value: Any, where: str) -> float:
    try:
        rate = float(value)
    except (TypeError, ValueError, OverflowError):
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise ComparisonError(f"{where}: {value!r} is no rate; expected bits per pixel above zero")
    return rate


def _stem(name: str) -> str:
    path = Path(name)
    return str(path.with_suffix("")) if path.name else name  # no file is called "" or "."


def _by_stem(photos: Sequence[Photo]) -> dict[str, Photo]:
    found: dict[str, Photo] = {}
    for photo in photos:
        other = found.setdefault(_stem(photo.name), photo)
        if other is not photo:
            raise ComparisonError(f"{photo.file} and {other.file} differ in their endings alone")
    return found
