"""Rungs: what goes on from one fidelity to the next, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_searchers import (
    DIRECT,
    LARGE,
    RULED,
    RUNGS,
    SMALL,
    Record,
    Values,
    always_failing,
    at_most,
    made,
    often_failing,
    problem,
    replayed,
    scores,
    search,
)

from nas.pareto import non_dominated
from nas.searchers.problem import Ask, Code
from nas.searchers.random_search import RandomSearcher
from nas.searchers.rungs import RungSearcher


def rungs(fidelities: Sequence[float] = RUNGS, seed: int = 0, space: str = "large") -> RungSearcher:
    about = problem({"large": LARGE, "ruled": RULED, "small": SMALL}[space], seed=seed)
    return RungSearcher(about, fidelities, RandomSearcher(about))


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank by peeling one front after the other."""
    found = np.full(len(values), -1)
    left = np.arange(len(values))
    for rank in range(len(values)):
        front = non_dominated(values[left])
        found[left[front]] = rank
        left = left[~front]
    return found


def results_before(record: Record, told: int, fidelity: float) -> dict[Code, Values]:
    return {
        ask.architecture.code: values
        for ask, values in record.told[:told]
        if ask.fidelity == fidelity and values is not None
    }


fidelities = st.lists(st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75]), max_size=3, unique=True).map(
    lambda some: (*sorted(some), 1.0)
)


@settings(max_examples=40, deadline=None)
@given(fidelities, st.integers(1, 9), st.integers(0, 5), st.sampled_from([scores, often_failing]))
def test_only_the_best_share_of_a_rung_goes_on_and_before_anything_new(
    levels: tuple[float, ...], workers: int, seed: int, outcome: Callable[[Ask], Values | None]
) -> None:
    record = search(rungs(levels, seed), 70, workers, outcome)
    assert len({(ask.architecture.code, ask.fidelity) for ask in record.asked}) == 70
    gone_on: dict[float, set[Code]] = {level: set() for level in levels}
    for ask, told in record.asks:
        for low, high in pairwise(levels):
            results = results_before(record, told, low)
            share = int(len(results) * low / high)
            if ask.fidelity == high:
                rank = ranks(np.array(list(results.values())))
                mine = rank[list(results).index(ask.architecture.code)]
                assert (rank < mine).sum() < share
            elif ask.fidelity == levels[0]:
                assert len(gone_on[high]) >= share
        gone_on[ask.fidelity].add(ask.architecture.code)


@settings(max_examples=20, deadline=None)
@given(fidelities, st.integers(1, 9), st.integers(0, 5))
def test_rung_holds_no_more_than_the_promotions_of_its_results(
    levels: tuple[float, ...], workers: int, seed: int
) -> None:
    """One that is promoted may be overtaken later; there are few of those."""
    record = search(rungs(levels, seed), 70, workers)
    counts = [sum(ask.fidelity == level for ask in record.asked) for level in levels]
    for (low, high), (below, above) in zip(pairwise(levels), pairwise(counts), strict=True):
        assert above <= 2 * below * low / high + 2


@pytest.mark.parametrize("name", DIRECT)
@pytest.mark.parametrize("workers", [1, 7])
def test_replay_of_rungs_asks_the_same(name: str, workers: int) -> None:
    live, again = (made(name, problem(RULED, seed=2), RUNGS) for _ in range(2))
    record = search(live, at_most(name, 60), workers)
    assert {ask.fidelity for ask in record.asked} == set(RUNGS)
    assert replayed(again, record) == record.asked
    assert search(again, 5, workers) == search(live, 5, workers)


@pytest.mark.parametrize("name", DIRECT)
def test_small_space_ends_when_the_last_promotion_is_asked_for(name: str) -> None:
    live, again = (made(name, problem(SMALL), RUNGS) for _ in range(2))
    record = search(live, 100, 3)
    lowest = [ask.architecture.code for ask in record.asked if ask.fidelity == RUNGS[0]]
    assert len(set(lowest)) == len(lowest) == SMALL.size
    assert len({(ask.architecture.code, ask.fidelity) for ask in record.asked}) == len(record.asks)
    assert sum(ask.fidelity == 0.5 for ask in record.asked) >= SMALL.size // 2
    assert sum(ask.fidelity == 1.0 for ask in record.asked) >= SMALL.size // 4
    assert live.ask() is None
    assert replayed(again, record) == record.asked


