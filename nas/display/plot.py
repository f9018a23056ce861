"""The front as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {
    "bd_rate_lpips": "BD-rate by LPIPS against the reference [%]",
    "bd_rate_ms_ssim": "BD-rate by MS-SSIM against the reference [%]",
    "bd_rate_psnr": "BD-rate by PSNR against the reference [%]",
    "bpp_coded": "rate as written [bit/pixel]",
    "bpp_estimated": "rate by likelihood [bit/pixel]",
    "psnr": "PSNR [dB]",
    "lpips": "LPIPS",
    "ms_ssim": "MS-SSIM",
    "learned_gain_db": "gain over the linear decoder [dB]",
    "parameters": "parameters",
    "kmacs_per_pixel": "kMACs per pixel",
}
_FRONT, _REST = "#0b5fa5", "#9aa5b1"


def save_front(document: Mapping[str, Any], file: Path) -> None:
    """Draws a study's front with the dominated trials behind it.

    Args:
        document: from `entries.study_document`, with at least one entry on the front.
        file: PNG, written in one step.
    """
    x, y = _axes(document["objectives"])
    with _drawing(file) as axes:
        _draw(axes, document, x, y)
        _decorate(axes, document, x, y)


def save_sweep(document: Mapping[str, Any], file: Path) -> None:
    """Draws the best value for each limit.

    Args:
        document: from `retarget.sweep_document`, with at least one limit that something holds.
        file: PNG, written in one step.
    """
    name, objective = document["name"], document["objective"]
    rows = [row for row in document["rows"] if row["best"]]
    limits, best = [r["limit"] for r in rows], [r["best"][objective] for r in rows]
    starts = [i for i in range(len(rows)) if i == 0 or _trial(rows[i]) != _trial(rows[i - 1])]
    kinds = {p["kind"] for p in document["provenance"].values()}
    note = " (analytic latency, not measured on a device)" if "analytic" in kinds else ""
    title = f"{document['study']} on {document['device']}{note}"
    with _drawing(file) as axes:
        axes.plot(limits, best, marker="o", drawstyle="steps-post", color=_FRONT)
        for i in starts:  # each architecture once, where it begins
            _name(axes, _trial(rows[i]), limits[i], best[i])
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel(f"limit of {label(name)}")
        axes.set_ylabel(label(objective))


def _trial(row: Mapping[str, Any]) -> int:
    return int(row["best"]["trial"])


@contextmanager
def _drawing(file: Path) -> Iterator[Axes]:
    """Axes to draw on, written as a PNG in one step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    yield axes
    axes.grid(visible=True, color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(file) as unfinished:
        figure.savefig(unfinished, dpi=160)


def _name(axes: Axes, trial: int, x: float, y: float) -> None:
    """A trial's number beside its point."""
    axes.annotate(
        str(trial),
        (x, y),
        xytext=(5, 5),
        textcoords="offset points",
        fontsize=8,
        color=_FRONT,
    )


def _axes(objectives: Sequence[str]) -> tuple[str, str]:
    """Cost to the right, quality upwards; one objective is drawn over the trials."""
    return ("trial", objectives[0]) if len(objectives) == 1 else (objectives[1], objectives[0])


def _draw(axes: Axes, document: Mapping[str, Any], x: str, y: str) -> None:
    front = sorted(document["front"], key=lambda entry: float(entry[x]))
    rest = document["dominated"]
    axes.scatter(
        [e[x] for e in rest],
        [e[y] for e in rest],
        s=22,
        color=_REST,
        alpha=0.6,
        linewidths=0,
        label=f"dominated ({len(rest)})",
    )
    # A staircase is the front of two objectives; of three it is a cloud.
    line = {"drawstyle": "steps-post"} if len(document["objectives"]) == 2 else {"linestyle": ""}
    axes.plot(
        [e[x] for e in front],
        [e[y] for e in front],
        marker="o",
        markersize=6,
        linewidth=1.6,
        color=_FRONT,
        label=f"front ({len(front)})",
        **line,  # type: ignore[arg-type]
    )
    for e in front:
        _name(axes, e["trial"], e[x], e[y])


def _decorate(axes: Axes, document: Mapping[str, Any], x: str, y: str) -> None:
    known = document["provenance"].items()
    analytic = [f"{d} (budget: {p['held_against']})" for d, p in known if p["kind"] == "analytic"]
    title = f"{document['study']}: {len(document['front'])} on the front of {document['space']}"
    axes.set_title(title, loc="left", fontweight="bold", fontsize=12, pad=22 if analytic else 8)
    if analytic:
        note = f"analytic latency, not measured on a device: {', '.join(analytic)}"
        text = axes.text(0, 1.015, note, transform=axes.transAxes, fontsize=8, color="#52606d")
        text.set_in_layout(False)
    axes.set_xlabel(_label(x, document))
    axes.set_ylabel(_label(y, document))
    axes.margins(0.08)
    axes.legend(frameon=False, fontsize=9)


def label(name: str) -> str:
    """A figure's name for people, with its unit."""
    return _LABELS.get(name) or (f"{name[:-3]} [ms]" if name.endswith("_ms") else name)


def _label(name: str, document: Mapping[str, Any]) -> str:
    limit = next(iter(document["budget"].values())).get(name)
    text = label(name)
    way = document["directions"].get(name)
    better = {"minimize": ", lower is better", "maximize": ", higher is better", None: ""}[way]
    return text + better + (f" (budget {limit:g} ms)" if limit is not None else "")
