"""Random search: what to begin with, then uniformly drawn architectures.

The yardstick: a searcher that is no better than this one has learnt nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.searchers.problem import Ask, Problem
from nas.searchers.untried import Counted, Untried


class RandomSearcher(Counted):
    """Asks for architectures that are new and inside the budget, whatever it is told."""

    def __init__(self, problem: Problem) -> None:
        """Nothing is asked for yet.

        Args:
            problem: what is searched.
        """
        self._problem = problem
        self._untried = Untried(problem, np.random.default_rng([problem.seed, 1]))
        self._untried.begin()

    def ask(self) -> Ask | None:
        """The reference, the problem's start, then what is drawn; None when nothing is left."""
        code = self._untried.queued() or self._untried.any()
        if code is None:
            return None
        self._untried.take(code)
        return Ask(self._problem.space.architecture(code))

    def adopt(self, ask: Ask) -> None:
        """Counts an evaluation as asked for by somebody else."""
        self._untried.take(ask.architecture.code)

    def tell(self, ask: Ask, values: Sequence[float] | None) -> None:
        """Checks that a result is one; nothing is learnt from it."""
        if values is not None:
            self._problem.minimised(ask.architecture, values)
