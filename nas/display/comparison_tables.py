"""A comparison for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.comparison.coders import OURS
from nas.comparison.page import METRIC_NAMES, figure, percent


def comparison(document: Mapping[str, Any], files: Sequence[str]) -> RenderableType:
    """Means by codec, BD-rates, and what is not there.

    Args:
        document: of a comparison.
        files: that it was written to, for people.
    """
    count = len(document["photographs"])
    title = Text(f"{document['model']['file']} beside other codecs", style="bold")
    title.append(f", {count} photograph{'s' * (count != 1)} of {document['folder']}", "not bold")
    notes = [*document["undefined"], *document["left_out"].values()]
    notes += [f"failed: {why}" for why in document["failed"].values()]
    return Group(
        title,
        Text("\nMeans, from the smallest files to the largest"),
        _means(document),
        Text("\nBD-rate in %: bits that the model needs at equal quality, negative is fewer"),
        _bd_rates(document),
        *(Text(line, style="dim") for line in notes),
        Text("written: " + ", ".join(files)),
    )


def _means(document: Mapping[str, Any]) -> Table:
    metrics = document["metrics"]
    heads = ["codec", "bpp", *(METRIC_NAMES[metric] for metric in metrics), "encode s", "decode s"]
    table = _table(heads)
    for codec in document["codecs"]:
        low, high = codec["curve"][0], codec["curve"][-1]
        spans = [_span(low, high, metric, 1 if metric == "psnr" else 3) for metric in metrics]
        times = [_times(codec["curve"], f"{way}_seconds") for way in ("encode", "decode")]
        table.add_row(codec["name"], _span(low, high, "bpp", 2), *spans, *times)
    return table


def _bd_rates(document: Mapping[str, Any]) -> Table:
    table = _table(["against", "of", *(METRIC_NAMES[metric] for metric in document["metrics"])])
    for codec in document["codecs"]:
        if codec["key"] == OURS:
            continue
        rates = document["bd_rates"][codec["key"]]
        rows = {"the mean curves": [_of_means(rates.get(m)) for m in document["metrics"]]}
        if "by_image" in codec:
            for name, key in (("photographs", "mean"), ("worst tenth", "worst_decile")):
                rows[name] = [percent(rates[m][key]) for m in document["metrics"]]
        for i, (row, values) in enumerate(rows.items()):
            table.add_row(codec["name"] if i == 0 else "", row, *values)
    return table


def _of_means(rate: Mapping[str, Any] | None) -> str:
    return percent(rate["of_means"]["percent"] if rate else None)


def _span(low: Mapping[str, Any], high: Mapping[str, Any], name: str, digits: int) -> str:
    if name not in low:
        return "–"
    return f"{low[name]:.{digits}f}–{high[name]:.{digits}f}"


def _times(curve: Sequence[Mapping[str, Any]], name: str) -> str:
    """The mean over the qualities: a file's size hardly changes it."""
    if name not in curve[0]:
        return "–"
    mean = sum(point[name] for point in curve) / len(curve)
    return f"{mean:.1f}" if mean >= 10 else f"{mean:.3f}"


def images(document: Mapping[str, Any], files: Sequence[str]) -> RenderableType:
    """Reconstructions that others made.

    Args:
        document: from `nas compare --images`.
        files: that it was written to, for people.
    """
    metrics = document["metrics"]
    table = _table(["image", "bpp", *(METRIC_NAMES[metric] for metric in metrics)])
    (mean,) = document["codec"]["curve"]
    rows = {name: points[0] for name, points in document["codec"]["by_image"].items()}
    worst = {"bpp": None, **mean["worst_decile"]}
    for name, point in {**rows, "mean": mean, "worst tenth": worst}.items():
        bpp = "–" if point["bpp"] is None else f"{point['bpp']:.4f}"
        table.add_row(name, bpp, *(figure(point[metric], metric) for metric in metrics))
    return Group(table, Text("written: " + ", ".join(files)))


def _table(heads: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for i, head in enumerate(heads):
        justify: Any = "left" if i == 0 or head == "of" else "right"
        table.add_column(head, justify=justify, overflow="fold")
    return table
