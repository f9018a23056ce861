"""A problem that knows neither codecs nor Core ML: space, evaluator and oracle by import path."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import yaml

from nas.experiment import Experiment, ExperimentError, load_experiment
from nas.pricing.budget import BudgetError, Gate
from search_spaces.load import load_space, space_source
from search_spaces.space import SpaceError

EXAMPLE = Path(__file__).parents[1] / "experiments/any_problem"

ORACLE = """
import numpy as np

class Quick:
    metrics = {"cycles": "minimize", "flash_bytes": "minimize"}
    def price(self, space, architecture):
        return dict(zip(self.metrics, self.prices(space, np.array([architecture.code]))[0]))
    def prices(self, space, codes):
        return np.stack([codes.sum(axis=1), codes[:, 0] + 1.5], axis=1)

class Forgetful(Quick):
    def price(self, space, architecture):
        return {"cycles": 1.0, "flash_byte": 2.0}

class Broken(Quick):
    def price(self, space, architecture):
        return {"cycles": float("nan"), "flash_bytes": 2.0}

class Wordy(Quick):
    def price(self, space, architecture):
        return {"cycles": "many", "flash_bytes": 2.0}

class Failing(Quick):
    def price(self, space, architecture):
        return 1 / 0

class Contradictory(Quick):
    def prices(self, space, codes):
        return np.ones((len(codes), 2))
    def price(self, space, architecture):
        return {"cycles": 1.0, "flash_bytes": 2.0}

class Narrow(Quick):
    def price(self, space, architecture):
        return {"cycles": 1.0, "flash_bytes": 2.0}
    def prices(self, space, codes):
        return np.ones((len(codes), 1))

class LateNan(Quick):
    def prices(self, space, codes):
        return np.where(codes.sum(axis=1, keepdims=True) > 3, np.nan, super().prices(space, codes))

class Sideways(Quick):
    metrics = {"cycles": "down"}

class Taken(Quick):
    metrics = {"seconds": "minimize"}

class Clashing(Quick):
    metrics = {"rmse": "minimize", "cycles": "minimize"}
    def price(self, space, architecture):
        return {"rmse": 1.0, "cycles": 2.0}
    prices = None

class Strong(Quick):
    metrics = {"cycles": "minimize", "strength": "maximize"}
    def price(self, space, architecture):
        return {"cycles": 1.0, "strength": 2.0}
    prices = None

class Free:
    metrics = {}
    def price(self, space, architecture):
        return {}

class Priceless:
    metrics = {"cycles": "minimize"}

class Vague:
    metrics = {"error": "minimize"}
"""

SPACES = """
from search_spaces.space import Parameter, SearchSpace

def made(*parameters, **more):
    return SearchSpace("mine", parameters, **more)

small = made(Parameter("a", (1, 2)), Parameter("b", ("x", "y"), when="a > 1"),
             reference_choices={"a": 1})
def function(): return small
def number(): return 3
def failing(): raise OSError("no such disk")
def argument(which): return small
nowhere = made(Parameter("a", (1, 2)))
mixed = made(Parameter("a", (1, "two")), reference_choices={"a": 1})
unnamed = made(Parameter("a b", (1, 2)), reference_choices={"a b": 1})
twice = made(Parameter("a", (1, 2)), Parameter("a", (1, 2)), reference_choices={"a": 1})
empty = made(Parameter("a", (1, 2)), constraints=("a > 5",), reference_choices={"a": 1})
unclear = made(Parameter("a", (1, 2)), constraints=("a >",), reference_choices={"a": 1})
"""


def copied(folder: Path, **changes: Any) -> Path:
    """The example elsewhere; `changes` replace keys."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    (folder / "oracles.py").write_text(ORACLE)
    (folder / "spaces.py").write_text(SPACES)
    file = folder / "experiment.yaml"
    content = {**yaml.safe_load(file.read_text()), **changes}
    content = {key: value for key, value in content.items() if value is not None}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def own_oracle(name: str) -> dict[str, Any]:
    return {"oracle": f"./oracles.py:{name}", "oracle_settings": None}


def gate(experiment: Experiment) -> Gate:
    return Gate(experiment.pricer, experiment.limits, experiment.other_limits)


def test_problem_is_read_priced_and_scored(tmp_path: Path) -> None:
    experiment = load_experiment(copied(tmp_path / "own"))
    assert experiment.objectives == dict.fromkeys(["rmse", "cycles", "flash_bytes"], "minimize")
    assert experiment.limits == {"board": {"cycles": 900, "flash_bytes": 120}}
    judge, space = gate(experiment), load_space(experiment.space_file)
    codes = space.enumerate()
    assert len(codes) == space.size == 1155
    prices = judge.prices(codes, list(experiment.objectives))
    assert np.isnan(prices[:, 0]).all()
    assert (judge.feasible(codes) == (prices[:, 1:] <= [900, 120]).all(axis=1)).all()
    evaluator = experiment.evaluator.build(ValueError)
    for code, row in zip(codes[::200].tolist(), prices[::200], strict=True):
        architecture = space.architecture(code)
        price = judge.price(architecture)
        assert price.as_record() == {"cycles": row[1], "flash_bytes": row[2]}
        assert price.blocks() == {}
        assert judge.overshoot(price) == [row[1] - 900, row[2] - 120]
        assert 0 < evaluator.evaluate(space, architecture, tmp_path, 0)["rmse"] < 1


