"""A comparison as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.comparison import plot
from nas.comparison.coders import OURS

_FOLDER = Path(__file__).parent
_REPORT = _FOLDER.parent / "report"  # whose style and charts it shares
METRIC_NAMES = {
    "psnr": "PSNR",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS alex",
    "lpips_vgg": "LPIPS vgg",
}


def page(document: Mapping[str, Any], pictures: Sequence[Mapping[str, str]]) -> str:
    """The page.

    Args:
        document: of a comparison.
        pictures: of each entry of its `pictures`, data URIs by coder and `original`.
    """
    from jinja2 import Environment, FileSystemLoader
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": figure, "percent": percent}
    return environment.get_template("page.html").render(
        document=document,
        ours=OURS,
        names=METRIC_NAMES,
        pictures=list(zip(document["pictures"], pictures, strict=True)),
        curves=_curves(document),
        style=_read(_REPORT / "page.css") + _read(_FOLDER / "page.css"),
        plotly=get_plotlyjs(),
        scripts=[_read(_REPORT / "charts.js"), _read(_FOLDER / "page.js")],
    )


def figure(value: float | None, metric: str = "") -> str:
    """A metric as tables show it."""
    if value is None:
        return "–"
    return f"{value:.2f}" if metric == "psnr" else f"{value:.4f}"


def percent(value: float | None) -> str:
    """A share that was saved or is needed more; none where it is undefined."""
    return "–" if value is None else f"{value:+.1f}"


def _curves(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the page draws: by metric a line a codec."""
    metrics = {
        metric: {
            "label": plot.LABELS[metric],
            "log": metric.startswith("lpips"),
            "lines": [_line(codec, metric) for codec in document["codecs"]],
        }
        for metric in document["metrics"]
    }
    return {"metrics": metrics, "palette": plot.PALETTE}


def _line(codec: Mapping[str, Any], metric: str) -> dict[str, Any]:
    points = sorted(codec["curve"], key=lambda point: float(point["bpp"]))
    known = [point for point in points if metric in point]
    return {
        "name": codec["name"],
        "ours": codec["key"] == OURS,
        "elsewhere": "by_image" not in codec,
        "x": [point["bpp"] for point in known],
        "y": [plot.drawn(point[metric], metric) for point in known],
        "text": [_hover(point, metric) for point in known],
    }


def _hover(point: Mapping[str, Any], metric: str) -> str:
    quality = "" if point.get("quality") is None else f", quality {point['quality']:g}"
    return f"{METRIC_NAMES[metric]} {figure(point[metric], metric)}{quality}"


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")
