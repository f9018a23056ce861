"""What every searcher promises: new, inside the budget, reproducible, and never stuck."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_spaces import RandomSpace, random_spaces

from nas import pareto
from nas.searchers.choice import SEARCHERS, make_searcher
from nas.searchers.nsga2 import Nsga2Searcher
from nas.searchers.problem import Ask, Code, Problem, Searcher
from search_spaces.load import load_space
from search_spaces.space import Codes, Parameter, SearchSpace

Feasible = Callable[[Codes], NDArray[np.bool_]]
Values = tuple[float, ...]
WAYS = ("minimize", "minimize")
RUNGS = (0.25, 0.5, 1.0)

DIRECT = [name for name in SEARCHERS if name != "funnel"]  # it asks for other fidelities too
OPTUNAS = ["optuna-nsga2", "optuna-tpe"]
direct = pytest.mark.parametrize("name", DIRECT)


def space_of(parameters: tuple[Parameter, ...], constraints: tuple[str, ...] = ()) -> SearchSpace:
    reference = {p.name: p.choices[0] for p in parameters if p.when is None}
    return SearchSpace(
        "test", parameters, toy.build_design, "toy:build_design", {}, reference, constraints
    )


SMALL = space_of(
    (
        Parameter("depth", (1, 2, 3, 4)),
        Parameter("kind", ("plain", "gated")),
        Parameter("gate", (1, 2, 3), when="kind == 'gated'"),
        Parameter("alone", (1,)),
    )
)
LARGE = space_of(tuple(Parameter(f"p{i}", tuple(range(8))) for i in range(12)))
RULED = space_of(
    (
        *(Parameter(f"p{i}", tuple(range(8)), ordered=i % 2 == 0) for i in range(6)),
        *(Parameter(f"q{i}", (1, 2, 3), when=f"p{i} >= 4") for i in range(3)),
    ),
    ("p0 + p1 <= 9", "p3 + p4 != 7"),
)


def everything(codes: Codes) -> NDArray[np.bool_]:
    return np.ones(len(codes), dtype=bool)


def nothing(codes: Codes) -> NDArray[np.bool_]:
    return np.zeros(len(codes), dtype=bool)


def rare(codes: Codes) -> NDArray[np.bool_]:
    """About one in 800 of LARGE."""
    return np.asarray(codes.sum(axis=1) < 20)


def scores(ask: Ask) -> Values | None:
    """Two conflicting objectives; small is good. Less training is worse by some."""
    code = np.array(ask.architecture.code)
    lost = float(np.sin(code.sum()) * (1 - ask.fidelity))
    return float(((code - 6) ** 2).sum()) + lost, float(code.sum() + 3 * (code % 3 == 1).sum())


def often_failing(ask: Ask) -> Values | None:
    return None if sum(ask.architecture.code) % 4 == 0 else scores(ask)


def always_failing(ask: Ask) -> Values | None:
    return None


def problem(
    space: SearchSpace = LARGE,
    feasible: Feasible = everything,
    seed: int = 0,
    start: Sequence[Code] = (),
) -> Problem:
    return Problem(space, WAYS, feasible, start=start, seed=seed)


def at_most(name: str, count: int) -> int:
    """Fewer asks of the searcher whose asks take longest."""
    return min(count, 16) if name == "nsga2" else count


def made(name: str, about: Problem, fidelities: Sequence[float] = ()) -> Searcher:
    return make_searcher(name, about, population=12, fidelities=fidelities, trials=60)


@dataclass
class Record:
    """What a driver writes down.

    Attributes:
        asks: each with how many outcomes the searcher had been told.
        told: outcomes in the order of their telling.
    """

    asks: list[tuple[Ask, int]] = field(default_factory=list)
    told: list[tuple[Ask, Values | None]] = field(default_factory=list)

    @property
    def asked(self) -> list[Ask]:
        return [ask for ask, _ in self.asks]

    @property
    def codes(self) -> list[Code]:
        return [ask.architecture.code for ask in self.asked]


def search(
    searcher: Searcher,
    most: int,
    workers: int = 1,
    outcome: Callable[[Ask], Values | None] = scores,
) -> Record:
    """Evaluates until `most` were asked for or nothing is left; what ends first is no order."""
    record = Record()
    running: list[Ask] = []
    while True:
        while len(running) < workers and len(record.asks) < most:
            ask = searcher.ask()
            if ask is None:
                break
            record.asks.append((ask, len(record.told)))
            running.append(ask)
        if not running:
            return record
        ended = running.pop(5 * len(record.told) % len(running))
        values = outcome(ended)
        searcher.tell(ended, values)
        record.told.append((ended, values))


def replayed(searcher: Searcher, record: Record) -> list[Ask | None]:
    """What a searcher asks when it is told the same between its asks."""
    asks, told = [], 0
    for _, told_before in record.asks:
        for ask, values in record.told[told:told_before]:
            searcher.tell(ask, values)
        told = max(told, told_before)
        asks.append(searcher.ask())
    for ask, values in record.told[told:]:
        searcher.tell(ask, values)
    return asks


@direct
@pytest.mark.parametrize("workers", [1, 40])
@pytest.mark.parametrize("feasible", [everything, rare])
def test_asks_are_new_canonical_and_inside_the_budget(
    name: str, feasible: Feasible, workers: int
) -> None:
    most = at_most(name, 60)
    record = search(made(name, problem(feasible=feasible)), most, workers)
    codes = np.array(record.codes)
    assert len(np.unique(codes, axis=0)) == len(codes) == most
    assert LARGE.valid(codes).all()
    assert feasible(codes).all()
    assert {ask.fidelity for ask in record.asked} == {1.0}


@direct
@settings(max_examples=10, deadline=None)
@given(random_spaces(), st.integers(1, 6), st.integers(0, 3))
def test_spaces_with_conditions_and_constraints_are_searched_to_their_end(
    name: str, drawn: RandomSpace, workers: int, seed: int
) -> None:
    if not drawn.members:
        return
    space = replace(drawn.space, reference_choices=drawn.space.decode(drawn.members[-1]))
    most = at_most(name, 40)
    record = search(made(name, problem(space, seed=seed)), most, workers, often_failing)
    assert len(set(record.codes)) == len(record.codes) == min(most, len(drawn.members))
    assert set(record.codes) <= set(drawn.members)


@direct
def test_equal_seeds_ask_the_same_and_others_do_not(name: str) -> None:
    most = at_most(name, 40)
    first, again, other = (
        search(made(name, problem(RULED, seed=seed)), most, 3) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.asked != other.asked


@direct
def test_global_random_state_neither_matters_nor_changes(name: str) -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = search(made(name, problem(RULED)), at_most(name, 40))
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(2)
    assert search(made(name, problem(RULED)), at_most(name, 40)) == first


@pytest.mark.parametrize("name", SEARCHERS)
@pytest.mark.parametrize(("workers", "outcome"), [(1, scores), (4, often_failing), (30, scores)])
def test_replayed_record_asks_the_same_and_goes_on_the_same(
    name: str, workers: int, outcome: Callable[[Ask], Values | None]
) -> None:
    tight = problem(RULED, lambda codes: codes[:, :6].sum(axis=1) < 15, seed=4)
    live, again = made(name, tight), made(name, tight)
    record = search(live, at_most(name, 45), workers, outcome)
    assert replayed(again, record) == record.asked
    assert search(again, 5, workers, outcome) == search(live, 5, workers, outcome)


@pytest.mark.parametrize("name", SEARCHERS)
def test_replay_holds_to_the_end_of_a_small_space(name: str) -> None:
    live, again = made(name, problem(SMALL)), made(name, problem(SMALL))
    record = search(live, 100, 3)
    assert live.ask() is None
    assert replayed(again, record) == record.asked
    assert again.ask() is None


ASKS = """
import json
from test_searchers import RULED, made, problem, search
from nas.searchers.choice import SEARCHERS
print(json.dumps({name: search(made(name, problem(RULED)), 15, 3).codes for name in SEARCHERS}))
"""


def test_other_processes_ask_the_same() -> None:
    """Even where sets of names are in another order."""
    found = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(
            [sys.executable, "-c", ASKS],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            env=environment,
            check=True,
        )
        found.append(json.loads(ran.stdout))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", SEARCHERS)
def test_reference_and_start_come_first_if_they_are_inside_the_budget(name: str) -> None:
    start = [(1,) * 12, (2,) * 12, (0,) * 12, (7,) * 12]
    record = search(made(name, problem(feasible=lambda c: c[:, 0] < 7, start=start)), 20)
    assert record.codes[:3] == [LARGE.reference.code, (1,) * 12, (2,) * 12]
    outside = search(made(name, problem(feasible=lambda c: c.sum(axis=1) > 0)), 20)
    assert LARGE.reference.code not in outside.codes


@direct
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("outcome", [scores, often_failing, always_failing])
def test_small_space_is_asked_to_its_end_and_no_further(
    name: str, workers: int, outcome: Callable[[Ask], Values | None]
) -> None:
    searcher = made(name, problem(SMALL, seed=1))
    record = search(searcher, 100, workers, outcome)
    assert len(set(record.codes)) == len(record.codes) == SMALL.size == 16
    assert searcher.ask() is None
    assert searcher.ask() is None


@direct
def test_every_feasible_architecture_is_found_however_few(name: str) -> None:
    few = {(3, 0, 0, 0), (3, 1, 2, 0)}
    searcher = made(name, problem(SMALL, lambda c: np.array([tuple(row) in few for row in c])))
    assert set(search(searcher, 100).codes) == few


@direct
def test_space_is_asked_to_its_end_without_a_single_result(name: str) -> None:
    searcher = made(name, problem(SMALL))
    asked = list(itertools.takewhile(bool, (searcher.ask() for _ in range(100))))
    assert len(asked) == 16


@pytest.mark.parametrize("name", SEARCHERS)
def test_nothing_inside_the_budget_is_none(name: str) -> None:
    searcher = made(name, problem(SMALL, nothing))
    assert searcher.ask() is None
    assert searcher.over_budget == searcher.proposed > 0


@direct
def test_large_space_goes_on_where_drawing_finds_nothing(name: str) -> None:
    """Only a chain of neighbours is feasible: 14 of 8 to the power of 12."""

    def chain(codes: Codes) -> NDArray[np.bool_]:
        full = np.minimum.accumulate(codes == 7, axis=1).sum(axis=1)
        ends = (codes == 0) | (np.arange(12) <= full[:, None])
        return np.asarray((full < 2) & ends.all(axis=1))

    assert len(search(made(name, problem(feasible=chain)), 40).codes) == 2 * 7


@direct
def test_failures_do_not_stop_the_asks(name: str) -> None:
    assert len(search(made(name, problem()), 40, 4, always_failing).codes) == 40


@pytest.mark.parametrize("name", SEARCHERS)
def test_what_is_adopted_is_not_asked_for_again(name: str) -> None:
    searcher = made(name, problem(SMALL))
    fidelity = 0.3 if name == "funnel" else 1.0
    adopted = [Ask(SMALL.architecture(code), fidelity) for code in SMALL.enumerate()[3:9]]
    for ask in (SMALL.reference.code, (1, 1, 1, 0)):
        adopted.append(Ask(SMALL.architecture(ask), fidelity))
    for number, ask in enumerate(adopted):
        searcher.adopt(ask)
        searcher.tell(ask, None if number == 2 else scores(ask))
    asked = [ask for ask in search(searcher, 100, 2).asked if ask.fidelity == fidelity]
    codes = {ask.architecture.code for ask in asked}
    assert len(asked) == len(codes) == 16 - len({ask.architecture.code for ask in adopted})
    assert not codes & {ask.architecture.code for ask in adopted}


@direct
def test_adoption_in_between_is_replayed_as_well(name: str) -> None:
    """As where several searches share a study: some results are of others, some asks lost."""
    other = [Ask(RULED.architecture(c)) for c in RULED.sample(np.random.default_rng(9), 12)]
    runs = []
    for _ in range(2):
        searcher = made(name, problem(RULED))
        asked = search(searcher, 9, 3).asked
        for ask in [*other, *asked[:2]]:
            searcher.adopt(ask)
        for ask in other[::2]:
            searcher.tell(ask, scores(ask))
        asked += search(searcher, 9, 3).asked
        runs.append(asked)
    assert runs[0] == runs[1]
    codes = [ask.architecture.code for ask in runs[0]]
    assert len(set(codes)) == len(codes)
    assert not {ask.architecture.code for ask in other} & set(codes[9:])


@pytest.mark.parametrize("name", SEARCHERS)
@pytest.mark.parametrize("values", [(1.0,), (1.0, float("nan")), (float("inf"), 1.0)])
def test_values_that_are_no_result_are_refused(name: str, values: Values) -> None:
    searcher = made(name, problem())
    ask = searcher.ask()
    assert ask is not None
    with pytest.raises(ValueError, match="2 finite values"):
        searcher.tell(ask, values)


@direct
def test_proposals_are_counted_with_those_over_the_budget(name: str) -> None:
    searcher = made(name, problem(feasible=rare))
    search(searcher, 12)
    assert searcher.proposed > searcher.over_budget > 0.9 * searcher.proposed


@pytest.mark.parametrize("name", ["nsga2-plain", *OPTUNAS])
def test_maximised_objectives_are_maximised(name: str) -> None:
    searcher = made(name, replace(problem(), directions=["maximize"]))
    record = search(searcher, 120, 2, lambda ask: (float(sum(ask.architecture.code)),))
    totals = [sum(code) for code in record.codes]
    assert np.mean(totals[-20:]) > np.mean(totals[:20]) + 10


@pytest.mark.parametrize("name", OPTUNAS)
def test_optuna_dominates_more_than_as_many_random_ones(name: str) -> None:
    point = np.array([432.0, 120.0])
    for seed in range(2):
        found, random = (
            search(made(by, problem(seed=seed)), 100, 4).asked for by in (name, "random")
        )
        volumes = [
            pareto.hypervolume(np.array([scores(ask) for ask in asked]), point)
            for asked in (found, random)
        ]
        assert volumes[0] > volumes[1]


@pytest.mark.parametrize("name", OPTUNAS)
def test_optuna_is_quiet_and_leaves_its_settings_alone(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.DEBUG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            search(made(name, problem(RULED)), 30, 2, often_failing)
        assert optuna.logging.get_verbosity() == logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("workers", [1, 4])
def test_nsga2_dominates_more_than_as_many_random_ones(workers: int) -> None:
    better = 0
    for seed in range(5):
        searcher = Nsga2Searcher(problem(seed=seed), 12)
        drawn = LARGE.sample(np.random.default_rng(seed), 150)
        found = np.array([scores(ask) for ask in search(searcher, 150, workers).asked])
        random = np.array([scores(Ask(LARGE.architecture(code))) for code in drawn])
        point = np.array([432.0, 120.0])
        better += pareto.hypervolume(found, point) > pareto.hypervolume(random, point)
    assert better == 5


def test_search_goes_on_where_breeding_finds_nothing_more() -> None:
    space = space_of(tuple(Parameter(f"p{i}", tuple(range(8))) for i in range(5)))

    def two_islands(codes: Codes) -> NDArray[np.bool_]:
        return np.asarray((codes[:, :4] == 0).all(axis=1) | (codes[:, :4] == 7).all(axis=1))

    def near_is_better(ask: Ask) -> Values:
        """The far island is worse in both: no parent survives there; it is reached anyhow."""
        far, place = float(ask.architecture.code[0]), ask.architecture.code[4]
        return far + place, far - place + 9

    searcher = Nsga2Searcher(problem(space, two_islands), population=4)
    assert len(search(searcher, 100, 1, near_is_better).codes) == 16


def test_enumeration_is_every_architecture_once() -> None:
    codes = SMALL.enumerate()
    assert len(codes) == SMALL.size
    assert (SMALL.canonical(codes) == codes).all()
    assert len({SMALL.architecture(code).key for code in codes}) == SMALL.size


@direct
def test_shipped_space_is_searched_without_repetition(name: str) -> None:
    most = at_most(name, 40)
    record = search(made(name, problem(load_space("tiny"))), most, 2)
    assert len({ask.architecture.key for ask in record.asked}) == most


def test_unknown_searcher_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'nsga' is none of nsga2, .*did you mean 'nsga2'"):
        made("nsga", problem())


def test_names_of_the_searchers_load_none_of_their_libraries() -> None:
    code = (
        "import sys, nas.searchers.choice; print({*sys.modules} & {'pymoo', 'optuna', 'sklearn'})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