def test_nothing_of_it_imports_torch_or_core_ml(tmp_path: Path) -> None:
    file = copied(tmp_path / "own")
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from nas.pricing.budget import Gate; from nas.experiment import load_experiment\n"
        f"e = load_experiment(Path({str(file)!r}))\n"
        "Gate(e.pricer, e.limits).require_feasible(np.random.default_rng(0))\n"
        "print([m for m in ('torch', 'coremltools') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_oracle_that_prices_at_once_is_asked_once(tmp_path: Path) -> None:
    experiment = load_experiment(copied(tmp_path / "own", **own_oracle("Quick")))
    judge, codes = gate(experiment), experiment.space.sample(np.random.default_rng(0), 50)
    assert judge.prices_at_once
    prices = judge.prices(codes, ["flash_bytes", "cycles"])
    assert prices.tolist() == [[code[0] + 1.5, sum(code)] for code in codes.tolist()]


def test_label_and_limits_are_the_users(tmp_path: Path) -> None:
    file = copied(tmp_path / "own", budget={"toaster": {"cycles": -1}}, limits={"flash_bytes": 9})
    experiment = load_experiment(file)
    assert experiment.limits == {"toaster": {"cycles": -1}}
    assert list(experiment.pricer.provenance) == ["toaster"]
    with pytest.raises(BudgetError) as caught:
        gate(experiment).require_feasible(np.random.default_rng(0))
    assert str(caught.value) == (
        "budget: none of 1,155 architectures of features meets it; smallest found: toaster cycles"
        " 12.0 of -1, flash_bytes 8 of 9; the nearest to them all: toaster cycles 12.0 of -1,"
        " flash_bytes 8 of 9; raise the budget or take a space with smaller members"
    )


def test_without_a_budget_everything_is_inside(tmp_path: Path) -> None:
    changes = {"budget": None, "objectives": ["rmse", "explained"], **own_oracle("Free")}
    experiment = load_experiment(copied(tmp_path / "own", **changes))
    assert experiment.limits == {"oracle": {}}
    judge, rng = gate(experiment), np.random.default_rng(0)
    judge.require_feasible(rng)
    assert judge.share_inside(rng) == 1
    assert judge.price(experiment.space.reference).as_record() == {}


def test_provenance_is_what_the_oracle_says(tmp_path: Path) -> None:
    said = load_experiment(copied(tmp_path / "a")).pricer.provenance["board"]
    assert (said["kind"], said["oracle"]) == ("cycles counted by hand", "./problem.py:Board")
    silent = load_experiment(copied(tmp_path / "b", **own_oracle("Quick"))).pricer.provenance
    assert silent["board"]["kind"] == "user's own oracle"


def test_identity_holds_oracle_and_settings(tmp_path: Path) -> None:
    usual = load_experiment(copied(tmp_path / "a")).identity
    assert (usual["oracle"], usual["oracle_settings"]) == (
        "./problem.py:Board",
        {"sine_cycles": 90},
    )
    for i, change in enumerate([{"oracle_settings": {"sine_cycles": 9}}, own_oracle("Quick")]):
        assert load_experiment(copied(tmp_path / str(i), **change)).identity != usual


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (own_oracle("Quik"), "oracle: ./oracles.py has no 'Quik'; did you mean 'Quick'?"),
        ({"oracle": "./none.py:Quick"}, "oracle: cannot import './none.py': no file"),
        (own_oracle("np"), "oracle: ./oracles.py:np is not a class"),
        (own_oracle("Forgetful"), "price returns no 'flash_bytes'; did you mean 'flash_byte'?"),
        (own_oracle("Broken"), "price returns cycles nan for {'powers': 1, 'waves': 0, 'steps': 0"),
        (own_oracle("Wordy"), "price returns cycles 'many' for"),
        (own_oracle("Failing"), "price fails: ZeroDivisionError: division by zero ("),
        (own_oracle("Contradictory"), "price says flash_bytes 2 of the reference, prices says 1"),
        (own_oracle("Narrow"), "prices returns float64 (1, 1), not numbers (1, 2)"),
        (own_oracle("Sideways"), "metrics.cycles: 'down' is none of minimize, maximize"),
        (own_oracle("Taken"), "metrics.seconds: records hold something else under it"),
        (
            {**own_oracle("Clashing"), "budget": None},
            "oracle: 'rmse' is a metric of the evaluator too; rename one",
        ),
        (own_oracle("Priceless"), "oracle: ./oracles.py:Priceless: has no 'price'"),
        (
            {"oracle_settings": {"sine_cycle": 1}},
            "oracle_settings.sine_cycle: unknown key; did you",
        ),
        ({"oracle_settings": {"sine_cycles": "9"}}, "oracle_settings.sine_cycles: input should be"),
        (
            {"evaluator": "./oracles.py:Vague", "proxy": None, "objectives": ["error", "cycles"]},
            "objectives: records hold something else under 'error'; rename",
        ),
        ({"objectives": ["rmse", "cycle"]}, "objectives: unknown 'cycle'; did you mean 'cycles'?"),
        ({"objectives": ["rmse", "decode_ms"]}, "objectives: unknown 'decode_ms'; it has rmse"),
        ({"budget": {"board": {"cycls": 1}}}, "budget.board.cycls: did you mean 'cycles'?"),
        ({"budget": {"a": {"cycles": 1}, "b": {"cycles": 1}}}, "budget: a and b are several"),
        ({"limits": {"memory": 1}}, "limits.memory: it has cycles, flash_bytes"),
        ({"limits": {"rmse": 1}}, "limits.rmse: is known after training only"),
        ({"margin": 10}, "margin: an oracle of your own has none; leave the key out"),
        (
            {**own_oracle("Strong"), "budget": {"board": {"strength": 1}}},
            "budget.board.strength: more of it is better, and a limit is an upper one",
        ),
    ],
)
def test_bad_oracle_is_one_line_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ExperimentError) as caught:
        load_experiment(copied(tmp_path / "own", **changes))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_price_that_is_no_number_is_one_line_whenever_it_comes(tmp_path: Path) -> None:
    experiment = load_experiment(copied(tmp_path / "own", **own_oracle("LateNan")))
    with pytest.raises(
        BudgetError, match=r"LateNan: prices returns cycles nan for code \(.*\); it"
    ):
        gate(experiment).feasible(experiment.space.enumerate())


