"""Fidelities as rungs (Li et al., 2020, ASHA): the best of each rung go on to the next, at once.

Any searcher proposes at the lowest rung and is told that rung's results alone. An architecture is
promoted when it is among the best share of a rung by non-dominated rank, whoever else is still
being evaluated; a promotion goes before anything new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from nas.pareto import ranks
from nas.searchers.problem import FULL, Ask, Problem, Searcher, Values

_COMPARED = 1000  # results of a rung, the latest: so that a promotion costs milliseconds


class RungSearcher:
    """A searcher at several fidelities."""

    def __init__(self, problem: Problem, fidelities: Sequence[float], base: Searcher) -> None:
        """Nothing is asked for yet.

        Args:
            problem: what is searched.
            fidelities: ascending shares of the full training, the last one 1.
            base: proposes what is evaluated at the lowest of them.

        Raises:
            ValueError: fidelities that are none.
        """
        ascending = list(fidelities) == sorted({f for f in fidelities if f > 0})
        if not ascending or list(fidelities[-1:]) != [FULL]:
            raise ValueError(
                f"fidelities: above 0, ascending, the last one 1, not {list(fidelities)}"
            )
        self._problem = problem
        self._base = base
        self._rungs = [_Rung(low, high) for low, high in pairwise(fidelities)]
        self._lowest = fidelities[0]

    @property
    def proposed(self) -> int:
        """Architectures looked at that were not asked for before."""
        return self._base.proposed

    @property
    def over_budget(self) -> int:
        """How many of those the budget refused."""
        return self._base.over_budget

    def ask(self) -> Ask | None:
        """A promotion, from the highest rung that has one, or something new at the lowest."""
        for rung in reversed(self._rungs):
            if promoted := rung.promote():
                return promoted
        new = self._base.ask()
        return new and Ask(new.architecture, self._lowest)

    def adopt(self, ask: Ask) -> None:
        """Counts an evaluation as asked for by somebody else."""
        if ask.fidelity == self._lowest:
            self._base.adopt(Ask(ask.architecture))
        for rung in self._rungs:
            if rung.next == ask.fidelity:
                rung.promoted.add(ask.architecture.code)

    def tell(self, ask: Ask, values: Sequence[float] | None) -> None:
        """Takes in a result on its rung."""
        if ask.fidelity == self._lowest:
            self._base.tell(Ask(ask.architecture), values)
        for rung in self._rungs:
            if rung.fidelity == ask.fidelity and values is not None:
                rung.add(ask, self._problem.minimised(ask.architecture, values))


class _Rung:
    """What was evaluated at one fidelity, and which of it went on to the next."""

    def __init__(self, fidelity: float, following: float) -> None:
        self.fidelity, self.next = fidelity, following
        self.promoted: set[tuple[int, ...]] = set()
        self._results: deque[tuple[Ask, Values]] = deque(maxlen=_COMPARED)
        self._candidates: list[Ask] | None = None

    def add(self, ask: Ask, minimised: Values) -> None:
        self._results.append((ask, minimised))
        self._candidates = None

    def promote(self) -> Ask | None:
        """The best that may go on and has not yet; of one rank, whoever was there first."""
        if self._candidates is None:
            self._candidates = self._best()
        for ask in self._candidates:
            if ask.architecture.code not in self.promoted:
                self.promoted.add(ask.architecture.code)
                return Ask(ask.architecture, self.next)
        return None

    def _best(self) -> list[Ask]:
        """The best share, as much of the rung as the next one is longer: rank by rank."""
        count = int(len(self._results) * self.fidelity / self.next)
        if count == 0:
            return []
        values = np.array([values for _, values in self._results])
        order = np.concatenate(ranks(values, count))
        return [self._results[i][0] for i in order[:count].tolist()]
