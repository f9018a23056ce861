"""One speed-up over the iPhone 12 model for a later phone, and what 8 bits save there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from coefficient_fit import FORMS, costs, errors
from published_networks import Timed
from scipy.optimize import minimize_scalar

from latency.analytic import AnalyticModel, Width
from latency.ops import Op
from search_spaces.blocks import Precision

Operations = Mapping[str, tuple[Op, ...]]
Price = Callable[[Timed], float]  # a network at a precision -> milliseconds on an iPhone 12

FP16, W8 = Width(weight_bytes=2, activation_bytes=2), Width(weight_bytes=1, activation_bytes=2)
IPHONE_12: dict[Precision, Width] = {"fp16": FP16, "w8": W8, "w8a8": W8}
"""No published rows of 8 bits, and no fast path for them: only weights take less room."""


def later(mac_speed_up: float = 2.0) -> dict[Precision, Width]:
    """What precisions change from iPhone 14 Pro on."""
    w8a8 = Width(weight_bytes=1, activation_bytes=1, mac_speed_up=mac_speed_up)
    return {"fp16": FP16, "w8": W8, "w8a8": w8a8}


@dataclass(frozen=True)
class Phone:
    """Coefficients of one phone.

    Attributes:
        dispatch_ms: of starting one program.
        model: prices the rest.
    """

    dispatch_ms: float
    model: AnalyticModel

    def run_ms(self, ops: Sequence[Op], precision: Precision) -> float:
        """One run of a network."""
        return self.dispatch_ms + self.model.price_ms(ops, precision)

    def faster(self, times: float, precisions: Mapping[Precision, Width]) -> Phone:
        """All coefficients divided."""
        model = AnalyticModel(
            ms_per_megabyte=self.model.ms_per_megabyte / times,
            ms_per_gmac=self.model.ms_per_gmac / times,
            precisions=dict(precisions),
        )
        return Phone(self.dispatch_ms / times, model)


def speed_up(rows: Sequence[Timed], price: Price) -> float:
    """How many times faster than an iPhone 12: geometric mean over networks."""
    return float(np.exp(np.mean(np.log(list(speed_ups(rows, price).values())))))


def speed_ups(rows: Sequence[Timed], price: Price) -> dict[str, float]:
    """The same by network: geometric mean over its fp16 rows."""
    ratios: dict[str, list[float]] = {}
    for row in rows:
        if row.precision == "fp16":
            ratios.setdefault(row.network, []).append(np.log(price(row) / row.latency_ms))
    return {network: float(np.exp(np.mean(found))) for network, found in ratios.items()}


def report(rows: Sequence[Timed], phone: Phone, ops: Operations, peer: Price) -> dict[str, Any]:
    """A later phone's speed-up, and how far its published rows are from it, held out or not.

    Args:
        rows: of the later phone.
        phone: the iPhone 12.
        ops: network -> operations.
        peer: by MACs alone on an iPhone 12; fitted and held out in the same way.
    """
    price = _price(phone.faster(1.0, later()), ops)
    held_ms = _held_out_ms(rows, price)
    fitted_ms = [price(row) / speed_up(rows, price) for row in rows]
    fp16 = [row for row in rows if row.precision == "fp16"]
    return {
        "speed_up": speed_up(rows, price),
        "speed_up_by_network": speed_ups(rows, price),
        "fit": _by_precision(rows, fitted_ms),
        "one_network_held_out": _by_precision(rows, held_ms),
        "macs_linear_one_network_held_out": _by_precision(fp16, _held_out_ms(fp16, peer)),
        "rows": [
            {**_named(row), "published_ms": row.latency_ms, "fitted_ms": fit, "held_out_ms": held}
            for row, fit, held in zip(rows, fitted_ms, held_ms, strict=True)
        ],
        "w8a8_times_faster_than_fp16": _quantised(rows, price),
        "tried_for_w8a8": _tried(rows, phone, ops),
    }


def against(rows: Sequence[Timed], phone: Phone, ops: Operations) -> dict[str, Any]:
    """Rows of another phone beside what a finished table says."""
    table_ms = [phone.run_ms(ops[row.network], row.precision) for row in rows]
    return {
        "errors": _by_precision(rows, table_ms),
        "rows": [
            {**_named(row), "published_ms": row.latency_ms, "table_ms": ms}
            for row, ms in zip(rows, table_ms, strict=True)
        ],
    }


def macs_price(coefficients: Any, ops: Operations) -> Price:
    """By MACs alone on an iPhone 12."""
    return lambda row: float(FORMS["macs_linear"][1](coefficients, costs(ops[row.network])))


def _price(phone: Phone, ops: Operations) -> Price:
    return lambda row: phone.run_ms(ops[row.network], row.precision)


def _held_out_ms(rows: Sequence[Timed], price: Price) -> list[float]:
    """Each row by the speed-up of the other networks."""
    return [
        price(row) / speed_up([other for other in rows if other.network != row.network], price)
        for row in rows
    ]


def _by_precision(rows: Sequence[Timed], predicted_ms: Sequence[float]) -> dict[str, Any]:
    found = {}
    for precision in ("fp16", "w8", "w8a8", "all"):
        pairs = [
            (ms, row.latency_ms)
            for row, ms in zip(rows, predicted_ms, strict=True)
            if precision in (row.precision, "all")
        ]
        if pairs:
            found[precision] = errors(*np.array(pairs).T)
    return found


def _quantised(rows: Sequence[Timed], price: Price) -> list[dict[str, Any]]:
    fp16 = {(row.network, row.device): row for row in rows if row.precision == "fp16"}
    found = []
    for row in rows:
        if row.precision == "w8a8":
            wide = fp16[row.network, row.device]
            published, model = wide.latency_ms / row.latency_ms, price(wide) / price(row)
            found.append({**_named(row), "published": published, "model": model})
    return found


def _tried(rows: Sequence[Timed], phone: Phone, ops: Operations) -> dict[str, Any]:
    """Other factors on arithmetic in w8a8, by their error on networks held out."""
    networks = {row.network for row in rows}
    fitted = {left_out: _fitted_factor(rows, left_out, phone, ops) for left_out in sorted(networks)}
    found: dict[str, Any] = {}
    for times in (1.0, 1.5, 2.0):
        by_network = dict.fromkeys(networks, times)
        found[f"stated {times:g}"] = _held_out_w8a8(rows, by_network, phone, ops)
    found["fitted"] = {
        "factor": _fitted_factor(rows, None, phone, ops),
        "factor_without": fitted,
        **_held_out_w8a8(rows, fitted, phone, ops),
    }
    return found


def _held_out_w8a8(
    rows: Sequence[Timed], factors: Mapping[str, float], phone: Phone, ops: Operations
) -> dict[str, float]:
    """Errors of networks held out; `factors` has that of each when it is left out."""
    pairs = []
    for row in rows:
        if row.precision == "w8a8":
            price = _price(phone.faster(1.0, later(factors[row.network])), ops)
            others = [other for other in rows if other.network != row.network]
            pairs.append((price(row) / speed_up(others, price), row.latency_ms))
    return errors(*np.array(pairs).T)


def _fitted_factor(
    rows: Sequence[Timed], without: str | None, phone: Phone, ops: Operations
) -> float:
    """The factor of least squared logarithmic error, from 1 to 20, a network counting once."""
    used = [row for row in rows if row.network != without]
    quantised = [row for row in used if row.precision == "w8a8"]

    def loss(times: float) -> float:
        price = _price(phone.faster(1.0, later(times)), ops)
        fast = speed_up(used, price)
        squares: dict[str, list[float]] = {}
        for row in quantised:
            off = float(np.log(price(row) / fast / row.latency_ms))
            squares.setdefault(row.network, []).append(off**2)
        return float(sum(np.mean(of_network) for of_network in squares.values()))

    return float(minimize_scalar(loss, bounds=(1, 20), method="bounded").x)


def _named(row: Timed) -> dict[str, str]:
    return {"network": row.network, "precision": row.precision, "device": row.device}
