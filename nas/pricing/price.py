"""What architectures cost before they are trained: a price, a limit, and who states prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluators.protocol import Direction
from latency.oracle import Estimate
from search_spaces.space import Architecture, Codes, SearchSpace

Code = tuple[int, ...]
Values = NDArray[np.float64]


class BudgetError(ValueError):
    """A budget that cannot be held: nothing meets it, or an oracle of the user's own fails."""


class Limit(NamedTuple):
    """A hard limit.

    Attributes:
        device: or the label of a user's own oracle; empty for what is no device's.
        name: of the metric, with its unit.
        most: what it may be at most.
    """

    device: str
    name: str
    most: float

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.device} {self.name}".strip()


@dataclass(frozen=True)
class Price:
    """What one architecture costs before it is trained.

    Attributes:
        figures: metric -> value of what is no device's latency: sizes, or all that a user's own
            oracle says.
        estimates: device -> latency; empty with a user's own oracle.
    """

    figures: Mapping[str, float]
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """JSON-ready and flat; of devices the first one's, and every one's under `latency`."""
        records = {device: dict(e.as_record()) for device, e in self.estimates.items()}
        first = next(iter(records.values()), {})
        return {**self.figures, **first, **({"latency": records} if records else {})}

    def blocks(self) -> dict[str, dict[str, list[list[Any]]]]:
        """JSON-ready: device -> stage -> [step, signature, ms] in order of execution."""
        return {
            device: {name: [list(row) for row in s.blocks] for name, s in e.stages.items()}
            for device, e in self.estimates.items()
        }

    def held(self, limit: Limit) -> float:
        """The figure that a limit is held against."""
        if limit.device in self.estimates:
            return self.estimates[limit.device].held_ms(limit.name)
        return self.figures[limit.name]


class Pricer(Protocol):
    """Prices every architecture of one space: by devices' tables, or by a user's own oracle."""

    @property
    def space(self) -> SearchSpace:
        """Whose architectures are priced."""
        ...

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """Every metric that needs no training, with the direction that is better."""
        ...

    @property
    def figures(self) -> Sequence[str]:
        """Those of `metrics` that are no device's latency."""
        ...

    @property
    def at_once(self) -> bool:
        """Whether matrices of codes are priced without one architecture after the other."""
        ...

    @property
    def provenance(self) -> Mapping[str, Mapping[str, Any]]:
        """Device or label -> how its prices are known, JSON-ready; at least `kind` and
        `held_against`."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What a user should know of the prices, one line each."""
        ...

    def price(self, architecture: Architecture) -> Price:
        """One architecture; lowers blocks that no one lowered before."""
        ...

    def prices(self, codes: Codes, names: Sequence[str]) -> Values:
        """Point estimates as `Price.as_record` holds them.

        Args:
            codes: canonical, shape (N, P).
            names: K metrics.

        Returns:
            Shape (N, K); NaN of what is none of `metrics`.
        """
        ...

    def held(self, codes: Codes, limits: Sequence[Limit]) -> Values:
        """What limits are held against: canonical codes, shape (N, P) -> (N, L)."""
        ...

    def unlowered(self, codes: Codes) -> dict[str, Code]:
        """Blocks that must be lowered before prices are quick: signature -> one that has it."""
        ...
