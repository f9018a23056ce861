"""What `nas latency` found: documents, and the same as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from nas.display.live import duration
from nas.display.tables import columns, pairs

if TYPE_CHECKING:
    from latency.measure.campaign import Effort, Plan
    from latency.measure.filling import Filled
    from latency.ops import Op
    from latency.oracle import Estimate, LatencyOracle
    from latency.table import LatencyTable
    from nas.latency_setup import Target
    from search_spaces.blocks import Precision

_DEAREST = 20


def plan_line(target: Target, plan: Plan, effort: Effort) -> str:
    """What a campaign will do, in one line."""
    return (
        f"{target.device}: {len(plan.rows):,} rows and {len(plan.networks)} whole networks"
        f" {plan.precision}, {plan.packages:,} packages, {effort.fewest_rounds} to"
        f" {effort.most_rounds} rounds: some {duration(plan.seconds(effort))} beside translating;"
        f" samples go to {target.samples}"
    )


def plan_document(target: Target, plan: Plan, effort: Effort) -> dict[str, Any]:
    """The plan, JSON-ready."""
    return {
        "device": target.device,
        "table": str(target.file),
        "precision": plan.precision,
        "rows": len(plan.rows),
        "networks": len(plan.networks),
        "packages": plan.packages,
        "rounds": [effort.fewest_rounds, effort.most_rounds],
        "seconds": plan.seconds(effort),
    }


def filled_document(target: Target, plan: Plan, filled: Filled) -> dict[str, Any]:
    """What a campaign has written, JSON-ready."""
    table = filled.table
    return {
        "device": table.device,
        "table": str(target.file),
        "precision": plan.precision,
        "rows": len(table.rows),
        "unmeasured": list(filled.unmeasured),
        "dispatch_ms": table.dispatch_ms,
        "network_factor": table.network_factor,
        "margin_percent": table.margin_percent,
        "median_spread_percent": median([row.spread_percent for row in table.rows]),
        "samples": str(target.samples),
    }


def summary(document: Mapping[str, Any]) -> RenderableType:
    """A document as names and values."""
    shown = {k: v for k, v in document.items() if k != "device"}
    if "dispatch_ms" in shown:  # far below the tenth of a millisecond of other figures
        shown["dispatch_ms"] = f"{shown['dispatch_ms']:.4f}"
    return pairs(str(document["device"]), shown)


def device_document(table: LatencyTable, path: str) -> dict[str, Any]:
    """One table's header, JSON-ready."""
    return {
        "device": table.device,
        "table": path,
        "chip": table.chip,
        "provenance": table.provenance,
        "precisions": table.precisions,
        "rows": len(table.rows),
        "margin_percent": table.margin_percent,
        "held_out_error_percent": table.held_out_error_percent,
        "os_build": table.os_build,
        "compute_unit": table.compute_unit,
        "speed": table.speed,
        "date": table.date.isoformat(),
        "sources": list(table.sources),
    }


