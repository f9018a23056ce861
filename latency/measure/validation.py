"""A table held against whole networks that none of its rows came from."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from latency.analytic import moved_bytes
from latency.lowering import lower
from latency.measure.backend import Backend, Package
from latency.measure.campaign import visit
from latency.measure.journal import Journal
from latency.oracle import LatencyOracle

Floats = NDArray[np.float64]

VOID_PERCENT = 4.0
"""A run in which a network's visits differ by more, in the median, shows nothing of a table."""


@dataclass(frozen=True)
class Prediction:
    """A network, and what a table says of one run of it.

    Attributes:
        package: the network as a program.
        predicted_ms: dispatch included.
        macs: of one run.
        moved_bytes: that its operations read and write in fp16.
    """

    package: Package
    predicted_ms: float
    macs: int
    moved_bytes: int


def predict(networks: Sequence[Package], oracle: LatencyOracle) -> tuple[Prediction, ...]:
    """What the oracle's table says of each network.

    Raises:
        MissingRowError: it lacks a block of one of them.
    """
    return tuple(_prediction(package, oracle) for package in networks)


def _prediction(package: Package, oracle: LatencyOracle) -> Prediction:
    blocks = package.network.blocks
    ops = [op for block in blocks for op in lower(block, oracle.cache)]
    return Prediction(
        package,
        oracle.table.dispatch_ms + sum(map(oracle.block_ms, blocks)),
        sum(op.macs for op in ops),
        sum(map(moved_bytes, ops)),
    )


def run(
    predictions: Sequence[Prediction], backend: Backend, journal: Journal, rounds: int, seed: int
) -> Iterator[tuple[int, int]]:
    """Visits every network once a round, in an order of the round's own.

    Yields:
        Visits done and visits left, after each.
    """
    total = rounds * len(predictions)
    for number in range(rounds):
        order = list(predictions)
        random.Random(f"{seed} {number}").shuffle(order)
        for i, prediction in enumerate(order):
            visit(prediction.package, number, backend, journal)
            done = number * len(order) + i + 1
            yield done, total - done


def report(
    predictions: Sequence[Prediction], journal: Journal, margin_percent: float
) -> dict[str, Any]:
    """How far the table was off, JSON-ready.

    Errors are relative to the median of a network's visits, in per cent. Repeatability is what two
    visits of one network differ by; `error_over_repeatability` sets it beside the error against
    single visits, so that both are of one measurement.
    """
    measured = {p.package.name: _visits_ms(p, journal) for p in predictions}
    rows = [_row(p, measured[p.package.name]) for p in predictions]
    errors = np.array([abs(row["error_percent"]) for row in rows])
    to_visits = [_distance(p.predicted_ms, measured[p.package.name]) for p in predictions]
    between = [_between(visits) for visits in measured.values()]
    medians = np.array([row["measured_ms"] for row in rows])
    predicted = np.array([p.predicted_ms for p in predictions])
    repeatability = statistics.median(between)
    return {
        "networks": len(rows),
        "rounds": min(map(len, measured.values())),
        "mean_absolute_error_percent": float(errors.mean()),
        **{f"within_{x}_percent": 100 * float((errors <= x).mean()) for x in (5, 10, 20)},
        "within_margin_percent": 100 * float((errors <= margin_percent).mean()),
        "p95_error_percent": float(np.quantile(errors, 0.95)),
        "rank_correlation": float(kendalltau(predicted, medians).statistic),
        "error_of_single_visits_percent": statistics.fmean(to_visits),
        "repeatability_percent": statistics.fmean(between),
        "median_repeatability_percent": repeatability,
        "error_over_repeatability": statistics.fmean(to_visits) / statistics.fmean(between),
        "void": repeatability > VOID_PERCENT,
        "peers": {
            "macs_linear": _peer(np.array([p.macs for p in predictions]), medians),
            "bytes_linear": _peer(np.array([p.moved_bytes for p in predictions]), medians),
        },
        "by_network": rows,
    }


def _visits_ms(prediction: Prediction, journal: Journal) -> list[float]:
    return list(journal.rounds_ms(prediction.package.name).values())


def _row(prediction: Prediction, visits_ms: Sequence[float]) -> dict[str, Any]:
    measured_ms = statistics.median(visits_ms)
    return {
        "network": prediction.package.name,
        "predicted_ms": prediction.predicted_ms,
        "measured_ms": measured_ms,
        "visits_ms": list(visits_ms),
        "error_percent": 100 * (prediction.predicted_ms / measured_ms - 1),
    }


def _distance(predicted_ms: float, visits_ms: Sequence[float]) -> float:
    return statistics.fmean(100 * abs(predicted_ms / visit_ms - 1) for visit_ms in visits_ms)


def _between(visits_ms: Sequence[float]) -> float:
    """What one visit differs from another by, in per cent, over all pairs."""
    pairs = list(permutations(visits_ms, 2))
    return statistics.fmean(100 * abs(a / b - 1) for a, b in pairs) if pairs else math.nan


def _peer(sizes: NDArray[np.int64], measured_ms: Floats) -> dict[str, float]:
    """A straight line through all other networks, in place of the table."""
    scaled = sizes / sizes.mean()
    predicted = np.array([_line(scaled, measured_ms, left_out=i) for i in range(len(scaled))])
    errors = 100 * np.abs(predicted / measured_ms - 1)
    return {
        "mean_absolute_error_percent": float(errors.mean()),
        "within_10_percent": 100 * float((errors <= 10).mean()),
        "rank_correlation": float(kendalltau(sizes, measured_ms).statistic),
    }


def _line(sizes: Floats, measured_ms: Floats, left_out: int) -> float:
    """Fitted for least relative error, as errors are counted."""
    others = np.arange(len(sizes)) != left_out
    design = np.stack([np.ones(others.sum()), sizes[others]], axis=1) / measured_ms[others, None]
    line, *_ = np.linalg.lstsq(design, np.ones(others.sum()), rcond=None)
    return float(line[0] + line[1] * sizes[left_out])
