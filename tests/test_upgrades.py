"""Studies of older versions of the program, studies of newer ones, and tables of other Optunas."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import toy
from test_store import RECORD

from nas.record.formats import FORMAT
from nas.record.storage import StudyError
from nas.record.store import TrialStore

RECORDINGS = Path(__file__).parent / "recordings"
STUDIES = sorted(file.name.removesuffix(".db.gz") for file in RECORDINGS.glob("study-*.db.gz"))


@pytest.fixture(params=STUDIES)
def older(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A study that an older version recorded, in `runs/nas.db`; returns which."""
    name = str(request.param)
    file = tmp_path / "runs" / "nas.db"
    file.parent.mkdir()
    file.write_bytes(gzip.decompress((RECORDINGS / f"{name}.db.gz").read_bytes()))
    toy.SPACE["builder"], builder = "./toy.py:build_design", toy.SPACE["builder"]
    toy.write_experiment(tmp_path, trials=10, proxy={"failing_depth": 6})
    toy.SPACE["builder"] = builder
    return name


def test_every_reading_command_opens_a_study_of_an_older_version(
    tmp_path: Path, older: str
) -> None:
    expected = json.loads((RECORDINGS / f"{older}.json").read_text())
    front = toy.json_of(tmp_path, "front", "toy")
    assert [entry["trial"] for entry in front["front"]] == expected["trials"]
    assert [entry["loss"] for entry in front["front"]] == expected["loss"]
    counts = front["trials"]
    assert {name: counts[name] for name in expected["counts"]} == expected["counts"]
    best, *_ = expected["trials"]
    assert toy.json_of(tmp_path, "show", "toy", str(best))["loss"] == expected["loss"][0]
    assert [study["study"] for study in toy.json_of(tmp_path, "studies")] == ["toy"]
    again = toy.json_of(tmp_path, "retarget", "toy", "--decode-ms", "12", "--space", "toy.yaml")
    assert {e["trial"] for e in again["front"]} <= set(range(10))
    assert all(entry["decode_ms"] <= 12 for entry in again["front"])
    report = toy.nas(tmp_path, "report", "toy", "--space", "toy.yaml")
    assert report.returncode == 0, report.stderr


def test_search_goes_on_in_a_study_of_an_older_version_or_says_what_differs(
    tmp_path: Path, older: str
) -> None:
    url = f"sqlite:///{tmp_path}/runs/nas.db"
    before = TrialStore.open(url, "toy").trials()
    command = ("search", "experiment.yaml", "--trials", "13")
    done = toy.nas(tmp_path, *command, timeout_seconds=400)
    after = TrialStore.open(url, "toy").trials()
    assert after[:10] == before
    if older == "study-b1cf116":
        assert done.returncode == 2
        assert "was recorded with precision None, the experiment has 'fp16'" in done.stderr
        assert len(after) == 10
        return
    assert done.returncode == 0, done.stderr
    assert [trial.ask for trial in after] == list(range(13))
    assert len({trial.identity for trial in after}) == 13
    assert len(toy.trained(tmp_path)) == 3


def test_study_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    store = TrialStore.create(url, "s", RECORD)
    store._storage.set_study_user_attr(store.study_id, "format", FORMAT + 1)
    for opened in (lambda: TrialStore.open(url, "s"), lambda: TrialStore.create(url, "s", RECORD)):
        with pytest.raises(StudyError, match=r"is in format .*: upgrade nas-codecs") as caught:
            opened()
        assert "\n" not in str(caught.value)


def test_study_that_is_gone_on_with_says_its_present_format(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    store = TrialStore.create(url, "s", RECORD)
    with closing(sqlite3.connect(tmp_path / "nas.db")) as database, database:
        database.execute("DELETE FROM study_user_attributes WHERE key = 'format'")
    TrialStore.create(url, "s", RECORD).acquire()
    attributes = store._storage.get_study_user_attrs(store.study_id)
    assert attributes["format"] == FORMAT


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("v3.0.0.d", "older Optuna .*: optuna storage upgrade --storage sqlite:///.*/nas.db$"),
        ("v99.0.0.a", "newer Optuna than .*: upgrade nas-codecs$"),
    ],
)
def test_tables_of_another_optuna_are_refused_with_what_to_do(
    tmp_path: Path, schema: str, expected: str
) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    TrialStore.create(url, "s", RECORD)
    with closing(sqlite3.connect(tmp_path / "nas.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (schema,))
    for opened in (lambda: TrialStore.open(url, "s"), lambda: TrialStore.create(url, "s", RECORD)):
        with pytest.raises(StudyError, match=expected) as caught:
            opened()
        assert "\n" not in str(caught.value)
