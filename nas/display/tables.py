"""Documents as tables for people; the same documents are printed as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.display import terminal_plot
from nas.display.live import duration
from nas.record.entries import held_against

_SHOWN = ("bpp_coded", "psnr", "lpips", "encode_ms", "decode_ms", "parameters", "kmacs_per_pixel")
_HEADS = {
    "bd_rate_lpips": "BD-rate\nLPIPS %",
    "bd_rate_ms_ssim": "BD-rate\nMS-SSIM %",
    "bd_rate_psnr": "BD-rate\nPSNR %",
    "bpp_coded": "bpp\ncoded",
    "bpp_estimated": "bpp\nest.",
    "psnr": "PSNR\ndB",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
    "lpips_vgg": "LPIPS\nvgg",
    "parameters": "para-\nmeters",
    "kmacs_per_pixel": "kMACs\n/pixel",
    "learned_gain_db": "gain\ndB",
}
_BAR = 20  # characters
DIGITS = {
    "bpp_coded": 4,
    "bpp_estimated": 4,
    "ms_ssim": 4,
    "lpips": 4,
    "lpips_vgg": 4,
    "psnr": 2,
    "learned_gain_db": 2,
}


def front(document: Mapping[str, Any], plotted: bool = False) -> RenderableType:
    """The front, best in the first objective first, with what its latencies are worth.

    Args:
        document: from `entries.study_document`.
        plotted: with a small plot below the table.
    """
    objectives = document["objectives"]
    names = [*objectives, *(name for name in _SHOWN if name not in objectives)]
    names = [name for name in names if all(name in entry for entry in document["front"])]
    table = columns(["trial", *(_head(name) for name in names)])
    for entry in document["front"]:
        table.add_row(str(entry["trial"]), *(number(name, entry[name]) for name in names))
    trials = document["trials"]
    title = Text(f"{document['study']}: {len(document['front'])} on the front", style="bold")
    stopped = f"{trials['stopped']} stopped early, " if trials["stopped"] else ""
    title.append(
        f" of {trials['complete']} trained ({stopped}{trials['failed']} failed),"
        f" {_volume(document)}",
        style="not bold",
    )
    parts: list[RenderableType] = [title, table] if document["front"] else [title]
    if plotted and document["front"]:
        parts.append(Text(terminal_plot.front(document) + "\n"))
    notes = f"{budget(document)}. {held_against(document['provenance'])}.{_weights(document)}"
    return Group(*parts, Text(notes))


def _weights(document: Mapping[str, Any]) -> str:
    """Where the weights of a front come from, unless all of it was trained from scratch."""
    kinds = Counter(entry.get("weights", "from scratch") for entry in document["front"])
    if set(kinds) <= {"from scratch"}:
        return ""
    return f" Weights on the front: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}."


def retargeted(document: Mapping[str, Any]) -> RenderableType:
    """The front under another budget, and what it does not know."""
    about, complete = document["retargeted"], document["trials"]["complete"]
    trained = complete + about["outside"]
    notes = [f"{about['outside']} of {trained} trained ones are outside this budget."]
    if about["nearest"]:
        near = dict(about["nearest"])
        head = f"The nearest is trial {near.pop('trial')}: "
        compared = (f"{n} {number(n, x)} of {about['limits'][n]:g}" for n, x in near.items())
        notes.append(f"{head}{', '.join(compared)}.")
    if about["unknown_share"]:
        notes.append(
            f"About {about['unknown_share']:.0%} of the architectures inside this budget were over"
            " the study's own, and so were never trained: --search N looks among them."
        )
    return Group(front(document), Text(" ".join(notes)))


def sweep(document: Mapping[str, Any]) -> RenderableType:
    """The best architecture for each limit."""
    name, objective = document["name"], document["objective"]
    names = [name, *(n for n in _SHOWN if n not in (name, objective))]
    best = [row["best"] for row in document["rows"] if row["best"]]
    names = [objective, *(n for n in names if all(n in entry for entry in best))]
    table = columns(["limit\nms", "inside", "trial", *(_head(n) for n in names)])
    for row in document["rows"]:
        entry = row["best"]
        cells = [str(entry["trial"]), *(number(n, entry[n]) for n in names)] if entry else ["none"]
        table.add_row(f"{row['limit']:g}", str(row["inside"]), *cells)
    head = Text(f"{document['study']} on {document['device']}: ", style="bold")
    head.append(f"the best {objective} for each limit of {name[:-3]}", style="not bold")
    return Group(head, table, Text(f"{held_against(document['provenance'])}."))


def trial(document: Mapping[str, Any]) -> RenderableType:
    """One trial whole: choices, figures, rate-distortion points, latency by block."""
    head = Text(f"{document['study']} trial {document['trial']} ", style="bold")
    head.append(f"{document['key']}, {document['state']}, log {document['log']}", style="not bold")
    parts: list[RenderableType] = [head]
    if document["error"]:
        parts.append(_ended(document["state"], document["error"]))
    if document.get("weights"):
        parts.append(Text(f"weights: {document['weights']}"))
    parts.append(pairs("choices", document["choices"]))
    flat = {k: v for k, v in document.items() if isinstance(v, (int, float)) and k != "trial"}
    parts.append(pairs("figures", flat))
    if document.get("rd_points"):
        parts.append(records("rate-distortion points", document["rd_points"]))
    if document.get("reconstruction"):
        parts.append(Text(f"original and reconstruction: {document['reconstruction']}"))
    if document.get("codec"):
        parts.append(Text(f"codec file, for nas compress: {document['codec']}"))
    for device, stages in document["blocks"].items():
        parts += [_blocks(f"{device}, {stage}", rows) for stage, rows in stages.items()]
    return Group(*parts, Text(f"{held_against(document['provenance'])}."))


def _ended(state: str, reason: str) -> Text:
    """Why there is no score: an error, or a training that was not worth going on with."""
    return Text(reason, style="yellow") if state == "stopped" else Text(f"error: {reason}", "red")


def supernet(document: Mapping[str, Any]) -> RenderableType:
    """How some networks of a supernet came on, and what shares no weights."""
    curve, shares = document["curve"], document["shares"]
    shown = [curve[i] for i in sorted({0, len(curve) // 2, len(curve) - 1})]
    table = columns([shares.removesuffix("s"), *(f"{entry['step']} steps" for entry in shown)])
    for name in curve[-1]["psnr"]:
        table.add_row(name, *(_watched(entry, name) for entry in shown))
    head = Text(f"{document['supernet']}: ", style="bold")
    recipe, seconds = document["recipe"], document["seconds"]
    head.append(
        f"{recipe['steps']} steps of {shares} of {document['space']} in {duration(seconds)}",
        style="not bold",
    )
    apart = document["trained_apart"]
    notes = [Text(f"several kinds of block, trained apart: {', '.join(apart)}")] if apart else []
    return Group(head, table, *notes)


def _watched(entry: Mapping[str, Any], name: str) -> str:
    """A network's quality, and its rate where that is its own."""
    rate = f"{entry['bpp'][name]:.3f} bpp, " if "bpp" in entry else ""
    return f"{rate}{entry['psnr'][name]:.2f} dB"