def test_space_is_found_by_import_path_from_anywhere(tmp_path: Path) -> None:
    copied(tmp_path / "own")
    for name in ("small", "function"):
        source = space_source(f"./spaces.py:{name}", tmp_path / "own")
        assert load_space(source).size == 3
    assert space_source("package.module:space", tmp_path) == "package.module:space"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smal", "space: {file} has no 'smal'; did you mean 'small'?"),
        ("number", "space: {file}:number gives no SearchSpace but a int"),
        ("failing", "space: {file}:failing: OSError: no such disk"),
        ("argument", "space: {file}:argument: TypeError: argument() missing"),
        ("nowhere", "{file}:nowhere: reference: mine: a has no value"),
        ("mixed", "{file}:mixed: parameters.a: its choices are of mixed types"),
        ("unnamed", "{file}:unnamed: parameters.a b: a name is made of"),
        ("twice", "{file}:twice: parameters: two have the same name"),
        ("empty", "{file}:empty: constraints: no architecture satisfies 'a > 5'"),
        ("unclear", "{file}:unclear: 'a >'"),
    ],
)
def test_what_is_no_space_is_one_line(tmp_path: Path, name: str, expected: str) -> None:
    file = copied(tmp_path / "own", space=f"./spaces.py:{name}")
    with pytest.raises(SpaceError) as caught:
        load_experiment(file)
    assert str(caught.value).startswith(expected.format(file=tmp_path / "own/spaces.py"))
    assert "\n" not in str(caught.value)


def test_space_without_a_builder_needs_an_oracle(tmp_path: Path) -> None:
    file = copied(tmp_path / "own", oracle=None, oracle_settings=None, budget=None)
    with pytest.raises(SpaceError, match="features has no builder; only an oracle of your own"):
        load_experiment(file)


@pytest.mark.slow
def test_example_goes_through_check_search_front_and_growth(tmp_path: Path) -> None:
    copied(tmp_path / "own", trials=10, workers=1)
    checked = toy.json_of(tmp_path, "check", "own/experiment.yaml")
    assert (checked["space"], checked["size"]) == ("features", 1155)
    assert 0 < checked["share_inside_budget"] < 1
    search = ("search", "own/experiment.yaml")
    done = toy.nas(tmp_path, *search, timeout_seconds=300)
    assert done.returncode == 0, done.stderr
    found = toy.json_of(tmp_path, "front", "any-problem")
    assert found["trials"]["complete"] == 10
    for entry in found["front"]:
        assert entry["cycles"] <= 900
        assert entry["flash_bytes"] <= 120
    assert "board: prices are from ./problem.py:Board (cycles counted by hand)" in " ".join(
        toy.nas(tmp_path, "front", "any-problem").stdout.split()
    )
    problem = tmp_path / "own/problem.py"
    problem.write_text(problem.read_text().replace("(1e-6, 1e-3, 1.0)", "(1e-6, 1e-3, 1.0, 10.0)"))
    done = toy.nas(tmp_path, *search, "--trials", "12", timeout_seconds=300)
    assert done.returncode == 0, done.stderr
    assert "its space has grown by" in done.stderr
    assert toy.json_of(tmp_path, "front", "any-problem")["trials"]["complete"] == 12
