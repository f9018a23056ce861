"""Which of many children are worth training: what models of the results expect them to add.

One model an objective that has to be trained, refitted as results come; what needs no training is
exact. A candidate's worth is the hypervolume that it is expected to add to the front (Emmerich et
al., 2006), uncertainty included. The front is the models' too, so that a lucky result blocks
nothing, and what is being evaluated counts as the models expect it. Candidates are NSGA-II's
children and what evolves from them, from draws and from the front on the models alone.

The default models are kernel ridge regressions: the mean is fitted to the results, and every member
of an ensemble to the results with noise added and less a draw from the prior (Matthews et al.,
2017), which spreads the members as wide as the mean may be wrong. A Gaussian process has a weight
for every parameter instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from scipy.special import ndtr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.kernel_approximation import RBFSampler
from sklearn.kernel_ridge import KernelRidge

from nas.pareto import non_dominated
from nas.searchers.problem import Code, Problem, Values
from search_spaces import operators
from search_spaces.space import Codes, SearchSpace

_FEWEST = 10  # results, before a model is worth anything
_GROWTH = 0.06  # of the results, until the models are fitted again
_MOST = 1000  # results that models are fitted to
_ROUNDS, _ELITE, _DRAWS, _POOL = 6, 40, 1000, 300  # of the evolution on the models
_ENUMERABLE = 150_000  # architectures whose budget is looked up at once
_EDGES = {1: 1, 2: 60, 3: 16}  # points of the front by number of objectives: bounds the cells
_MEMBERS, _WAVES = 24, 200  # of the ensemble; of a draw from its prior
_SCALES = (3.0, 6.0, 12.0, 25.0)  # squared distances; two architectures differ by about P
_RIDGES = np.geomspace(1e-3, 30, 12)
_TUNED = 300  # results that a ridge is chosen with


class Model(Protocol):
    """Of one objective."""

    def fit(self, features: Values, values: Values) -> None:
        """Takes in standardised results, shapes (N, F) and (N,)."""
        ...

    def predict(self, features: Values) -> tuple[Values, Values]:
        """Means and standard deviations, each of shape (M,)."""
        ...


class RidgeEnsemble:
    """Kernel ridge regressions: one for the mean, others whose spread is its uncertainty."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        """Knows nothing yet; `seed` is that of its draws."""
        self._chosen = 0

    def fit(self, features: Values, values: Values) -> None:
        """Takes in standardised results, shapes (N, F) and (N,)."""
        if len(values) > 1.2 * self._chosen:
            self._choose(features, values)
        rng = np.random.default_rng([self._seed, len(values)])
        self._prior = RBFSampler(
            gamma=self._gamma, n_components=_WAVES, random_state=self._seed
        ).fit(features)
        self._weights = np.sqrt(self._variance) * rng.normal(size=(_WAVES, _MEMBERS))
        noise = np.sqrt(self._ridge * self._variance) * rng.normal(size=(len(values), _MEMBERS))
        members = values[:, None] + noise - self._prior.transform(features) @ self._weights
        self._ridges = KernelRidge(alpha=self._ridge, kernel="rbf", gamma=self._gamma)
        self._ridges.fit(features, np.column_stack([values, members]))

    def predict(self, features: Values) -> tuple[Values, Values]:
        """Means and standard deviations, each of shape (M,)."""
        fitted = self._ridges.predict(features)
        members = fitted[:, 1:] + self._prior.transform(features) @ self._weights
        spread = np.sqrt(((members - fitted[:, :1]) ** 2).mean(axis=1))
        return fitted[:, 0], spread

    def _choose(self, features: Values, values: Values) -> None:
        """Width and ridge of the least squared error of leaving one out, on the latest results."""
        features, values = features[-_TUNED:], values[-_TUNED:]
        squared = (features**2).sum(axis=1)
        distances = np.maximum(squared[:, None] + squared - 2 * features @ features.T, 0)
        best = np.inf
        for scale in _SCALES:
            roots, vectors = np.linalg.eigh(np.exp(-distances / scale))
            for ridge in _RIDGES:
                inverse = 1 / (np.maximum(roots, 0) + ridge)
                dual = vectors @ (inverse * (vectors.T @ values))
                error = ((dual / (vectors**2 @ inverse)) ** 2).mean()
                if error < best:
                    best, self._gamma, self._ridge = error, 1 / scale, float(ridge)
                    self._variance = float(max(values @ dual / len(values), 1e-6))
        self._chosen = len(values)


class GaussianProcess:
    """A Gaussian process whose hyperparameters maximise the likelihood of the latest results."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._tuned = 0
        self._kernel = ConstantKernel(1.0, (0.01, 100)) * RBF(2.0, (0.5, 20)) + WhiteKernel(
            0.1, (1e-4, 10)
        )

    def fit(self, features: Values, values: Values) -> None:
        """Takes in standardised results, shapes (N, F) and (N,)."""
        if len(values) > 1.2 * self._tuned:
            tuned = GaussianProcessRegressor(self._kernel, random_state=self._seed)
            with warnings.catch_warnings():  # a hyperparameter at its bound is what it should be
                warnings.simplefilter("ignore", ConvergenceWarning)
                tuned.fit(features[-_TUNED:], values[-_TUNED:])
            self._kernel = tuned.kernel_
            self._tuned = len(values)
        self._process = GaussianProcessRegressor(self._kernel, optimizer=None, alpha=1e-8)
        self._process.fit(features, values)

    def predict(self, features: Values) -> tuple[Values, Values]:
        """Means and standard deviations, each of shape (M,)."""
        means, spread = self._process.predict(features, return_std=True)
        noise = self._kernel.k2.noise_level
        return means, np.sqrt(np.maximum(spread**2 - noise, 1e-9))


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
    """Satisfies `nas.searchers.nsga2.Breeder`."""

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
            kept = _spread(self._front, self._reference, count)
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


