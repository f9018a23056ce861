"""Screening chooses by what models expect, counts what is under way, and stays inside its means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluators.protocol import Direction
from nas import expected_gain, pareto, screening, surrogates
from nas.screening import GaussianProcessScreen, ModelScreen, RidgeScreen
from nas.searchers.nsga2 import Nsga2Searcher
from nas.searchers.problem import Ask, Problem
from search_spaces.space import Codes, Parameter, SearchSpace

Screens = [RidgeScreen, GaussianProcessScreen]
PARAMETERS = (
    *(Parameter(f"width{i}", (1, 2, 3, 4), ordered=True) for i in range(5)),
    *(Parameter(f"kind{i}", ("a", "b", "c")) for i in range(4)),
    Parameter("attention", ("none", "window")),
    Parameter("heads", (1, 2, 4), ordered=True, when="attention == 'window'"),
)
SPACE = SearchSpace(
    "test",
    PARAMETERS,
    toy.build_design,
    "toy:build_design",
    {},
    {p.name: p.choices[0] for p in PARAMETERS if p.when is None},
)
TWO: tuple[Direction, ...] = ("minimize", "minimize")


def cost(codes: Codes) -> NDArray[np.float64]:
    return np.asarray(codes[:, :5].sum(axis=1) + 2.0 * (codes[:, 5:9] == 1).sum(axis=1))


def loss(codes: Codes) -> NDArray[np.float64]:
    """Falls with the widths, and with kinds that suit each other."""
    suits = (codes[:, 5:8] == codes[:, 6:9]).sum(axis=1)
    return np.asarray(20.0 - codes[:, :5].sum(axis=1) - 2.0 * suits - codes[:, 10])


def third(codes: Codes) -> NDArray[np.float64]:
    return np.asarray(codes[:, 0] + codes[:, 9] + (codes[:, 5] == 2).astype(float))


def everything(codes: Codes) -> NDArray[np.bool_]:
    return np.ones(len(codes), dtype=bool)


def cheap(codes: Codes) -> NDArray[np.bool_]:
    return np.asarray(cost(codes) <= 8)


def problem(
    feasible: Callable[[Codes], NDArray[np.bool_]] = everything,
    directions: tuple[Direction, ...] = TWO,
    priced: bool = False,
    seed: int = 0,
) -> Problem:
    def prices(codes: Codes) -> NDArray[np.float64]:
        return np.column_stack([np.full(len(codes), np.nan), cost(codes)])

    return Problem(SPACE, directions, feasible, prices if priced else None, (), seed)


def scores(code: tuple[int, ...], count: int = 2) -> list[float]:
    codes = np.array([code])
    return [float(f(codes)[0]) for f in (loss, cost, third)[:count]]


def search(searcher: Nsga2Searcher, asks: int, workers: int = 1, count: int = 2) -> list[Ask]:
    asked: list[Ask] = []
    for index in range(asks):
        ask = searcher.ask()
        assert ask is not None
        asked.append(ask)
        if index + 1 >= workers:
            done = asked[index + 1 - workers]
            searcher.tell(done, scores(done.architecture.code, count))
    return asked


def taught(screen: ModelScreen, results: int, seed: int = 0) -> Codes:
    codes = np.unique(SPACE.sample(np.random.default_rng(seed), results), axis=0)
    for code in map(tuple, codes.tolist()):
        screen.asked(code)
        screen.learn(code, np.array(scores(code)))
    return codes


def volume(codes: Codes) -> float:
    return pareto.hypervolume(np.column_stack([loss(codes), cost(codes)]), np.array([21.0, 24.0]))


@pytest.mark.parametrize("screen", Screens)
def test_chosen_child_is_among_those_that_add_most(screen: type[ModelScreen]) -> None:
    chooser = screen(problem())
    known = taught(chooser, 150)
    children = SPACE.sample(np.random.default_rng(9), 100)
    before = volume(known)
    gains = np.array([volume(np.vstack([known, child])) - before for child in children])
    row = chooser.choose(children)
    assert row is not None
    assert (gains > gains[row]).sum() < 5


@pytest.mark.parametrize("screen", Screens)
def test_nothing_is_chosen_before_there_are_results(screen: type[ModelScreen]) -> None:
    chooser = screen(problem())
    children = SPACE.sample(np.random.default_rng(9), 100)
    assert chooser.choose(children) is None
    for code in map(tuple, children[:30].tolist()):
        chooser.asked(code)
        chooser.learn(code, None)
    assert chooser.choose(children) is None


@pytest.mark.parametrize("screen", Screens)
def test_what_is_under_way_leaves_room_elsewhere(screen: type[ModelScreen]) -> None:
    chooser = screen(problem(priced=True))
    taught(chooser, 60)
    children = SPACE.sample(np.random.default_rng(9), 200)
    chosen = []
    for _ in range(6):
        row = chooser.choose(children)
        assert row is not None
        chosen.append(float(cost(children)[row]))
        chooser.asked(tuple(children[row].tolist()))
        children = np.delete(children, row, axis=0)
    assert len(set(chosen)) >= 3


def test_failed_evaluation_is_no_longer_under_way() -> None:
    chooser, other = RidgeScreen(problem()), RidgeScreen(problem())
    children = SPACE.sample(np.random.default_rng(9), 100)
    taught(chooser, 60)
    for code in map(tuple, children.tolist()):
        chooser.asked(code)
        chooser.learn(code, None)
    taught(chooser, 61, seed=1)
    taught(other, 60)
    taught(other, 61, seed=1)
    assert chooser.choose(children) == other.choose(children)


@pytest.mark.parametrize("screen", Screens)
@pytest.mark.parametrize("workers", [1, 8])
def test_screened_asks_are_new_and_inside_the_budget(
    screen: type[ModelScreen], workers: int
) -> None:
    task = problem(cheap, priced=True)
    asked = search(Nsga2Searcher(task, screen=screen(task)), 60, workers)
    codes = np.array([ask.architecture.code for ask in asked])
    assert len(np.unique(codes, axis=0)) == 60
    assert cheap(codes).all()
    assert SPACE.valid(codes).all()


@pytest.mark.parametrize("screen", Screens)
def test_equal_seeds_and_results_ask_the_same(screen: type[ModelScreen]) -> None:
    def asks(seed: int) -> list[Ask]:
        task = problem(cheap, seed=seed)
        return search(Nsga2Searcher(task, screen=screen(task)), 24, 3)

    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = asks(1)
    assert (np.random.get_state()[1] == state).all()
    np.random.seed(2)
    assert asks(1) == first != asks(2)


@pytest.mark.parametrize("priced", [False, True])
def test_screening_finds_more_than_half_as_many_more_unscreened(priced: bool) -> None:
    found = np.zeros(2)
    for seed in range(3):
        task = problem(cheap, priced=priced, seed=seed)
        both = (
            search(Nsga2Searcher(task, screen=RidgeScreen(task)), 50),
            search(Nsga2Searcher(task), 75),
        )
        found += [volume(np.array([a.architecture.code for a in asked])) for asked in both]
    assert found[0] > found[1]


@pytest.mark.parametrize("count", [1, 3])
def test_one_and_three_objectives_are_screened(count: int) -> None:
    task = problem(directions=("minimize",) * count)
    found = []
    for screen in (RidgeScreen(task), None):
        asked = search(Nsga2Searcher(task, screen=screen), 40, 2, count)
        values = np.array([scores(ask.architecture.code, count) for ask in asked])
        found.append(pareto.hypervolume(values, np.array([21.0, 24.0, 6.0])[:count]))
    assert found[0] > found[1]


def test_one_wild_result_does_not_spoil_the_choice() -> None:
    chooser = RidgeScreen(problem())
    known = taught(chooser, 150)
    chooser.learn(tuple(known[0].tolist()), np.array([1e9, 1e9]))
    children = SPACE.sample(np.random.default_rng(9), 100)
    row = chooser.choose(children)
    gains = np.array([volume(np.vstack([known, child])) for child in children])
    assert row is not None
    assert (gains > gains[row]).sum() < 10


def test_results_that_are_all_equal_are_screened() -> None:
    chooser = RidgeScreen(problem())
    for code in map(tuple, SPACE.sample(np.random.default_rng(0), 30).tolist()):
        chooser.learn(code, np.array([1.0, 2.0]))
    assert chooser.choose(SPACE.sample(np.random.default_rng(9), 100)) is not None


def test_small_space_is_screened_to_its_end() -> None:
    parameters = (Parameter("a", tuple(range(5)), ordered=True), Parameter("b", tuple(range(4))))
    space = SearchSpace("small", parameters, toy.build_design, "toy", {}, {"a": 0, "b": 0})
    task = Problem(space, TWO, everything)
    searcher = Nsga2Searcher(task, population=6, screen=RidgeScreen(task))
    asked = set()
    for _ in range(20):
        ask = searcher.ask()
        assert ask is not None
        asked.add(ask.architecture.code)
        a, b = ask.architecture.code
        searcher.tell(ask, [float(a + b), float((a - b) ** 2)])
    assert len(asked) == 20
    assert searcher.ask() is None


def test_models_are_fitted_to_a_bounded_number_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "_MOST", 50)
    fitted: list[int] = []
    fit = surrogates.RidgeEnsemble.fit

    def counted(model: surrogates.RidgeEnsemble, features: NDArray, values: NDArray) -> None:
        fitted.append(len(values))
        fit(model, features, values)

    monkeypatch.setattr(surrogates.RidgeEnsemble, "fit", counted)
    task = problem()
    searcher = Nsga2Searcher(task, screen=RidgeScreen(task))
    codes = np.unique(SPACE.sample(np.random.default_rng(0), 250), axis=0)
    for code in codes:
        searcher.adopt(Ask(SPACE.architecture(code)))
        searcher.tell(Ask(SPACE.architecture(code)), scores(tuple(code.tolist())))
    assert searcher.ask() is not None
    asked = search(searcher, 30)
    assert 50 <= max(fitted) <= 50 + 1  # one is under way
    assert len(fitted) < 2 * 10
    assert volume(np.array([a.architecture.code for a in asked])) > 0.9 * volume(codes)


@given(st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_certain_values_gain_exactly_what_the_hypervolume_grows_by(data: st.DataObject) -> None:
    objectives = data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    front = rng.integers(0, 8, (data.draw(st.integers(0, 9)), objectives)).astype(float)
    added = rng.integers(0, 9, (5, objectives)).astype(float)
    reference = np.full(objectives, 7.0)
    gains = expected_gain.expected_gain(
        *expected_gain.cells(front, reference), added, np.zeros_like(added)
    )
    inside = [row for row in front if (row < reference).all()]
    before = pareto.hypervolume(np.array(inside).reshape(-1, objectives), reference)
    for row, gain in zip(added, gains, strict=True):
        both = [*inside, *([row] if (row < reference).all() else [])]
        after = pareto.hypervolume(np.array(both).reshape(-1, objectives), reference)
        assert gain == pytest.approx(after - before, abs=1e-9)


def test_uncertain_values_gain_what_draws_of_them_gain() -> None:
    rng = np.random.default_rng(0)
    front = np.array([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0]])
    boxes = expected_gain.cells(front, np.array([5.0, 5.0]))
    means, spread = np.array([[1.5, 2.5]]), np.array([[0.7, 0.4]])
    drawn = means + spread * rng.normal(size=(200_000, 2))
    gains = expected_gain.expected_gain(*boxes, drawn, np.zeros_like(drawn))
    error = gains.std() / 200_000**0.5
    assert expected_gain.expected_gain(*boxes, means, spread)[0] == pytest.approx(
        gains.mean(), abs=4 * error
    )


@pytest.mark.parametrize("model", [surrogates.RidgeEnsemble, surrogates.GaussianProcess])
def test_errors_of_a_model_are_about_as_large_as_it_says(
    model: type[surrogates.RidgeEnsemble] | type[surrogates.GaussianProcess],
) -> None:
    rng = np.random.default_rng(0)
    codes, others = SPACE.sample(rng, 80), SPACE.sample(rng, 500)
    middle, scale = loss(others).mean(), loss(others).std()
    learner = model(0)
    learner.fit(surrogates.features_of(SPACE, codes), (loss(codes) - middle) / scale)
    means, spread = learner.predict(surrogates.features_of(SPACE, others))
    error = means - (loss(others) - middle) / scale
    assert np.sqrt((error**2).mean()) < 0.7
    assert 0.5 < np.sqrt(((error / spread) ** 2).mean()) < 2


class Cheapest:
    """A screen of somebody's own: takes the cheapest child."""

    children = 30

    def learn(self, code: tuple[int, ...], values: NDArray[np.float64] | None) -> None: ...

    def asked(self, code: tuple[int, ...]) -> None: ...

    def breed(self, mate: Callable[[], Codes], fresh: Callable[[Codes], list[int]]) -> Codes:
        return mate()

    def choose(self, children: Codes) -> int | None:
        return int(cost(children).argmin())


def test_screen_that_breeds_nothing_chooses_among_the_children() -> None:
    task = problem()
    chosen = search(Nsga2Searcher(task, screen=Cheapest()), 40)
    codes = np.array([ask.architecture.code for ask in chosen])
    assert len(np.unique(codes, axis=0)) == 40
    assert cost(codes[30:]).mean() < cost(codes[:12]).mean()
