"""Rate-distortion curves as a picture, a panel a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.comparison.coders import OURS
from nas.picture_files import OutputError
from search_spaces.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

LABELS = {
    "psnr": "PSNR [dB]",
    "ms_ssim": "MS-SSIM, -10 log10(1 - x) [dB]",
    "lpips": "LPIPS alex, lower is better",
    "lpips_vgg": "LPIPS vgg, lower is better",
}
# Ours, then the peers in their order; the same on the page.
PALETTE = ("#0b5fa5", "#b3362b", "#2e7d4f", "#8a5a00", "#6a3d9a", "#00798c", "#5b6875")


def save_curves(document: Mapping[str, Any], file: Path) -> None:
    """Draws all codecs' mean curves.

    Args:
        document: of a comparison.
        file: PNG, written in one step.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics: Sequence[str] = document["metrics"]
    rows = (len(metrics) + 1) // 2
    figure = Figure(figsize=(11, 0.8 + 3.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, min(2, len(metrics)), squeeze=False).flatten()
    for axes, metric in zip(panels, metrics, strict=False):
        _draw(axes, document["codecs"], metric)
    for axes in panels[len(metrics) :]:
        axes.set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=7, frameon=False)
    try:
        with replacing(file) as unfinished:
            figure.savefig(unfinished, dpi=130)
    except OSError as problem:
        raise OutputError(f"cannot write {file}: {problem.strerror or problem}") from None


def drawn(value: float, metric: str) -> float:
    """A metric as it is drawn: MS-SSIM in dB, in which its upper end can be told apart."""
    return -10 * math.log10(max(1 - value, 1e-9)) if metric == "ms_ssim" else value


def _draw(axes: Axes, codecs: Sequence[Mapping[str, Any]], metric: str) -> None:
    for i, codec in enumerate(codecs):
        points = sorted(codec["curve"], key=lambda point: float(point["bpp"]))
        # One that lacks the metric is still in the legend, which all panels share.
        known = [point for point in points if metric in point]
        ours = codec["key"] == OURS
        axes.plot(
            [point["bpp"] for point in known],
            [drawn(point[metric], metric) for point in known],
            marker="o",
            markersize=5 if ours else 3.5,
            linewidth=2.4 if ours else 1.3,
            zorder=3 if ours else 2,
            color=PALETTE[i % len(PALETTE)],
            linestyle="-" if "by_image" in codec else "--",
            label=codec["name"],
        )
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    if metric.startswith("lpips"):
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)
    axes.set_xlabel("rate of files [bit/pixel]")
    axes.set_ylabel(LABELS[metric])
    axes.grid(visible=True, which="both", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _plain_numbers(axis: Axis) -> None:
    """Labels at a few digits of an axis of logarithms."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
