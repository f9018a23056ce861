"""The funnel of "What Matters in Practical Learned Image Compression" (arXiv 2605.05148).

    uniformly drawn ─ filter ─ budget ─ trained partially ─ ranked ─ the best trained in full

Filter and budget cost no training. Between the two trainings there is a barrier: which ones are
the best is known when all of the sample are done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

from nas.pareto import ranks
from nas.searchers.problem import FULL, Ask, Code, Problem, Values
from nas.searchers.untried import Counted, Untried
from search_spaces.space import Codes

Filter = Callable[[Codes], NDArray[np.bool_]]

FINAL_SHARE = 0.02  # the paper trains about 1,000 partially and 20 in full
PARTIAL = 0.3


class FunnelSearcher(Counted):
    """Draws a sample, has it trained partially, and has the best of it trained in full."""

    def __init__(
        self,
        problem: Problem,
        trials: int,
        filtered: Filter | None = None,
        final: int | None = None,
        partial: float = PARTIAL,
    ) -> None:
        """Nothing is asked for yet.

        Args:
            problem: what is searched; its reference and its start are part of the sample.
            trials: trainings of both kinds together.
            filtered: canonical codes, shape (N, P), to whether they may be in the sample at all,
                shape (N,); comes before the budget. Such as a band of kMACs a pixel, or latencies
                near the budget. What it leaves out counts as over the budget.
            final: trainings in full among `trials`; default 2 %, at least one.
            partial: fidelity of the others.

        Raises:
            ValueError: no training of one of the two kinds, or a fidelity that is not partial.
        """
        self._final = max(1, round(FINAL_SHARE * trials)) if final is None else final
        if not 0 < self._final < trials:
            raise ValueError(
                f"funnel: {trials} trials with {self._final} in full; it takes one or more of them"
                " and at least one training more than those"
            )
        if not 0 < partial < FULL:
            raise ValueError(f"funnel: partial training is above 0 and below 1, not {partial}")
        self._problem = problem
        self._sample = trials - self._final
        self._partial = partial
        drawn_from = replace(problem, feasible=_both(filtered, problem.feasible))
        self._untried = Untried(drawn_from, np.random.default_rng([problem.seed, 1]))
        self._untried.begin()
        self._drawn: set[Code] = set()
        self._ended: set[Code] = set()
        self._scores: dict[Code, Values] = {}
        self._finals: set[Code] = set()

    def ask(self) -> Ask | None:
        """One of the sample; when all of it is done, one of the best.

        Returns:
            None while partial trainings are still to come, and when the finals are asked for.
        """
        if len(self._drawn) < self._sample:
            code = self._untried.queued() or self._untried.any()
            if code is not None:
                return self._asked(code, self._partial)
        if self._drawn - self._ended:
            return None
        best = self._best()
        return self._asked(best, FULL) if best else None

    def adopt(self, ask: Ask) -> None:
        """Counts an evaluation as asked for by somebody else."""
        code = ask.architecture.code
        if ask.fidelity == self._partial:
            self._drawn.add(code)
        elif ask.fidelity == FULL and code in self._drawn:
            self._finals.add(code)
        self._untried.take(code)

    def tell(self, ask: Ask, values: Sequence[float] | None) -> None:
        """Takes in a partial result; one that failed is not waited for."""
        scores = None if values is None else self._problem.minimised(ask.architecture, values)
        if ask.fidelity != self._partial:
            return
        self._ended.add(ask.architecture.code)
        if scores is not None:
            self._scores[ask.architecture.code] = scores

    def _asked(self, code: Code, fidelity: float) -> Ask:
        ask = Ask(self._problem.space.architecture(code), fidelity)
        self.adopt(ask)
        return ask

    def _best(self) -> Code | None:
        """The best of the sample that was not asked for in full yet."""
        if len(self._finals) >= self._final or not self._scores:
            return None
        codes = list(self._scores)
        ranked = best_rows(np.array(list(self._scores.values())), self._final)
        return next((codes[row] for row in ranked if codes[row] not in self._finals), None)


def best_rows(values: Values, count: int) -> list[int]:
    """The best rows by non-dominated rank; of the rank that does not fit whole, the least crowded.

    Args:
        values: minimised, shape (N, K).
        count: of the rows; fewer if there are fewer.

    Returns:
        Row numbers, rank by rank, ascending within one that fits.
    """
    best: list[int] = []
    for rows in ranks(values, count):
        if len(best) + len(rows) > count:
            crowding = get_crowding_function("cd").do(values[rows])
            rows = rows[np.argsort(-crowding, kind="stable")]
        best += [int(row) for row in rows[: count - len(best)]]
    return best


def _both(first: Filter | None, second: Filter) -> Filter:
    if first is None:
        return second

    def both(codes: Codes) -> NDArray[np.bool_]:
        kept = np.array(first(codes), dtype=bool)
        if kept.any():
            kept[kept] = second(codes[kept])
        return kept

    return both
