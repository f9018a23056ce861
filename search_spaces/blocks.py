"""Blocks and the networks made of them: one walk that builds, counts and prices.

A `Block` is one measurable piece of a network together with the shapes it runs on. A `Network` is
a sequence of named blocks. The same sequence builds the torch module (`search_spaces.build`), keys
the latency table and gives parameters and MACs, so that the three cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]

Precision = Literal["fp32", "fp16", "w8", "w8a8"]
"""Of weights and activations; w8 has weights of 8 bits and activations of fp16, w8a8 both of 8."""


class Block(Protocol):
    """One piece of a network that is built, counted and priced as a whole.

    Implementations are frozen dataclasses: equal blocks are interchangeable.
    """

    @property
    def signature(self) -> str:
        """What the block is and the size it runs at; equal signatures cost the same."""
        ...

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs without the batch dimension, in call order."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run, convolutions and matrix products only."""
        ...

    @property
    def parameters(self) -> int:
        """Trainable parameters of the built module."""
        ...

    def build(self) -> nn.Module:
        """The torch module, freshly initialised; imports torch."""
        ...


@dataclass(frozen=True)
class Step:
    """A block at its place in a network: `name = block(*inputs)`."""

    name: str
    block: Block
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """Blocks in order of execution; each reads network inputs or earlier steps by name."""

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for step in self.steps:
            missing = [name for name in step.inputs if name not in known]
            if missing or step.name in known:
                raise ValueError(f"step {step.name!r} reads {missing} or repeats a name")
            known.add(step.name)
        if missing := [name for name in self.outputs if name not in known]:
            raise ValueError(f"network has no step for its outputs {missing}")

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks in order of execution."""
        return tuple(step.block for step in self.steps)


@dataclass(frozen=True)
class Stage:
    """What a device runs once for every tile: a network on the accelerator, and work on the CPU.

    Attributes:
        network: runs on the accelerator.
        cpu_network: runs on the CPU beside it (the scale decoder), or None.
        symbols_encoded: entropy-coded symbols written for a tile.
        symbols_decoded: entropy-coded symbols read for a tile.
    """

    network: Network
    cpu_network: Network | None = None
    symbols_encoded: int = 0
    symbols_decoded: int = 0


@dataclass(frozen=True)
class Design:
    """An architecture's networks, as a device runs them.

    Attributes:
        stages: name -> stage; a stage called `decode` is priced as `decode_ms`.
        tiles_per_image: how often each stage runs for the image that the budget speaks of.
        pixels_per_tile: pixels that one run covers.
    """

    stages: Mapping[str, Stage]
    tiles_per_image: int
    pixels_per_tile: int

    @property
    def blocks(self) -> dict[str, Block]:
        """Name -> block, each once: networks that share a step name share its weights."""
        networks = [stage.network for stage in self.stages.values()]
        networks += [s.cpu_network for s in self.stages.values() if s.cpu_network is not None]
        return {step.name: step.block for network in networks for step in network.steps}

    @property
    def accelerator_blocks(self) -> tuple[Block, ...]:
        """The distinct blocks that run on the accelerator, in order of first appearance."""
        runs = (block for stage in self.stages.values() for block in stage.network.blocks)
        return tuple({block.signature: block for block in runs}.values())

    @property
    def parameters(self) -> int:
        """Trainable parameters, shared weights counted once."""
        return sum(block.parameters for block in self.blocks.values())

    def kmacs_per_pixel(self, stage: str) -> float:
        """Thousands of multiply-accumulates a pixel in one stage, CPU network included."""
        work = self.stages[stage]
        blocks = work.network.blocks + (work.cpu_network.blocks if work.cpu_network else ())
        return sum(block.macs for block in blocks) / self.pixels_per_tile / 1e3
