"""Latencies and sizes of architectures on the devices of a budget, by their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from evaluators.protocol import Direction
from latency.oracle import LatencyOracle
from latency.score import Scorer
from nas.pricing.price import Code, Limit, Price, Values
from nas.pricing.sizes import SIZES, Folded, Outputs, SizeTables, design_sizes
from search_spaces.blocks import Block, Design
from search_spaces.parts import PartsError, find_parts
from search_spaces.space import Architecture, Codes, SearchSpace


class DevicePricer:
    """Prices architectures on every device; the flat metrics are the first one's.

    Attributes:
        space: whose architectures are priced.
        oracles: device -> what prices them on it, all at one precision.
        stages: of its designs.
    """

    def __init__(self, space: SearchSpace, oracles: Mapping[str, LatencyOracle]) -> None:
        """Nothing is priced yet.

        Raises:
            SpaceError: the space's builder fails, or there is none.
        """
        self.space = space
        self.oracles = oracles
        self._first, oracle = next(iter(oracles.items()))
        self._precision = oracle.precision
        self._outputs = Outputs(oracle.cache)
        self.stages = tuple(space.design(space.reference).stages)

    @cached_property
    def metrics(self) -> Mapping[str, Direction]:
        """Latencies by stage, their upper values and parts as in `Estimate.as_record`; sizes."""
        return dict.fromkeys([*self._timed, *SIZES], "minimize")

    @property
    def figures(self) -> Sequence[str]:
        """Sizes."""
        return SIZES

    @property
    def at_once(self) -> bool:
        """Whether the space can be taken apart; otherwise each architecture is built."""
        return self._tables is not None

    @property
    def provenance(self) -> Mapping[str, Mapping[str, Any]]:
        """Device -> how its latencies are known and which of them a budget is held against."""
        return {device: _provenance(oracle) for device, oracle in self.oracles.items()}

    @property
    def warnings(self) -> Sequence[str]:
        """Tables that are older than their device's system."""
        stale = (oracle.table.stale for oracle in self.oracles.values())
        return [text for text in stale if text]

    def price(self, architecture: Architecture) -> Price:
        """Latencies and sizes; lowers blocks that no one lowered before."""
        return self._price(self.space.design(architecture))

    def prices(self, codes: Codes, names: Sequence[str]) -> Values:
        """Canonical codes, shape (N, P) -> point estimates (N, K), NaN of unknown names."""
        wanted = [(i, name) for i, name in enumerate(names) if name in self.metrics]
        values = np.full((len(codes), len(names)), np.nan)
        if not wanted:
            return values
        tables = self._tables
        if tables is None:
            records = [self._price(self._design(code)).as_record() for code in codes.tolist()]
            values[:, [i for i, _ in wanted]] = [[r[name] for _, name in wanted] for r in records]
            return values
        for i, name in wanted:
            values[:, i] = self._figure(tables, name, codes)
        return values

    def held(self, codes: Codes, limits: Sequence[Limit]) -> Values:
        """What limits are held against: canonical codes, shape (N, P) -> (N, L)."""
        tables = self._tables
        if tables is None:
            priced = [self._price(self._design(code)) for code in codes.tolist()]
            rows = [[price.held(limit) for limit in limits] for price in priced]
            return np.array(rows, dtype=np.float64).reshape(len(codes), len(limits))
        values = np.empty((len(codes), len(limits)))
        devices = {limit.device for limit in limits if limit.device}
        scored = {device: tables.scorers[device].score(codes) for device in devices}
        for i, (device, name, _) in enumerate(limits):
            if device:
                stage = self.stages.index(name.removesuffix("_ms"))
                values[:, i] = scored[device][:, stage] * self.oracles[device].held_factor
            else:
                values[:, i] = self._figure(tables, name, codes)
        return values

    def unlowered(self, codes: Codes) -> dict[str, Code]:
        """Blocks of the given architectures, shape (N, P), that no device's prices know yet."""
        blocks: dict[str, Block] = {}
        origin: dict[str, Code] = {}
        for code in codes.tolist():
            for block in self._design(code).accelerator_blocks:
                blocks.setdefault(block.signature, block)
                origin.setdefault(block.signature, tuple(code))
        missing = {b.signature for o in self.oracles.values() for b in o.unlowered(blocks.values())}
        return {signature: code for signature, code in origin.items() if signature in missing}

    @cached_property
    def _timed(self) -> Mapping[str, tuple[int, str]]:
        """Names as in `Estimate.as_record` -> stage and which of its times."""
        names: dict[str, tuple[int, str]] = {}
        for i, stage in enumerate(self.stages):
            prefix = "" if stage == self.stages[-1] else f"{stage}_"
            names[f"{stage}_ms"] = i, "total"
            names[f"{stage}_ms_upper"] = i, "upper"
            names[f"{prefix}network_ms"] = i, "network"
            names[f"{prefix}coding_ms"] = i, "coding"
        return names

    def _figure(self, tables: _Tables, name: str, codes: Codes) -> Values:
        """One metric of the first device, shape (N,)."""
        if name in SIZES:
            return tables.sizes.figure(name, codes)
        stage, kind = self._timed[name]
        if kind in ("network", "coding"):
            return tables.part_ms(self._first, kind, codes)[:, stage]
        factor = self.oracles[self._first].upper_factor if kind == "upper" else 1.0
        return np.asarray(tables.scorers[self._first].score(codes)[:, stage] * factor)

    @cached_property
    def _tables(self) -> _Tables | None:
        """None where the space cannot be taken apart, and each code is built instead."""
        try:
            parts = find_parts(self.space)
            sizes = SizeTables(parts, self._precision, self._outputs)
            scorers = {device: Scorer(oracle, parts) for device, oracle in self.oracles.items()}
        except PartsError:
            return None
        return _Tables(sizes, scorers)

    def _design(self, code: Sequence[int]) -> Design:
        return self.space.build(self.space.decode(code))

    def _price(self, design: Design) -> Price:
        estimates = {device: oracle.estimate(design) for device, oracle in self.oracles.items()}
        return Price(design_sizes(design, self._precision, self._outputs), estimates)


class _Tables:
    """Everything that is looked up by code."""

    def __init__(self, sizes: SizeTables, scorers: Mapping[str, Scorer]) -> None:
        self.sizes, self.scorers = sizes, scorers
        self._folded: dict[str, Folded] = {}

    def part_ms(self, device: str, kind: str, codes: Codes) -> Values:
        """Time of all tiles on the accelerator or the CPU by stage, shape (N, S)."""
        scorer = self.scorers[device]
        if device not in self._folded:
            self._folded[device] = Folded(scorer.parts, scorer.costs, np.add)
        design = scorer.parts.space.design(scorer.parts.space.reference)
        tile_ms = self._folded[device](codes)
        if kind == "coding":
            return np.asarray(design.tiles_per_image * tile_ms[:, 1::2])
        return np.asarray(
            design.tiles_per_image * (tile_ms[:, 0::2] + scorer.oracle.table.dispatch_ms)
        )


def _provenance(oracle: LatencyOracle) -> dict[str, Any]:
    table = oracle.table
    return {
        "kind": table.provenance,
        "held_against": oracle.held_against,
        "margin_percent": oracle.margin_in_use_percent,
        "precision": oracle.precision,
        "chip": table.chip,
        "os_build": table.os_build,
        "compute_unit": table.compute_unit,
        "date": table.date.isoformat(),
    }
