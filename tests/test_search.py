"""Whole searches with real workers, a real record and the toy evaluator."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml

from nas.record.records import Trial
from nas.record.store import TrialStore

URL = "sqlite:///runs/nas.db"
DEVICE = "iphone-17-pro-max"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, cluster: str) -> Path:
    """A folder with a finished study of five trials; copy it to change it."""
    folder = tmp_path_factory.mktemp("searched")
    toy.write_experiment(folder, trials=5)
    done = search(folder, cluster)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def again(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "again"))


def trials(folder: Path) -> list[Trial]:
    return TrialStore.open(f"sqlite:///{folder}/runs/nas.db", "toy").trials()


def search(folder: Path, cluster: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return toy.nas(folder, "search", "experiment.yaml", "--ray-address", cluster, *arguments)


def started(folder: Path, *arguments: str, until: int) -> subprocess.Popen[str]:
    """A search in its own process, once it has begun `until` evaluations."""
    command = [sys.executable, "-m", "nas", "search", "experiment.yaml", *arguments]
    with (folder / "stderr.txt").open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=file, text=True, preexec_fn=toy.interruptible
        )
    deadline = time.monotonic() + 90
    while len(toy.trained(folder)) < until and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_killed_search_trains_the_same_set_as_an_uninterrupted_one(
    tmp_path: Path, cluster: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        toy.write_experiment(folder, trials=14, proxy={"seconds": 0.1, "failing_depth": 2})
    assert search(whole, cluster).returncode == 0
    process = started(killed, until=8)  # with a cluster of its own, which must go with it
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    left_behind = list(Path("/tmp").glob(f"nas-ray-{process.pid}-*"))
    running = [trial for trial in trials(killed) if trial.state == "running"]
    assert len(running) == 1
    done = toy.nas(killed, "search", "experiment.yaml")
    assert done.returncode == 0, done.stderr
    assert not any(folder.exists() for folder in left_behind)

    again = running[0].key
    assert sorted(toy.trained(killed)) == sorted([*toy.trained(whole), again])
    results = [
        [(t.ask, t.key, t.values, t.error) for t in sorted(trials(f), key=lambda t: t.ask)]
        for f in (whole, killed)
    ]
    assert results[0] == [r for r in results[1] if r[3] != "abandoned: its search was stopped"]
    assert any(error for *_, error in results[0])


def test_finished_search_trains_nothing_again(again: Path, cluster: str) -> None:
    first, second = (search(again, cluster) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "toy already has its 5 trials\n")
    assert first.stdout == second.stdout
    assert len(toy.trained(again)) == len(trials(again)) == 5


def test_more_trials_go_on_from_the_record(again: Path, cluster: str) -> None:
    assert search(again, cluster, "--trials", "9").returncode == 0
    assert len(toy.trained(again)) == len(set(toy.trained(again))) == 9


def test_over_budget_architecture_is_never_trained(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, budget={DEVICE: {"decode_ms": 11.3}}, trials=80)
    done = search(tmp_path, cluster)
    assert done.returncode == 0, done.stderr
    assert "nothing new is left inside the budget" in done.stderr
    recorded = trials(tmp_path)
    assert 5 < len(recorded) < 72
    assert max(trial.price["decode_ms"] for trial in recorded) <= 11.3
    assert len(toy.trained(tmp_path)) == len(recorded)


def test_candidates_that_fail_do_not_end_the_search(tmp_path: Path, cluster: str) -> None:
    faults = {"diverging_depth": 2, "failing_depth": 3, "exiting_depth": 4, "hoarding_depth": 5}
    # All in the first population: which are asked for does not hang on what finishes first.
    first = {"population": 24}
    toy.write_experiment(tmp_path, proxy=faults, trials=24, workers=2, searcher=first, retries=0)
    done = search(tmp_path, cluster)
    assert done.returncode == 0, done.stderr
    recorded = trials(tmp_path)
    errors = {trial.choices["depth"]: trial.error for trial in recorded}
    assert errors[2] == "loss is not a finite number"
    assert errors[3] == "collapsed: the output is constant"
    assert "its process ended in the middle" in (errors[4] or "")
    assert "allocate memory" in (errors[5] or "")
    assert {errors[depth] for depth in errors if depth not in (2, 3, 4, 5)} == {None}
    assert len(recorded) == len({trial.key for trial in recorded}) == 24
    failed = next(trial for trial in recorded if trial.error == errors[3])
    log = tmp_path / f"runs/toy/logs/trial-{failed.number:04d}.log"
    assert f"evaluating {failed.key}" in log.read_text()
    assert "Traceback" in log.read_text()


def test_evaluator_that_always_fails_ends_the_search(tmp_path: Path, cluster: str) -> None:
    file = toy.write_experiment(tmp_path, trials=60)
    source = (tmp_path / "toy.py").read_text()
    (tmp_path / "toy.py").write_text(source.replace("depth == self.failing_depth", "depth"))
    done = toy.nas(tmp_path, "search", file.name, "--ray-address", cluster)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("nas: 20 evaluations failed one after the other")
    assert len(trials(tmp_path)) == 20


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_search_keeps_what_finished(
    tmp_path: Path, cluster: str, how: signal.Signals
) -> None:
    toy.write_experiment(tmp_path, proxy={"seconds": 0.3}, workers=2)
    process = started(tmp_path, "--ray-address", cluster, until=6)
    os.kill(process.pid, how)
    assert process.wait(timeout=30) == 130, (tmp_path / "stderr.txt").read_text()
    assert (tmp_path / "stderr.txt").read_text().splitlines()[-1].startswith("nas: stopped; ")
    before = trials(tmp_path)
    assert sum(trial.state == "complete" for trial in before) >= 4
    assert {trial.abandoned for trial in before if trial.state != "complete"} == {True}
    done = search(tmp_path, cluster)
    assert done.returncode == 0, done.stderr
    kept = [trial for trial in trials(tmp_path) if not trial.abandoned]
    assert len(kept) == len({trial.key for trial in kept}) == 16
    assert {t.ask for t in kept} == set(range(16))


@pytest.mark.parametrize(
    ("searcher", "full"),
    [
        pytest.param({"name": "nsga2", "model": "gp"}, 24, id="gp"),
        pytest.param({"name": "nsga2-plain"}, 24, id="nsga2-plain"),
        pytest.param({"name": "random"}, 24, id="random"),
        pytest.param({"name": "optuna-nsga2"}, 24, id="optuna-nsga2"),
        pytest.param({"name": "optuna-tpe"}, 24, id="optuna-tpe"),
        pytest.param({"name": "funnel"}, 1, id="funnel"),  # the others are trained in part
    ],
)
def test_every_searcher_goes_on_where_it_was_stopped(
    tmp_path: Path, cluster: str, searcher: dict[str, str], full: int
) -> None:
    """Interrupted, with a result of less than all, and started again: what one search would do."""
    proxy = {"has_fidelities": True, "seconds": 0.05}
    toy.write_experiment(tmp_path, searcher=searcher, trials=24, proxy=proxy)
    process = started(tmp_path, "--ray-address", cluster, until=14)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, (tmp_path / "stderr.txt").read_text()
    assert search(tmp_path, cluster).returncode == 0
    whole = tmp_path / "whole"
    toy.write_experiment(whole, searcher=searcher, trials=24, proxy=proxy)
    assert search(whole, cluster).returncode == 0
    results = [
        [(t.ask, t.key, t.fidelity, t.values) for t in trials(folder) if not t.void]
        for folder in (tmp_path, whole)
    ]
    assert results[0] == results[1]
    assert len({trial[:3] for trial in results[0]}) == 24
    assert len([trial for trial in results[0] if trial[2] == 1]) == full
    fronts = [toy.json_of(folder, "front", "toy")["front"] for folder in (tmp_path, whole)]
    keys = [[entry["key"] for entry in front] for front in fronts]
    assert keys[0] == keys[1]
    assert 1 <= len(keys[0]) <= full


def test_workers_do_not_wait_for_each_other(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, proxy={"seconds": 0.2}, workers=2)
    assert search(tmp_path, cluster).returncode == 0
    behind = [trial.ask - trial.told_before for trial in trials(tmp_path)]
    assert behind[:2] == [0, 1]
    assert set(behind[2:]) == {1}


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")


def test_budget_that_nothing_meets_says_how_near_it_came(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, budget={DEVICE: {"decode_ms": 9}})
    done = search(tmp_path, cluster)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"smallest found: {DEVICE} decode_ms 10." in done.stderr.splitlines()[-1]
    assert toy.trained(tmp_path) == []
    toy.write_experiment(tmp_path, trials=2)
    assert search(tmp_path, cluster).returncode == 0


@pytest.mark.parametrize(
    "change", [{"objectives": ["accuracy", "decode_ms"]}, {"seed": 9}], ids=["objectives", "seed"]
)
def test_study_recorded_otherwise_is_refused(
    again: Path, cluster: str, change: dict[str, Any]
) -> None:
    record = (again / "runs/nas.db").read_bytes()
    toy.write_experiment(again, trials=5, **change)
    (key,) = change
    message = one_line(search(again, cluster))
    assert message.startswith(f"nas: study 'toy' was recorded with {key} ")
    assert message.endswith("choose another name with --study")
    assert (again / "runs/nas.db").read_bytes() == record


def test_study_of_another_space_is_refused(again: Path, cluster: str) -> None:
    space = again / "toy.yaml"
    space.write_text(space.read_text().replace("- 32", "- 64"))
    message = one_line(search(again, cluster))
    assert "in another space: width no longer has the choice 32; undo that or" in message


def test_changed_builder_is_noticed_before_anything_is_trained(
    tmp_path: Path, cluster: str
) -> None:
    """The price of an architecture decides what is proposed: replay must meet the record."""
    toy.write_experiment(tmp_path, trials=8, budget={DEVICE: {"decode_ms": 12.0}})
    space = {**toy.SPACE, "builder": "./priced.py:build_design"}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    builder = tmp_path / "priced.py"
    builder.write_text(PRICED)
    assert search(tmp_path, cluster).returncode == 0
    builder.write_text(PRICED.replace("tiles_per_image=48", "tiles_per_image=53"))
    done = search(tmp_path, cluster, "--trials", "9")
    assert done.returncode == 2
    assert "prices or versions have changed since" in done.stderr.splitlines()[-1]
    assert len(toy.trained(tmp_path)) == 8


PRICED = f"""
from dataclasses import replace
from pathlib import Path
from search_spaces.yaml_files import import_object

toy = import_object({toy.SPACE["builder"]!r}, Path(), "builder", ValueError)

def build_design(choices):
    return replace(toy(choices), tiles_per_image=48)
"""


def test_locked_storage_is_refused(again: Path, cluster: str) -> None:
    with sqlite3.connect(again / "runs/nas.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "database is locked; another process" in one_line(search(again, cluster))


def test_hours_end_a_search(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, trials=None, hours=2 / 3600, proxy={"seconds": 0.4})
    done = search(tmp_path, cluster)
    assert done.returncode == 0, done.stderr
    recorded = trials(tmp_path)
    assert 2 <= len(recorded) <= 12
    assert {trial.state for trial in recorded} == {"complete"}
