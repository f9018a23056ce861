"""Which blocks occur in which architectures of a space, without building each of them.

A builder is any function, yet each piece of what it builds hangs on a few parameters: a block of a
scale on that scale's width and kernel, a stage's symbols on the latent channels. Building some
architectures and all their neighbours shows which; every combination of those few is then built
once. What the tables foretell is compared with freshly drawn architectures before it is used.

Sums over blocks (MACs, parameters, latency) become look-ups, their extremes over the whole space a
matter of elimination, and the distinct blocks are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from search_spaces import operators
from search_spaces.blocks import Block, Design
from search_spaces.elimination import eliminate, extremes
from search_spaces.factors import Table
from search_spaces.parameter import Codes
from search_spaces.rules import RuleError
from search_spaces.space import SearchSpace

_BASES = 24
_COMPARED = 200
_ROUNDS = 30
_MOST_ROWS = 20_000
_LARGEST_TABLE = 2**18

Place = tuple[str, str, str]
"""Stage, kind and name: a step of its `network` or `cpu_network`, its `symbols`; or, of the whole
design, `weights` and the `tiles` of an `image`."""
Piece = Block | int
Pieces = Mapping[Place, Piece]
Measure = Callable[[Place, Piece], float]


class PartsError(ValueError):
    """The builder's pieces hang on more parameters at once than can be told apart."""


@dataclass(frozen=True)
class Part:
    """The places of a design that hang on the same parameters.

    Attributes:
        columns: those parameters, ascending.
        shape: their numbers of states.
        pieces: what stands at these places, by row of the states that occur.
    """

    columns: tuple[int, ...]
    shape: tuple[int, ...]
    pieces: Mapping[int, Pieces]

    @property
    def places(self) -> set[Place]:
        """Every place of which something is known."""
        return {place for built in self.pieces.values() for place in built}

    def only(self, places: set[Place]) -> Part:
        """The part without other places."""
        kept = {
            row: {place: piece for place, piece in built.items() if place in places}
            for row, built in self.pieces.items()
        }
        return replace(self, pieces=kept)

    def rows(self, states: Codes) -> Codes:
        """Row of every architecture, shape (N, P) -> (N,)."""
        columns = tuple(states[:, column] for column in self.columns)
        if not columns:
            return np.zeros(len(states), dtype=np.int64)
        return np.ravel_multi_index(columns, self.shape)

    def values(self, measure: Measure) -> NDArray[np.float64]:
        """A figure of these places by state, shape `shape`; 0 where nothing occurs."""
        table = np.zeros(prod(self.shape))
        for row, built in self.pieces.items():
            table[row] = sum(measure(place, piece) for place, piece in built.items())
        return table.reshape(self.shape)


@dataclass(frozen=True)
class Parts:
    """A space's designs in pieces.

    Attributes:
        space: whose designs these are.
        parts: by parameters that they hang on.
    """

    space: SearchSpace
    parts: tuple[Part, ...]

    @cached_property
    def accelerator_blocks(self) -> tuple[Block, ...]:
        """The distinct blocks of all architectures that run on the accelerator."""
        blocks = {
            piece.signature: piece
            for part in self.parts
            for pieces in part.pieces.values()
            for (_, kind, _), piece in pieces.items()
            if kind == "network" and not isinstance(piece, int)
        }
        return tuple(blocks.values())

    def total(self, codes: Codes, measure: Measure) -> NDArray[np.float64]:
        """The sum of a figure over all places of each architecture.

        Args:
            codes: canonical, shape (N, P).
            measure: the figure of what stands at one place.

        Returns:
            Shape (N,).
        """
        states = self.space.rules.states(codes)
        total = np.zeros(len(states))
        for part in self.parts:
            total += part.values(measure).ravel()[part.rows(states)]
        return total

    def range(self, measure: Measure) -> tuple[float, float]:
        """Smallest and largest total over all architectures.

        Raises:
            RuleError: too many parameters hang together.
        """
        tables = [Table(part.columns, part.values(measure)) for part in self.parts]
        return extremes(self.space.rules, tables, _LARGEST_TABLE)


@lru_cache(maxsize=8)  # a study and its gates ask for the parts of one space
def find_parts(space: SearchSpace) -> Parts:
    """Takes a space's designs apart.

    Raises:
        PartsError: pieces hang on too many parameters at once, or in ways that building
            neighbours does not show.
    """
    rng = np.random.default_rng(0)
    bases = np.vstack([[space.reference.code], space.sample(rng, _BASES)])
    fresh = space.sample(rng, _COMPARED)
    needs: dict[Place, set[int]] = {}
    known: dict[tuple[int, ...], Part] = {}
    for i in range(_ROUNDS):
        _learn(space, bases, needs, far=i > 0)
        parts = _tabulate(space, needs, known)
        wrong = _unforeseen(parts, fresh)
        if wrong is None:
            return parts
        bases = fresh[[wrong]]
    raise PartsError(f"{space.name}: what its builder builds cannot be told apart by parameters")


