"""From a campaign's journal to a table."""

from __future__ import annotations

import datetime
import math
import statistics
from dataclasses import dataclass

from latency.lowering import lower
from latency.measure.backend import Device, MeasureError, Package
from latency.measure.campaign import Plan, pairs_ms
from latency.measure.journal import Journal
from latency.measure.packages import RowPlan
from latency.table import Cpu, Dispatch, LatencyTable, Row, median_and_spread, slope_ms

_DIGITS = 6
_UNCHECKED_MARGIN_PERCENT = 25.0


@dataclass(frozen=True)
class Filled:
    """A table, and the blocks that could not be told from noise, by signature."""

    table: LatencyTable
    unmeasured: tuple[str, ...]


def fill(
    plan: Plan, journal: Journal, name: str, device: Device, cpu: Cpu, speed: str, command: str
) -> Filled:
    """The table that a journal's samples give.

    Args:
        plan: what was timed.
        journal: its samples.
        name: of the device.
        device: the facts of the header.
        cpu: costs of coding.
        speed: `burst` or `sustained`.
        command: that repeats the campaign.

    Raises:
        MeasureError: the campaign broke off before anything was measured twice.
    """
    rows = {plan_row.ops: _row(plan_row, journal, plan.precision) for plan_row in plan.rows}
    kept = {ops: row for ops, row in rows.items() if row is not None}
    dispatch_ms = [_rounded(ms) for ms in journal.rounds_ms(plan.dispatch.name).values()]
    if not kept or not dispatch_ms:
        raise MeasureError(f"{journal.file}: too few samples for a table; go on measuring")
    start_ms, spread = median_and_spread(dispatch_ms)
    ratios = _ratios(plan, journal, kept, start_ms)
    factor = statistics.median(ratios) if ratios else 1.0
    table = LatencyTable(
        schema_version=2,
        device=name,
        chip=device.chip,
        os_build=device.os_build,
        compute_unit=device.compute_unit,
        library_versions=dict(device.library_versions),
        date=datetime.datetime.now(datetime.UTC).date(),
        speed="sustained" if speed == "sustained" else "burst",
        provenance="measured",
        margin_percent=_margin_percent([ratio / factor for ratio in ratios]),
        held_out_error_percent=None,
        sources=_sources(command, len(ratios), factor),
        network_factor=_rounded(factor),
        network_ratios=[_rounded(ratio) for ratio in ratios],
        reference_ms=device.reference_ms,
        dispatch=Dispatch(
            median_ms=_rounded(start_ms), spread_percent=round(spread, 2), samples_ms=dispatch_ms
        ),
        cpu=cpu,
        rows=list(kept.values()),
    )
    unmeasured = tuple(row.block.signature for row in plan.rows if row.ops not in kept)
    return Filled(table, unmeasured)


def _row(plan_row: RowPlan, journal: Journal, precision: str) -> Row | None:
    samples = pairs_ms(plan_row, journal)
    if not samples:
        return None
    once_ms = [_rounded(short) for short, _ in samples]
    repeated_ms = [_rounded(long) for _, long in samples]
    median_ms, spread_percent = slope_ms(once_ms, repeated_ms, plan_row.repeats)
    if median_ms <= 0:
        return None
    return Row(
        block=plan_row.block.signature,
        ops=list(plan_row.ops),
        precision=precision,  # type: ignore[arg-type]
        repeats=plan_row.repeats,
        once_ms=once_ms,
        repeated_ms=repeated_ms,
        median_ms=_rounded(median_ms),
        spread_percent=round(spread_percent, 2),
    )


def _ratios(
    plan: Plan, journal: Journal, rows: dict[tuple[str, ...], Row], dispatch_ms: float
) -> list[float]:
    """What each network measured along took over the sum of its blocks."""
    ratios = []
    for network in plan.networks:
        samples_ms = list(journal.rounds_ms(network.name).values())
        found = [rows.get(ops) for ops in _lines(network)]
        known = [row.median_ms for row in found if row is not None]
        if samples_ms and len(known) == len(found):
            ratios.append((statistics.median(samples_ms) - dispatch_ms) / sum(known))
    return ratios


def _lines(network: Package) -> list[tuple[str, ...]]:
    return [tuple(op.text for op in lower(block)) for block in network.network.blocks]


def _margin_percent(ratios: list[float]) -> float:
    """The largest miss among the networks measured along, until a validation says better."""
    if len(ratios) < 3:
        return _UNCHECKED_MARGIN_PERCENT
    return math.ceil(10 * 100 * max(abs(ratio - 1) for ratio in ratios)) / 10


def _sources(command: str, networks: int, factor: float) -> list[str]:
    sources = [f"Measured: {command}"]
    if networks:
        sources.append(
            f"network_factor {factor:.4f}: the median of {networks} whole networks measured along;"
            " the margin is their largest miss."
        )
    return sources


def _rounded(ms: float) -> float:
    return float(f"{ms:.{_DIGITS}g}")
