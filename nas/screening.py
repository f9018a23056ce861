"""Which of many children are worth training: what models of the results expect them to add.

One model an objective that has to be trained, refitted as results come; what needs no training is
exact. A candidate's worth is the hypervolume that it is expected to add to the front, uncertainty
included. The front is as the models see it too, so that a lucky result blocks nothing, and what is
being evaluated counts as the models expect it. Candidates are NSGA-II's children and what evolves
from them, from draws and from the front on the models alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.expected_gain import cells, expected_gain, spread_members
from nas.pareto import non_dominated, ranks
from nas.searchers.problem import Code, Problem, Values
from nas.surrogates import GaussianProcess, Model, RidgeEnsemble, features_of
from search_spaces import operators
from search_spaces.space import Codes

_FEWEST = 10  # results, before a model is worth anything
_GROWTH = 0.06  # of the results, until the models are fitted again
_MOST = 1000  # results that models are fitted to
_ROUNDS, _ELITE, _DRAWS, _POOL = 6, 40, 1000, 300  # of the evolution on the models
_ENUMERABLE = 150_000  # architectures whose budget is looked up at once
_EDGES = {1: 1, 2: 60, 3: 16}  # points of the front by number of objectives: bounds the cells


@dataclass(frozen=True)
class Expected:
    """What models expect of codes.

    Attributes:
        codes: canonical, shape (N, P).
        means: to be minimised, shape (N, K).
        spread: standard deviations, shape (N, K).
    """

    codes: Codes
    means: Values
    spread: Values

    def __getitem__(self, rows: NDArray[np.int64] | list[int]) -> Expected:
        return Expected(self.codes[rows], self.means[rows], self.spread[rows])

    def joined(self, other: Expected) -> Expected:
        """Both, one after the other."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Expected(*(np.concatenate(pair) for pair in pairs))


