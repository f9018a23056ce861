"""A million architectures at once: what every piece costs is looked up and added.

A space taken apart (`search_spaces.parts`) says which few choices each piece of a design hangs on.
Their costs become tables by choice, small tables are added into larger ones, and an architecture
is one row of each of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from latency.oracle import LatencyOracle, pipelined_ms
from search_spaces.parameter import Codes
from search_spaces.parts import Part, Parts, PartsError, Piece, Place
from search_spaces.rules import Rules
from search_spaces.space import SpaceError

Floats = NDArray[np.float64]

_LARGEST_TABLE = 2**13  # entries: the tables of a space then stay in a core's cache
_ROWS_AT_ONCE = 2**14


@dataclass(frozen=True)
class _Table:
    """Costs by choice.

    Attributes:
        columns: of the codes, ascending.
        weights: of a code's columns in its row, shape (P,).
        values: accelerator and CPU time of a tile, stage by stage; shape (rows, 2 S).
    """

    columns: tuple[int, ...]
    weights: Floats
    values: Floats


class Scorer:
    """Prices every architecture of a space on one device."""

    def __init__(self, oracle: LatencyOracle, parts: Parts) -> None:
        """Holds a device against a space.

        Args:
            oracle: of the device.
            parts: of the space.

        Raises:
            PartsError: its architectures cut an image into different numbers of tiles.
        """
        tiles = {
            built["", "image", "tiles"]
            for part in parts.parts
            for built in part.pieces.values()
            if ("", "image", "tiles") in built
        }
        if len(tiles) > 1:
            raise PartsError(f"{parts.space.name}: its architectures differ in tiles an image")
        design = parts.space.design(parts.space.reference)
        self.oracle = oracle
        self.parts = parts
        self.stages = tuple(design.stages)
        self._tiles = design.tiles_per_image
        self._parts = [_PartCosts(part, parts.space.rules, self) for part in parts.parts]

    def score(self, codes: Codes) -> Floats:
        """Point estimates in milliseconds; blocks that occur for the first time are lowered.

        Args:
            codes: architectures, shape (N, P).

        Returns:
            Shape (N, S): `<stage>_ms` of each of `stages`.

        Raises:
            MissingRowError: a measured table that lacks one of their blocks.
            LoweringError: a block that Core ML cannot express.
            SpaceError: a code that breaks a constraint.
        """
        rows = np.empty((len(codes), len(self.stages)))
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            rows[some] = self._score(codes[some])
        return rows

    def _score(self, codes: Codes) -> Floats:
        scored = self._looked_up(codes)
        unknown = np.isnan(scored[:, 0])
        if unknown.any():
            self._learn(codes[unknown])
            scored = self._looked_up(codes)
        return scored

    def _looked_up(self, codes: Codes) -> Floats:
        tables = self._tables
        rows = _rows(codes.astype(np.float64), np.stack([t.weights for t in tables], axis=1))
        tile_ms = tables[0].values.take(rows[:, 0], axis=0)
        for i, table in enumerate(tables[1:], start=1):
            tile_ms += table.values.take(rows[:, i], axis=0)
        network_ms = tile_ms[:, 0::2] + self.oracle.table.dispatch_ms
        scored: Floats = pipelined_ms(network_ms, tile_ms[:, 1::2], self._tiles)
        return scored

    @cached_property
    def _tables(self) -> list[_Table]:
        sizes = [len(parameter.choices) for parameter in self.parts.space.parameters]
        return _merged([part.table() for part in self._parts], sizes)

    def _learn(self, codes: Codes) -> None:
        for part in self._parts:
            part.learn(codes)
        del self._tables

    def costs(self, pieces: Iterable[tuple[Place, Piece]]) -> Floats:
        """Accelerator and CPU time a tile by stage, shape (2 S,)."""
        costs = np.zeros(2 * len(self.stages))
        for (stage, kind, name), piece in pieces:
            if kind in ("weights", "image"):
                continue
            at = 2 * self.stages.index(stage)
            if isinstance(piece, int):
                encoded = piece if name == "encoded" else 0
                costs[at + 1] += self.oracle.coding_ms(encoded, piece - encoded, 0)
            elif kind == "cpu_network":
                costs[at + 1] += self.oracle.coding_ms(0, 0, piece.macs)
            else:
                costs[at] += self.oracle.block_ms(piece)
        return costs


class _PartCosts:
    """What one part of the designs costs, by the choices that it hangs on; NaN until asked for."""

    def __init__(self, part: Part, rules: Rules, scorer: Scorer) -> None:
        self.part, self.scorer = part, scorer
        self.columns = _closure(part.columns, rules)
        self.shape = tuple(len(rules.parameters[column].choices) for column in self.columns)
        width = len(rules.parameters)
        self.weights = _weights(self.columns, self.shape, width)
        self.rows = part.rows(rules.states(_grid(self.columns, self.shape, width)))
        self.known: dict[int, Floats] = {}

    def table(self) -> _Table:
        width = 2 * len(self.scorer.stages)
        by_row = np.full((prod(self.part.shape), width), np.nan)
        for row, costs in self.known.items():
            by_row[row] = costs
        return _Table(self.columns, self.weights, by_row[self.rows])

    def learn(self, codes: Codes) -> None:
        for row in np.unique(self.rows[_rows(codes, self.weights)]).tolist():
            if row not in self.known:
                if row not in self.part.pieces:
                    name = self.scorer.parts.space.name
                    raise SpaceError(f"{name}: a code that its constraints forbid has no price")
                self.known[row] = self.scorer.costs(self.part.pieces[row].items())


def _closure(columns: Sequence[int], rules: Rules) -> tuple[int, ...]:
    """The columns with those that decide whether they are active."""
    found, new = set(columns), set(columns)
    while new:
        read = {
            c
            for column in new
            if column in rules.conditions
            for c in rules.scope(rules.conditions[column])
        }
        new = read - found
        found |= new
    return tuple(sorted(found))


def _weights(columns: Sequence[int], shape: Sequence[int], width: int) -> Floats:
    """Of every column of the codes in the row of a table, the last one fastest."""
    weights = np.zeros(width)
    for i, column in enumerate(columns):
        weights[column] = prod(shape[i + 1 :])
    return weights


def _merged(tables: Sequence[_Table], sizes: Sequence[int]) -> list[_Table]:
    """Fewer and larger tables with the same sums.

    Args:
        tables: to be added into each other.
        sizes: number of choices by column.
    """
    merged: list[_Table] = []
    for table in sorted(tables, key=lambda table: -len(table.values)):
        homes = [(_union_rows(table, other, sizes), i) for i, other in enumerate(merged)]
        rows, home = min(homes, default=(0, -1))
        if homes and rows <= _LARGEST_TABLE:
            merged[home] = _sum(merged[home], table, sizes)
        else:
            merged.append(table)
    return merged


def _union_rows(a: _Table, b: _Table, sizes: Sequence[int]) -> int:
    return prod(sizes[column] for column in {*a.columns, *b.columns})


def _sum(a: _Table, b: _Table, sizes: Sequence[int]) -> _Table:
    columns = tuple(sorted({*a.columns, *b.columns}))
    shape = tuple(sizes[column] for column in columns)
    codes = _grid(columns, shape, len(sizes))
    values = a.values[_rows(codes, a.weights)] + b.values[_rows(codes, b.weights)]
    return _Table(columns, _weights(columns, shape, len(sizes)), values)


def _grid(columns: Sequence[int], shape: Sequence[int], width: int) -> Codes:
    """Every combination of some columns' choices, the others 0; in the order of a table's rows."""
    codes = np.zeros((prod(shape), width), dtype=np.int64)
    if columns:
        codes[:, list(columns)] = np.indices(shape).reshape(len(columns), -1).T
    return codes


def _rows(codes: Codes, weights: Floats) -> NDArray[np.intp]:
    return (codes @ weights).astype(np.intp)
