"""A study in PostgreSQL: whole searches by the program, on a server of the tests' own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import postgresql as own_postgresql
import pytest
import toy

from nas.record.records import Trial
from nas.record.storage import StudyError, create_storage
from nas.record.store import TrialStore

DEVICE = "iphone-17-pro-max"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


@pytest.fixture
def url(postgresql: own_postgresql.Server) -> str:
    """Of an empty database."""
    return postgresql.make_database(f"nas_{uuid4().hex[:8]}")


def command(url: str, cluster: str) -> list[str]:
    return ["search", "experiment.yaml", "--ray-address", cluster, "--storage", url]


def search(folder: Path, url: str, cluster: str, *more: str) -> subprocess.CompletedProcess[str]:
    done = toy.nas(folder, *command(url, cluster), *more)
    assert done.returncode == 0, done.stderr
    return done


def driver(folder: Path, url: str, cluster: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "nas", *command(url, cluster)]
    return subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def trials(url: str) -> list[Trial]:
    return TrialStore.open(url, "toy").trials()


def require_each_once(folder: Path, url: str, at_least: int) -> list[Trial]:
    """Everything that was asked for is complete, and was trained and recorded once."""
    recorded = [trial for trial in trials(url) if not trial.void]
    assert {trial.state for trial in recorded} == {"complete"}
    assert len(recorded) == len({trial.identity for trial in recorded}) >= at_least
    trained = toy.trained(folder)
    assert len(trained) == len(set(trained)) == len(recorded)
    return recorded


def test_search_in_postgresql_records_what_it_records_in_sqlite(
    tmp_path: Path, url: str, cluster: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        toy.write_experiment(folder, trials=12)
    sqlite = f"sqlite:///{there}/runs/nas.db"
    search(here, url, cluster, "--trials", "5")
    search(here, url, cluster)
    search(there, sqlite, cluster)
    results = [[(t.ask, t.identity, t.values, t.told) for t in trials(u)] for u in (url, sqlite)]
    assert results[0] == results[1]
    require_each_once(here, url, 12)


def test_two_drivers_train_nothing_twice(tmp_path: Path, url: str, cluster: str) -> None:
    toy.write_experiment(tmp_path, trials=24, workers=1, proxy={"seconds": 0.3})
    drivers = [driver(tmp_path, url, cluster) for _ in range(2)]
    said = [process.communicate(timeout=180)[1] for process in drivers]
    assert [process.returncode for process in drivers] == [0, 0], said
    recorded = require_each_once(tmp_path, url, 24)
    assert len({trial.owner for trial in recorded}) == 2


def test_a_second_driver_joins_a_running_study(tmp_path: Path, url: str, cluster: str) -> None:
    toy.write_experiment(tmp_path, trials=24, workers=1, proxy={"seconds": 0.6})
    first = driver(tmp_path, url, cluster)
    toy.wait_until(lambda: len(toy.trained(tmp_path)) >= 3)
    drivers = [first, driver(tmp_path, url, cluster)]
    said = [process.communicate(timeout=180)[1] for process in drivers]
    assert [process.returncode for process in drivers] == [0, 0], said
    recorded = require_each_once(tmp_path, url, 24)
    assert len({trial.owner for trial in recorded}) == 2
    assert len({trial.owner for trial in recorded[:3]}) == 1


def test_what_a_killed_driver_had_claimed_is_trained_by_the_other(
    tmp_path: Path, url: str, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=16, workers=1, proxy={"seconds": 0.4})
    drivers = [driver(tmp_path, url, cluster) for _ in range(2)]
    toy.wait_until(lambda: len(toy.trained(tmp_path)) >= 6)
    os.kill(drivers[0].pid, signal.SIGKILL)
    said = [process.communicate(timeout=180)[1] for process in drivers]
    assert drivers[1].returncode == 0, said
    recorded = trials(url)
    finished = [trial for trial in recorded if trial.state == "complete"]
    left = [trial for trial in recorded if trial.abandoned]
    assert len({trial.identity for trial in finished}) == len(finished) >= 16
    assert len(left) == 1
    assert {trial.identity for trial in left} <= {trial.identity for trial in finished}
    assert {trial.state for trial in recorded} == {"complete", "failed"}


def test_reading_commands_and_retargeting_read_postgresql(
    tmp_path: Path, url: str, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=8)
    done = search(tmp_path, url, cluster)
    assert own_postgresql.PASSWORD.replace(" ", "%20") not in done.stdout + done.stderr
    option = ("--storage", url)
    front = toy.json_of(tmp_path, "front", "toy", *option)
    assert front["trials"]["complete"] == 8
    number = front["front"][0]["trial"]
    assert toy.json_of(tmp_path, "show", "toy", str(number), *option)["trial"] == number
    assert [s["study"] for s in toy.json_of(tmp_path, "studies", *option)] == ["toy"]
    tight = ("--device", DEVICE, "--decode-ms", "100")
    priced = toy.json_of(tmp_path, "retarget", "toy", *tight, *option)
    assert all(entry["decode_ms"] <= 100 for entry in priced["front"])
    report = toy.nas(tmp_path, "report", "toy", *option)
    assert report.returncode == 0, report.stderr
    page = (tmp_path / "runs" / "toy" / "report.html").read_text()
    assert own_postgresql.PASSWORD.replace(" ", "%20") not in page
    further = toy.nas(tmp_path, "retarget", "toy", *tight, *option, "--search", "2")
    assert further.returncode == 0, further.stderr
    assert len(toy.json_of(tmp_path, "studies", *option)) == 2


@pytest.mark.parametrize(
    ("database", "password", "expected"),
    [
        ("nas", "wr0ng", "password authentication failed"),
        ("nosuch", own_postgresql.PASSWORD, 'database "nosuch" does not exist'),
    ],
)
def test_database_that_cannot_be_opened_is_one_line_without_the_password(
    tmp_path: Path,
    postgresql: own_postgresql.Server,
    database: str,
    password: str,
    expected: str,
) -> None:
    require_one_line(tmp_path, postgresql.url(database, password), password, expected)


def test_server_that_is_not_there_is_one_line_without_the_password(
    tmp_path: Path, postgresql: own_postgresql.Server
) -> None:
    url = postgresql.url("nas", "wr0ng").replace(f":{postgresql.port}/", ":1/")
    require_one_line(tmp_path, url, "wr0ng", "Connection refused")


def require_one_line(folder: Path, url: str, password: str, expected: str) -> None:
    toy.write_experiment(folder)
    for arguments in (("front", "toy"), ("search", "experiment.yaml")):
        done = toy.nas(folder, *arguments, "--storage", url)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert expected in line
        assert "check --storage" in line
        assert password.replace(" ", "%20") not in line
        assert done.stdout == ""


def test_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyError, match=r"pip install 'nas-codecs\[postgresql\]'"):
        create_storage("postgresql+psycopg://nobody@127.0.0.1:1/nas")


def test_password_of_a_mistyped_url_is_not_shown() -> None:
    with pytest.raises(StudyError, match="is not an SQLAlchemy URL") as caught:
        create_storage("postgresql//user:secret@host/nas")
    assert "secret" not in str(caught.value)