def test_results_that_come_late_are_promoted_after_an_ask_for_nothing() -> None:
    searcher = rungs(space="small")
    asks = list(iter(searcher.ask, None))
    assert len(asks) == SMALL.size
    for ask in asks:
        searcher.tell(ask, scores(ask))
    promoted = searcher.ask()
    assert promoted is not None
    assert promoted.fidelity == 0.5


def test_what_fails_is_not_promoted() -> None:
    record = search(rungs(), 60, 3, always_failing)
    assert {ask.fidelity for ask in record.asked} == {RUNGS[0]}


@pytest.mark.parametrize("name", DIRECT)
def test_scores_of_higher_rungs_never_meet_those_of_the_lowest(name: str) -> None:
    """However good they are: what is asked for follows from the lowest rung alone."""

    def praising(ask: Ask) -> Values | None:
        return scores(ask) if ask.fidelity < 1 else (-1e6 * ask.architecture.code[1], -1e6)

    def refusing(ask: Ask) -> Values | None:
        return scores(ask) if ask.fidelity < 1 else None

    first, other = (
        search(made(name, problem(), (0.25, 1.0)), at_most(name, 60), 3, outcome).asked
        for outcome in (praising, refusing)
    )
    assert first == other


def test_rung_in_the_middle_decides_who_reaches_the_top() -> None:
    """It orders them the other way round than the lowest rung does."""

    def turning(ask: Ask) -> Values:
        total = float(sum(ask.architecture.code))
        return (total, total) if ask.fidelity == 0.25 else (-total, -total)

    record = search(rungs(), 200, 1, turning)
    totals = {
        level: [sum(ask.architecture.code) for ask in record.asked if ask.fidelity == level]
        for level in RUNGS
    }
    assert np.mean(totals[0.5]) < np.mean(totals[0.25])
    assert np.mean(totals[1.0]) > np.mean(totals[0.5])


def test_adopted_promotion_is_not_asked_for_again() -> None:
    searcher = rungs()
    asks = [ask for _ in range(4) if (ask := searcher.ask())]
    for ask in asks:
        searcher.tell(ask, scores(ask))
    best = min(asks, key=lambda ask: scores(ask) or ())
    for ask in asks:
        searcher.adopt(Ask(ask.architecture, 0.5))
    assert [searcher.ask().fidelity for _ in range(4)] == [0.25] * 4
    searcher.tell(Ask(best.architecture, 0.5), (0.0, 0.0))
    searcher.tell(Ask(asks[1].architecture, 0.5), (9.0, 9.0))
    assert searcher.ask() == Ask(best.architecture, 1.0)


def test_adopted_at_the_lowest_rung_is_neither_asked_for_again_nor_lost() -> None:
    searcher = rungs(space="small")
    adopted = Ask(SMALL.architecture((3, 1, 2, 0)), RUNGS[0])
    searcher.adopt(adopted)
    searcher.tell(adopted, (-1e3, -1e3))
    record = search(searcher, 100, 2)
    assert adopted not in record.asked
    assert Ask(adopted.architecture, 0.5) in record.asked


def test_one_fidelity_is_no_rung() -> None:
    about = problem(seed=3)
    plain, single = RandomSearcher(about), RungSearcher(about, (1.0,), RandomSearcher(about))
    assert search(plain, 20).asked == search(single, 20).asked


@pytest.mark.parametrize("levels", [(), (0.5,), (1.0, 0.5), (0.5, 0.5, 1.0), (0.0, 1.0), (-1, 1.0)])
def test_fidelities_that_are_none_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="above 0, ascending, the last one 1"):
        rungs(levels)


def test_share_holds_with_more_results_than_are_compared() -> None:
    """Only the latest 1,000 are; one that was overtaken may be among the best again later."""
    record = search(rungs((0.5, 1.0)), 2500, 8)
    full = sum(ask.fidelity == 1.0 for ask in record.asked)
    assert 0.5 <= full / (2500 - full) <= 0.6
