"""A search whose answer is known: drawn effects and interactions over 2.2 million architectures.

The space is a real `SearchSpace` with unordered, ordered and conditional parameters. An instance
draws the effects of every choice, of pairs and of triples of choices on two objectives, and a
latency of products. The budget leaves a stated share of the space. All of it is enumerated, so that
the exact front and hypervolume inside the budget are known. A training is the true value and noise.

In the variant `trained` both objectives have to be trained; in `priced` the second one is the
latency, which is exact before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.pareto import hypervolume
from nas.searchers.problem import Problem
from search_spaces.blocks import Design
from search_spaces.space import Architecture, Choice, Codes, Parameter, SearchSpace

Values = NDArray[np.float64]

VARIANTS = ("trained", "priced")
FEASIBLE_SHARE = 0.07
NOISE = 0.1  # of a training, in standard deviations of an objective over the whole space
MAIN_SHARE = 0.7  # of the variance before saturation, over all combinations of states
PAIRS, TRIPLES = 24, 8
REFERENCE_QUANTILE = 0.9  # of the feasible values: where a trained objective's volume begins


def _unbuilt(_: Mapping[str, Choice]) -> Design:
    raise NotImplementedError("architectures of the synthetic space have no networks")


def _parameters() -> tuple[Parameter, ...]:
    kinds = [Parameter(f"kind{i}", ("plain", "gated", "shuffled")) for i in range(4)]
    widths = [Parameter(f"width{i}", (32, 64, 96, 128), ordered=True) for i in range(4)]
    kernels = [Parameter(f"kernel{i}", (3, 5, 7), ordered=True) for i in range(3)]
    attention = Parameter("attention", ("none", "window"))
    heads = Parameter("heads", (1, 2, 4), ordered=True, when="attention == 'window'")
    return (*kinds, *widths, *kernels, attention, heads)


SPACE = SearchSpace(
    "synthetic",
    _parameters(),
    _unbuilt,
    "synthetic_problem:_unbuilt",
    {},
    {p.name: p.choices[0] for p in _parameters() if p.when is None},
)


@dataclass(frozen=True)
class Effects:
    """Sums of tables over the states of one, two or three parameters.

    Attributes:
        tables: columns -> value of every combination of their states.
    """

    tables: Mapping[tuple[int, ...], Values]

    def __call__(self, states: Codes) -> Values:
        """Shape (N, P) -> (N,)."""
        total = np.zeros(len(states))
        for columns, table in self.tables.items():
            total += table[tuple(states[:, column] for column in columns)]
        return total


@dataclass(frozen=True)
class SyntheticProblem:
    """One instance.

    Attributes:
        instance: number that everything is drawn from.
        variant: one of `VARIANTS`.
        noise: standard deviation of a training's noise, before saturation.
    """

    instance: int
    variant: str = "trained"
    noise: float = NOISE

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant: one of {VARIANTS}, not {self.variant!r}")

    @cached_property
    def tables(self) -> tuple[Effects, Effects, Effects]:
        """Of the two trained objectives before scaling, and of the logarithm of the latency."""
        rng = np.random.default_rng([20_000, self.instance])
        capacity, cost = _main(rng), _main(rng)
        taste = [rng.normal(size=len(table)) * rng.gamma(2, 0.4) for table in capacity]
        quality = [-c - 0.6 * t for c, t in zip(capacity, taste, strict=True)]
        fidelity = [-0.8 * c + 0.6 * t for c, t in zip(capacity, taste, strict=True)]
        latency = [0.6 * c + 0.5 * t for c, t in zip(capacity, cost, strict=True)]
        few = _interactions(rng, 12, 0)
        return (
            _scaled(quality, _interactions(rng, PAIRS, TRIPLES), MAIN_SHARE),
            _scaled(fidelity, _interactions(rng, PAIRS, TRIPLES), MAIN_SHARE),
            _scaled(latency, few, 0.9),
        )

    @cached_property
    def scale(self) -> Values:
        """Means and standard deviations of both objectives' effects, shape (2, 2)."""
        states = states_of_all()
        effects = [table(states) for table in self.tables[:2]]
        return np.array([[e.mean() for e in effects], [e.std() for e in effects]])

    def latency(self, codes: Codes) -> Values:
        """Milliseconds. Shape (N, P) -> (N,)."""
        return self._latency(SPACE.rules.states(codes))

    @cached_property
    def budget_ms(self) -> float:
        """Leaves `FEASIBLE_SHARE` of the space."""
        return float(np.quantile(self._latencies, FEASIBLE_SHARE))

    def feasible(self, codes: Codes) -> NDArray[np.bool_]:
        """Which are inside the budget. Shape (N, P) -> (N,)."""
        return np.asarray(self.latency(codes) <= self.budget_ms)

    def prices(self, codes: Codes) -> Values:
        """The latency where it is the second objective, NaN for the rest. Shape (N, 2)."""
        return np.column_stack([np.full(len(codes), np.nan), self.latency(codes)])

    def problem(self, seed: int) -> Problem:
        """What a searcher is given."""
        prices = self.prices if self.variant == "priced" else None
        return Problem(SPACE, ("minimize", "minimize"), self.feasible, prices, (), seed)

    def true(self, codes: Codes) -> Values:
        """Objectives without noise, to be minimised. Shape (N, P) -> (N, 2)."""
        return self._objectives(SPACE.rules.states(codes), np.zeros(2))

    def trained(
        self, architecture: Architecture, seed: int, fidelity: float = 1.0
    ) -> tuple[float, float]:
        """Objectives of one training; the same for everybody with the same seed.

        At a lower fidelity the same noise is as much larger as it is with so many fewer steps.
        """
        code = architecture.code
        drawn = np.random.default_rng([self.instance, seed, *code]).normal(size=2)
        states = SPACE.rules.states(np.array([code]))
        first, second = self._objectives(states, self.noise / fidelity**0.5 * drawn)[0]
        return float(first), float(second)

    @cached_property
    def inside(self) -> Values:
        """True values of everything inside the budget, shape (M, 2)."""
        states = states_of_all()[self._latencies <= self.budget_ms]
        return self._objectives(states, np.zeros(2))

    @cached_property
    def reference(self) -> Values:
        """Where the hypervolume is measured from: the budget for the latency. Shape (2,)."""
        point = np.quantile(self.inside, REFERENCE_QUANTILE, axis=0)
        if self.variant == "priced":
            point[1] = self.budget_ms
        return np.asarray(point)

    @cached_property
    def front(self) -> Values:
        """The exact front of true values inside the budget, shape (F, 2)."""
        return first_front(self.inside)

    @cached_property
    def hypervolume(self) -> float:
        """Of the exact front."""
        return hypervolume(self.front, self.reference)

    def reached(self, codes: Codes, recorded: Values) -> float:
        """Share of the true hypervolume that the recorded front has in truth.

        Args:
            codes: trained, shape (N, P); those over the budget do not count.
            recorded: with noise, shape (N, 2): they choose the front.
        """
        allowed = self.feasible(codes)
        if not allowed.any():
            return 0.0
        codes, recorded = codes[allowed], recorded[allowed]
        chosen = (recorded[:, None] == first_front(recorded)).all(axis=2).any(axis=1)
        return hypervolume(self.true(codes[chosen]), self.reference) / self.hypervolume

    def facts(self) -> dict[str, Any]:
        """What is known of the instance, JSON-ready."""
        return {
            "instance": self.instance,
            "variant": self.variant,
            "size": SPACE.size,
            "feasible_share": len(self.inside) / SPACE.size,
            "front": len(self.front),
            "main_effects_share": [round(s, 3) for s in self.main_effects_shares],
        }

    @cached_property
    def main_effects_shares(self) -> list[float]:
        """Of the variance over the space of each trained objective, what main effects explain."""
        states = SPACE.rules.states(SPACE.sample(np.random.default_rng(0), 50_000))
        one_hot = np.concatenate(
            [np.eye(int(n))[states[:, i]] for i, n in enumerate(SPACE.rules.states_of)], axis=1
        )
        trained = self._objectives(states, np.zeros(2))[:, : 2 if self.variant == "trained" else 1]
        fitted = one_hot @ np.linalg.lstsq(one_hot, trained, rcond=None)[0]
        return [float(share) for share in fitted.var(axis=0) / trained.var(axis=0)]

    @cached_property
    def _latencies(self) -> Values:
        return self._latency(states_of_all())

    def _latency(self, states: Codes) -> Values:
        return np.asarray(100 * np.exp(0.5 * self.tables[2](states)))

    def _objectives(self, states: Codes, noise: Values) -> Values:
        """Saturating: the better, the less an effect adds."""
        effects = np.column_stack([table(states) for table in self.tables[:2]])
        values = np.log1p(np.exp((effects - self.scale[0]) / self.scale[1] + noise))
        if self.variant == "priced":
            values[:, 1] = self._latency(states)
        return np.asarray(values)


