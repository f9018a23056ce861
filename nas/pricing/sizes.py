"""What networks weigh, of one design or of a matrix of codes: both by the same walk over pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency import lowering
from search_spaces.blocks import Block, Design, Precision
from search_spaces.parts import Part, Parts, PartsError, Piece, Place, pieces
from search_spaces.space import Codes, SpaceError

Floats = NDArray[np.float64]
Pieces = Iterable[tuple[Place, Piece]]
Measure = Callable[[Pieces], Floats]

WEIGHT_BYTES: Mapping[Precision, int] = {"fp32": 4, "fp16": 2, "w8": 1, "w8a8": 1}
VALUE_BYTES: Mapping[Precision, int] = {"fp32": 4, "fp16": 2, "w8": 2, "w8a8": 1}

SIZES = ("parameters", "kmacs_per_pixel", "package_bytes", "peak_bytes")

_COMPARED = 20


def decoder_stage(stages: Sequence[str]) -> str:
    """`decode`, or the last stage of a design that has none."""
    return "decode" if "decode" in stages else stages[-1]


class Outputs:
    """How many values blocks write; each block is lowered once."""

    def __init__(self, cache: Path | None = None) -> None:
        """Nothing is lowered yet; `cache` as for `lowering.lower`."""
        self._cache = cache
        self._known: dict[tuple[type, str], int] = {}

    def __call__(self, block: Block) -> int:
        """Values of one run's output.

        Raises:
            LoweringError: Core ML cannot express the block.
        """
        key = (type(block), block.signature)
        if key not in self._known:
            ops = lowering.lower(block, self._cache)
            shapes = ops[-1].outputs if ops else block.input_shapes  # without ops: handed on
            self._known[key] = sum(map(prod, shapes))
        return self._known[key]


@dataclass(frozen=True)
class Sizing:
    """How designs are measured.

    `parameters`: trainable ones, those that stages share counted once.

    `kmacs_per_pixel`: thousands of multiply-accumulates a pixel of `decoder_stage`, its CPU network
    included.

    `package_bytes`: weights of all accelerator networks. Each stage is a package with its own copy
    of what it shares with others. Not counted are what a package holds beside weights, scales of
    quantised weights among it, and networks on the CPU.

    `peak_bytes`: the largest over the stages of: its weights, and the most that one of its blocks
    reads and writes on a tile. Not counted are values inside a block, skip connections that wait
    for a later one, the CPU's work and the image outside the tile.

    Attributes:
        stages: names of the designs' stages.
        pixels_per_tile: of the designs.
        precision: of weights and values.
        outputs: values that a block writes.
    """

    stages: tuple[str, ...]
    pixels_per_tile: int
    precision: Precision
    outputs: Callable[[Block], int]

    def figure(self, name: str, measured: Callable[[str], Floats]) -> Floats:
        """One of `SIZES`.

        Args:
            name: which.
            measured: name of a method below -> its result for every design, shape (N, W).

        Returns:
            Shape (N,).
        """
        if name == "parameters":
            return measured("parameters")[:, 0]
        if name == "kmacs_per_pixel":
            return np.asarray(measured("macs")[:, 0] / self.pixels_per_tile / 1e3)
        weights = measured("weights")
        if name == "package_bytes":
            return np.asarray(weights.sum(axis=1))
        return np.asarray((weights + measured("values")).max(axis=1))

    def parameters(self, found: Pieces) -> Floats:
        """Trainable parameters, shape (1,)."""
        blocks = [block for (_, kind, _), block in found if kind == "weights"]
        return np.array([sum(b.parameters for b in blocks if not isinstance(b, int))], dtype=float)

    def macs(self, found: Pieces) -> Floats:
        """Multiply-accumulates of the decoder's stage on a tile, shape (1,)."""
        stage, kinds = decoder_stage(self.stages), ("network", "cpu_network")
        blocks = [b for (s, kind, _), b in found if s == stage and kind in kinds]
        return np.array([sum(b.macs for b in blocks if not isinstance(b, int))], dtype=float)

    def weights(self, found: Pieces) -> Floats:
        """Bytes of the accelerator's weights by stage, shape (S,)."""
        held = np.zeros(len(self.stages))
        for stage, block in _on_accelerator(found):
            held[self.stages.index(stage)] += WEIGHT_BYTES[self.precision] * block.parameters
        return held

    def values(self, found: Pieces) -> Floats:
        """The most bytes that one block reads and writes by stage, shape (S,)."""
        most = np.zeros(len(self.stages))
        for stage, block in _on_accelerator(found):
            held = sum(map(prod, block.input_shapes)) + self.outputs(block)
            at = self.stages.index(stage)
            most[at] = max(most[at], VALUE_BYTES[self.precision] * held)
        return most


