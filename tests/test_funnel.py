"""The funnel: filter, budget, partial training of a sample, full training of its best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_searchers import (
    LARGE,
    SMALL,
    WAYS,
    Values,
    always_failing,
    nothing,
    often_failing,
    problem,
    replayed,
    scores,
    search,
)

from nas.searchers.choice import make_searcher
from nas.searchers.funnel import FunnelSearcher, best_rows
from nas.searchers.problem import Ask, Problem
from search_spaces.space import Codes


def total(ask: Ask) -> Values:
    return (float(sum(ask.architecture.code)),)


@pytest.mark.parametrize("workers", [1, 6, 100])
@pytest.mark.parametrize("outcome", [scores, often_failing])
def test_best_of_the_sample_are_trained_in_full_when_all_of_it_is_done(
    workers: int, outcome: Callable[[Ask], Values | None]
) -> None:
    searcher = FunnelSearcher(problem(), trials=60, final=8)
    record = search(searcher, 1000, workers, outcome)
    sample, finals = record.asked[:52], record.asked[52:]
    assert {ask.fidelity for ask in sample} == {0.3}
    assert len({ask.architecture.code for ask in sample}) == 52
    assert min(told for _, told in record.asks[52:]) == 52
    assert {ask.fidelity for ask in finals} == {1.0}
    assert len({ask.architecture.code for ask in finals}) == len(finals) == 8
    results = {ask.architecture.code: outcome(ask) for ask in sample}
    kept = np.array([results[ask.architecture.code] for ask in finals], dtype=float)
    others = [v for code, v in results.items() if v and code not in {*record.codes[52:]}]
    for values in others:
        assert not ((values <= kept).all(axis=1) & (values < kept).any(axis=1)).any()
    assert searcher.ask() is None


def test_one_objective_ranks_by_it_alone() -> None:
    about = Problem(LARGE, ["maximize"], lambda codes: np.ones(len(codes), dtype=bool))
    record = search(FunnelSearcher(about, trials=50, final=5), 100, 3, total)
    totals = [sum(code) for code in record.codes]
    assert sorted(totals[45:], reverse=True) == sorted(totals[:45], reverse=True)[:5]


@pytest.mark.parametrize(("trials", "finals"), [(1020, 20), (100, 2), (60, 1), (2, 1)])
def test_two_per_cent_and_at_least_one_are_trained_in_full(trials: int, finals: int) -> None:
    record = search(FunnelSearcher(problem(), trials), 2000, 16)
    fidelities = [ask.fidelity for ask in record.asked]
    assert fidelities == [0.3] * (trials - finals) + [1.0] * finals


def test_filter_comes_before_the_budget_and_both_hold() -> None:
    judged: list[Codes] = []

    def band(codes: Codes) -> np.ndarray:
        size = codes.sum(axis=1)
        return (size >= 30) & (size <= 40)

    def budget(codes: Codes) -> np.ndarray:
        judged.append(codes)
        return codes[:, 0] < 4

    record = search(FunnelSearcher(problem(feasible=budget), 40, band), 100, 4)
    asked = np.array(record.codes)
    assert len(asked) == 40
    assert band(asked).all()
    assert (asked[:, 0] < 4).all()
    assert band(np.concatenate(judged)).all()


def test_filter_that_leaves_nothing_ends_the_search() -> None:
    searcher = FunnelSearcher(problem(), 40, nothing)
    assert searcher.ask() is None
    assert searcher.over_budget == searcher.proposed > 0


def test_nothing_is_trained_in_full_where_all_of_the_sample_failed() -> None:
    record = search(FunnelSearcher(problem(), 40), 100, 4, always_failing)
    assert {ask.fidelity for ask in record.asked} == {0.3}
    assert len(record.asks) == 39


def test_finals_that_fail_do_not_stop_the_others() -> None:
    record = search(
        FunnelSearcher(problem(), 40, final=6),
        100,
        4,
        lambda ask: scores(ask) if ask.fidelity < 1 else None,
    )
    assert [ask.fidelity for ask in record.asked] == [0.3] * 34 + [1.0] * 6


def test_space_smaller_than_the_sample_is_trained_whole() -> None:
    record = search(FunnelSearcher(problem(SMALL), 100, final=5), 1000, 3)
    assert [ask.fidelity for ask in record.asked] == [0.3] * 16 + [1.0] * 5


def test_fewer_results_than_finals_are_all_trained_in_full() -> None:
    searcher = FunnelSearcher(problem(), 20, final=10)
    first = searcher.ask()
    record = search(searcher, 100, 3, always_failing)
    assert len(record.asks) == 9
    assert first is not None
    assert searcher.ask() is None
    searcher.tell(first, scores(first))
    assert searcher.ask() == Ask(first.architecture, 1.0)
    assert searcher.ask() is None


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 60), st.integers(1, 9), st.integers(0, 5))
def test_asks_for_nothing_in_between_change_nothing(trials: int, workers: int, seed: int) -> None:
    live, again = (FunnelSearcher(problem(SMALL, seed=seed), trials) for _ in range(2))
    record = search(live, 1000, workers, often_failing)
    assert replayed(again, record) == record.asked


def test_adopted_trainings_count_and_adopted_results_are_ranked() -> None:
    searcher = FunnelSearcher(problem(), 30, final=3)
    drawn = LARGE.sample(np.random.default_rng(5), 10)
    adopted = [Ask(LARGE.architecture(code), 0.3) for code in drawn]
    for ask in adopted:
        searcher.adopt(ask)
        searcher.tell(ask, scores(ask))
    best = Ask(adopted[0].architecture, 1.0)
    searcher.tell(adopted[0], (-9.0, -9.0))
    searcher.adopt(best)
    record = search(searcher, 100, 4)
    assert [ask.fidelity for ask in record.asked] == [0.3] * 17 + [1.0] * 2
    assert not {ask.architecture for ask in adopted} & {
        ask.architecture for ask in record.asked[:17]
    }
    assert best not in record.asked


def test_full_results_from_elsewhere_are_no_finals() -> None:
    searcher = FunnelSearcher(problem(), 30, final=3)
    for code in LARGE.sample(np.random.default_rng(5), 5):
        ask = Ask(LARGE.architecture(code))
        searcher.adopt(ask)
        searcher.tell(ask, (-9.0, -9.0))
    record = search(searcher, 100, 4)
    assert [ask.fidelity for ask in record.asked] == [0.3] * 27 + [1.0] * 3


@pytest.mark.parametrize(("trials", "final"), [(1, None), (0, None), (5, 5), (5, 0)])
def test_funnel_without_one_of_its_trainings_is_refused(trials: int, final: int | None) -> None:
    with pytest.raises(ValueError, match=f"funnel: {trials} trials"):
        FunnelSearcher(problem(), trials, final=final)


@pytest.mark.parametrize("partial", [0.0, 1.0, 1.5])
def test_partial_training_that_is_none_is_refused(partial: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        FunnelSearcher(problem(), 60, partial=partial)


def test_funnel_is_chosen_with_trials_and_without_fidelities() -> None:
    with pytest.raises(ValueError, match="fidelities: funnel has its own two"):
        make_searcher("funnel", problem(), fidelities=(0.3, 1.0), trials=60)
    with pytest.raises(ValueError, match="trials: funnel must know how many"):
        make_searcher("funnel", problem())
    chosen = make_searcher(
        "funnel", problem(), fidelities=(1.0,), trials=60, filtered=lambda c: c[:, 1] == 3
    )
    record = search(chosen, 100)
    assert len(record.asks) == 60
    assert {code[1] for code in record.codes} == {3}


points = st.integers(1, 3).flatmap(
    lambda k: st.lists(
        st.lists(st.integers(0, 4).map(float), min_size=k, max_size=k), min_size=1, max_size=30
    )
)


@settings(max_examples=200, deadline=None)
@given(points, st.integers(1, 35))
def test_no_row_that_is_left_out_dominates_one_of_the_best(
    rows: list[list[float]], count: int
) -> None:
    values = np.array(rows)
    best = best_rows(values, count)
    assert len(set(best)) == len(best) == min(count, len(rows))
    for left_out in set(range(len(rows))) - set(best):
        worse = (values[left_out] <= values[best]).all(axis=1)
        assert not (worse & (values[left_out] < values[best]).any(axis=1)).any()


def test_front_that_is_too_long_keeps_its_ends() -> None:
    values = np.array([[float(i), float(50 - i)] for i in range(50)])
    assert {0, 49} <= set(best_rows(values, 5))


def test_directions_of_the_problem_decide_what_is_best() -> None:
    about = Problem(LARGE, ("maximize", WAYS[1]), lambda codes: np.ones(len(codes), dtype=bool))
    record = search(
        FunnelSearcher(about, 40, final=1), 100, 2, lambda ask: (*total(ask), -total(ask)[0])
    )
    assert sum(record.codes[-1]) == max(sum(code) for code in record.codes)