@cache
def states_of_all() -> Codes:
    """States of every architecture, shape (2,239,488, 13)."""
    return np.asfortranarray(SPACE.rules.states(SPACE.enumerate()))


def first_front(values: Values) -> Values:
    """Rows that no other row beats in two objectives, by the first. Shape (N, 2) -> (F, 2)."""
    ordered = values[np.lexsort((values[:, 1], values[:, 0]))]
    best = np.minimum.accumulate(ordered[:, 1])
    keep = np.concatenate([[True], ordered[1:, 1] < best[:-1]])
    return np.asarray(ordered[keep])


def _main(rng: np.random.Generator) -> list[Values]:
    """Effects of every parameter's states; ordered choices have ascending ones."""
    effects = []
    for count, parameter in zip(SPACE.rules.states_of, SPACE.parameters, strict=True):
        drawn = rng.normal(size=int(count))
        effects.append((np.sort(drawn) if parameter.ordered else drawn) * rng.gamma(2, 0.5))
    return effects


def _interactions(
    rng: np.random.Generator, pairs: int, triples: int
) -> dict[tuple[int, ...], Values]:
    sizes = SPACE.rules.states_of
    tables: dict[tuple[int, ...], Values] = {}
    for order, count in ((2, pairs), (3, triples)):
        every = list(combinations(range(len(sizes)), order))
        for row in rng.choice(len(every), count, replace=False):
            drawn = rng.normal(size=tuple(sizes[list(every[row])]))
            for axis in range(order):  # nothing that fewer parameters would explain
                drawn -= drawn.mean(axis=axis, keepdims=True)
            tables[every[row]] = drawn
    return tables


def _scaled(
    main: list[Values], interactions: dict[tuple[int, ...], Values], main_share: float
) -> Effects:
    """All effects with a variance of 1, so much of it from the main ones."""
    first = np.sqrt(main_share / sum(table.var() for table in main))
    rest = np.sqrt((1 - main_share) / sum(table.var() for table in interactions.values()))
    tables: dict[tuple[int, ...], Values] = {(i,): first * table for i, table in enumerate(main)}
    return Effects(tables | {columns: rest * table for columns, table in interactions.items()})