def _learn(space: SearchSpace, codes: Codes, needs: dict[Place, set[int]], far: bool) -> None:
    """Adds to every place the parameters that change it in one of the architectures.

    Constraints may leave gaps between ordered choices, which only going `far` overcomes.
    """
    forced: list[tuple[Place, set[int]]] = []
    for states in space.rules.states(codes):
        before = _pieces(space, states)
        for place in before:
            needs.setdefault(place, set())
        reached, columns = operators.changes(space, states[None], far)
        for other, column in zip(reached, columns.tolist(), strict=True):
            after = _pieces(space, other)
            changed = _changed(space, states, other, column)
            for place in {**before, **after}:
                needed = needs.setdefault(place, set())
                if before.get(place) != after.get(place):
                    if len(changed) == 1:
                        needed |= changed
                    else:
                        forced.append((place, changed))
    for place, changed in forced:  # what changed together: blamed only where nothing else explains
        if not needs[place] & changed:
            needs[place] |= changed


def _changed(space: SearchSpace, before: Codes, after: Codes, column: int) -> set[int]:
    """The column and whatever else took another choice; switched on or off does not count."""
    inactive = space.rules.inactive
    moved = (before != after) & (before < inactive) & (after < inactive)
    return {column, *np.flatnonzero(moved).tolist()}


def _tabulate(
    space: SearchSpace, needs: Mapping[Place, set[int]], known: dict[tuple[int, ...], Part]
) -> Parts:
    """Tables of all places; `known` keeps those of earlier rounds.

    What hangs on some of the parameters of a larger table joins it: that is built anyway.
    """
    places: dict[tuple[int, ...], set[Place]] = {}
    for place, needed in sorted(needs.items(), key=lambda need: -len(need[1])):
        wider = [home for home in places if needed <= set(home)]
        home = min(wider, key=len, default=tuple(sorted(needed)))
        places.setdefault(home, set()).add(place)
    for columns, own in places.items():
        if columns not in known or not own <= known[columns].places:
            known[columns] = _part(space, columns, own)
    return Parts(space, tuple(known[columns].only(own) for columns, own in places.items()))


def _part(space: SearchSpace, columns: tuple[int, ...], places: set[Place]) -> Part:
    shape = tuple(int(n) for n in space.rules.states_of[list(columns)])
    part = Part(columns, shape, {})
    pieces: dict[int, Pieces] = {}
    too_many = f"{space.name}: {_named(places)} hangs on {len(columns)} parameters at once"
    if prod(shape) > _LARGEST_TABLE:  # before they are enumerated, which would fill the memory
        raise PartsError(too_many)
    try:
        states = eliminate(space.rules, _LARGEST_TABLE, columns).enumerate(len(columns))
    except RuleError as problem:
        raise PartsError(f"{space.name}: {_named(places)}: {problem}") from None
    if len(states) > _MOST_ROWS:
        raise PartsError(too_many)
    for row, one in zip(part.rows(states).tolist(), states, strict=True):
        built = _pieces(space, one)
        pieces[row] = {place: built[place] for place in places if place in built}
    return Part(columns, shape, pieces)


def _named(places: set[Place]) -> str:
    """One of the places for people, of a stage where there is one."""
    return min((place for place in places if place[0]), default=min(places))[2]


def _unforeseen(parts: Parts, codes: Codes) -> int | None:
    """The first architecture that is not built as the tables say; None when all are."""
    states = parts.space.rules.states(codes)
    for i, one in enumerate(states):
        foretold: dict[Place, Piece] = {}
        for part in parts.parts:
            foretold.update(part.pieces[int(part.rows(one[None])[0])])
        if foretold != _pieces(parts.space, one):
            return i
    return None


def _pieces(space: SearchSpace, states: Codes) -> Pieces:
    return pieces(space.build(space.rules.choices(states)))


def pieces(design: Design) -> Pieces:
    """Everything in a design that costs something, by place.

    Weights that several stages share are under `weights` once.
    """
    found: dict[Place, Piece] = {("", "weights", n): block for n, block in design.blocks.items()}
    found["", "image", "tiles"] = design.tiles_per_image
    for name, stage in design.stages.items():
        found |= {(name, "network", step.name): step.block for step in stage.network.steps}
        if stage.cpu_network is not None:
            found |= {(name, "cpu_network", s.name): s.block for s in stage.cpu_network.steps}
        found[name, "symbols", "encoded"] = stage.symbols_encoded
        found[name, "symbols", "decoded"] = stage.symbols_decoded
    return found
