"""Filling a table: what a space needs, timed in interleaved rounds until it is sure enough.

Every round visits every package that is not sure yet, in an order of its own. A disturbance then
falls on all rows alike, and not on those that happened to be measured meanwhile.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from latency.lowering import lower
from latency.measure.backend import Backend, Package
from latency.measure.journal import Journal
from latency.measure.packages import (
    RowPlan,
    distinct,
    network_hash,
    package,
    repeat,
    row_plan,
)
from latency.ops import Op
from latency.table import slope_ms
from search_spaces.blocks import Block, Precision
from search_spaces.codec.blocks import Scale
from search_spaces.parts import PartsError, find_parts
from search_spaces.space import SearchSpace

_SAMPLES = 2000
# Rough speeds, only to choose how often a block repeats and how long all will take.
_MACS_A_MS, _VALUES_A_MS = 2.5e7, 1e6
_REPEATED_MS, _MOST_REPEATS, _FEWEST_REPEATS = 20.0, 16, 3
_VISIT_MS, _MOST_RUNS, _FEWEST_RUNS = 40.0, 15, 3
_VISIT_OVERHEAD_MS = 60.0


@dataclass(frozen=True)
class Effort:
    """When a row is sure enough.

    Attributes:
        error_percent: standard error of its median.
        fewest_rounds: of every package.
        most_rounds: after which a row is left as sure as it is.
    """

    error_percent: float = 1.5
    fewest_rounds: int = 5
    most_rounds: int = 11


@dataclass(frozen=True)
class Plan:
    """What has to be timed for the rows of a space.

    Attributes:
        rows: a block each.
        networks: whole ones, drawn from the space, that say what a network takes beside its blocks.
        dispatch: as little as a program can hold.
        precision: of all packages.
    """

    rows: tuple[RowPlan, ...]
    networks: tuple[Package, ...]
    dispatch: Package
    precision: Precision

    @property
    def packages(self) -> int:
        """How many programs are timed."""
        return 2 * len(self.rows) + len(self.networks) + 1

    def seconds(self, effort: Effort) -> float:
        """A rough guess of the time that all rounds take; translating comes on top."""
        visits_ms = [_visit_ms(row.once) + _visit_ms(row.repeated) for row in self.rows]
        visits_ms += [_visit_ms(network) for network in self.networks]
        return effort.fewest_rounds * sum(visits_ms) / 1e3


def space_blocks(space: SearchSpace) -> tuple[Block, ...]:
    """The distinct blocks of a space that run on the accelerator.

    Of a space that cannot be taken apart, those of the reference and of 2,000 drawn architectures.
    """
    try:
        return find_parts(space).accelerator_blocks
    except PartsError:
        codes = np.unique(space.sample(np.random.default_rng(0), _SAMPLES), axis=0)
        designs = [space.design(space.reference)]
        designs += [space.build(space.decode(tuple(code))) for code in codes.tolist()]
        found = {b.signature: b for design in designs for b in design.accelerator_blocks}
        return tuple(found.values())


def whole_networks(
    space: SearchSpace, count: int, seed: int, precision: Precision
) -> tuple[Package, ...]:
    """Networks of drawn architectures, their stages in turn, each distinct.

    Args:
        space: drawn from uniformly.
        count: of networks, at most.
        seed: of the draw.
        precision: of the packages.
    """
    found: dict[str, Package] = {}
    for i, code in enumerate(space.sample(np.random.default_rng(seed), 8 * count).tolist()):
        stages = space.build(space.decode(tuple(code))).stages
        stage = list(stages)[i % len(stages)]
        network = stages[stage].network
        made = package(f"{stage}-{network_hash(network)}", network, precision)
        if len(found) < count:
            found.setdefault(made.name, made)
    return tuple(found.values())


def plan_space(
    space: SearchSpace, blocks: Sequence[Block], precision: Precision, networks: int, seed: int
) -> Plan:
    """Everything that a space needs.

    Args:
        space: that whole networks are drawn from.
        blocks: to be priced: its own, from `space_blocks`.
        precision: of the rows.
        networks: whole ones to be measured along.
        seed: of their draw.

    Raises:
        LoweringError: a block that Core ML cannot express.
    """
    ops = {block.signature: lower(block) for block in blocks}
    rows = tuple(
        row_plan(block, ops[block.signature], _repeats(ops[block.signature]), precision)
        for block in distinct(blocks, ops).values()
    )
    return Plan(
        rows, whole_networks(space, networks, seed, precision), _dispatch(precision), precision
    )


def run(
    plan: Plan, backend: Backend, journal: Journal, effort: Effort, seed: int = 0
) -> Iterator[tuple[int, int]]:
    """Measures what is not sure yet; breaks off anywhere and goes on where it was.

    Args:
        plan: what to time.
        backend: the device.
        journal: receives every visit.
        effort: when a row is sure.
        seed: of the order of visits.

    Yields:
        Visits done and visits left, as far as is known, after each.
    """
    done = 0
    for number in range(effort.most_rounds):
        due = _due(plan, journal, effort, number)
        random.Random(f"{seed} {number}").shuffle(due)
        for i, group in enumerate(due):
            for each in group:
                visit(each, number, backend, journal)
            done += 1
            later = max(effort.fewest_rounds - number - 1, 0) * (
                len(plan.rows) + len(plan.networks) + 1
            )
            yield done, len(due) - i - 1 + later


def heat(plan: Plan, backend: Backend, seconds: float) -> Iterator[tuple[int, int]]:
    """Keeps a device busy with whole networks, so that it throttles as it does in long use.

    Yields:
        Seconds done and seconds left, after each visit.
    """
    packages = [*plan.networks] or [row.repeated for row in plan.rows]
    start = time.monotonic()
    for each in itertools.cycle(packages):
        backend.sample_ms(each, _runs(each))
        done = math.ceil(time.monotonic() - start)
        yield done, max(0, math.ceil(seconds) - done)
        if done >= seconds:
            return


def visit(each: Package, number: int, backend: Backend, journal: Journal) -> None:
    """Times a package in a round, unless that was done before.

    Raises:
        MeasureError: it cannot be translated, or did not run.
    """
    if not journal.has(each.name, number):
        journal.add(each.name, number, backend.sample_ms(each, _runs(each)))


def _due(plan: Plan, journal: Journal, effort: Effort, number: int) -> list[tuple[Package, ...]]:
    """What this round visits; both packages of a row right after each other."""
    rows = [r for r in plan.rows if number < effort.fewest_rounds or not _sure(r, journal, effort)]
    due = [(r.once, r.repeated) if number % 2 else (r.repeated, r.once) for r in rows]
    if number < effort.fewest_rounds:
        return [*due, *((network,) for network in plan.networks), (plan.dispatch,)]
    return [*due]


def _sure(row: RowPlan, journal: Journal, effort: Effort) -> bool:
    samples = pairs_ms(row, journal)
    if not samples:
        return False
    once_ms, repeated_ms = zip(*samples, strict=True)
    median, spread_percent = slope_ms(once_ms, repeated_ms, row.repeats)
    # Of a normal distribution, quartiles lie 1.35 deviations apart, and a median is 1.25 times
    # as unsure as a mean.
    return (
        median > 0
        and 1.25 * spread_percent / 1.35 / math.sqrt(len(samples)) <= effort.error_percent
    )


def pairs_ms(row: RowPlan, journal: Journal) -> list[tuple[float, float]]:
    """Both packages' times in the rounds that visited both."""
    once_ms, repeated_ms = journal.rounds_ms(row.once.name), journal.rounds_ms(row.repeated.name)
    return [(once_ms[n], repeated_ms[n]) for n in once_ms if n in repeated_ms]


def _dispatch(precision: Precision) -> Package:
    block = Scale(width=1, size=1)
    return package("dispatch", repeat(block, lower(block), 1), precision)


def _repeats(ops: Sequence[Op]) -> int:
    values = sum(math.prod(shape) for op in ops for shape in (*op.inputs, *op.outputs))
    guess_ms = sum(op.macs for op in ops) / _MACS_A_MS + values / _VALUES_A_MS
    return max(_FEWEST_REPEATS, min(_MOST_REPEATS, math.ceil(_REPEATED_MS / guess_ms)))


def _guess_ms(each: Package) -> float:
    blocks = each.network.blocks
    values = sum(math.prod(shape) for block in blocks for shape in block.input_shapes)
    return sum(block.macs for block in blocks) / _MACS_A_MS + 2 * values / _VALUES_A_MS


def _runs(each: Package) -> int:
    return max(_FEWEST_RUNS, min(_MOST_RUNS, math.ceil(_VISIT_MS / _guess_ms(each))))


def _visit_ms(each: Package) -> float:
    return _VISIT_OVERHEAD_MS + (1 + _runs(each)) * _guess_ms(each)
