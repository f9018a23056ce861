"""The latency of an architecture on one device, for a whole image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latency import lowering
from latency.table import LatencyTable
from search_spaces.blocks import Block, Design, Network, Precision, Stage
from search_spaces.hints import did_you_mean

UPPER, POINT = "upper value", "point estimate"


@dataclass(frozen=True)
class StageEstimate:
    """One stage over the whole image, milliseconds.

    Attributes:
        total_ms: pipelined: a tile is coded on the CPU while another is on the accelerator.
        upper_ms: `total_ms` with the table's margin added.
        network_ms: the accelerator alone, all tiles, dispatch included.
        coding_ms: the CPU alone, all tiles: entropy coding and its network.
        blocks: (step, block signature, milliseconds over all tiles), without the dispatch.
    """

    total_ms: float
    upper_ms: float
    network_ms: float
    coding_ms: float
    blocks: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class Estimate:
    """What a device takes for every stage of an architecture.

    Attributes:
        device: the table's.
        provenance: the table's: `measured` or `analytic`.
        held_against: `upper value` or `point estimate`: what a budget is held against.
        stages: name -> estimate, in the design's order.
    """

    device: str
    provenance: str
    held_against: str
    stages: Mapping[str, StageEstimate]

    def held_ms(self, limit: str) -> float:
        """The figure that a limit called `<stage>_ms` is held against.

        Raises:
            ValueError: no stage of that name.
        """
        names = {f"{stage}_ms": estimate for stage, estimate in self.stages.items()}
        if limit not in names:
            hint = did_you_mean(limit, names)
            raise ValueError(f"no latency {limit!r}; there are {', '.join(names)}{hint}")
        estimate = names[limit]
        return estimate.upper_ms if self.held_against == UPPER else estimate.total_ms

    def as_record(self) -> dict[str, float]:
        """Flat: `<stage>_ms` and `<stage>_ms_upper` of each stage, and its parts.

        The parts of the last stage are `network_ms` and `coding_ms`, those of the others
        `<stage>_network_ms` and `<stage>_coding_ms`.
        """
        record: dict[str, float] = {}
        for stage, estimate in self.stages.items():
            prefix = "" if stage == list(self.stages)[-1] else f"{stage}_"
            record[f"{stage}_ms"] = estimate.total_ms
            record[f"{stage}_ms_upper"] = estimate.upper_ms
            record[f"{prefix}network_ms"] = estimate.network_ms
            record[f"{prefix}coding_ms"] = estimate.coding_ms
        return record


@dataclass(frozen=True)
class LatencyOracle:
    """Prices architectures from a device's table; every block is lowered once.

    Attributes:
        table: the device.
        precision: that networks run in.
        margin_percent: what upper values add; None takes the table's. A stated margin also makes
            the budget hold against the upper value of an analytic table.
        cache: folder of the lowered blocks; default `lowering.default_cache()`.
    """

    table: LatencyTable
    precision: Precision = "fp16"
    margin_percent: float | None = None
    cache: Path | None = None
    _prices_ms: dict[tuple[type, str], float] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def device(self) -> str:
        """The table's device."""
        return self.table.device

    @property
    def provenance(self) -> str:
        """`measured` or `analytic`."""
        return self.table.provenance

    @property
    def held_against(self) -> str:
        """What a budget is held against: the upper value of what was measured, else the point.

        An analytic table's margin is too wide to search by, unless the user states one.
        """
        stated = self.margin_percent is not None
        return UPPER if stated or self.provenance == "measured" else POINT

    @property
    def margin_in_use_percent(self) -> float:
        """What upper values add to point estimates: the stated margin, else the table's."""
        stated = self.margin_percent
        return self.table.margin_percent if stated is None else stated

    @property
    def upper_factor(self) -> float:
        """What upper values are of point estimates."""
        return 1 + self.margin_in_use_percent / 100

    @property
    def held_factor(self) -> float:
        """What the figure that a budget is held against is of the point estimate."""
        return self.upper_factor if self.held_against == UPPER else 1.0

    def estimate(self, design: Design) -> Estimate:
        """Latency of each stage for the whole image.

        Raises:
            MissingRowError: a measured table that lacks one of the blocks.
            LoweringError: a block that Core ML cannot express.
        """
        stages = {
            name: self._stage(stage, design.tiles_per_image)
            for name, stage in design.stages.items()
        }
        return Estimate(self.device, self.provenance, self.held_against, stages)

    def unlowered(self, blocks: Iterable[Block]) -> list[Block]:
        """The distinct blocks that are not on disk yet, so that a caller may lower them at once."""
        distinct = {(type(block), block.signature): block for block in blocks}
        unknown = [block for key, block in distinct.items() if key not in self._prices_ms]
        return [block for block in unknown if not lowering.is_lowered(block, self.cache)]

    def _stage(self, stage: Stage, tiles: int) -> StageEstimate:
        blocks = tuple(
            (step.name, step.block.signature, tiles * self.block_ms(step.block))
            for step in stage.network.steps
        )
        tile_network_ms = self.table.dispatch_ms + sum(ms for *_, ms in blocks) / tiles
        tile_coding_ms = self.coding_ms(
            stage.symbols_encoded, stage.symbols_decoded, _macs(stage.cpu_network)
        )
        total_ms = float(pipelined_ms(tile_network_ms, tile_coding_ms, tiles))
        return StageEstimate(
            total_ms=total_ms,
            upper_ms=total_ms * self.upper_factor,
            network_ms=tiles * tile_network_ms,
            coding_ms=tiles * tile_coding_ms,
            blocks=blocks,
        )

    def block_ms(self, block: Block) -> float:
        """One run of a block without the dispatch; lowered unless it was.

        Raises:
            MissingRowError: a measured table that lacks it.
            LoweringError: Core ML cannot express it.
        """
        key = (type(block), block.signature)
        if key not in self._prices_ms:
            ops = lowering.lower(block, self.cache)
            self._prices_ms[key] = self.table.price_ms(block.signature, ops, self.precision)
        return self._prices_ms[key]

    def coding_ms(self, encoded: float, decoded: float, macs: float) -> float:
        """CPU time a tile; the cores work on different tiles.

        Args:
            encoded: symbols written.
            decoded: symbols read.
            macs: of the CPU's network.
        """
        cpu = self.table.cpu
        total_ns = encoded * cpu.encode_ns_per_symbol + decoded * cpu.decode_ns_per_symbol
        return (total_ns + macs * cpu.ns_per_mac) / cpu.cores / 1e6


def pipelined_ms(network_ms: Any, coding_ms: Any, tiles: Any) -> Any:
    """An image whose tiles are coded on the CPU while others are on the accelerator.

    Args:
        network_ms: of one tile; numbers or arrays.
        coding_ms: of one tile.
        tiles: of the image.
    """
    return network_ms + coding_ms + (tiles - 1) * np.maximum(network_ms, coding_ms)


def within(estimate: Estimate, limits: Mapping[str, float]) -> bool:
    """Whether every limit holds.

    Args:
        estimate: of one architecture.
        limits: `<stage>_ms` -> milliseconds; held against the upper value of a measured table and
            the point estimate of an analytic one (`Estimate.held_against`).

    Raises:
        ValueError: a limit on a stage that the architecture does not have.
    """
    return all(estimate.held_ms(name) <= limit_ms for name, limit_ms in limits.items())


def _macs(network: Network | None) -> int:
    return sum(block.macs for block in network.blocks) if network is not None else 0
