"""A whole comparison: codes, scores, writes the folder; stopped, it goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.comparison import prepare
from nas.codec_files import Model
from nas.comparison import document as documents
from nas.comparison import pictures
from nas.comparison.coders import OURS, Coder, found_peers, model_coder
from nas.comparison.kept import write_text
from nas.comparison.layout import (
    ComparisonError,
    Measured,
    codec_document,
    read_json,
    read_measured,
)
from nas.comparison.page import METRIC_NAMES, page
from nas.comparison.plot import save_curves
from nas.comparison.work import Photo, Results, collected, items, photographs, work
from nas.display.live import track

DOCUMENT, PLOT, PAGE = "comparison.json", "curves.png", "comparison.html"


@dataclass(frozen=True)
class Request:
    """What is to be compared.

    Attributes:
        folder: of photographs.
        levels: the model's qualities.
        peers: keys of `CLASSICS`.
        measured: files of codecs that were measured elsewhere.
        metrics: of `METRICS`.
        limit: photographs at most.
        out: folder of the results.
    """

    folder: Path
    levels: Sequence[float]
    peers: Sequence[str]
    measured: Sequence[Path]
    metrics: Sequence[str]
    limit: int | None
    out: Path


def compare(model: Model, request: Request) -> dict[str, Any]:
    """Compares, and writes document, files by codec, plot and page into the folder.

    Returns:
        The document; what is `failed` in it are photographs that could not be compared.

    Raises:
        ComparisonError: the request cannot be met; nothing was coded.
        SetupError: LPIPS weights are not installed.
        OutputError: a result cannot be written.
    """
    elsewhere = _distinct([read_measured(file) for file in request.measured], request.peers)
    require_own(request.out, model.key.hex())
    photos = photographs(request.folder, request.limit, but=request.out)
    peers, left_out = found_peers(request.peers)
    coders = [model_coder(model, request.levels), *peers]
    lpips = prepare(request.metrics)
    results = _results(photos, coders, request, lpips)
    found: dict[str, Any] = {
        "model": {"file": str(model.file), "key": model.key.hex()},
        "folder": str(request.folder),
        "photographs": list(results.by_coder[OURS]),
        "metrics": list(request.metrics),
        "codecs": [*documents.codecs(coders, results), *documents.elsewhere(elsewhere)],
    }
    found["bd_rates"] = documents.bd_rates(found["codecs"][0], found["codecs"][1:], request.metrics)
    names = {codec["key"]: codec["name"] for codec in found["codecs"]}
    found["undefined"] = documents.undefined(found, names, METRIC_NAMES)
    shown = _shown(photos, coders, results, request)
    found |= _pictures(shown, request) | {"left_out": left_out}
    found["failed"] = {**results.failed, **found.pop("pictures_failed")}
    found |= documents.provenance(lpips)
    _write(found, shown, request.out)
    return found


def require_own(out: Path, of: str) -> None:
    """Fails before work is spent on a folder that holds something else.

    Args:
        out: to be written to.
        of: key of the model, or whatever names what is compared.

    Raises:
        ComparisonError: it is no folder, or holds another comparison.
    """
    if out.exists() and not out.is_dir():
        raise ComparisonError(f"{out} is no folder; give another one with -o")
    file = out / DOCUMENT
    if not file.exists():
        return
    content = read_json(file)
    model = content.get("model") if isinstance(content, dict) else None
    key = model.get("key") if isinstance(model, dict) else None
    if key != of:
        raise ComparisonError(
            f"{out} holds a comparison of another model, key {key}, this one is {of}; give another"
            " folder with -o"
        )


def _results(
    photos: Sequence[Photo], coders: Sequence[Coder], request: Request, lpips: dict[str, str]
) -> Results:
    failed: dict[str, str] = {}
    everything = items(photos, coders, lpips, request.out)
    pending = [item for item in everything if item.points(request.metrics) is None]
    track("comparing", work(pending, request.metrics, failed))
    return collected(everything, request.metrics, failed)


def _shown(
    photos: Sequence[Photo], coders: Sequence[Coder], results: Results, request: Request
) -> list[pictures.Shown]:
    """Best, median and worst photograph at the model's middle quality."""
    middle = len(request.levels) // 2
    by = shown_by(request.metrics)
    labels = pictures.chosen(results.by_coder[OURS], middle, by)
    files = {photo.name: photo for photo in photos}
    quality = request.levels[middle]
    return [pictures.Shown(files[name], label, coders, quality) for name, label in labels.items()]


def shown_by(metrics: Sequence[str]) -> str:
    """The metric that chooses which pictures are shown."""
    return "lpips" if "lpips" in metrics else metrics[0]


def _pictures(shown: Sequence[pictures.Shown], request: Request) -> dict[str, Any]:
    made: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    track("pictures", pictures.make(shown, request.metrics, request.out, made, failed))
    quality = shown[0].quality
    about = {"shown_by": shown_by(request.metrics), "shown_quality": quality}
    return {**about, "pictures": made, "pictures_failed": failed}


def _write(found: dict[str, Any], shown: Sequence[pictures.Shown], out: Path) -> None:
    for codec in found["codecs"]:
        if "by_image" in codec:
            content = codec_document(codec["name"], codec["description"], codec["curve"])
            write_text(out / f"codecs/{codec['key']}.json", json.dumps(content, indent=1) + "\n")
    save_curves(found, out / PLOT)
    cuts = [
        pictures.cuts(one, entry["figures"], out)
        for one, entry in zip(shown, found["pictures"], strict=True)
    ]
    write_text(out / PAGE, page(found, cuts))
    write_text(out / DOCUMENT, json.dumps(found, indent=1, allow_nan=False) + "\n")


def _distinct(files: Sequence[Measured], peers: Sequence[str]) -> list[Measured]:
    """Codecs that can be told apart by name."""
    names = [OURS, *peers, *(one.name for one in files)]
    for one in files:
        if names.count(one.name) > 1:
            raise ComparisonError(f"--measured: {one.name!r} names two codecs; rename one")
    return list(files)
