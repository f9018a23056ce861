"""A front trained again: what is trained, what is concluded, what is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy

from evaluators.protocol import Direction
from nas.batch import load_results
from nas.confirm import Wanted, confirmation_document, wanted
from nas.record.records import Trial

OBJECTIVES: dict[str, Direction] = {"loss": "minimize", "decode_ms": "minimize"}


def trial(number: int, loss: float, decode_ms: float, state: str = "complete") -> Trial:
    return Trial(
        number=number, state=state, ask=number, told_before=0, told=number,  # type: ignore[arg-type]
        key=f"key{number}", code=(number,), choices={"depth": number},
        price={"decode_ms": decode_ms}, blocks={}, values=(loss, decode_ms),
        metrics={"loss": loss}, error=None, abandoned=False, withdrawn=False,
        seconds=1.0, started="now", fidelity=1.0, owner="",
    )  # fmt: skip


TRIALS = [
    trial(0, 3.0, 10.0),
    trial(1, 2.0, 20.0),
    trial(2, 1.0, 30.0),
    trial(3, 2.1, 21.0),  # just behind the front
    trial(4, 9.0, 90.0),
    trial(5, 0.1, 1.0, "failed"),
]


def outcome(loss: float | None) -> dict[str, Any]:
    metrics = None if loss is None else {"loss": loss}
    return {"metrics": metrics, "error": None if metrics else "diverged", "seconds": 1.0}


def test_front_members_come_first_and_then_those_behind_them() -> None:
    work = wanted(TRIALS, OBJECTIVES, top=4, seeds=2, study_seed=3)
    assert [one.trial for one in work if one.seed == 4] == [0, 1, 2, 3]
    assert {one.seed for one in work} == {4, 5}
    assert len(work) == 8
    assert [one.trial for one in wanted(TRIALS, OBJECTIVES, 2, 1, 0)] == [0, 1]
    assert {one.trial for one in wanted(TRIALS, OBJECTIVES, 99, 1, 0)} == {0, 1, 2, 3, 4}


def test_what_was_lucky_does_not_survive() -> None:
    work = wanted(TRIALS, OBJECTIVES, top=3, seeds=3, study_seed=0)
    losses = {0: 3.0, 1: 3.5, 2: 1.0}  # the second was lucky: the first is now as fast and better
    results = {one.name: outcome(losses[one.trial] + 0.1 * one.seed) for one in work}
    found = {e["trial"]: e for e in confirmation_document(TRIALS, OBJECTIVES, work, results)}
    assert [found[n]["survives"] for n in (0, 1, 2)] == [True, False, True]
    assert found[1]["recorded"] == {"loss": 2.0, "decode_ms": 20.0}
    assert found[1]["mean"]["loss"] == pytest.approx(3.7)
    # Student's t with two degrees of freedom: 4.303 s / sqrt(3) of 0.1, 0.2, 0.3.
    assert found[1]["interval"]["loss"] == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    assert found[1]["interval"]["decode_ms"] == 0


def test_failed_trainings_are_told_and_never_averaged() -> None:
    work = wanted(TRIALS, OBJECTIVES, top=2, seeds=2, study_seed=0)
    results = {one.name: outcome(None if one.trial == 1 or one.seed == 2 else 3.0) for one in work}
    first, second = confirmation_document(TRIALS, OBJECTIVES, work, results)
    assert (first["seeds"], first["failed"], first["interval"]["loss"]) == (1, ["diverged"], None)
    assert (second["mean"], second["survives"]) == (None, False)
    assert second["failed"] == ["diverged", "diverged"]


def test_results_of_other_terms_are_not_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "confirmed.json"
    name = Wanted(0, (0,), 1).name
    file.write_text(json.dumps({"terms": {"longer": 4.0}, "results": {name: outcome(1.0)}}))
    assert load_results(file, {"longer": 4.0})[name]["metrics"] == {"loss": 1.0}
    assert load_results(file, {"longer": 2.0}) == {}
    file.write_text("{")
    assert load_results(file, {"longer": 4.0}) == {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


@pytest.mark.slow
def test_confirming_trains_longer_with_other_seeds_and_repeats_nothing(
    tmp_path: Path, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=8, proxy={"noise": 1.0})
    ray = ("--ray-address", cluster)
    assert toy.nas(tmp_path, "search", "experiment.yaml", *ray).returncode == 0
    arguments = ("confirm", "toy", "--top", "3", "--seeds", "2", "--longer", "100", "--json", *ray)
    done = toy.nas(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert "confirming" in done.stderr
    document = json.loads(done.stdout)
    assert len(document["confirmed"]) == 3
    for entry in document["confirmed"]:
        assert entry["seeds"] == 2
        # A tenth of the noise is left, and the study's own loss had all of it.
        assert entry["interval"]["loss"] < 1
    trained = (tmp_path / "runs/toy/confirm-shared/trained.txt").read_text().splitlines()
    assert len(trained) == 6
    assert json.loads(toy.nas(tmp_path, *arguments).stdout) == document
    assert (tmp_path / "runs/toy/confirm-shared/trained.txt").read_text().splitlines() == trained
    words = toy.nas(tmp_path, "confirm", "toy", "--top", "3", "--seeds", "2", "--longer", "100")
    assert "stand after 2 trainings of 100 times the steps" in words.stdout
    shutil.move(tmp_path / "experiment.yaml", tmp_path / "other.yaml")
    lost = toy.nas(tmp_path, *arguments)
    assert lost.returncode == 2
    assert "--experiment" in lost.stderr
