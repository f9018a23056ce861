"""Another device or budget for what is recorded: fronts, sweeps, and searching on."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
import yaml
from recorded_studies import recorded

from latency.oracle import LatencyOracle, within
from latency.table_files import load_table
from nas.frames import blocks, rd_points, trials
from nas.pareto import non_dominated
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from nas.retarget import device_gate, recorded_space, retarget_document, sweep_document
from search_spaces.load import load_space

OLD, NEW = "iphone-17-pro-max", "iphone-12"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    recorded(folder)
    return folder


def store_of(folder: Path) -> TrialStore:
    return TrialStore.open(f"sqlite:///{folder}/runs/nas.db", "toy")


@pytest.mark.parametrize("limit", [21.0, 23.5, 60.0])
def test_front_of_another_device_is_what_its_oracle_says(folder: Path, limit: float) -> None:
    store, space = store_of(folder), load_space(folder / "toy.yaml")
    gate = device_gate(store.record(), space, NEW, {"decode_ms": limit})
    document = retarget_document(store, gate)
    oracle = LatencyOracle(load_table(NEW))
    expected = {}
    for trial in store.trials():
        estimate = oracle.estimate(space.design(space.architecture(trial.code)))
        if within(estimate, {"decode_ms": limit}):
            expected[trial.number] = (trial.metrics["loss"], estimate.stages["decode"].total_ms)
    values = np.array(list(expected.values()))
    best = np.array(list(expected))[non_dominated(values)]
    assert {entry["trial"] for entry in document["front"]} == set(best.tolist())
    for entry in document["front"]:
        assert (entry["loss"], entry["decode_ms"]) == pytest.approx(expected[entry["trial"]])
    outside = document["retargeted"]["outside"]
    assert outside == len(store.trials()) - len(expected)
    assert document["trials"]["complete"] == len(expected)


def test_budget_below_everything_says_how_near_the_nearest_comes(folder: Path) -> None:
    done = toy.nas(folder, "retarget", "toy", "--decode-ms", "1")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "24 of 24 trained ones are outside this budget" in text
    assert "The nearest is trial" in text
    assert "decode_ms 10.6 of 1" in text


def test_what_the_old_budget_refused_is_counted(tmp_path: Path) -> None:
    recorded(tmp_path, rows=range(0, 72, 3), budget={OLD: {"decode_ms": 11.0}})
    store = store_of(tmp_path)
    space = recorded_space(store.record())
    wider = device_gate(store.record(), space, OLD, {"decode_ms": 12.0})
    same = device_gate(store.record(), space, None, {})
    codes = space.enumerate()
    share = retarget_document(store, wider)["retargeted"]["unknown_share"]
    drawn = space.sample(np.random.default_rng(0), 2000)
    known = same.feasible(drawn)[wider.feasible(drawn)]
    assert share == 1 - known.mean() > 0.2
    assert retarget_document(store, same)["retargeted"]["unknown_share"] == 0
    assert same.feasible(codes).sum() < wider.feasible(codes).sum()


def test_sweep_gives_the_best_for_each_limit(folder: Path) -> None:
    store = store_of(folder)
    gate = device_gate(store.record(), recorded_space(store.record()), NEW, {})
    limits = [1.0, 21.0, 22.0, 40.0]
    document = sweep_document(store, gate, "decode_ms", limits)
    assert document["rows"][0] == {"limit": 1.0, "inside": 0, "best": None}
    for row in document["rows"][1:]:
        one = device_gate(store.record(), gate.space, NEW, {"decode_ms": row["limit"]})
        front = retarget_document(store, one)["front"]
        assert row["best"]["loss"] == front[0]["loss"]
        assert row["best"]["decode_ms"] <= row["limit"]
    done = toy.nas(folder, "retarget", "toy", "--sweep-decode", "10:14:1", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [float(row["limit"]) for row in rows] == [11, 12, 13, 14]
    assert (folder / "runs/toy/sweep-decode_ms.png").is_file()


def test_front_as_table_json_csv_and_frame_agree_to_the_last_digit(folder: Path) -> None:
    for command in (("front", "toy"), ("retarget", "toy", "--device", NEW, "--decode-ms", "23")):
        document = toy.json_of(folder, *command)
        rows = list(csv.DictReader(io.StringIO(toy.nas(folder, *command, "--csv").stdout)))
        assert [float(row["loss"]) for row in rows] == [e["loss"] for e in document["front"]]
        assert [float(row["decode_ms"]) for row in rows] == [
            entry["decode_ms"] for entry in document["front"]
        ]
    frame = trials(f"sqlite:///{folder}/runs/nas.db", "toy")
    front = frame[frame.on_front].sort_values("loss")
    document = toy.json_of(folder, "front", "toy")
    assert front.trial.tolist() == [entry["trial"] for entry in document["front"]]
    assert front.decode_ms.tolist() == [entry["decode_ms"] for entry in document["front"]]
    assert front["choices.depth"].tolist() == [e["choices"]["depth"] for e in document["front"]]


def test_frames_hold_blocks_and_no_points_where_there_are_none(folder: Path) -> None:
    url = f"sqlite:///{folder}/runs/nas.db"
    frame, trial = blocks(url, "toy"), store_of(folder).trials()[5]
    rows = frame[frame.trial == 5]
    assert rows.ms.tolist() == [ms for *_, ms in trial.blocks[OLD]["decode"]]
    assert rd_points(url, "toy").empty


def test_example_prints_a_study(folder: Path) -> None:
    script = Path(__file__).parents[1] / "experiments/inspect_study.py"
    done = subprocess.run(
        [sys.executable, str(script), "toy"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "layer(width=" in done.stdout


def test_front_fits_a_terminal_of_100_columns(folder: Path) -> None:
    lines = toy.nas(folder, "front", "toy").stdout.splitlines()
    plot = [line for line in lines if "|" in line]
    assert len(plot) > 10
    assert any("o" in line for line in plot)
    assert max(map(len, plot)) <= 100


@pytest.mark.slow
def test_searching_on_begins_with_what_is_known_and_trains_none_of_it_again(tmp_path: Path) -> None:
    recorded(tmp_path, rows=range(0, 72, 6))
    trained = toy.trained(tmp_path)
    command = ("retarget", "toy", "--device", NEW, "--decode-ms", "22", "--search", "3")
    done = toy.nas(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    study = "toy-iphone-12-decode22"
    written = yaml.safe_load((tmp_path / f"{study}.yaml").read_text())
    assert written["budget"] == {NEW: {"decode_ms": 22.0}}
    assert written["warm_start"] == "toy"
    found = toy.json_of(tmp_path, "front", study)
    new = toy.trained(tmp_path, study)
    assert len(new) == 3
    assert not set(new) & set(trained)
    assert found["trials"]["complete"] == written["trials"]
    assert all(entry["decode_ms"] <= 22 for entry in found["front"])
    assert toy.nas(tmp_path, *command).returncode == 0  # so many more again
    assert len(toy.trained(tmp_path, study)) == 6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--device", "iphone-99"), "no device 'iphone-99'; shipped: iphone-12"),
        (("--device", "gone.yaml"), "no latency table at gone.yaml"),
        (("--encode-ms", "3"), "no limit 'encode_ms'; there are decode_ms, "),
        (("--sweep-encode", "1:3:1"), "no limit 'encode_ms'; there are decode_ms, "),
        (("--limit", "memory=3"), "no limit 'memory'; there are decode_ms, "),
        (("--limit", "peak_bytes=lots"), "--limit: 'peak_bytes=lots': 'lots' is not a valid float"),
        (("--sweep-decode", "3:1:1"), "--sweep-decode: '3:1:1' goes from low to high"),
        (("--sweep-decode", "1:3"), "--sweep-decode: '1:3' is not LOW:HIGH:STEP"),
        (("--sweep-decode", "1:1e9:1e-9"), "in at most 1,000 steps"),
        (("--json", "--csv"), "--json and --csv: one of them"),
        (("--space", "gone.yaml"), "no search space at gone.yaml; --space says where it is now"),
        (("--space", "tiny"), "tiny has changed since the study was recorded"),
    ],
)
def test_bad_request_is_one_line(folder: Path, options: tuple[str, ...], expected: str) -> None:
    done = toy.nas(folder, "retarget", "toy", *options)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr


def test_space_that_has_moved_is_named(tmp_path: Path) -> None:
    recorded(tmp_path / "a")
    (tmp_path / "a/toy.yaml").rename(tmp_path / "a/other.yaml")
    with pytest.raises(ValueError, match="--space says where it is now"):
        recorded_space(store_of(tmp_path / "a").record())
    there = toy.nas(tmp_path / "a", "retarget", "toy", "--space", "other.yaml", "--json")
    assert json.loads(there.stdout)["front"]


def test_measured_table_holds_the_upper_value(folder: Path, tmp_path: Path) -> None:
    store = store_of(folder)
    gate = device_gate(store.record(), recorded_space(store.record()), OLD, {"decode_ms": 12}, 20)
    plain = device_gate(store.record(), gate.space, OLD, {"decode_ms": 12 / 1.2})
    stricter, same = (retarget_document(store, one)["front"] for one in (gate, plain))
    assert [entry["trial"] for entry in stricter] == [entry["trial"] for entry in same]


def test_study_with_an_oracle_of_its_own_has_no_devices(tmp_path: Path) -> None:
    recorded(tmp_path)
    record = store_of(tmp_path).record()
    own = replace(record, identity={**record.identity, "oracle": "./o.py:O"})
    with pytest.raises(StudyError, match="has no devices to choose from"):
        device_gate(own, recorded_space(record), None, {})


@pytest.mark.parametrize(
    ("table", "old", "new", "expected"),
    [
        ("study", '"decode_ms"', '"sing_ms"', "no limit 'sing_ms'; there are decode_ms"),
        ("trial", '"loss"', '"loud"', "damaged in its storage: trial 0 has no number under 'loss'"),
    ],
)
@pytest.mark.parametrize("options", [("--decode-ms", "100"), ("--sweep-decode", "60:120:60")])
def test_a_record_of_other_names_is_one_line(
    tmp_path: Path, table: str, old: str, new: str, expected: str, options: tuple[str, ...]
) -> None:
    recorded(tmp_path, rows=range(0, 12, 3))
    with closing(sqlite3.connect(tmp_path / "runs/nas.db")) as connection:
        change = f"update {table}_user_attributes set value_json = replace(value_json, ?, ?)"
        change += " where key = 'limits'" if table == "study" else ""
        connection.execute(change, (old, new))
        connection.commit()
    done = toy.nas(tmp_path, "retarget", "toy", *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert expected in done.stderr
