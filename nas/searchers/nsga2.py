"""NSGA-II (Deb et al., 2002), steady state and asynchronous, over the codes of a search space.

pymoo breeds and selects; this file proposes nothing twice and nothing over the budget, and goes on
where pymoo gives up: an ask that mating cannot answer is answered by drawing, then by enumerating.
With a screen, hundreds of children are bred for an ask and the most promising one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.termination import NoTermination

from nas.searchers.problem import Ask, Code, Problem, Values
from nas.searchers.untried import Counted, Untried, as_code
from search_spaces import operators
from search_spaces.space import Codes, SearchSpace

_ROUNDS = 3  # of mating, to fill the children up: most of them are new and feasible near parents


class Screen(Protocol):
    """Chooses which of many children is worth training."""

    children: int

    def learn(self, code: Code, values: Values | None) -> None:
        """Takes in a result, minimised, or that there is none."""
        ...

    def asked(self, code: Code) -> None:
        """Takes in that an architecture is being evaluated."""
        ...

    def breed(self, mate: Callable[[], Codes], fresh: Callable[[Codes], list[int]]) -> Codes:
        """What there is to choose among, shape (N, P): new, inside the budget.

        Args:
            mate: children of the best recorded trials, as many as `children` if it finds them.
            fresh: canonical codes, shape (N, P), to the rows that are new, inside the budget and
                not repeated.
        """
        ...

    def choose(self, children: Codes) -> int | None:
        """Row of the most promising one; None while too little is known to tell."""
        ...


class Nsga2Searcher(Counted):
    """Asks for architectures that are new and inside the budget; learns from what is told."""

    def __init__(
        self, problem: Problem, population: int = 12, screen: Screen | None = None
    ) -> None:
        """Draws the initial population: the reference first, if it is inside the budget.

        Args:
            problem: what is searched.
            population: parents that survive; the first ones are drawn uniformly.
            screen: chooses among children; without one the first child is taken.
        """
        self._problem = problem
        self._space = problem.space
        self._screen = screen
        self._untried = Untried(problem, np.random.default_rng([problem.seed, 1]))
        self._ended = False
        self._early: list[Any] = []
        first = self._untried.begin(population)
        self._needed = max(2, min(population, max(4, population // 2)))
        self._algorithm = self._nsga2(population, first)

    def ask(self) -> Ask | None:
        """The next architecture to evaluate; needs no tell in between.

        Returns:
            One that was never asked for before, inside the budget. None when there is none left;
            in a space too large to enumerate, when drawing and every single change of what was
            asked for found none.
        """
        if self._ended:
            return None
        code = self._untried.queued() or self._bred() or self._untried.any()
        if code is None:
            self._ended = True  # whoever replays the asks draws no more either
            return None
        self._take(code)
        return Ask(self._space.architecture(code))

    def adopt(self, ask: Ask) -> None:
        """Counts an architecture as asked for by somebody else."""
        self._take(ask.architecture.code)

    def tell(self, ask: Ask, values: Sequence[float] | None) -> None:
        """Takes in a result.

        Args:
            ask: one that was asked for.
            values: finite, in the order of the directions; None of a failed evaluation.
        """
        code = ask.architecture.code
        scores = None if values is None else self._problem.minimised(ask.architecture, values)
        if self._screen is not None:
            self._screen.learn(code, scores)
        if scores is not None:
            self._survive(Population.new(X=np.array([code]), F=scores[None])[0])

    def fresh(self, codes: Codes, among: Sequence[Code] = ()) -> list[int]:
        """Rows that are new, inside the budget and not repeated; counts what was looked at."""
        return self._untried.fresh(codes, among)

    def _take(self, code: Code) -> None:
        self._untried.take(code)
        if self._screen is not None:
            self._screen.asked(code)

    def _survive(self, individual: Any) -> None:
        if self._algorithm.is_initialized:
            self._algorithm.tell(infills=Population.create(individual))
            return
        # pymoo takes its first population in one piece; it breeds from a part of it already.
        self._early.append(individual)
        if len(self._early) >= self._needed:
            self._algorithm.tell(infills=Population.create(*self._early))

    def _nsga2(self, population: int, first: Sequence[Code]) -> Any:
        algorithm = NSGA2(
            pop_size=population,
            n_offsprings=self._screen.children if self._screen else 1,
            sampling=np.array(first or [(0,) * len(self._space.parameters)]),
            crossover=_Crossover(self._space),
            mutation=_Mutation(self._space),
            eliminate_duplicates=_Gate(self),
            seed=self._problem.seed,
        )
        if self._screen:
            algorithm.mating.n_max_iterations = _ROUNDS
        problem = PymooProblem(
            n_var=len(self._space.parameters),
            n_obj=len(self._problem.directions),
            xl=0,
            xu=self._space.cardinalities - 1,
            vtype=int,
        )
        algorithm.setup(problem, termination=NoTermination())
        return algorithm

    def _bred(self) -> Code | None:
        if not self._algorithm.is_initialized:
            return None
        screen = self._screen
        codes = screen.breed(self._mated, self.fresh) if screen else self._mated()
        if not len(codes):
            return None
        row = screen.choose(codes) if screen else None
        return as_code(codes[row or 0])

    def _mated(self) -> Codes:
        """Children of the parents that are new and inside the budget, shape (N, P)."""
        children = self._algorithm.ask()
        if children is None:
            # pymoo ends the run when mating finds nothing new; other parents may find more.
            self._algorithm.termination.force_termination = False
            return np.zeros((0, len(self._space.parameters)), dtype=np.int64)
        return np.asarray(children.get("X"), dtype=np.int64)


class _Gate(DuplicateElimination):  # type: ignore[misc]
    """Drops children that were asked for before or are over the budget; mating then refills."""

    def __init__(self, searcher: Nsga2Searcher) -> None:
        super().__init__()
        self.searcher = searcher

    def do(self, pop: Any, *others: Any, **_: Any) -> Any:
        """The part of `pop` that may be evaluated."""
        if len(pop) == 0:
            return pop
        among = [as_code(individual.X) for other in others for individual in other]
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
