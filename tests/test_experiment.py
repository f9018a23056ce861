"""What an experiment file may say, and the one line that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from toy import EXPERIMENT, write_experiment

from latency.oracle import LatencyOracle
from latency.table import TableError
from nas.experiment import Experiment, ExperimentError, load_experiment
from nas.pricing.devices import DevicePricer
from nas.searchers.choice import Model
from search_spaces.space import SpaceError

DEVICE = "iphone-17-pro-max"
OTHER_MODEL = get_args(Model)[1]
SMALL = {"depth": 1, "width": 8, "mixing": "none"}


def devices(experiment: Experiment) -> Mapping[str, LatencyOracle]:
    assert isinstance(experiment.pricer, DevicePricer)
    return experiment.pricer.oracles


def test_experiment_is_read_with_all_that_it_names(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path, proxy={"levels": [3, 4]}))
    assert experiment.space.size == 72
    assert experiment.space_file == str((tmp_path / "toy.yaml").resolve())
    assert experiment.objectives == {"loss": "minimize", "decode_ms": "minimize"}
    assert experiment.limits == {DEVICE: {"decode_ms": 150}}
    assert devices(experiment)[DEVICE].device == DEVICE
    assert devices(experiment)[DEVICE].precision == "fp16"
    assert experiment.evaluator.build(ValueError).levels == (3, 4)  # type: ignore[attr-defined]


def test_objectives_keep_the_direction_of_their_evaluator(tmp_path: Path) -> None:
    names = ["accuracy", "package_bytes", "peak_bytes"]
    experiment = load_experiment(write_experiment(tmp_path, objectives=names))
    assert list(experiment.objectives.values()) == ["maximize", "minimize", "minimize"]


def test_every_metric_may_be_an_objective(tmp_path: Path) -> None:
    usual = load_experiment(write_experiment(tmp_path))
    metrics = [*usual.evaluator.build(ValueError).metrics, *usual.pricer.metrics]
    for i, name in enumerate(metrics):
        names = [name, *metrics[:i][-2:]]
        assert (
            list(load_experiment(write_experiment(tmp_path, objectives=names)).objectives) == names
        )


def test_limits_are_read_as_people_write_them(tmp_path: Path) -> None:
    file = write_experiment(tmp_path)
    file.write_text(f"{file.read_text()}limits: {{package_bytes: 2.0e7, peak_bytes: 3e7}}\n")
    assert load_experiment(file).other_limits == {"package_bytes": 2e7, "peak_bytes": 3e7}


def test_searcher_and_what_it_begins_with_are_read(tmp_path: Path) -> None:
    usual = load_experiment(write_experiment(tmp_path))
    assert (usual.searcher, usual.population, usual.model) == ("nsga2", 6, "ridge")
    assert (usual.fidelities, usual.start, usual.warm_start) == ((1.0,), (), None)
    start = [{"depth": 2, "width": 16, "mixing": "shuffle", "groups": 4}]
    experiment = load_experiment(
        write_experiment(
            tmp_path,
            searcher={"name": "nsga2", "model": OTHER_MODEL},
            start=start,
            warm_start="before",
            plateau=9,
        )
    )
    assert (experiment.population, experiment.model) == (12, OTHER_MODEL)
    assert [experiment.space.decode(code) for code in experiment.start] == start
    assert (experiment.warm_start, experiment.plateau) == ("before", 9)


def test_fidelities_are_for_an_evaluator_that_has_them(tmp_path: Path) -> None:
    changes = {"fidelities": [0.1111, 0.3333, 1], "proxy": {"has_fidelities": True}}
    file = write_experiment(tmp_path, **changes)
    assert load_experiment(file).fidelities == (0.1111, 0.3333, 1.0)
    for changed, expected in [
        ({"fidelities": [0.3, 0.1, 1]}, "fidelities: must ascend to 1, not [0.3, 0.1, 1.0]"),
        ({"fidelities": [0.3]}, "fidelities: must ascend to 1, not [0.3]"),
        ({"fidelities": [0, 1]}, "fidelities[0]: input should be greater than 0"),
        ({"searcher": {"name": "funnel"}}, "fidelities: the funnel has its own"),
        ({"searcher": {"name": "funnel"}, "trials": 1}, "trials: the funnel must know"),
        ({"proxy": {}}, "fidelities: ./toy.py:ToyEvaluator has none; leave the key out"),
    ]:
        with pytest.raises(ExperimentError) as caught:
            load_experiment(write_experiment(tmp_path, **{**changes, **changed}))
        assert expected in str(caught.value)


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
        ({"limits": {"peak_byte": 1}}, "limits.peak_byte: did you mean 'peak_bytes'?"),
        ({"limits": {"loss": 1}}, "limits.loss: is known after training only"),
        ({"limits": {"decode_ms": 1}}, "limits.decode_ms: is a device's latency; those limits"),
        ({"limits": {"peak_bytes": "many"}}, "limits.peak_bytes: input should be a valid number"),
        ({"limits": {"peak_bytes": 0}}, "limits.peak_bytes: input should be greater than 0"),
        ({"searcher": {"name": "nsga3"}}, "searcher.name: unknown 'nsga3'; did you mean 'nsga2'?"),
        ({"searcher": {"model": "forest"}}, "searcher.model: input should be 'ridge' or"),
        ({"searcher": {"name": "random", "model": OTHER_MODEL}}, "searcher: random takes no model"),
        ({"searcher": {"name": "funnel"}}, "searcher.name: the funnel trains partially first"),
        ({"start": [{"depth": 1}]}, "start[0]: toy: width has no value"),
        ({"start": [SMALL, {**SMALL, "depth": 9}]}, "start[1]: toy: depth is one of [1, 2, 3, 4"),
        ({"start": [{**SMALL, "dept": 1}]}, "start[0]: toy has no parameter 'dept'; did you mean"),
        ({"start": [{"depth": [1]}]}, "start[0].depth: must be a number, text, true or false"),
        ({"warm_start": "../up"}, "warm_start: string should match pattern"),
        ({"plateau": 0}, "plateau: input should be greater than or equal to 1"),
        ({"oracle_settings": {"a": 1}}, "oracle_settings: there is no oracle of your own"),
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
        {"limits": {"peak_bytes": 1e9}},
        {"searcher": {"population": 7}},
        {"searcher": {"population": 6, "name": "random"}},
        {"searcher": {"population": 6, "model": OTHER_MODEL}},
        {"start": [SMALL]},
        {"warm_start": "before"},
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
    changes = {"trials": EXPERIMENT["trials"] + 1, "workers": 7, "hours": 1, "plateau": 9}
    assert load_experiment(write_experiment(tmp_path / "b", **changes)).identity == usual


def test_defaults_leave_the_identity_as_older_versions_recorded_it(tmp_path: Path) -> None:
    changes = {"searcher": {"name": "nsga2", "population": 6, "model": "ridge"}}
    changes |= {"fidelities": [1], "start": [], "limits": {}}
    identity = load_experiment(write_experiment(tmp_path, **changes)).identity
    assert set(identity) == {
        *("objectives", "budget", "precision", "anchor", "margin", "latency", "searcher"),
        *("evaluator", "data", "proxy", "seed"),
    }
    assert identity["searcher"] == {"population": 6}
    assert identity["budget"] == {DEVICE: {"decode_ms": 150}}


def test_margin_and_precision_reach_every_oracle(tmp_path: Path) -> None:
    budget = {DEVICE: {"decode_ms": 150}, "iphone-12": {"decode_ms": 300}}
    file = write_experiment(tmp_path, budget=budget, precision="w8a8", margin={DEVICE: 10})
    oracles = devices(load_experiment(file))
    assert [oracle.precision for oracle in oracles.values()] == ["w8a8", "w8a8"]
    assert oracles[DEVICE].held_against == "upper value"
    assert oracles[DEVICE].held_factor == pytest.approx(1.1)
    assert oracles["iphone-12"].held_against == "point estimate"
    assert oracles["iphone-12"].held_factor == 1
    everywhere = devices(load_experiment(write_experiment(tmp_path, budget=budget, margin=20.0)))
    assert [oracle.upper_factor for oracle in everywhere.values()] == [1.2, 1.2]


def test_precision_reaches_an_evaluator_that_knows_it(tmp_path: Path) -> None:
    changes = {"space": "tiny", "evaluator": None, "objectives": ["psnr", "decode_ms"]}
    file = write_experiment(tmp_path, **changes, precision="w8")
    built = load_experiment(file).evaluator.build(ValueError)
    assert built.precision == "w8"  # type: ignore[attr-defined]
    wrong = write_experiment(tmp_path, **changes, proxy={"precision": "w8"})
    with pytest.raises(ExperimentError, match=r"proxy\.precision: belongs at the top level"):
        load_experiment(wrong)