_JOINED: Mapping[str, np.ufunc] = {
    "parameters": np.add,
    "macs": np.add,
    "weights": np.add,
    "values": np.maximum,
}


def design_sizes(design: Design, precision: Precision, outputs: Outputs) -> dict[str, Any]:
    """Every one of `SIZES` of one design; lowers blocks that no one lowered before."""
    sizing = Sizing(tuple(design.stages), design.pixels_per_tile, precision, outputs)
    found = list(pieces(design).items())

    def measured(name: str) -> Floats:
        return np.asarray(getattr(sizing, name)(found)[None])

    figures = {name: sizing.figure(name, measured).item() for name in SIZES}
    return {n: x if n == "kmacs_per_pixel" else int(x) for n, x in figures.items()}


class SizeTables:
    """Sizes of any architectures of a space by look-up, without building them."""

    def __init__(self, parts: Parts, precision: Precision, outputs: Outputs) -> None:
        """Nothing is measured yet.

        Args:
            parts: of the space.
            precision: of weights and values.
            outputs: values that a block writes.

        Raises:
            PartsError: tiles of different sizes.
        """
        space = parts.space
        codes = space.sample(np.random.default_rng(0), _COMPARED)
        designs = [space.design(space.reference), *(space.build(space.decode(c)) for c in codes)]
        if len({design.pixels_per_tile for design in designs}) > 1:
            raise PartsError(f"{space.name}: its architectures differ in pixels a tile")
        reference = designs[0]
        self._sizing = Sizing(
            tuple(reference.stages), reference.pixels_per_tile, precision, outputs
        )
        self._folded = {
            name: Folded(parts, getattr(self._sizing, name), join) for name, join in _JOINED.items()
        }

    def figure(self, name: str, codes: Codes) -> Floats:
        """One of `SIZES` of canonical codes, shape (N, P) -> (N,)."""
        return self._sizing.figure(name, lambda part: self._folded[part](codes))


class Folded:
    """Figures of whole designs from those of their pieces, added up or the largest of them.

    What stands under a combination of choices is measured when it occurs for the first time.
    """

    def __init__(self, parts: Parts, measure: Measure, join: np.ufunc) -> None:
        """Nothing is measured yet.

        Args:
            parts: of a space.
            measure: pieces -> their figures together, shape (W,); zeros of no pieces.
            join: of two such figures: `np.add` or `np.maximum`.
        """
        self._parts, self._measure, self._join = parts, measure, join
        width = len(measure(()))
        self._tables = [np.full((prod(part.shape), width), np.nan) for part in parts.parts]

    def __call__(self, codes: Codes) -> Floats:
        """Canonical codes, shape (N, P) -> (N, W).

        Raises:
            SpaceError: a code that breaks a constraint.
        """
        states = self._parts.space.rules.states(codes)
        found = map(partial(self._looked_up, states), self._parts.parts, self._tables)
        return np.asarray(reduce(self._join, found))

    def _looked_up(self, states: Codes, part: Part, table: Floats) -> Floats:
        rows = part.rows(states)
        for row in np.unique(rows[np.isnan(table[rows, 0])]).tolist():
            if row not in part.pieces:
                name = self._parts.space.name
                raise SpaceError(f"{name}: a code that its constraints forbid has no size")
            table[row] = self._measure(part.pieces[row].items())
        return np.asarray(table[rows])


def _on_accelerator(found: Pieces) -> Iterable[tuple[str, Block]]:
    for (stage, kind, _), piece in found:
        if kind == "network" and not isinstance(piece, int):
            yield stage, piece
