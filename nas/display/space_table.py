"""A search space as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.text import Text

from nas.display.tables import columns, number, pairs
from nas.record.entries import held_against


def space(document: Mapping[str, Any]) -> RenderableType:
    """A space: how much of what it holds, and its parameters."""
    of_all = "" if document["sampled"] is None else f" (of {document['sampled']:,} sampled)"
    signatures = f"{document['block_signatures']}{of_all and ' or more'}"
    shown = {
        "size": f"{document['size']:,} architectures{'' if document['exact'] else ' (estimated)'}",
        "block signatures": f"{signatures}{of_all}",
        "network parameters": f"{_range(document['network_parameters'])}{of_all}",
    }
    for name, stage in document["stages"].items():
        shown[name] = (
            f"{_range(stage['kmacs_per_pixel'])} kMACs/pixel, {_range(stage['parameters'])}"
            f" parameters{of_all}"
        )
    shown |= {"paired encoder": _choices(document["paired_encoder"])}
    shown |= {"fixed": _choices(document["fixed"], document["paired_encoder"])}
    shown |= {"reference": _choices(document["reference"])}
    table = columns(["parameter", "choices", "when"])
    for parameter in document["parameters"]:
        joint = " < " if parameter["ordered"] else ", "
        choices = joint.join(_shown(choice) for choice in parameter["choices"])
        table.add_row(parameter["name"], choices, parameter["when"] or "")
    parts: list[RenderableType] = [
        pairs(document["name"], {name: text for name, text in shown.items() if text}),
        table,
    ]
    parts += [Text(f"constraint: {constraint}") for constraint in document["constraints"]]
    for device, found in document.get("latency", {}).items():
        parts += _latencies(device, found)
    return Group(*parts)


def _latencies(device: str, document: Mapping[str, Any]) -> list[RenderableType]:
    """The share inside the budget, and a histogram by metric with the limit marked."""
    share, error = document["share_inside"], document["share_error"]
    unsure = f" (± {error:.1%})" if document["sampled"] else ""
    head = Text(f"{share:.1%}{unsure} inside the budget", style="bold")
    provenance = {device: {"kind": document["provenance"], **document}}
    of = f"{document['priced']:,}{' sampled' if document['sampled'] else ''}"
    about = f" of {of}. {held_against(provenance)}."
    parts: list[RenderableType] = [head.append(about, style="not bold")]
    for name, found in document["metrics"].items():
        low, high = (f"{ms:.1f}" for ms in found["range_ms"])
        span = low if low == high else f"{low} to {high}"
        reference = f"reference {found['reference_ms']:.1f}"
        parts.append(Text(f"{name} {span}, limit {found['limit_ms']:g}, {reference}"))
        if low != high:
            parts.append(_histogram(found))
    return parts


def _histogram(found: Mapping[str, Any]) -> RenderableType:
    table = columns(["ms", "architectures", ""])
    edges, limit = found["edges_ms"], found["limit_ms"]
    for (start, end), count in zip(pairwise(edges), found["counts"], strict=True):
        here = start <= limit < end
        style = "yellow" if here else "green" if end <= limit else "red"
        bar = Bar(max(found["counts"]), 0, count, width=40, color=style)
        table.add_row(f"{start:.0f} to {end:.0f}{' limit' if here else ''}", f"{count:,}", bar)
    return table


def _range(limits: Sequence[float]) -> str:
    low, high = (number("", round(x, 2) if x % 1 else int(x)) for x in limits)
    return low if low == high else f"{low} to {high}"


def _choices(choices: Mapping[str, Any], without: Mapping[str, Any] = {}) -> str:
    """One line a stage."""
    stages: dict[str, list[str]] = {}
    for name, choice in choices.items():
        if name not in without:
            stage, _, decision = name.rpartition(".")
            stages.setdefault(stage, []).append(f"{decision} {_shown(choice)}")
    lines = [
        f"{stage}: {', '.join(of)}" if stage else ", ".join(of) for stage, of in stages.items()
    ]
    return "\n".join(lines)


def _shown(choice: Any) -> str:
    """As it stands in the file."""
    return str(choice).lower() if isinstance(choice, bool) else str(choice)
