"""NSGA-II (Deb et al., 2002), steady state and asynchronous, over the codes of a search space.

pymoo breeds and selects; this file proposes nothing twice and nothing over the budget, and goes on
where pymoo gives up: an ask that mating cannot answer is answered by drawing, then by enumerating.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from evaluators.protocol import Direction
from search_spaces import operators
from search_spaces.space import Architecture, Codes, SearchSpace

Code = tuple[int, ...]
Feasible = Callable[[Codes], NDArray[np.bool_]]

_DRAW = 256
_DRAWS = 40
_ENUMERABLE = 300_000


class Nsga2Searcher:
    """Asks for architectures that are new and inside the budget; learns from what is told.

    Deterministic: the same seed and the same sequence of asks and tells give the same proposals.

    Attributes:
        proposed: architectures not asked for before that were looked at.
        over_budget: how many of those the budget refused.
    """

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[Direction],
        feasible: Feasible,
        population: int = 12,
        seed: int = 0,
    ) -> None:
        """Draws the initial population: the reference first, if it is inside the budget.

        Args:
            space: what is searched.
            directions: the better direction of each objective, one to three.
            feasible: canonical codes, shape (N, P), to whether they may be asked for, shape (N,).
            population: parents that survive; the first ones are drawn uniformly.
            seed: of every random choice.
        """
        self.proposed = 0
        self.over_budget = 0
        self._space = space
        self._signs = np.array([1.0 if way == "minimize" else -1.0 for way in directions])
        self._feasible = feasible
        self._rng = np.random.default_rng([seed, 1])
        self._asked: set[Code] = set()
        self._early: list[Any] = []
        self._enumerated: list[Code] | None = None
        self._queue: list[Code] = []
        self._fill_queue(population)
        self._needed = max(2, min(population, max(4, population // 2)))
        self._algorithm = self._nsga2(population, seed)

    def ask(self) -> Architecture | None:
        """The next architecture to evaluate; needs no tell in between.

        Returns:
            One that was never asked for before, inside the budget. None when there is none left;
            in a space too large to enumerate, when drawing and every single change of what was
            asked for found none.
        """
        code = self._queue.pop(0) if self._queue else self._bred() or self._drawn() or self._left()
        if code is None:
            return None
        self._asked.add(code)
        return self._space.architecture(code)

    def adopt(self, architecture: Architecture) -> None:
        """Counts an architecture as asked for: it was, before the space grew."""
        self._asked.add(architecture.code)
        self._queue = [code for code in self._queue if code != architecture.code]

    def tell(self, architecture: Architecture, values: Sequence[float]) -> None:
        """Takes in a result; failed evaluations are not told.

        Args:
            architecture: one that was asked for.
            values: finite, in the order of the directions.
        """
        scores = np.asarray(values, dtype=np.float64)
        if scores.shape != self._signs.shape or not np.isfinite(scores).all():
            raise ValueError(f"{architecture.key}: {len(self._signs)} finite values, not {values}")
        minimised = (scores * self._signs)[None]
        individual = Population.new(X=np.array([architecture.code]), F=minimised)[0]
        if self._algorithm.is_initialized:
            self._algorithm.tell(infills=Population.create(individual))
            return
        # pymoo takes its first population in one piece; it breeds from a part of it already.
        self._early.append(individual)
        if len(self._early) >= self._needed:
            self._algorithm.tell(infills=Population.create(*self._early))

    def fresh(self, codes: Codes, among: Sequence[Code] = ()) -> list[int]:
        """Rows that are new, inside the budget and not repeated; counts what was looked at."""
        known = self._asked | set(among) | set(self._queue)
        new: dict[Code, int] = {}
        for i, row in enumerate(codes.tolist()):
            if tuple(row) not in known:
                new.setdefault(tuple(row), i)
        rows = list(new.values())
        inside = self._feasible(codes[rows]) if rows else np.zeros(0, dtype=bool)
        self.proposed += len(rows)
        self.over_budget += int(len(rows) - inside.sum())
        return [row for row, ok in zip(rows, inside, strict=True) if ok]

    def _nsga2(self, population: int, seed: int) -> Any:
        algorithm = NSGA2(
            pop_size=population,
            n_offsprings=1,
            sampling=np.array(self._queue or [(0,) * len(self._space.parameters)]),
            crossover=_Crossover(self._space),
            mutation=_Mutation(self._space),
            eliminate_duplicates=_Gate(self),
            seed=seed,
        )
        problem = Problem(
            n_var=len(self._space.parameters),
            n_obj=len(self._signs),
            xl=0,
            xu=self._space.cardinalities - 1,
            vtype=int,
        )
        algorithm.setup(problem, termination=NoTermination())
        return algorithm

    def _fill_queue(self, population: int) -> None:
        reference = self._space.reference.code
        if self.fresh(np.array([reference])):
            self._queue.append(reference)
        while len(self._queue) < population:
            code = self._drawn() or self._left()
            if code is None:
                return
            self._queue.append(code)

    def _bred(self) -> Code | None:
        if not self._algorithm.is_initialized:
            return None
        children = self._algorithm.ask()
        if children is None:
            # pymoo ends the run when mating finds nothing new; other parents may find more.
            self._algorithm.termination.force_termination = False
            return None
        return _code(children[0].X)

    def _drawn(self) -> Code | None:
        for _ in range(_DRAWS):
            codes = self._space.sample(self._rng, _DRAW)
            for start in range(0, _DRAW, 8):
                rows = self.fresh(codes[start : start + 8])
                if rows:
                    return _code(codes[start + rows[0]])
        return None

    def _left(self) -> Code | None:
        """What neither breeding nor drawing found: the rest of a small space, or neighbours."""
        if self._space.size <= _ENUMERABLE:
            if self._enumerated is None:
                everything = self._rng.permutation(self._space.enumerate())
                self._enumerated = [_code(row) for row in everything]
            candidates = self._enumerated
        else:
            asked = np.array(sorted(self._asked), dtype=np.int64).reshape(
                -1, len(self._space.names)
            )
            candidates = [_code(row) for row in operators.neighbours(self._space, asked)]
        while candidates:
            code = candidates.pop()
            if self.fresh(np.array([code])):
                return code
        return None


def _code(row: NDArray[np.int64]) -> Code:
    return tuple(int(entry) for entry in row)


class _Gate(DuplicateElimination):  # type: ignore[misc]
    """Drops children that were asked for before or are over the budget; mating then refills."""

    def __init__(self, searcher: Nsga2Searcher) -> None:
        super().__init__()
        self.searcher = searcher

    def do(self, pop: Any, *others: Any, **_: Any) -> Any:
        """The part of `pop` that may be evaluated."""
        if len(pop) == 0:
            return pop
        among = [_code(individual.X) for other in others for individual in other]
        return pop[self.searcher.fresh(pop.get("X").astype(np.int64), among)]


class _Crossover(Crossover):  # type: ignore[misc]
    """Every decision from one of the two parents."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(n_parents=2, n_offsprings=1, prob=0.9)
        self.space = space

    def _do(self, _: Any, parents: Any, *__: Any, random_state: Any, **___: Any) -> Any:
        """Parents, shape (2, N, P) -> children, shape (1, N, P)."""
        first, second = parents.astype(np.int64)
        return operators.crossover(self.space, first, second, random_state)[None]


class _Mutation(Mutation):  # type: ignore[misc]
    """At least one decision to another choice, near ones first."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(prob=1.0)
        self.space = space

    def _do(self, _: Any, codes: Any, *__: Any, random_state: Any, **___: Any) -> Any:
        """Shape (N, P) in and out."""
        return operators.mutate(self.space, codes.astype(np.int64), random_state)
