"""What every searcher promises: new, inside the budget, reproducible, and never stuck."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import toy
from numpy.typing import NDArray

from nas import pareto
from nas.searchers.nsga2 import Nsga2Searcher
from search_spaces.load import load_space
from search_spaces.space import Architecture, Codes, Parameter, SearchSpace

Feasible = Callable[[Codes], NDArray[np.bool_]]
WAYS = ("minimize", "minimize")


def space_of(parameters: tuple[Parameter, ...]) -> SearchSpace:
    reference = {p.name: p.choices[0] for p in parameters if p.when is None}
    return SearchSpace("test", parameters, toy.build_design, "toy:build_design", {}, reference)


SMALL = space_of(
    (
        Parameter("depth", (1, 2, 3, 4)),
        Parameter("kind", ("plain", "gated")),
        Parameter("gate", (1, 2, 3), when="kind == 'gated'"),
        Parameter("alone", (1,)),
    )
)
LARGE = space_of(tuple(Parameter(f"p{i}", tuple(range(8))) for i in range(12)))


def everything(codes: Codes) -> NDArray[np.bool_]:
    return np.ones(len(codes), dtype=bool)


def rare(codes: Codes) -> NDArray[np.bool_]:
    """About one in 800 of LARGE."""
    return np.asarray(codes.sum(axis=1) < 20)


def scores(architecture: Architecture) -> tuple[float, float]:
    """Two conflicting objectives; small is good."""
    code = np.array(architecture.code)
    return float(((code - 6) ** 2).sum()), float(code.sum() + 3 * (code % 3 == 1).sum())


def search(
    space: SearchSpace, feasible: Feasible, asks: int, workers: int = 1, seed: int = 0
) -> list[Architecture]:
    """Asks `workers` ahead of the tells, as workers that take equally long would."""
    searcher = Nsga2Searcher(space, WAYS, feasible, population=12, seed=seed)
    asked: list[Architecture] = []
    for index in range(asks):
        architecture = searcher.ask()
        assert architecture is not None
        asked.append(architecture)
        if index + 1 >= workers:
            done = asked[index + 1 - workers]
            searcher.tell(done, scores(done))
    return asked


@pytest.mark.parametrize("workers", [1, 5, 40])
@pytest.mark.parametrize("feasible", [everything, rare])
def test_asks_are_new_canonical_and_inside_the_budget(feasible: Feasible, workers: int) -> None:
    asked = search(LARGE, feasible, 120, workers)
    codes = np.array([architecture.code for architecture in asked])
    assert len(np.unique(codes, axis=0)) == 120
    assert feasible(codes).all()


def test_equal_seeds_ask_the_same_and_others_do_not() -> None:
    first, again, other = (search(LARGE, everything, 60, 3, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_global_random_state_neither_matters_nor_changes() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = search(LARGE, everything, 40)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(2)
    assert search(LARGE, everything, 40) == first


def test_reference_is_asked_first_when_it_is_inside_the_budget() -> None:
    assert search(LARGE, everything, 1)[0] == LARGE.reference
    outside = search(LARGE, lambda codes: codes.sum(axis=1) > 0, 60)
    assert LARGE.reference not in outside


@pytest.mark.parametrize("workers", [1, 4])
def test_small_space_is_asked_to_its_end_and_no_further(workers: int) -> None:
    asked = search(SMALL, everything, SMALL.size, workers)
    assert len({architecture.key for architecture in asked}) == SMALL.size == 16
    searcher = Nsga2Searcher(SMALL, WAYS, everything, seed=1)
    for _ in range(16):
        architecture = searcher.ask()
        assert architecture is not None
        searcher.tell(architecture, scores(architecture))
    assert searcher.ask() is None
    assert searcher.ask() is None


def test_every_feasible_architecture_is_found_however_few() -> None:
    few = {(3, 0, 0, 0), (3, 1, 2, 0)}
    searcher = Nsga2Searcher(SMALL, WAYS, lambda codes: np.array([tuple(c) in few for c in codes]))
    asked = [searcher.ask(), searcher.ask()]
    assert {architecture.code for architecture in asked if architecture} == few
    assert searcher.ask() is None


def test_search_goes_on_where_breeding_finds_nothing_more() -> None:
    space = space_of(tuple(Parameter(f"p{i}", tuple(range(8))) for i in range(5)))

    def two_islands(codes: Codes) -> NDArray[np.bool_]:
        return np.asarray((codes[:, :4] == 0).all(axis=1) | (codes[:, :4] == 7).all(axis=1))

    searcher = Nsga2Searcher(space, WAYS, two_islands, population=4)
    for _ in range(16):
        architecture = searcher.ask()
        assert architecture is not None
        # The far island is worse in both: no parent survives there, and it must be reached anyhow.
        far = float(architecture.code[0])
        searcher.tell(architecture, (far + architecture.code[4], far - architecture.code[4] + 9))
    assert searcher.ask() is None


def test_nothing_inside_the_budget_is_none() -> None:
    searcher = Nsga2Searcher(SMALL, WAYS, lambda codes: np.zeros(len(codes), dtype=bool))
    assert searcher.ask() is None
    assert searcher.over_budget == searcher.proposed > 0


def test_large_space_goes_on_where_drawing_finds_nothing() -> None:
    """Only a chain of neighbours is feasible: 28 of 8 to the power of 12."""

    def chain(codes: Codes) -> NDArray[np.bool_]:
        full = np.minimum.accumulate((codes == 7).astype(int), axis=1).sum(axis=1)
        rest = np.array([row[k:] for row, k in zip(codes, full, strict=True)], dtype=object)
        return np.array([k < 4 and not any(r[1:]) for r, k in zip(rest, full, strict=True)])

    searcher = Nsga2Searcher(LARGE, WAYS, chain, seed=0)
    asked = list(itertools.takewhile(bool, (searcher.ask() for _ in range(40))))
    assert len(asked) == 4 * 7


def test_failures_are_not_told_and_do_not_stop_the_asks() -> None:
    searcher = Nsga2Searcher(LARGE, WAYS, everything, population=8)
    assert all(searcher.ask() is not None for _ in range(50))


@pytest.mark.parametrize("values", [(1.0,), (1.0, float("nan")), (float("inf"), 1.0)])
def test_values_that_are_no_result_are_refused(values: tuple[float, ...]) -> None:
    searcher = Nsga2Searcher(LARGE, WAYS, everything)
    architecture = searcher.ask()
    assert architecture is not None
    with pytest.raises(ValueError, match="2 finite values"):
        searcher.tell(architecture, values)


def test_proposals_are_counted_with_those_over_the_budget() -> None:
    searcher = Nsga2Searcher(LARGE, WAYS, rare, seed=0)
    assert searcher.proposed > searcher.over_budget > 0.9 * searcher.proposed


@pytest.mark.parametrize("workers", [1, 4])
def test_nsga2_dominates_more_than_as_many_random_ones(workers: int) -> None:
    better = 0
    for seed in range(5):
        asked = search(LARGE, everything, 150, workers, seed)
        drawn = LARGE.sample(np.random.default_rng(seed), 150)
        found = np.array([scores(architecture) for architecture in asked])
        random = np.array([scores(LARGE.architecture(code)) for code in drawn])
        point = np.array([432.0, 120.0])
        better += pareto.hypervolume(found, point) > pareto.hypervolume(random, point)
    assert better == 5


def test_maximised_objectives_are_maximised() -> None:
    searcher = Nsga2Searcher(LARGE, ["maximize"], everything, population=8, seed=0)
    totals = []
    for _ in range(200):
        architecture = searcher.ask()
        assert architecture is not None
        totals.append(sum(architecture.code))
        searcher.tell(architecture, [float(totals[-1])])
    assert np.mean(totals[-20:]) > np.mean(totals[:20]) + 20


def test_enumeration_is_every_architecture_once() -> None:
    codes = SMALL.enumerate()
    assert len(codes) == SMALL.size
    assert (SMALL.canonical(codes) == codes).all()
    assert len({SMALL.architecture(code).key for code in codes}) == SMALL.size


def test_shipped_space_is_searched_without_repetition() -> None:
    asked = search(load_space("tiny"), everything, 60, 2)
    assert len({architecture.key for architecture in asked}) == 60
