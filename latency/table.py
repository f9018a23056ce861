"""Latency tables: one YAML file a device, that a person can read and diff.

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
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from latency.analytic import AnalyticModel
from latency.ops import Op
from search_spaces.files import write_atomically
from search_spaces.yaml_files import parse, read_yaml

SHIPPED = Path(__file__).parent / "tables"

# Medians are written rounded, samples as they were taken.
_ROUNDING = 0.005

Precision = Literal["fp16", "w8", "w8a8"]
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
    """A measured block.

    Attributes:
        block: its signature, for people; the row is found by `ops`.
        ops: canonical lines of its operations (`Op.text`), in order.
        precision: of weights and activations.
        samples_ms: every measurement, milliseconds a run without the dispatch.
        median_ms: of the samples.
    """

    block: _Text
    ops: Annotated[list[_Text], Field(min_length=1)]
    precision: Precision
    samples_ms: Annotated[list[_Positive], Field(min_length=1)]
    median_ms: _Positive


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
        model: only in analytic tables; prices what no row measured.
        dispatch_ms: of starting one program.
    """

    schema_version: Literal[1]
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
    dispatch_ms: _NotNegative
    cpu: Cpu
    model: AnalyticModel | None = None
    rows: list[Row] = []

    def price_ms(self, block: str, ops: Sequence[Op], precision: Precision = "fp16") -> float:
        """Milliseconds of one run of a lowered block, without the dispatch.

        Args:
            block: its signature, for error messages.
            ops: what it lowers to.
            precision: what it runs in; the model of an analytic table knows fp16 only.

        Raises:
            MissingRowError: no row holds these operations, and no model prices them.
        """
        row = self._index.get(_key(precision, [op.text for op in ops]))
        if row is not None:
            return row.median_ms
        if self.model is None or precision != "fp16":
            raise MissingRowError(self._missing(block, precision))
        return self.model.price_ms(ops)

    @cached_property
    def _index(self) -> dict[tuple[str, ...], Row]:
        return {_key(row.precision, row.ops): row for row in self.rows}

    def _missing(self, block: str, precision: str) -> str:
        close = get_close_matches(block, [row.block for row in self.rows], n=1, cutoff=0.0)
        nearest = f"; nearest: {close[0]}" if close else ""
        return (
            f"{self.device} has no latency for {block} {precision} ({len(self.rows)} rows){nearest}"
            f". Measure it: nas latency measure --device {self.device} --space SPACE"
        )


def shipped_tables() -> list[str]:
    """Names of the devices whose tables come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_table(name_or_path: str | Path) -> LatencyTable:
    """Reads a latency table.

    Args:
        name_or_path: a shipped device (`iphone-17-pro-max`) or a path to a YAML file.

    Raises:
        TableError: there is no such table, or it is not one; names file and key.
    """
    file = _find(name_or_path)
    table = parse(LatencyTable, read_yaml(file, TableError), str(file), TableError)
    if problem := _contradiction(table):
        raise TableError(f"{file}: {problem}")
    return table


def save_table(table: LatencyTable, file: Path) -> None:
    """Writes a table in one step, keys in the order of the schema.

    Raises:
        TableError: `load_table` would refuse it; nothing is written.
        OSError: the folder cannot be written.
    """
    if problem := _contradiction(table):
        raise TableError(f"{file}: {problem}")
    content = table.model_dump(exclude_defaults=True)
    write_atomically(file, yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True))


def _contradiction(table: LatencyTable) -> str | None:
    """What a schema cannot say: the first key that contradicts another, and how."""
    if (table.provenance == "analytic") != (table.model is not None):
        return "model: an analytic table has one, a measured one has none"
    if table.provenance == "measured" and not table.rows:
        return "rows: a measured table has at least one"
    first: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(table.rows):
        median_ms = statistics.median(row.samples_ms)
        if not math.isclose(row.median_ms, median_ms, rel_tol=_ROUNDING):
            return f"rows[{number}].median_ms: is {row.median_ms}, the samples give {median_ms:.6g}"
        earlier = first.setdefault(_key(row.precision, row.ops), number)
        if earlier != number:
            return f"rows[{number}] ({row.block}): the same operations as rows[{earlier}]"
    return None


def _key(precision: str, ops: Sequence[str]) -> tuple[str, ...]:
    return (precision, *ops)


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise TableError(f"no latency table at {path}")
    shipped = shipped_tables()
    if str(name_or_path) in shipped:
        return SHIPPED / f"{name_or_path}.yaml"
    close = get_close_matches(str(name_or_path), shipped, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise TableError(f"no device {str(name_or_path)!r}; shipped: {', '.join(shipped)}{hint}")
