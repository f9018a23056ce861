"""What `nas latency` found: documents, and the same as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from nas.display import duration
from nas.tables import pairs

if TYPE_CHECKING:
    from latency.measure.campaign import Effort, Plan
    from latency.measure.filling import Filled
    from nas.latency_setup import Target


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
        "median_spread_percent": _median([row.spread_percent for row in table.rows]),
        "samples": str(target.samples),
    }


def summary(document: Mapping[str, Any]) -> RenderableType:
    """A document as names and values."""
    return pairs(str(document["device"]), {k: v for k, v in document.items() if k != "device"})


def _median(values: list[float]) -> float:
    from statistics import median

    return median(values)
