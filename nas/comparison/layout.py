"""Results of a codec in CompressAI's layout: a JSON file a codec, a list a figure.

`{"name": ..., "description": ..., "results": {"bpp": [...], "psnr-rgb": [...], ...}}`
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.comparison import METRICS, Point
from search_spaces.json_text import parse_json

# Our names, as they are written there.
KEYS = {
    "bpp": "bpp",
    "psnr": "psnr-rgb",
    "ms_ssim": "ms-ssim-rgb",
    "lpips": "lpips-alex",
    "lpips_vgg": "lpips-vgg",
    "encode_seconds": "encoding_time",
    "decode_seconds": "decoding_time",
}
# What is read: older files and papers' figures use other names; the `db` ones hold -10 log10(1-x).
_READ = {
    **{key: name for name, key in KEYS.items()},
    "psnr": "psnr",
    "ms-ssim": "ms_ssim",
    "lpips": "lpips",
}
_DECIBELS = ("ms-ssim-db-rgb", "ms-ssim-db")
_RANGES = {
    "bpp": (1e-9, math.inf),
    "psnr": (0.0, math.inf),
    "ms_ssim": (0.0, 1.0),
    "lpips": (0.0, math.inf),
    "lpips_vgg": (0.0, math.inf),
    "encode_seconds": (0.0, math.inf),
    "decode_seconds": (0.0, math.inf),
}


class ComparisonError(ValueError):
    """What was asked to be compared cannot be: says what, where and what next."""


@dataclass(frozen=True)
class Measured:
    """A codec that was measured elsewhere.

    Attributes:
        name: for people.
        description: of its file.
        curve: its points in order of the rate, each with `bpp` and the same metrics.
    """

    name: str
    description: str
    curve: list[Point]


def codec_document(name: str, description: str, curve: Sequence[Point]) -> dict[str, Any]:
    """A codec's curve in the layout."""
    results = {
        key: [point[ours] for point in curve]
        for ours, key in KEYS.items()
        if curve and all(ours in point for point in curve)
    }
    return {"name": name, "description": description, "results": results}


def read_measured(file: Path) -> Measured:
    """Reads a codec's file, made by CompressAI's tools, by this program or by hand.

    Raises:
        ComparisonError: unreadable, not in this layout, or with figures that cannot be.
    """
    content = read_json(file)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise ComparisonError(f"{file}: no mapping `results`; expected CompressAI's layout")
    columns = _columns(file, results)
    count = len(columns["bpp"])
    curve = [{name: column[i] for name, column in columns.items()} for i in range(count)]
    name, about = content.get("name", file.stem), content.get("description", "")
    return Measured(str(name), str(about), sorted(curve, key=lambda point: point["bpp"]))


def read_json(file: Path) -> Any:
    """A JSON file's content.

    Raises:
        ComparisonError: it cannot be read, or is no JSON.
    """
    try:
        return parse_json(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ComparisonError(f"cannot read {file}: {problem.strerror}") from None
    except ValueError as problem:
        raise ComparisonError(f"{file}: no JSON: {problem}") from None


def _columns(file: Path, results: Mapping[str, Any]) -> dict[str, list[float]]:
    """Figures by our names, in lists of one length."""
    columns: dict[str, list[float]] = {}
    for key, values in results.items():
        name = _READ.get(key, "ms_ssim" if key in _DECIBELS else None)
        if name is None or name in columns:
            continue
        numbers = _numbers(file, key, values)
        columns[name] = [1 - 10 ** (-x / 10) for x in numbers] if key in _DECIBELS else numbers
        _require_range(file, key, name, columns[name])
    if "bpp" not in columns or not set(METRICS) & set(columns):
        known = ", ".join([*(KEYS[name] for name in METRICS), "psnr", "ms-ssim", "ms-ssim-db"])
        raise ComparisonError(f"{file}: `results` needs `bpp` and one of {known}")
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ComparisonError(f"{file}: lists of different lengths in `results`: {lengths}")
    return columns


def _numbers(file: Path, key: str, values: Any) -> list[float]:
    if not isinstance(values, list) or not values:
        raise ComparisonError(f"{file}: results.{key} is no list of numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ComparisonError(f"{file}: results.{key} holds {value!r}; expected numbers")
    try:
        return [float(value) for value in values]
    except OverflowError:
        raise ComparisonError(f"{file}: results.{key} holds a number beyond any rate") from None


def _require_range(file: Path, key: str, name: str, values: Sequence[float]) -> None:
    low, high = _RANGES[name]
    for value in values:
        if not (low <= value <= high and math.isfinite(value)):
            bound = f"{low:g} to {high:g}" if math.isfinite(high) else f"a number from {low:g}"
            raise ComparisonError(f"{file}: results.{key} holds {value:g}; expected {bound}")
