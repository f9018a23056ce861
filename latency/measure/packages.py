"""The programs that a campaign times: one block once, the same block repeated, whole networks.

Starting a program costs time of its own, which blocks inside a network do not pay. So a block is
timed in two packages: what the longer one takes more is what its further repeats take.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from latency.measure.backend import Package
from latency.ops import Op
from search_spaces.blocks import Block, Network, Precision, Step


@dataclass(frozen=True)
class RowPlan:
    """How one row of a table is measured.

    Attributes:
        block: one of those that lower to `ops`.
        ops: canonical lines, in order.
        repeats: of the block in the longer package.
        once: the shorter package.
        repeated: the longer package.
    """

    block: Block
    ops: tuple[str, ...]
    repeats: int
    once: Package
    repeated: Package


def row_plan(block: Block, ops: Sequence[Op], repeats: int, precision: Precision) -> RowPlan:
    """Both packages of a block.

    Args:
        block: to be measured.
        ops: what it lowers to.
        repeats: at least 2.
        precision: of the row.
    """
    lines = tuple(op.text for op in ops)
    name = hashlib.sha256("\n".join((precision, *lines)).encode()).hexdigest()[:16]
    once = package(f"{name}-1", repeat(block, ops, 1), precision)
    repeated = package(f"{name}-{repeats}", repeat(block, ops, repeats), precision)
    return RowPlan(block, lines, repeats, once, repeated)


def package(name: str, network: Network, precision: Precision) -> Package:
    """A network with the shapes of its inputs, read off the blocks that take them."""
    shapes = {
        taken: shape
        for step in reversed(network.steps)
        for taken, shape in zip(step.inputs, step.block.input_shapes, strict=True)
        if taken in network.inputs
    }
    return Package(name, network, shapes, precision)


def network_hash(network: Network) -> str:
    """Names a network by its steps, in file names too."""
    steps = [(step.name, step.block.signature, step.inputs) for step in network.steps]
    return hashlib.sha256(repr(steps).encode()).hexdigest()[:16]


def repeat(block: Block, ops: Sequence[Op], count: int) -> Network:
    """A block `count` times: in a chain where it fits behind itself, side by side where not.

    Side by side each copy has inputs of its own, so that none can be left out as a repetition.
    """
    first = block.input_shapes[0]
    chained = ops[-1].outputs == ((1, *first),)
    steps: list[Step] = []
    for i in range(count):
        own = tuple(f"input_{i}_{j}" for j in range(len(block.input_shapes)))
        before = (steps[-1].name,) if chained and steps else own[:1]
        steps.append(Step(f"copy_{i}", block, (*before, *own[1:])))
    names = [step.name for step in steps]
    read = [name for step in steps for name in step.inputs if name not in names]
    return Network(tuple(read), tuple(steps), tuple(names[-1:] if chained else names))


def distinct(
    blocks: Iterable[Block], lowered: Mapping[str, Sequence[Op]]
) -> dict[tuple[str, ...], Block]:
    """Canonical lines -> the first block that lowers to them.

    Args:
        blocks: to be measured.
        lowered: signature -> operations.
    """
    found: dict[tuple[str, ...], Block] = {}
    for block in blocks:
        found.setdefault(tuple(op.text for op in lowered[block.signature]), block)
    return found