class ModelScreen:
    """Satisfies `nas.searchers.nsga2.Screen` and breeds on its models."""

    def __init__(self, problem: Problem, model: Callable[[int], Model], children: int) -> None:
        """Nothing is known yet.

        Args:
            problem: what is searched; its seed is that of every draw.
            model: of a seed, makes the model of one objective.
            children: of mating, and of every round of breeding on the models.
        """
        self.children = children
        self._problem, self._space = problem, problem.space
        self._rng = np.random.default_rng([problem.seed, 2])
        self._models = [model(problem.seed) for _ in problem.directions]
        self._results: dict[Code, Values] = {}  # that models are fitted to
        self._told = self._fitted = 0  # results, and all that is known at the last fit
        self._underway: dict[Code, None] = {}
        self._front = np.zeros((0, len(problem.directions)))  # as the models expect it
        self._known = np.zeros((0, len(self._space.names)), dtype=np.int64)  # codes of the front
        self._pool = Expected(self._known, self._front, self._front)
        self._inside: Codes | None = None

    def learn(self, code: Code, values: Values | None) -> None:
        """Takes in a result, minimised, or that there is none."""
        self._underway.pop(code, None)
        if values is not None:
            self._results[code] = values
            self._told += 1

    def asked(self, code: Code) -> None:
        """Takes in that an architecture is being evaluated."""
        self._underway[code] = None
        if self._fitted:
            self._expect(np.array([code]))

    def choose(self, children: Codes) -> int | None:
        """Row of the one that is expected to add most; None while too little is known to tell."""
        if not len(children) or not self._ready():
            return None
        expected = self._pool if children is self._pool.codes else self._predict(children)
        gains = self._gains(expected)
        if gains.max() > 0:
            return int(gains.argmax())
        return int((expected.means / self._scale).sum(axis=1).argmin())

    def breed(self, mate: Callable[[], Codes], fresh: Callable[[Codes], list[int]]) -> Codes:
        """Candidates to choose among: new ones when the models are, otherwise what is left.

        Args:
            mate: children of the recorded trials' best.
            fresh: rows that are new and inside the budget.

        Returns:
            Canonical codes, shape (N, P), that are new and inside the budget.
        """
        fitted = self._fitted
        if not self._ready():
            return mate()
        left = self._pool[fresh(self._pool.codes)]
        if self._fitted != fitted or len(left.codes) < _POOL // 6:
            left = self._evolved(np.concatenate([left.codes, mate(), self._drawn()]), fresh)
        self._pool = left
        return left.codes

    def _drawn(self) -> Codes:
        """Uniformly; where it can be enumerated, of what is inside the budget."""
        if self._space.size > _ENUMERABLE:
            return self._space.sample(self._rng, _DRAWS)
        if self._inside is None:
            everything = self._space.enumerate()
            self._inside = everything[self._problem.feasible(everything)]
        return self._inside[self._rng.permutation(len(self._inside))[:_DRAWS]]

    def _evolved(self, codes: Codes, fresh: Callable[[Codes], list[int]]) -> Expected:
        """The best of some candidates and of generations of their children on the models."""
        pool = self._predict(codes[fresh(codes)])
        gains = self._gains(pool)
        for _ in range(_ROUNDS):
            elite = pool.codes[_first(-gains, _ELITE)]
            kids = self._kids(np.concatenate([elite, self._known]))
            pool = pool.joined(self._predict(kids[fresh(kids)]))
            pool = pool[np.sort(np.unique(pool.codes, axis=0, return_index=True)[1])]
            gains = self._gains(pool)
            kept = _first(-gains, _POOL)
            pool, gains = pool[kept], gains[kept]
        return pool

    def _kids(self, parents: Codes) -> Codes:
        """Half of them of one parent, half of them of two."""
        first, second = parents[self._rng.integers(len(parents), size=(2, self.children))]
        half = self.children // 2
        first[half:] = operators.crossover(self._space, first[half:], second[half:], self._rng)
        return operators.mutate(self._space, first, self._rng)

    def _gains(self, expected: Expected) -> Values:
        """Hypervolume that each is expected to add, shape (N,)."""
        lower, upper = cells(self._front, self._reference)
        return expected_gain(lower, upper, expected.means, expected.spread)

    def _ready(self) -> bool:
        """Fits the models where there is enough that is new; False where too little is known."""
        if self._told < _FEWEST:
            return False
        known = self._told + len(self._underway)
        if known > self._fitted * (1 + _GROWTH):
            self._fit()
            self._fitted = known
        return True

    def _fit(self) -> None:
        codes = np.array(list(self._results), dtype=np.int64)
        values = np.array(list(self._results.values()))
        if len(codes) > _MOST:
            kept = _latest_and_best(values, _MOST)
            codes, values = codes[kept], values[kept]
            self._results = dict(zip(map(tuple, codes.tolist()), values, strict=True))
        values = _tamed(values)
        self._middle, self._scale = values.mean(axis=0), values.std(axis=0)
        self._scale[self._scale == 0] = 1.0
        self._reference = values.max(axis=0)
        self._train(codes, values)
        if self._underway:  # as expected: nobody else has to find out the same
            underway = np.array(list(self._underway), dtype=np.int64)
            means = self._predict(underway).means
            codes, values = np.concatenate([codes, underway]), np.concatenate([values, means])
            self._train(codes, values)
        self._front, self._known = self._front[:0], self._known[:0]
        self._expect(codes)

    def _train(self, codes: Codes, values: Values) -> None:
        """Fits the models of those objectives that are not priced."""
        features = features_of(self._space, codes)
        unpriced = np.isnan(self._problem.minimised_prices(codes)).any(axis=0)
        standard = (values - self._middle) / self._scale
        for column in np.flatnonzero(unpriced):
            self._models[column].fit(features, standard[:, column])

    def _thin(self) -> None:
        """Leaves few enough of the front for quick gains."""
        count = _EDGES[len(self._scale)]
        if len(self._front) > 3 * count // 2:
            kept = spread_members(self._front, self._reference, count)
            self._front, self._known = self._front[kept], self._known[kept]

    def _expect(self, codes: Codes) -> None:
        """Adds what the models expect of codes to the front."""
        means = self._predict(codes).means
        values = np.concatenate([self._front, means])
        keep = non_dominated(values)
        self._front = values[keep]
        self._known = np.concatenate([self._known, codes])[keep]
        self._thin()

    def _predict(self, codes: Codes) -> Expected:
        """What the models and the prices say; a price is certain."""
        means = self._problem.minimised_prices(codes)
        spread = np.zeros_like(means)
        features = features_of(self._space, codes)
        for column, model in enumerate(self._models):
            unknown = np.isnan(means[:, column])
            if unknown.any():
                mean, deviation = model.predict(features[unknown])
                means[unknown, column] = self._middle[column] + self._scale[column] * mean
                spread[unknown, column] = self._scale[column] * deviation
        return Expected(codes, means, spread)


class RidgeScreen(ModelScreen):
    """Screens with ensembles of kernel ridge regressions."""

    def __init__(self, problem: Problem, children: int = 100) -> None:
        """As `ModelScreen`."""
        super().__init__(problem, RidgeEnsemble, children)


class GaussianProcessScreen(ModelScreen):
    """Screens with Gaussian processes."""

    def __init__(self, problem: Problem, children: int = 100) -> None:
        """As `ModelScreen`."""
        super().__init__(problem, GaussianProcess, children)


def _first(values: Values, count: int) -> NDArray[np.int64]:
    """Rows of the smallest ones, ascending."""
    return np.asarray(np.argsort(values, kind="stable")[:count])


def _tamed(values: Values) -> Values:
    """Far worse ones than most pulled in, so that they do not decide the fit. (N, K) -> (N, K)."""
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    limit = high + 3 * (high - low)
    return np.where(high > low, np.minimum(values, limit), values)


def _latest_and_best(values: Values, count: int) -> NDArray[np.int64]:
    """Rows of the latest half and, of those before, the best by rank; ascending."""
    late = count // 2
    best = np.concatenate(ranks(values[:-late], count - late))[: count - late]
    return np.concatenate([np.sort(best), np.arange(len(values) - late, len(values))])
