"""The gate: what an architecture costs, and whether it may be trained at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.oracle import Estimate, LatencyOracle
from latency.score import Scorer
from search_spaces.blocks import Block, Design
from search_spaces.parts import PartsError, find_parts
from search_spaces.space import Architecture, Codes, SearchSpace

Code = tuple[int, ...]

SAMPLES = 2000
_BATCH = 500


class BudgetError(ValueError):
    """Nothing that was looked at is inside the budget; says how near the nearest came."""


@dataclass(frozen=True)
class Price:
    """What one architecture costs before it is trained.

    Attributes:
        estimates: device -> latency.
        parameters: trainable parameters.
        kmacs_per_pixel: thousands of multiply-accumulates a decoded pixel.
    """

    estimates: Mapping[str, Estimate]
    parameters: int
    kmacs_per_pixel: float

    def as_record(self) -> dict[str, Any]:
        """JSON-ready: the first device's figures flat, every device's under `latency`."""
        records = {device: dict(e.as_record()) for device, e in self.estimates.items()}
        size = {"parameters": self.parameters, "kmacs_per_pixel": self.kmacs_per_pixel}
        return {**size, **next(iter(records.values())), "latency": records}

    def blocks(self) -> dict[str, dict[str, list[list[Any]]]]:
        """JSON-ready: device -> stage -> [step, signature, ms] in order of execution."""
        return {
            device: {name: [list(row) for row in s.blocks] for name, s in e.stages.items()}
            for device, e in self.estimates.items()
        }


class Gate:
    """Prices architectures of one space and tells which are inside the budget."""

    def __init__(
        self,
        space: SearchSpace,
        oracles: Mapping[str, LatencyOracle],
        limits: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Holds every device to its limits.

        Args:
            space: whose codes are judged.
            oracles: device -> oracle.
            limits: device -> metric -> hard limit in ms, for the same devices.
        """
        self.space = space
        self.oracles = oracles
        self.limits = limits

    def price(self, architecture: Architecture) -> Price:
        """Latency and size of one architecture; lowers blocks that no one lowered before."""
        return self._price(self.space.design(architecture))

    @property
    def flat_limits(self) -> list[tuple[str, str, float]]:
        """Every limit as device, metric and milliseconds."""
        return [(d, name, limit) for d, held in self.limits.items() for name, limit in held.items()]

    def held_ms(self, codes: Codes) -> NDArray[np.float64]:
        """The figures that the limits are held against.

        Args:
            codes: canonical, shape (N, P).

        Returns:
            Shape (N, L), a column for each of `flat_limits`.
        """
        if self._scorers is None:
            rows = [self._held(self._price(self._design(tuple(row)))) for row in codes.tolist()]
            return np.array(rows, dtype=np.float64).reshape(len(codes), len(self.flat_limits))
        scored = {d: s.score(codes) * s.oracle.held_factor for d, s in self._scorers.items()}
        columns = [
            scored[device][:, self._scorers[device].stages.index(name.removesuffix("_ms"))]
            for device, name, _ in self.flat_limits
        ]
        return np.stack(columns, axis=1)

    def feasible(self, codes: Codes) -> NDArray[np.bool_]:
        """Which canonical codes, shape (N, P), are inside every device's budget. Shape (N,)."""
        limits = np.array([limit for *_, limit in self.flat_limits])
        return np.asarray((self.held_ms(codes) <= limits).all(axis=1))

    def overshoot(self, price: Price) -> list[float]:
        """Each limit's overshoot in ms, at most 0 where it is held."""
        held = zip(self._held(price), self.flat_limits, strict=True)
        return [value - limit for value, (*_, limit) in held]

    def share_inside(self, rng: np.random.Generator, count: int = SAMPLES) -> float:
        """Share of uniformly drawn architectures that are inside the budget."""
        return float(self.feasible(self.space.sample(rng, count)).mean())

    def unlowered(self, rng: np.random.Generator, count: int = SAMPLES) -> dict[str, Code]:
        """Blocks that must be lowered before prices are quick.

        Returns:
            Signature -> code of an architecture that has the block; looked for in the reference
            and in `count` uniformly drawn architectures.
        """
        codes = [self.space.reference.code]
        codes += [tuple(row) for row in np.unique(self.space.sample(rng, count), axis=0).tolist()]
        blocks: dict[str, Block] = {}
        origin: dict[str, Code] = {}
        for code in codes:
            for block in self._design(code).accelerator_blocks:
                blocks.setdefault(block.signature, block)
                origin.setdefault(block.signature, code)
        missing = {b.signature for o in self.oracles.values() for b in o.unlowered(blocks.values())}
        return {signature: code for signature, code in origin.items() if signature in missing}

    def require_feasible(self, rng: np.random.Generator, count: int = 20_000) -> None:
        """Fails when neither the reference nor any of `count` drawn ones is inside the budget.

        Raises:
            BudgetError: with the smallest value found for every limit.
        """
        limits = np.array([limit for *_, limit in self.flat_limits])
        nearest = self.held_ms(np.array([self.space.reference.code]))
        for _ in range(count // _BATCH):
            if (nearest <= limits).all(axis=1).any():
                return
            held_ms = self.held_ms(self.space.sample(rng, _BATCH))
            if (held_ms <= limits).all(axis=1).any():
                return
            nearest = np.vstack([nearest, held_ms]).min(axis=0, keepdims=True)
        raise BudgetError(self._none_inside(nearest[0], count))

    def _none_inside(self, nearest: NDArray[np.float64], count: int) -> str:
        smallest = [
            f"{device} {name} {held:.1f} of {limit:g}"
            for (device, name, limit), held in zip(self.flat_limits, nearest, strict=True)
        ]
        return (
            f"budget: none of {count} architectures drawn from {self.space.name} meets it; smallest"
            f" found: {', '.join(smallest)}; raise the budget or take a space with smaller members"
        )

    @property
    def prices_at_once(self) -> bool:
        """Whether matrices of codes are priced without building each."""
        return self._scorers is not None

    @cached_property
    def _scorers(self) -> dict[str, Scorer] | None:
        """By device; None where the space cannot be taken apart, and each code is built instead."""
        try:
            parts = find_parts(self.space)
            return {device: Scorer(oracle, parts) for device, oracle in self.oracles.items()}
        except PartsError:
            return None

    def _held(self, price: Price) -> list[float]:
        return [price.estimates[device].held_ms(name) for device, name, _ in self.flat_limits]

    def _design(self, code: Code) -> Design:
        return self.space.build(self.space.decode(code))

    def _price(self, design: Design) -> Price:
        estimates = {device: oracle.estimate(design) for device, oracle in self.oracles.items()}
        return Price(estimates, design.parameters, decoder_kmacs(design))


def decoder_kmacs(design: Design) -> float:
    """Thousands of multiply-accumulates a pixel of `decoder_stage`."""
    return design.kmacs_per_pixel(decoder_stage(list(design.stages)))


def decoder_stage(stages: Sequence[str]) -> str:
    """`decode`, or the last stage of a design that has none."""
    return "decode" if "decode" in stages else stages[-1]
