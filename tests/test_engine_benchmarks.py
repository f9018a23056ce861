"""The benchmarks of the search engine run, and what they write can be read."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_confirm import trial

from search_spaces.load import load_space

BENCHMARKS = Path(__file__).parent.parent / "experiments/benchmarks"


def run(folder: Path, script: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *options, "--out", "result.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_simulated_workers_are_busy_and_a_barrier_keeps_them_less_so(tmp_path: Path) -> None:
    options = ("--workers", "6", "--trials", "60", "--real-trials", "0")
    (found,) = run(tmp_path, "worker_utilisation.py", *options)["simulated"]
    assert found["trials"] == 60
    assert found["utilisation_with_barrier"] < 0.7 < found["utilisation"] <= 1


@pytest.mark.slow
def test_table_of_trained_codecs_holds_every_fidelity_and_trains_nothing_twice(
    tmp_path: Path,
) -> None:
    few = ("--architectures", "2", "--steps", "5", "--crops", "4", "--shared-steps", "3")
    options = (*few, "--record", "table/trained.jsonl")
    first = run(tmp_path, "trained_table.py", *options)
    space = load_space("tiny")
    for row in first["trained"]:
        assert space.architecture(row["code"]).key == row["key"]
        assert set(row["rungs"]) == {"0.4", "1"}
        assert row["bd_rate_psnr"] == row["rungs"]["1"]["bd_rate_psnr"]
        assert 0 < row["prices"]["decode_ms"] <= 150
    assert len(first["trained"]) + first["failed"] == 2
    assert run(tmp_path, "trained_table.py", *options) == first


def test_large_studies_are_read_and_their_page_is_small(tmp_path: Path) -> None:
    (row,) = run(tmp_path, "large_report.py", "--trials", "30", "--repeats", "1")["rows"]
    assert row["trials"] == 30
    assert row["report_bytes"] < 8e6
    assert set(row["seconds"]) == {"front", "retarget", "report"}


@pytest.mark.slow
def test_a_search_survives_faults_and_its_record_is_true(tmp_path: Path) -> None:
    options = ("--trials", "16", "--faults", "4", "--drivers", "1", "--pause-seconds", "0.5")
    found = run(tmp_path, "faults.py", *options, "--seed", "3")
    assert found["faults"] == sum(found["injected"].values()) >= 3
    assert (found["architectures"], found["complete"], found["failed"]) == (16, 16, 0)
    assert [found[name] for name in ("lost", "running", "duplicated", "made_up")] == [0, 0, 0, 0]
    assert found["front_equal"] is True
    assert found["trials"] == 16 + sum(found["attempts_without_result"].values()) > 16


def test_a_record_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    faults = importlib.import_module("faults_record")
    trials = [trial(number, float(number), 1.0) for number in range(4)]
    truth = {one.identity: one.values for one in trials}
    sound = faults.discrepancies([*trials, replace(trials[0], state="failed", lost=True)], truth)
    assert [sound[name] for name in ("lost", "duplicated", "made_up")] == [0, 0, 0]
    assert sound["attempts_without_result"] == {"lost": 1}
    wrong = [
        replace(trials[0], values=(7.0, 0.0)),
        *(trials[1], replace(trials[1], number=9)),
        replace(trials[2], state="running"),
    ]
    found = faults.discrepancies(wrong, truth)
    assert [found[name] for name in ("made_up", "duplicated", "lost", "running")] == [1, 1, 2, 1]


def test_a_long_study_is_looked_at_from_outside(tmp_path: Path) -> None:
    found = run(tmp_path, "soak.py", "--trials", "60")
    assert found["trials"] == 60
    assert found["first_fifth"]["to"] <= found["last_fifth"]["from"]
    assert 20 < found["last_fifth"]["megabytes"] <= found["most_megabytes"]
