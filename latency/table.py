"""Latency tables: what is known of one device, and what it says of a block.

A measured table holds a row a lowered block and knows nothing else. An analytic table holds a model
that prices any operation, and says in its header where it comes from.
"""

from __future__ import annotations

import datetime
import math
import statistics
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from latency.analytic import AnalyticModel
from latency.ops import Op
from search_spaces.blocks import Precision

# Medians are written rounded, samples as they were taken.
_ROUNDING = 0.005

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1)]


class TableError(ValueError):
    """A latency table that cannot be used; the message names file and key."""


class MissingRowError(ValueError):
    """A block that a measured table has no row for."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Row(_Strict):
    """A measured block: what a package takes longer that repeats it.

    Attributes:
        block: its signature, for people; the row is found by `ops`.
        precision: of weights and activations.
        median_ms: of (repeated - once) / (repeats - 1): one run without the dispatch.
        spread_percent: of these figures, between the quartiles, in per cent of the median.
        repeats: of the block in the longer package.
        once_ms: the package with the block once, a figure a round, milliseconds a run.
        repeated_ms: the longer package in the same rounds.
        os_build: that it was measured under, where that is not the header's.
        ops: canonical lines of its operations (`Op.text`), in order. They are of the fp16 program,
            whatever the precision.
    """

    block: _Text
    precision: Precision
    median_ms: _Positive
    spread_percent: _NotNegative
    repeats: Annotated[int, Field(ge=2)]
    once_ms: Annotated[list[_Positive], Field(min_length=1)]
    repeated_ms: Annotated[list[_Positive], Field(min_length=1)]
    os_build: _Text | None = None
    ops: Annotated[list[_Text], Field(min_length=1)]


def slope_ms(
    once_ms: Sequence[float], repeated_ms: Sequence[float], repeats: int
) -> tuple[float, float]:
    """What one further repeat takes, and how sure that is.

    Args:
        once_ms: the package with the block once, a figure a round.
        repeated_ms: the longer package in the same rounds.
        repeats: of the block in it, at least 2.

    Returns:
        The median in milliseconds and the spread between the quartiles in per cent of it.
    """
    pairs = zip(once_ms, repeated_ms, strict=True)
    return median_and_spread([(long - short) / (repeats - 1) for short, long in pairs])


def median_and_spread(samples: Sequence[float]) -> tuple[float, float]:
    """The median, and the spread between the quartiles in per cent of it."""
    median = statistics.median(samples)
    if len(samples) < 2:
        return median, 0.0
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return median, 100 * (high - low) / abs(median) if median else math.inf


class Dispatch(_Strict):
    """What starting a program costs once, however much it holds.

    Attributes:
        median_ms: of `samples_ms`, where it was measured.
        spread_percent: between the quartiles, in per cent of the median.
        samples_ms: a program with next to nothing in it, a figure a round.
    """

    median_ms: _NotNegative
    spread_percent: _NotNegative = 0.0
    samples_ms: list[_Positive] = []


class Cpu(_Strict):
    """What runs beside the accelerator: entropy coding and the int8 scale decoder.

    Attributes:
        encode_ns_per_symbol: on one core.
        decode_ns_per_symbol: on one core.
        ns_per_mac: of the scale decoder, on one core.
        cores: that code different tiles at the same time.
        source: where the figures come from.
    """

    encode_ns_per_symbol: _Positive
    decode_ns_per_symbol: _Positive
    ns_per_mac: _Positive
    cores: Annotated[int, Field(ge=1)]
    source: _Text


class LatencyTable(_Strict):
    """The header and the rows, or the model, of one device.

    Attributes:
        margin_percent: what upper values add to the estimate.
        held_out_error_percent: mean absolute error on networks that no row or fit came from;
            None where that was not measured.
        network_factor: what whole networks took over the sum of their blocks: the median of
            `network_ratios`.
        network_ratios: of each network that was measured along with the rows.
        reference_ms: what the reference workload counts as that a backend runs along, if it does.
        dispatch: of one program.
        cpu: what runs beside the accelerator.
        model: only in analytic tables; prices what no row measured.
    """

    schema_version: Literal[2]
    device: _Text
    chip: _Text
    os_build: _Text
    compute_unit: _Text
    library_versions: dict[str, str]
    date: datetime.date
    speed: Literal["burst", "sustained"]
    provenance: Literal["measured", "analytic"]
    margin_percent: _NotNegative
    held_out_error_percent: _NotNegative | None
    sources: Annotated[list[_Text], Field(min_length=1)]
    network_factor: _Positive = 1.0
    network_ratios: list[_Positive] = []
    reference_ms: _Positive | None = None
    dispatch: Dispatch
    cpu: Cpu
    model: AnalyticModel | None = None
    rows: list[Row] = []

    def price_ms(self, block: str, ops: Sequence[Op], precision: Precision = "fp16") -> float:
        """Milliseconds of one run of a lowered block, without the dispatch.

        Args:
            block: its signature, for error messages.
            ops: what it lowers to.
            precision: what it runs in.

        Raises:
            MissingRowError: no row holds these operations, and no model prices this precision.
        """
        row = self._index.get(_key(precision, [op.text for op in ops]))
        if row is not None:
            return row.median_ms * self.network_factor
        if self.model is None or precision not in self.model.precisions:
            raise MissingRowError(self._missing(block, precision))
        return self.model.price_ms(ops, precision)

    def op_ms(self, ops: Sequence[Op], precision: Precision = "fp16") -> list[float]:
        """Milliseconds of each operation by the model, 0.0 for free ones, without the dispatch.

        Raises:
            MissingRowError: no model, or not in this precision: rows are of whole blocks.
        """
        if self.model is None:
            raise MissingRowError(
                f"{self.device} is measured: it prices whole blocks only; name a --space, or a"
                " device with an analytic table (nas latency devices lists them)"
            )
        if precision not in self.model.precisions:
            raise MissingRowError(self._missing("single operations", precision))
        return self.model.op_ms(ops, precision)

    @property
    def dispatch_ms(self) -> float:
        """Of starting one program."""
        return self.dispatch.median_ms

    @property
    def stale(self) -> str | None:
        """A warning when rows were measured under another build of the system, else None."""
        builds = {row.os_build for row in self.rows if row.os_build not in (None, self.os_build)}
        if not builds:
            return None
        count = sum(row.os_build in builds for row in self.rows)
        return (
            f"{self.device}: {count} of {len(self.rows)} rows were measured under"
            f" {', '.join(sorted(map(str, builds)))}, the device now runs {self.os_build}; measure"
            f" again: nas latency measure --device {self.device} --space SPACE"
        )

    @property
    def precisions(self) -> list[str]:
        """In which something can be priced."""
        known = {row.precision for row in self.rows}
        return sorted(known.union(self.model.precisions if self.model else ()))

    @cached_property
    def _index(self) -> dict[tuple[str, ...], Row]:
        return {_key(row.precision, row.ops): row for row in self.rows}

    def _missing(self, block: str, precision: str) -> str:
        if self.model is not None:
            priced = ", ".join(sorted(self.model.precisions))
            return (
                f"{self.device} has no latency for {block} {precision}; its model prices {priced}"
            )
        close = get_close_matches(block, [row.block for row in self.rows], n=1, cutoff=0.0)
        nearest = f"; nearest: {close[0]}" if close else ""
        return (
            f"{self.device} has no latency for {block} {precision} ({len(self.rows)} rows){nearest}"
            f". Measure it: nas latency measure --device {self.device} --space SPACE"
        )


def contradiction(table: LatencyTable) -> str | None:
    """What a schema cannot say: the first key that contradicts another, and how."""
    if (table.provenance == "analytic") != (table.model is not None):
        return "model: an analytic table has one, a measured one has none"
    if table.provenance == "measured" and not table.rows:
        return "rows: a measured table has at least one"
    if table.provenance == "measured" and not table.dispatch.samples_ms:
        return "dispatch.samples_ms: a measured table has at least one"
    if problem := _contradiction_in_sums(table):
        return problem
    first: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(table.rows):
        if problem := _contradiction_in(row):
            return f"rows[{number}].{problem}"
        earlier = first.setdefault(_key(row.precision, row.ops), number)
        if earlier != number:
            return f"rows[{number}] ({row.block}): the same operations as rows[{earlier}]"
    return None


def _contradiction_in_sums(table: LatencyTable) -> str | None:
    """Of the figures that are medians of others in the header."""
    for stated, key, samples in (
        (table.dispatch.median_ms, "dispatch.median_ms", table.dispatch.samples_ms),
        (table.network_factor, "network_factor", table.network_ratios),
    ):
        if samples and not _agrees(stated, statistics.median(samples)):
            return f"{key}: is {stated}, the samples give {statistics.median(samples):.6g}"
    return None


def _contradiction_in(row: Row) -> str | None:
    if len(row.once_ms) != len(row.repeated_ms):
        return f"repeated_ms: {len(row.repeated_ms)} samples, once_ms has {len(row.once_ms)}"
    median_ms, spread_percent = slope_ms(row.once_ms, row.repeated_ms, row.repeats)
    if not _agrees(row.median_ms, median_ms):
        return f"median_ms: is {row.median_ms}, the samples give {median_ms:.6g}"
    if not math.isclose(row.spread_percent, spread_percent, rel_tol=0.05, abs_tol=0.1):
        return f"spread_percent: is {row.spread_percent}, the samples give {spread_percent:.3g}"
    return None


def _agrees(stated: float, computed: float) -> bool:
    return math.isclose(stated, computed, rel_tol=_ROUNDING)


def _key(precision: str, ops: Sequence[str]) -> tuple[str, ...]:
    return (precision, *ops)
