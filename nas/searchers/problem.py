"""What a searcher is told of its problem, and what is expected of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evaluators.protocol import Direction
from search_spaces.space import Architecture, Codes, SearchSpace

Code = tuple[int, ...]
Values = NDArray[np.float64]
Feasible = Callable[[Codes], NDArray[np.bool_]]  # canonical codes, shape (N, P) -> (N,)

FULL = 1.0


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Attributes:
        space: of the architectures.
        directions: the better direction of each objective, one to three.
        feasible: canonical codes, shape (N, P), to whether they may be asked for, shape (N,).
        prices: canonical codes, shape (N, P), to objectives that need no training, shape (N, K) in
            the objectives' own directions; NaN where one must be trained. None where all must be.
        start: codes to begin with; what is infeasible of them is left out.
        seed: of every random choice.
    """

    space: SearchSpace
    directions: Sequence[Direction]
    feasible: Feasible
    prices: Callable[[Codes], Values] | None = None
    start: Sequence[Code] = ()
    seed: int = 0

    @property
    def signs(self) -> Values:
        """What turns values into such that are minimised, shape (K,)."""
        return np.array([1.0 if way == "minimize" else -1.0 for way in self.directions])

    def minimised(self, architecture: Architecture, values: Sequence[float]) -> Values:
        """Objective values turned to minimisation, shape (K,).

        Raises:
            ValueError: not as many finite values as there are objectives.
        """
        scores = np.asarray(values, dtype=np.float64)
        if scores.shape != (len(self.directions),) or not np.isfinite(scores).all():
            count = len(self.directions)
            raise ValueError(f"{architecture.key}: {count} finite values, not {values}")
        return np.asarray(scores * self.signs)

    def minimised_prices(self, codes: Codes) -> Values:
        """`prices` turned to minimisation, shape (N, K); NaN where an objective must be trained."""
        if self.prices is None:
            return np.full((len(codes), len(self.directions)), np.nan)
        return np.asarray(self.prices(codes) * self.signs)


@dataclass(frozen=True)
class Ask:
    """One evaluation that a searcher wants.

    Attributes:
        architecture: what is evaluated.
        fidelity: at which share of the full training, up to 1.
    """

    architecture: Architecture
    fidelity: float = FULL


class Searcher(Protocol):
    """Proposes evaluations and learns from results; deterministic in its asks and tells."""

    @property
    def proposed(self) -> int:
        """Architectures looked at that were not asked for before."""
        ...

    @property
    def over_budget(self) -> int:
        """How many of those the budget refused."""
        ...

    def ask(self) -> Ask | None:
        """What to evaluate next: never asked for before at that fidelity, inside the budget.

        Returns:
            None when there is nothing now: results that are still to come may change that. An ask
            that finds nothing leaves the searcher as it was.
        """
        ...

    def adopt(self, ask: Ask) -> None:
        """Counts an evaluation as asked for that another search or driver has asked for."""
        ...

    def tell(self, ask: Ask, values: Sequence[float] | None) -> None:
        """Takes in finite objective values, or None of an evaluation that failed or was stopped."""
        ...