def features_of(space: SearchSpace, codes: Codes) -> Values:
    """What models see: every state as a column of its own; ordered choices as a number too.

    Args:
        space: of the codes.
        codes: canonical, shape (N, P).

    Returns:
        Shape (N, F). Two states of an unordered parameter are at a squared distance of 1.
    """
    columns = []
    for states, parameter in zip(space.rules.states(codes).T, space.parameters, strict=True):
        count = len(parameter.choices)
        columns.append(
            (states[:, None] == np.arange(count + (parameter.when is not None))) / 2**0.5
        )
        if parameter.ordered and count > 1:
            number = np.where(states < count, states / (count - 1), 0.5)  # inactive: in the middle
            columns.append(number[:, None])
    return np.concatenate(columns, axis=1)


def cells(front: Values, reference: Values) -> tuple[Values, Values]:
    """Disjoint boxes that fill what no member of a front dominates below the reference.

    Args:
        front: to be minimised, shape (N, K).
        reference: shape (K,).

    Returns:
        Lower and upper corners, shape (C, K) each; lower ones may be minus infinity.
    """
    front = front[(front < reference).all(axis=1)]
    if len(reference) == 1:
        return np.full((1, 1), -np.inf), np.array([[min([reference[0], *front[:, 0]])]])
    levels = np.unique(front[:, -1])
    lows, highs = np.append(-np.inf, levels), np.append(levels, reference[-1])
    if len(reference) == 2:
        ordered = front[np.argsort(front[:, 1])]
        best = np.append(reference[0], np.minimum.accumulate(ordered[:, 0]))
        until = np.searchsorted(ordered[:, 1], lows, side="right")
        upper = np.column_stack([best[until], highs])
        return np.column_stack([np.full(len(lows), -np.inf), lows]), upper
    slices = [cells(front[front[:, -1] <= low][:, :-1], reference[:-1]) for low in lows]
    column = len(reference) - 1
    pairs = list(zip(slices, zip(lows, highs, strict=True), strict=True))
    return (
        np.concatenate([np.insert(s[0], column, low, axis=1) for s, (low, _) in pairs]),
        np.concatenate([np.insert(s[1], column, high, axis=1) for s, (_, high) in pairs]),
    )


def expected_gain(lower: Values, upper: Values, means: Values, spread: Values) -> Values:
    """Hypervolume that independent normal values are expected to add.

    Args:
        lower: of `cells`, shape (C, K).
        upper: the same.
        means: shape (N, K).
        spread: standard deviations, the same.

    Returns:
        Shape (N,).
    """
    gain = np.ones((len(means), len(lower)))
    for k in range(means.shape[1]):
        edges, index = np.unique(np.concatenate([lower[:, k], upper[:, k]]), return_inverse=True)
        below = _expected_excess(edges, means[:, k, None], spread[:, k, None])
        gain *= below[:, index[len(lower) :]] - below[:, index[: len(lower)]]
    return np.asarray(gain.sum(axis=1))


def _expected_excess(edges: Values, means: Values, spread: Values) -> Values:
    """Of edges over normal values, as far as positive. Shapes (E,), (N, 1), (N, 1) -> (N, E)."""
    far = np.isinf(edges)
    room = np.where(far, 0.0, edges) - means
    certain = spread < 1e-12
    z = room / np.where(certain, 1.0, spread)
    excess = room * ndtr(z) + spread * np.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5
    return np.where(far, 0.0, np.where(certain, np.maximum(room, 0.0), excess))


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
    ranks = NonDominatedSorting().do(values[:-late], n_stop_if_ranked=count - late)
    best = [int(i) for rank in ranks for i in sorted(rank)][: count - late]
    return np.array(sorted(best) + list(range(len(values) - late, len(values))), dtype=np.int64)


def _spread(front: Values, reference: Values, count: int) -> list[int]:
    """Members that hold most of a front's hypervolume, one after the other."""
    kept: list[int] = []
    for _ in range(count):
        gains = expected_gain(*cells(front[kept], reference), front, np.zeros_like(front))
        kept.append(int(gains.argmax()))
    return sorted(set(kept))
