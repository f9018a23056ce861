"""The latency of an architecture on one device, for a whole image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latency import lowering
from latency.table import LatencyTable
from search_spaces.blocks import Block, Design, Network, Stage
from search_spaces.hints import did_you_mean


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
        stages: name -> estimate, in the design's order.
    """

    device: str
    provenance: str
    stages: Mapping[str, StageEstimate]

    @property
    def held_against(self) -> str:
        """Which figure a budget is held against: the upper value only where it was measured."""
        return "upper value" if self.provenance == "measured" else "point estimate"

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
        return estimate.upper_ms if self.provenance == "measured" else estimate.total_ms

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
        cache: folder of the lowered blocks; default `lowering.default_cache()`.
    """

    table: LatencyTable
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
        return Estimate(self.device, self.provenance, stages)

    def unlowered(self, blocks: Iterable[Block]) -> list[Block]:
        """The distinct blocks that are not on disk yet, so that a caller may lower them at once."""
        distinct = {(type(block), block.signature): block for block in blocks}
        unknown = [block for key, block in distinct.items() if key not in self._prices_ms]
        return [block for block in unknown if not lowering.is_lowered(block, self.cache)]

    def _stage(self, stage: Stage, tiles: int) -> StageEstimate:
        blocks = tuple(
            (step.name, step.block.signature, tiles * self._block_ms(step.block))
            for step in stage.network.steps
        )
        tile_network_ms = self.table.dispatch_ms + sum(ms for *_, ms in blocks) / tiles
        tile_coding_ms = self._coding_ms(stage)
        overlapped_ms = (tiles - 1) * max(tile_network_ms, tile_coding_ms)
        total_ms = tile_network_ms + tile_coding_ms + overlapped_ms
        return StageEstimate(
            total_ms=total_ms,
            upper_ms=total_ms * (1 + self.table.margin_percent / 100),
            network_ms=tiles * tile_network_ms,
            coding_ms=tiles * tile_coding_ms,
            blocks=blocks,
        )

    def _block_ms(self, block: Block) -> float:
        key = (type(block), block.signature)
        if key not in self._prices_ms:
            ops = lowering.lower(block, self.cache)
            self._prices_ms[key] = self.table.price_ms(block.signature, ops)
        return self._prices_ms[key]

    def _coding_ms(self, stage: Stage) -> float:
        """CPU time a tile; the cores work on different tiles."""
        cpu = self.table.cpu
        total_ns = stage.symbols_encoded * cpu.encode_ns_per_symbol
        total_ns += stage.symbols_decoded * cpu.decode_ns_per_symbol
        total_ns += _macs(stage.cpu_network) * cpu.ns_per_mac
        return total_ns / cpu.cores / 1e6


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