def devices(documents: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line a table."""
    heads = ["device", "provenance", "precisions", "rows", "margin", "held out", "date", "system"]
    table = columns(heads)
    for d in documents:
        held_out = d["held_out_error_percent"]
        table.add_row(
            d["device"],
            d["provenance"],
            ", ".join(d["precisions"]),
            f"{d['rows']:,}",
            f"{d['margin_percent']:g} %",
            "none" if held_out is None else f"{held_out:g} %",
            d["date"],
            d["os_build"],
        )
    return table


def module_document(table: LatencyTable, precision: Precision, ops: Sequence[Op]) -> dict[str, Any]:
    """One run of a module by an analytic table, JSON-ready.

    Raises:
        MissingRowError: the table prices no single operations.
    """
    op_ms = table.op_ms(ops, precision)
    total_ms = table.dispatch_ms + sum(op_ms)
    return {
        **_estimated_by(table, precision),
        "total_ms": total_ms,
        "total_ms_upper": total_ms * (1 + table.margin_percent / 100),
        "dispatch_ms": table.dispatch_ms,
        "macs": sum(op.macs for op in ops),
        "ops": [
            {"op": op.text, "ms": ms, "macs": op.macs} for op, ms in zip(ops, op_ms, strict=True)
        ],
    }


def module(document: Mapping[str, Any]) -> RenderableType:
    """The estimate of a module, dearest operations first."""
    dearest = sorted(document["ops"], key=lambda op: -float(op["ms"]))
    table = columns(["block", "ms", "share"])
    for op in dearest[:_DEAREST]:
        table.add_row(_short(op["op"]), f"{op['ms']:.4f}", f"{op['ms'] / document['total_ms']:.1%}")
    rest = dearest[_DEAREST:]
    if rest:
        rest_ms = sum(op["ms"] for op in rest)
        share = f"{rest_ms / document['total_ms']:.1%}"
        table.add_row(f"{len(rest)} other operations", f"{rest_ms:.4f}", share)
    head = Text(f"{document['device']} {document['precision']}: ", style="bold")
    head.append(f"{document['total_ms']:.3f} ms a run, {document['macs'] / 1e6:,.1f} MMACs, ")
    head.append(f"{document['dispatch_ms']:.3f} ms of it to start it", style="not bold")
    return Group(head, table, Text(_worth(document)))


def _short(line: str) -> str:
    """A canonical line without what most operations have in common."""
    usual = ("dilations=1x1", "groups=1", "strides=1x1", "pad=0x0x0x0", "fp16")
    return " ".join(word for word in line.split() if word not in usual)


def architecture_document(
    oracle: LatencyOracle, estimate: Estimate, choices: Mapping[str, Any]
) -> dict[str, Any]:
    """Every stage of an architecture for a whole image, JSON-ready."""
    return {
        **_estimated_by(oracle.table, oracle.precision),
        "held_against": estimate.held_against,
        **estimate.as_record(),
        "latency": {estimate.device: estimate.as_record()},
        "choices": dict(choices),
        "blocks": {name: [list(row) for row in s.blocks] for name, s in estimate.stages.items()},
    }


def architecture(document: Mapping[str, Any]) -> RenderableType:
    """An architecture's milliseconds, and every block's."""
    figures = {name: x for name, x in document.items() if "_ms" in name}
    shown = [pairs(f"{document['device']} {document['precision']}", figures)]
    for stage, rows in document["blocks"].items():
        table = columns(["step", "block", "ms"], stage)
        for step, signature, ms in rows:
            table.add_row(step, signature, f"{ms:.2f}")
        shown.append(table)
    return Group(*shown, Text(_worth(document)))


def validation(document: Mapping[str, Any]) -> RenderableType:
    """How far a table was off, beside its peers."""
    table = columns(["of the same networks", "mean error", "within 10 %", "rank correlation"])
    by = {"the table": document, **document["peers"]}
    for name, row in by.items():
        table.add_row(
            name.replace("_", ", "),
            f"{row['mean_absolute_error_percent']:.2f} %",
            f"{row['within_10_percent']:.0f} %",
            f"{row['rank_correlation']:.3f}",
        )
    words = (
        f"{document['device']}: {document['networks']} whole networks in {document['rounds']}"
        f" rounds; within 5 / 10 / 20 %: {document['within_5_percent']:.0f} /"
        f" {document['within_10_percent']:.0f} / {document['within_20_percent']:.0f} %"
    )
    repeated = (
        f"two visits of one network differ by {document['repeatability_percent']:.2f} % (median"
        f" {document['median_repeatability_percent']:.2f} %); the table is off a single visit by"
        f" {document['error_of_single_visits_percent']:.2f} %,"
        f" {document['error_over_repeatability']:.2f} times as much"
    )
    void = "VOID: visits differ too much to say anything of the table; measure on a quieter machine"
    return Group(Text(words), table, Text(void if document["void"] else repeated))


def _estimated_by(table: LatencyTable, precision: Precision) -> dict[str, Any]:
    return {
        "device": table.device,
        "provenance": table.provenance,
        "precision": precision,
        "margin_percent": table.margin_percent,
        "held_out_error_percent": table.held_out_error_percent,
    }


def _worth(document: Mapping[str, Any]) -> str:
    if document["provenance"] == "measured":
        return f"measured on the device; margin {document['margin_percent']:g} %"
    return (
        f"analytic, not measured on a device; margin {document['margin_percent']:g} %: nas latency"
        " devices --json says what it rests on"
    )
