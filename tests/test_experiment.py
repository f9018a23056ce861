"""What an experiment file may say, and the one line that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy import EXPERIMENT, write_experiment

from latency.table import TableError
from nas.experiment import ExperimentError, load_experiment
from search_spaces.space import SpaceError

DEVICE = "iphone-17-pro-max"


def test_experiment_is_read_with_all_that_it_names(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path, proxy={"levels": [3, 4]}))
    assert experiment.space.size == 72
    assert experiment.space_file == (tmp_path / "toy.yaml").resolve()
    assert experiment.objectives == {"loss": "minimize", "decode_ms": "minimize"}
    assert experiment.limits == {DEVICE: {"decode_ms": 150}}
    assert experiment.oracles[DEVICE].device == DEVICE
    assert experiment.oracles[DEVICE].precision == "fp16"
    assert experiment.evaluator.build(ValueError).levels == (3, 4)  # type: ignore[attr-defined]


def test_objectives_keep_the_direction_of_their_evaluator(tmp_path: Path) -> None:
    names = ["accuracy", "parameters", "kmacs_per_pixel"]
    experiment = load_experiment(write_experiment(tmp_path, objectives=names))
    assert list(experiment.objectives.values()) == ["maximize", "minimize", "minimize"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trails": 9}, "trails: unknown key; did you mean 'trials'?"),
        ({"searcher": {"populaton": 8}}, "searcher.populaton: unknown key; did you mean"),
        ({"searcher": {"population": "8"}}, "searcher.population: input should be a valid integer"),
        ({"trials": "many"}, "trials: input should be a valid integer"),
        ({"trials": True}, "trials: input should be a valid integer"),
        ({"trials": 0}, "trials: input should be greater than or equal to 1"),
        ({"trials": None}, "trials: is missing; state trials, hours or both"),
        ({"hours": -1}, "hours: input should be greater than 0"),
        ({"workers": "all"}, "workers"),
        ({"study": "../up"}, "study: string should match pattern"),
        ({"study": None}, "study: is missing"),
        ({"objectives": []}, "objectives: list should have at least 1 item"),
        ({"objectives": ["los", "decode_ms"]}, "unknown 'los'; did you mean 'loss'?"),
        ({"objectives": ["loss", "decod_ms"]}, "unknown 'decod_ms'; did you mean 'decode_ms'?"),
        ({"objectives": ["loss", "encode_ms"]}, "unknown 'encode_ms'"),
        ({"objectives": ["loss", "loss"]}, "objectives: one stands twice"),
        ({"budget": None}, "budget: is missing; state limits of decode_ms"),
        ({"objectives": None}, "objectives: is missing; choose from loss"),
        ({"budget": {DEVICE: {"decod_ms": 9}}}, f"budget.{DEVICE}.decod_ms: did you mean"),
        ({"budget": {DEVICE: {"decode_ms": "9"}}}, f"budget.{DEVICE}.decode_ms: input should be"),
        ({"budget": {DEVICE: {"decode_ms": -9}}}, f"budget.{DEVICE}.decode_ms: input should be"),
        ({"budget": {DEVICE: {}}}, f"budget.{DEVICE}: dictionary should have at least 1 item"),
        ({"proxy": {"second": 1}}, "proxy.second: unknown key; did you mean 'seconds'?"),
        ({"proxy": {"seconds": "1"}}, "proxy.seconds: input should be a valid number (got '1')"),
        ({"proxy": {"levels": [1, "x"]}}, "proxy.levels.1: input should be a valid integer"),
        ({"precision": "int8"}, "precision: input should be"),
        ({"precision": "fp32"}, f"precision: {DEVICE} has no latencies in fp32; it has fp16"),
        ({"margin": -5}, "margin: input should be greater than or equal to 0"),
        ({"margin": {"iphone-17-promax": 5}}, f"margin.iphone-17-promax: did you mean '{DEVICE}'?"),
        ({"data": "photographs"}, "data: ./toy.py:ToyEvaluator takes none"),
        ({"evaluator": "./toy.py:ToyEvaluater"}, "did you mean 'ToyEvaluator'?"),
        ({"evaluator": "./nowhere.py:Toy"}, "evaluator: cannot import './nowhere.py'"),
        ({"evaluator": "toy"}, "evaluator: 'toy' is not package.module:Name"),
    ],
)
def test_bad_experiment_is_one_line_that_names_file_and_key(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    file = write_experiment(tmp_path, **changes)
    with pytest.raises(ExperimentError) as caught:
        load_experiment(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert expected in message
    assert "\n" not in message


def test_unknown_device_names_the_nearest(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, budget={"iphone-17-promax": {"decode_ms": 150}})
    with pytest.raises(TableError, match="did you mean 'iphone-17-pro-max'"):
        load_experiment(file)


def test_missing_space_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"no search space at .*other.yaml"):
        load_experiment(write_experiment(tmp_path, space="other.yaml"))


@pytest.mark.parametrize("text", ["study: [", "- a\n- b", "study: a\nstudy: b"])
def test_what_is_no_experiment_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ExperimentError, match=r"broken.yaml"):
        load_experiment(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"cannot read .*none.yaml: No such file"):
        load_experiment(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "changes",
    [
        {"objectives": ["accuracy", "decode_ms"]},
        {"budget": {DEVICE: {"decode_ms": 100}}},
        {"searcher": {"population": 7}},
        {"proxy": {"failing_depth": 1}},
        {"seed": 4},
        {"precision": "w8a8"},
        {"margin": 10},
    ],
)
def test_identity_holds_what_results_depend_on(tmp_path: Path, changes: dict[str, Any]) -> None:
    usual = load_experiment(write_experiment(tmp_path / "a")).identity
    assert load_experiment(write_experiment(tmp_path / "b", **changes)).identity != usual


def test_identity_leaves_out_how_long_and_how_wide(tmp_path: Path) -> None:
    usual = load_experiment(write_experiment(tmp_path / "a")).identity
    longer = write_experiment(tmp_path / "b", trials=EXPERIMENT["trials"] + 1, workers=7, hours=1)
    assert load_experiment(longer).identity == usual


def test_margin_and_precision_reach_every_oracle(tmp_path: Path) -> None:
    budget = {DEVICE: {"decode_ms": 150}, "iphone-12": {"decode_ms": 300}}
    file = write_experiment(tmp_path, budget=budget, precision="w8a8", margin={DEVICE: 10})
    oracles = load_experiment(file).oracles
    assert [oracle.precision for oracle in oracles.values()] == ["w8a8", "w8a8"]
    assert oracles[DEVICE].held_against == "upper value"
    assert oracles[DEVICE].held_factor == pytest.approx(1.1)
    assert oracles["iphone-12"].held_against == "point estimate"
    assert oracles["iphone-12"].held_factor == 1
    everywhere = load_experiment(write_experiment(tmp_path, budget=budget, margin=20.0)).oracles
    assert [oracle.upper_factor for oracle in everywhere.values()] == [1.2, 1.2]


def test_precision_reaches_an_evaluator_that_knows_it(tmp_path: Path) -> None:
    changes = {"space": "tiny", "evaluator": None, "objectives": ["psnr", "decode_ms"]}
    file = write_experiment(tmp_path, **changes, precision="w8")
    built = load_experiment(file).evaluator.build(ValueError)
    assert built.precision == "w8"  # type: ignore[attr-defined]
    wrong = write_experiment(tmp_path, **changes, proxy={"precision": "w8"})
    with pytest.raises(ExperimentError, match=r"proxy\.precision: belongs at the top level"):
        load_experiment(wrong)