def confirmed(document: Mapping[str, Any]) -> RenderableType:
    """What became of each architecture when it was trained again."""
    objectives = document["objectives"]
    table = columns(["trial", *(_head(n) for n in objectives), "recorded", "seeds", "", "key"])
    for entry in document["confirmed"]:
        mean, half = entry["mean"] or {}, entry["interval"] or {}
        figures = [
            f"{number(n, mean[n])}{f' ± {number(n, half[n])}' if half[n] is not None else ''}"
            if mean
            else "failed"
            for n in objectives
        ]
        before = " / ".join(number(n, entry["recorded"][n]) for n in objectives)
        verdict = "stands" if entry["survives"] else "does not survive"
        row = [str(entry["trial"]), *figures, before, str(entry["seeds"]), verdict, entry["key"]]
        table.add_row(*row, style="" if entry["survives"] else "dim")
    head = Text(f"{document['study']}: ", style="bold")
    stand = sum(entry["survives"] for entry in document["confirmed"])
    head.append(
        f"{stand} of {len(document['confirmed'])} stand after {document['seeds']} trainings of"
        f" {document['longer']:g} times the steps; ± is a 95 % interval",
        style="not bold",
    )
    return Group(head, table)


def ablated(document: Mapping[str, Any]) -> RenderableType:
    """What every change of an architecture does; differences are from the first row."""
    rows = document["rows"]
    timed = list(dict.fromkeys(name for row in rows for name in row["latency_ms"]))
    values = [name for name in document["objectives"] if name not in timed]
    rates = list(dict.fromkeys(name for row in rows for name in row["bd_rates"] or {}))
    rates = [name for name in rates if name not in values]
    heads = [
        "choice",
        "change",
        *(_head(n) for n in values),
        *(f"{_head(n)}\nagainst it" for n in rates),
    ]
    table = columns([*heads, *(_head(n) for n in timed), ""])
    for row in rows:
        compared = row["bd_rates"] or {}
        cells = [
            *(_changed(n, row["values"], row["differences"]) for n in values),
            *(f"{compared[n]:+.1f}" if n in compared else "" for n in rates),
            *(_changed(n, row["latency_ms"], row["latency_differences"]) for n in timed),
        ]
        note = row["error"] or ("" if row["inside"] else "over the budget")
        table.add_row(
            row["what"], row["change"], *cells, note, style="" if row["inside"] else "dim"
        )
    head = Text(f"{document['study']} trial {document['trial']}: ", style="bold")
    head.append(f"{len(rows) - 1} changes, one at a time", style="not bold")
    return Group(head, table, Text(f"{held_against(document['provenance'])}."))


