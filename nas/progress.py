"""Where a search stands: what is counted, what runs, and the best so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nas.pareto import RunningFront
from nas.record.records import Claim, State
from nas.searchers.problem import FULL

Price = Mapping[str, Any]
Milestones = Mapping[str, float]
Identity = tuple[str, float]


@dataclass
class Passed:
    """What complete trials came to on their way, by price: the bar for others.

    Only what no cheaper candidate has passed is kept.
    """

    objectives: Collection[str]
    kept: list[tuple[Price, Milestones]] = field(default_factory=list)

    def add(self, price: Price, milestones: Milestones) -> None:
        """Takes in a complete trial."""
        mine = (price, milestones)
        if milestones and not any(self._covers(other, mine) for other in self.kept):
            self.kept = [other for other in self.kept if not self._covers(mine, other)] + [mine]

    def bar(self, price: Price) -> dict[str, float]:
        """The best milestones among those that are no worse in any priced objective."""
        best: dict[str, float] = {}
        for other, milestones in self.kept:
            if self._as_cheap(other, price):
                best |= {n: max(v, best.get(n, v)) for n, v in milestones.items()}
        return best

    def _as_cheap(self, price: Price, other: Price) -> bool:
        return all(price[name] <= other[name] for name in self.objectives if name in other)

    def _covers(self, one: tuple[Price, Milestones], other: tuple[Price, Milestones]) -> bool:
        none = float("-inf")
        return self._as_cheap(one[0], other[0]) and all(
            one[1].get(name, none) >= value for name, value in other[1].items()
        )


@dataclass
class Progress:
    """Where the study stands.

    Attributes:
        passed: milestones of complete trials.
        front: of full results, and how many came since it last grew.
        identities: what was asked for in the whole study.
        own_asks: asks of this study's own searcher: the next one's index.
        told: outcomes that the searcher was told.
        complete: full results.
        partial: results below full fidelity.
        failed: evaluations that failed, attempts that are made again not counted.
        stopped: evaluations that were given up early.
        failures_in_a_row: since the last result.
        again: abandoned and lost asks that must be evaluated before anything new is asked.
        lost: evaluation -> attempts at it that a machine ended.
        running: trial number -> its claim.
        seen: trial number -> whether its end is known here too.
        idle: nothing was to be asked for when this many outcomes were told.
        ended: why nothing more is asked for, for people; empty while something is.
    """

    passed: Passed
    front: RunningFront
    identities: set[Identity] = field(default_factory=set)
    own_asks: int = 0
    told: int = 0
    complete: int = 0
    partial: int = 0
    failed: int = 0
    stopped: int = 0
    failures_in_a_row: int = 0
    again: list[Claim] = field(default_factory=list)
    lost: Counter[Identity] = field(default_factory=Counter)
    running: dict[int, Claim] = field(default_factory=dict)
    seen: dict[int, bool] = field(default_factory=dict)
    idle: int | None = None
    ended: str = ""

    @property
    def asked(self) -> int:
        """Evaluations asked for in the whole study."""
        return len(self.identities)

    @property
    def done(self) -> int:
        """Evaluations that ended, whichever way."""
        return self.complete + self.partial + self.failed + self.stopped

    def count(
        self,
        state: State,
        fidelity: float,
        values: Sequence[float] | None,
        price: Price,
        metrics: Mapping[str, Any],
    ) -> None:
        """Takes in an outcome that the searcher was told."""
        self.told += 1
        self.failures_in_a_row = self.failures_in_a_row + 1 if state == "failed" else 0
        if values is None:
            self.failed += state == "failed"
            self.stopped += state == "stopped"
        elif fidelity < FULL:
            self.partial += 1
        else:
            self.complete += 1
            self.front.add(np.array(values))
            self.passed.add(price, metrics.get("milestones", {}))
