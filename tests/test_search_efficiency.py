"""The benchmark of searchers still runs, and its synthetic problem is what it says it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nas.searchers.choice import make_searcher
from nas.searchers.problem import Ask
from search_spaces.load import load_space

BENCHMARKS = Path(__file__).parent.parent / "experiments/benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from search_settings import Nearest, Table  # noqa: E402
from search_summary import goals, printed, summary  # noqa: E402
from synthetic_problem import SPACE, SyntheticProblem  # noqa: E402


@pytest.fixture(scope="module", params=["trained", "priced"])
def instance(request: pytest.FixtureRequest) -> SyntheticProblem:
    return SyntheticProblem(1000, request.param)


def test_synthetic_problem_is_as_large_and_as_hard_as_stated(instance: SyntheticProblem) -> None:
    facts = instance.facts()
    assert facts["size"] == SPACE.size == 2_239_488
    assert 0.05 <= facts["feasible_share"] <= 0.1
    assert all(0.5 < share <= 0.7 for share in facts["main_effects_share"])


def test_no_feasible_architecture_beats_the_exact_front(instance: SyntheticProblem) -> None:
    codes = SPACE.sample(np.random.default_rng(0), 3000)
    for row in instance.true(codes[instance.feasible(codes)]):
        worse_or_equal = (instance.front <= row + 1e-12).all(axis=1)
        assert worse_or_equal.any()


def test_prices_are_true_and_the_rest_is_noise(instance: SyntheticProblem) -> None:
    codes = SPACE.sample(np.random.default_rng(0), 200)
    architectures = [SPACE.architecture(code) for code in codes]
    trained = np.array([instance.trained(architecture, 5) for architecture in architectures])
    assert (trained == [instance.trained(architecture, 5) for architecture in architectures]).all()
    error = trained - instance.true(codes)
    assert 0.01 < error[:, 0].std() < 0.1
    if instance.variant == "priced":
        assert (error[:, 1] == 0).all()
        assert (trained[:, 1] == instance.problem(0).minimised_prices(codes)[:, 1]).all()


def test_noise_chooses_the_front_and_truth_is_its_worth(instance: SyntheticProblem) -> None:
    codes = SPACE.sample(np.random.default_rng(0), 3000)
    codes = codes[instance.feasible(codes)]
    true = instance.true(codes)
    best = instance.reached(codes, true)
    assert 0 <= instance.reached(codes, -true) < best < 1
    outside = SPACE.sample(np.random.default_rng(0), 300)
    outside = outside[~instance.feasible(outside)]
    assert instance.reached(outside, np.zeros((len(outside), 2))) == 0


def run(seed: int, searcher: str, to: float | None) -> dict[str, object]:
    same = {"setting": "synthetic-trained", "workers": 1, "evaluations": 400}
    share = {"50": 0.8, "100": 0.9, "200": 0.9, "400": 0.95}
    return {
        **same,
        "seed": seed,
        "searcher": searcher,
        "share": share,
        "to": {"90%": 123.0, "95%": to, "99%": to},
    }


def test_gain_is_paired_and_at_least_where_the_baseline_does_not_get_there() -> None:
    runs = [run(seed, "nsga2", 100.0) for seed in range(5)]
    runs += [run(seed, "nsga2-plain", 300.0) for seed in range(5)]
    goal = goals([*runs, *(run(seed, "random", None) for seed in range(5))])[0]
    assert goal["baseline"] == "nsga2-plain"
    assert goal["fewer"]["paired"]["median"] == goal["fewer"]["of_medians"] == 3
    assert not goal["fewer"]["at_least"]
    alone = goals([*runs[:5], *(run(seed, "random", None) for seed in range(5))])[0]
    assert alone["fewer"]["of_medians"] == 4
    assert alone["fewer"]["at_least"]
    medians = {line["searcher"]: line["to"]["95%"]["median"] for line in summary(runs)}
    assert medians == {"nsga2": 100, "nsga2-plain": 300}
    assert max(map(len, printed(summary(runs), []))) <= 100


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty architectures with made-up results at two fidelities."""
    space, rng = load_space("tiny"), np.random.default_rng(0)
    rows = []
    for code in np.unique(space.sample(rng, 40), axis=0).tolist():
        loss = float(rng.normal())
        rungs = {"0.25": {"loss": loss + 0.3 * rng.normal()}, "1": {"loss": loss}}
        prices = {"decode_ms": float(sum(code))}
        rows.append({"code": code, "loss": loss, "rungs": rungs, "prices": prices})
    content = {"space": "tiny", "objectives": ["loss", "decode_ms"], "trained": rows}
    file = tmp_path_factory.mktemp("table") / "trained_tiny.json"
    file.write_text(json.dumps(content))
    scores = [{"stage": "inherited", "code": row["code"], "loss": row["loss"]} for row in rows]
    supernet = {"cost": {"inherited_seconds": 2.0, "alone_seconds": 20.0}, "runs": scores}
    file.with_name("supernet_tiny.json").write_text(json.dumps(supernet))
    return file


def test_scores_by_inherited_weights_cost_what_they_took(table: Path) -> None:
    setting = Table.read(table)
    assert setting.inherited_share == 0.1
    code = next(iter(setting.rows))
    ask = Ask(setting.space.architecture(code), 0.1)
    assert setting.evaluate(ask, 0) == setting.evaluate(Ask(ask.architecture), 0)
    assert setting.fidelities == [0.25, 1]


def test_whole_table_is_worth_all_of_its_hypervolume(table: Path) -> None:
    setting = Table.read(table)
    codes = np.array(list(setting.rows))
    assert setting.feasible(codes).all()
    assert setting.reached(codes, setting.values) == pytest.approx(1)
    assert not setting.feasible(load_space("tiny").sample(np.random.default_rng(9), 50)).all()


@pytest.mark.parametrize("name", ["nsga2-plain", "optuna-nsga2", "optuna-tpe", "nsga2"])
def test_nearest_evaluates_all_of_the_table_once_and_nothing_else(table: Path, name: str) -> None:
    setting = Table.read(table)
    searcher = Nearest(make_searcher(name, setting.whole_problem(3)), setting)
    asked = []
    while (ask := searcher.ask()) is not None:
        asked.append(ask.architecture.code)
        searcher.tell(ask, setting.evaluate(ask, 3))
    assert sorted(asked) == sorted(setting.rows)
    first, other = asked[0], asked[1]
    assert Nearest(make_searcher(name, setting.whole_problem(3)), setting)._nearest(first) == first
    assert other != first


def test_benchmark_runs_every_searcher_and_goes_on_where_it_stopped(table: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "search_efficiency.py"), "--smoke"]
    command += ["--table", str(table), "--out", "result.json"]
    done = subprocess.run(command, cwd=table.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.split("\n{")[0].splitlines())) <= 100
    result = json.loads((table.parent / "result.json").read_text())
    assert {"machine", "versions", "python", "seeds", "command", "goals"} <= result.keys()
    lines = {(line["setting"], line["searcher"]) for line in result["summary"]}
    assert len(lines) == 3 * (7 + 2) + 3 + 1  # Optuna's twice, with the nearest, with a supernet
    assert {setting for setting, _ in lines} >= {"synthetic-trained", "trained_tiny"}
    shares = [share["median"] for line in result["summary"] for share in line["share"].values()]
    assert all(0 <= share <= 1 for share in shares)