def _changed(name: str, values: Mapping[str, float], differences: Mapping[str, float]) -> str:
    """A value, and by how much it has changed."""
    if name not in values:
        return "failed"
    change = differences.get(name, 0.0)
    sign = "+" if change > 0 else "-"
    return (
        f"{number(name, values[name])} ({sign}{number(name, abs(change))})"
        if change
        else (number(name, values[name]))
    )


def studies(documents: Iterable[Mapping[str, Any]]) -> Table:
    """One line a study."""
    table = columns(
        [
            "study",
            "space",
            "objectives",
            "asked",
            "trained",
            "stopped",
            "failed",
            "running",
            "front",
        ]
    )
    for d in documents:
        names = ("asked", "complete", "stopped", "failed", "running")
        counts = (d["trials"][name] for name in names)
        objectives = ", ".join(d["objectives"])
        table.add_row(d["study"], d["space"], objectives, *map(str, counts), str(d["front"]))
    return table


def check(document: Mapping[str, Any]) -> Table:
    """What `nas check` found, for people."""
    seconds = document["seconds"]
    shown = {
        "study": document["study"],
        "space": f"{document['space']}, {document['size']:,} architectures",
        "inside the budget": f"{document['share_inside_budget']:.1%} of sampled architectures",
        "budget": _limits(document),
        "prices": held_against(document["provenance"]),
        "objectives": ", ".join(document["objectives"]),
        "reference": ", ".join(f"{n} {number(n, x)}" for n, x in document["reference"].items()),
        "trials": document["trials"] or "until time is up",
        "workers": document["workers"],
        "time": "unknown" if seconds is None else f"about {seconds / 60:.0f} min",
    }
    return pairs(f"{document['experiment']} is valid", shown)


def pairs(title: str, values: Mapping[str, Any]) -> Table:
    """Names and values, one a line."""
    table = Table(
        title=title, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0)
    )
    for name, value in values.items():
        table.add_row(name, number(name, value))
    return table


def records(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Records with the same fields."""
    table = columns(list(rows[0]), title)
    for row in rows:
        table.add_row(*(number(name, value) for name, value in row.items()))
    return table


def budget(document: Mapping[str, Any]) -> str:
    """The limits in words, and the share of proposals inside them."""
    counts = document["proposals"]
    inside = counts["proposed"] - counts["over_budget"]
    share = f", met by {inside} of {counts['proposed']} proposals" if counts["proposed"] else ""
    return f"budget: {_limits(document)}{share}"


def _limits(document: Mapping[str, Any]) -> str:
    held = {**document["budget"], "": document["limits"]}
    texts = [
        f"{device} {', '.join(_limit(*pair) for pair in limits.items())}".strip()
        for device, limits in held.items()
        if limits
    ]
    return "; ".join(texts) or "none"


def _limit(name: str, limit: float) -> str:
    """Milliseconds as people say them; other metrics under their whole name."""
    return f"{name[:-3]} {limit:g} ms" if name.endswith("_ms") else f"{name} {limit:,g}"


def number(name: str, value: Any) -> str:
    """A value as tables show it."""
    if not isinstance(value, float):
        return (
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        )
    if name.endswith(("_ms", "_ms_upper")):
        return f"{value:.1f}"
    return (
        f"{value:.{DIGITS.get(name, 2)}f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2g}"
    )


def _blocks(title: str, rows: Sequence[Sequence[Any]]) -> Table:
    """What eats the budget: a bar a block, the longest one full."""
    table = columns(["step", "block", "ms"], title)
    table.add_column("", width=_BAR)
    longest = max((ms for *_, ms in rows), default=0.0) or 1.0
    for step, signature, ms in rows:
        table.add_row(step, signature, f"{ms:.2f}", Bar(longest, 0, ms, width=_BAR))
    return table


def columns(heads: Sequence[str], title: str | None = None) -> Table:
    """An empty table; text stands on the left, figures on the right."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for i, head in enumerate(heads):
        text = i == 0 or head in ("block", "space", "objectives", "choices", "when", "change")
        table.add_column(head, justify="left" if text else "right", overflow="fold")
    return table


def _head(name: str) -> str:
    return _HEADS.get(name) or (f"{name[:-3]}\nms" if name.endswith("_ms") else name)


def _volume(document: Mapping[str, Any]) -> str:
    volume = document["hypervolume"]
    if volume is None:
        return "no hypervolume"
    point = ", ".join(f"{name} {number(name, x)}" for name, x in volume["reference"].items())
    return f"hypervolume {volume['value']:.4g} from ({point})"
