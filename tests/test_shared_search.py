"""Whole searches at several fidelities, by several drivers, and begun with another's results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy

from nas.record.records import Trial
from nas.record.store import TrialStore

DEVICE = "iphone-17-pro-max"
RUNGS = {"fidelities": [1 / 9, 1 / 3, 1.0], "proxy": {"has_fidelities": True}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


def trials(folder: Path, study: str = "toy") -> list[Trial]:
    return TrialStore.open(f"sqlite:///{folder}/runs/nas.db", study).trials()


def search(folder: Path, cluster: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = toy.nas(folder, "search", "experiment.yaml", "--ray-address", cluster, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def driver(folder: Path, cluster: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nas", "search", "experiment.yaml", "--ray-address", cluster]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_rungs_are_climbed_by_the_best_and_never_meet(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, trials=40, workers=2, **RUNGS)
    search(tmp_path, cluster)
    recorded = trials(tmp_path)
    by_fidelity = Counter(trial.fidelity for trial in recorded)
    assert by_fidelity[1 / 9] > by_fidelity[1 / 3] > by_fidelity[1.0] >= 2
    assert len({trial.identity for trial in recorded}) == 40
    low = {trial.key: trial.number for trial in recorded if trial.fidelity == 1 / 9}
    assert all(t.key in low and low[t.key] < t.number for t in recorded if t.fidelity > 1 / 9)
    document = toy.json_of(tmp_path, "front", "toy")
    assert {entry["fidelity"] for entry in document["front"]} == {1.0}
    assert document["trials"]["partial"] == 40 - by_fidelity[1.0]


def test_killed_search_with_rungs_goes_on_as_if_it_had_not_been(
    tmp_path: Path, cluster: str
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for folder in (whole, parted):
        toy.write_experiment(folder, trials=24, workers=1, **RUNGS)
    search(whole, cluster)
    for count in ("7", "15", "24"):
        search(parted, cluster, "--trials", count)
    results = [[(t.ask, t.identity, t.values) for t in trials(f)] for f in (whole, parted)]
    assert results[0] == results[1]


def test_two_drivers_share_a_study_and_train_nothing_twice(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, trials=24, workers=1, proxy={"seconds": 0.3})
    drivers = [driver(tmp_path, cluster) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in drivers]
    assert [process.returncode for process in drivers] == [0, 0], said
    recorded = [trial for trial in trials(tmp_path) if not trial.void]
    assert len({trial.owner for trial in recorded}) == 2
    assert {trial.state for trial in recorded} == {"complete"}
    assert len(recorded) == len({trial.identity for trial in recorded}) >= 24
    trained = toy.trained(tmp_path)
    assert len(trained) == len(set(trained)) == len(recorded)


def test_what_a_killed_driver_of_two_had_claimed_is_trained_by_the_other(
    tmp_path: Path, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=16, workers=1, proxy={"seconds": 0.4})
    drivers = [driver(tmp_path, cluster) for _ in range(2)]
    toy.wait_until(lambda: len(toy.trained(tmp_path)) >= 6)
    os.kill(drivers[0].pid, signal.SIGKILL)
    drivers[1].communicate(timeout=120)
    search(tmp_path, cluster)
    recorded = trials(tmp_path)
    finished = [trial for trial in recorded if trial.state == "complete"]
    assert len({trial.identity for trial in finished}) == len(finished) >= 16
    assert {t.identity for t in recorded if t.abandoned} <= {t.identity for t in finished}


def test_warm_start_takes_results_over_and_trains_none_of_them_again(
    tmp_path: Path, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=20)
    search(tmp_path, cluster)
    before = trials(tmp_path)
    slowest = sorted(trial.price["decode_ms"] for trial in before)[10]
    budget = {DEVICE: {"decode_ms": slowest}}
    toy.write_experiment(tmp_path, study="tight", budget=budget, warm_start="toy", trials=18)
    done = search(tmp_path, cluster)
    after = trials(tmp_path, "tight")
    kept = {t.key: t.values for t in before if t.price["decode_ms"] <= slowest}
    assert f"{len(kept)} results of toy taken over, {20 - len(kept)} outside" in done.stderr
    assert {t.key: t.values for t in after[: len(kept)]} == kept
    assert len(after) == len({trial.key for trial in after}) == 18
    assert len(toy.trained(tmp_path, "tight")) == 18 - len(kept)
    again = search(tmp_path, cluster, "--trials", "19")
    assert "taken over" not in again.stderr
    assert len(trials(tmp_path, "tight")) == 19


def test_warm_start_from_what_was_scored_otherwise_is_refused(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, trials=3)
    search(tmp_path, cluster)
    toy.write_experiment(tmp_path, study="other", proxy={"noise": 0.5}, warm_start="toy")
    done = toy.nas(tmp_path, "search", "experiment.yaml", "--ray-address", cluster)
    assert done.returncode == 2
    assert "warm_start: 'toy' was scored with proxy" in done.stderr.splitlines()[-1]
    assert toy.trained(tmp_path, "other") == []


def test_plateau_ends_a_search(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, trials=70, plateau=8)
    done = search(tmp_path, cluster)
    assert "the last 8 results did not improve the front" in done.stderr
    assert 8 < len(trials(tmp_path)) < 70
