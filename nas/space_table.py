"""A search space as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.text import Text

from nas.entries import held_against
from nas.tables import columns, number, pairs


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
        choices = joint.join(str(choice) for choice in parameter["choices"])
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
    head = Text(f"{document['share_inside']:.1%} inside the budget", style="bold")
    provenance = {device: {"kind": document["provenance"], **document}}
    about = f" of {document['sampled']:,} sampled. {held_against(provenance)}."
    parts: list[RenderableType] = [head.append(about, style="not bold")]
    for name, found in document.items():
        if not isinstance(found, Mapping):
            continue
        low, high = found["range_ms"]
        title = f"{name} {low:.1f} to {high:.1f}, limit {found['limit_ms']:g},"
        table = columns(
            ["ms", "architectures", ""], f"{title} reference {found['reference_ms']:.1f}"
        )
        edges = zip(found["edges_ms"], found["edges_ms"][1:], found["counts"], strict=False)
        for start, end, count in edges if high > low else ():
            style = "green" if end <= found["limit_ms"] else "red"
            style = "yellow" if start <= found["limit_ms"] < end else style
            bar = Bar(max(found["counts"]), 0, count, width=40, color=style)
            table.add_row(f"{start:.0f} to {end:.0f}", f"{count:,}", bar)
        parts.append(table)
    return parts


def _range(limits: Sequence[float]) -> str:
    low, high = (number("", round(x, 2) if x % 1 else int(x)) for x in limits)
    return low if low == high else f"{low} to {high}"


def _choices(choices: Mapping[str, Any], without: Mapping[str, Any] = {}) -> str:
    return ", ".join(f"{name} {x}" for name, x in choices.items() if name not in without)
