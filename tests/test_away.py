"""A storage that is away while a study is searched: what is lost (nothing) and written twice."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import cut_connection
import postgresql as own_postgresql
import pytest
import sqlalchemy
import toy
from test_store import RECORD, claim

from nas.record import retrying
from nas.record.records import Trial
from nas.record.retrying import LostError
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from search_spaces.load import load_space
from search_spaces.space import SearchSpace


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    toy.write_experiment(tmp_path)
    return load_space(tmp_path / "toy.yaml")


@pytest.fixture
def database(postgresql: own_postgresql.Server) -> str:
    return postgresql.make_database(f"nas_{uuid4().hex[:8]}")


@contextmanager
def away(
    leave: Callable[[], object], come_back: Callable[[], object], seconds: float
) -> Iterator[None]:
    """Something is gone for so long, from now on."""
    leave()
    timer = threading.Timer(seconds, come_back)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """An SQLite file that somebody else holds."""
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


def record_everything(store: TrialStore, space: SearchSpace) -> None:
    """A claim of each kind to its end, and all else that a driver writes."""
    store.complete(store.claim(space, claim(space, 0)), [1.0, 10.0], {"loss": 1.0}, 0, 1.0)
    store.stop(store.claim(space, claim(space, 1, 2)), {}, "stopped early", 1, 1.0)
    store.fail(store.claim(space, claim(space, 2, 3)), "collapsed", 2, 1.0)
    origin = {"study": "other", "trial": 7}
    store.take_over(space, claim(space, 3, 4), [4.0, 40.0], {"loss": 4.0}, 1.0, origin)
    store.count(200, 40)
    store.lease.renew(force=True)


def require_everything_once(url: str) -> None:
    store = TrialStore.open(url, "s")
    states = [(t.ask, t.state, t.values) for t in store.trials()]
    assert states == [
        (0, "complete", (1.0, 10.0)),
        (1, "stopped", None),
        (2, "failed", None),
        (3, "complete", (4.0, 40.0)),
    ]
    assert store.proposals() == (200, 40)


def test_every_answer_of_the_database_may_be_lost_once(
    postgresql: own_postgresql.Server, database: str, space: SearchSpace
) -> None:
    TrialStore.create(database, "warm", RECORD)
    with cut_connection.relay(postgresql.port) as relay:
        through = database.replace(f":{postgresql.port}/", f":{relay.port}/")
        lost = -1
        while relay.lost > lost:  # the first, the second, ... commit, until there is none left
            lost, name = relay.lost, f"s{relay.lost}"
            store = TrialStore.create(through, name, RECORD)
            store.acquire()
            relay.passed = lost
            record_everything(store, space)
            relay.passed = None
            trials = TrialStore.open(database, name).trials()
            assert [(t.ask, t.state) for t in trials] == [
                (0, "complete"), (1, "stopped"), (2, "failed"), (3, "complete")
            ]  # fmt: skip
            assert TrialStore.open(database, name).proposals() == (200, 40)
        assert lost > 10


def test_server_that_is_restarted_is_waited_for(
    postgresql: own_postgresql.Server, database: str, space: SearchSpace
) -> None:
    store = TrialStore.create(database, "s", RECORD)
    said: list[str] = []
    store.acquire(said.append)
    with away(postgresql.stop, postgresql.start, 4.0):
        record_everything(store, space)
    require_everything_once(database)
    assert len(said) == 2
    assert "trying again for 300 s" in said[0]
    assert own_postgresql.PASSWORD.replace(" ", "%20") not in said[0]
    assert "back after" in said[1]


def test_file_that_is_locked_for_long_is_waited_for(
    tmp_path: Path, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.record.storage.LOCK_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path}/nas.db"
    store = TrialStore.create(url, "s", RECORD)
    said: list[str] = []
    store.acquire(said.append)
    with (
        closing(sqlite3.connect(tmp_path / "nas.db", check_same_thread=False)) as other,
        away(lambda: other.execute("BEGIN EXCLUSIVE"), other.rollback, 3.0),
    ):
        record_everything(store, space)
    require_everything_once(url)
    assert ["locked" in said[0], "back after" in said[1]] == [True, True]


def test_ctrl_c_in_the_middle_of_a_query_is_no_error_of_the_storage(tmp_path: Path) -> None:
    store = TrialStore.create(f"sqlite:///{tmp_path}/nas.db", "s", RECORD)
    store.acquire()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt  # where Python raises it while a statement runs

    sqlalchemy.event.listen(store._storage.engine, "do_execute", interrupted)
    for action in (store.trials, lambda: store.count(1, 0), store.lease.others):
        with pytest.raises(KeyboardInterrupt):
            action()


def test_who_reads_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.record.storage.LOCK_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path}/nas.db"
    TrialStore.create(url, "s", RECORD)
    reader = TrialStore.open(url, "s")
    with locked(tmp_path / "nas.db"), pytest.raises(StudyError, match="locked") as caught:
        reader.trials()
    assert not isinstance(caught.value, LostError)


def test_storage_that_stays_away_ends_a_driver_in_one_line(
    tmp_path: Path, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.record.storage.LOCK_SECONDS", 0.2)
    monkeypatch.setattr(retrying, "RETRY_SECONDS", 2.0)
    url = f"sqlite:///{tmp_path}/nas.db"
    store, said = TrialStore.create(url, "s", RECORD), list[str]()
    store.acquire(said.append)
    number = store.claim(space, claim(space, 0))
    with locked(tmp_path / "nas.db"):
        with pytest.raises(
            LostError, match=r"locked; it stayed away\. .* the same command"
        ) as caught:
            store.fail(number, "collapsed", 0, 1.0)
        assert "\n" not in str(caught.value)
        with pytest.raises(StudyError, match="locked"):
            store.count(200, 40)
        store.lease.release()
    assert len(said) == 1  # what was to be written on the way out was not waited for
    assert store.trials()[0].state == "running"


def driver(
    folder: Path, url: str, cluster: str, retry_seconds: float = 300
) -> subprocess.Popen[str]:
    """The program, searching; it waits so long for its storage."""
    code = (
        "import sys; from nas.record import retrying; from nas.cli import main;"
        f"retrying.RETRY_SECONDS = {retry_seconds}; main()"
    )
    arguments = ["search", "experiment.yaml", "--ray-address", cluster, "--storage", url]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=toy.interruptible,
    )  # fmt: skip


def require_end(process: subprocess.Popen[str], code: int = 0) -> str:
    said = process.communicate(timeout=180)[1]
    assert process.returncode == code, said
    return said


def require_each_once(folder: Path, url: str, at_least: int) -> list[Trial]:
    """Everything that was asked for is complete, and was trained and recorded once."""
    recorded = TrialStore.open(url, "toy").trials()
    assert {trial.state for trial in recorded} == {"complete"}
    assert len(recorded) == len({trial.identity for trial in recorded}) >= at_least
    trained = toy.trained(folder)
    assert len(trained) == len(set(trained)) == len(recorded)
    return recorded


def begun(folder: Path, count: int) -> None:
    # On a busy machine Ray's workers alone took more than the usual 90 s to start.
    toy.wait_until(lambda: len(toy.trained(folder)) >= count, timeout_seconds=300)


def test_search_goes_on_when_its_database_was_away(
    tmp_path: Path, postgresql: own_postgresql.Server, database: str, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=12, workers=2, proxy={"seconds": 0.5})
    searching = driver(tmp_path, database, cluster)
    begun(tmp_path, 4)
    with away(postgresql.stop, postgresql.start, 6.0):
        pass
    said = require_end(searching)
    assert said.count("trying again for 300 s") == said.count("back after") == 1
    recorded = require_each_once(tmp_path, database, 12)
    assert [trial.ask for trial in recorded] == list(range(12))


def test_two_drivers_go_on_when_their_database_was_away(
    tmp_path: Path, postgresql: own_postgresql.Server, database: str, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=16, workers=1, proxy={"seconds": 0.5})
    drivers = [driver(tmp_path, database, cluster) for _ in range(2)]
    begun(tmp_path, 6)
    with away(postgresql.stop, postgresql.start, 5.0):
        pass
    for searching in drivers:
        assert "back after" in require_end(searching)
    recorded = [t for t in TrialStore.open(database, "toy").trials() if not t.void]
    assert {trial.state for trial in recorded} == {"complete"}
    trained = toy.trained(tmp_path)
    assert len(trained) == len(set(trained)) == len(recorded) >= 16


def test_search_goes_on_when_its_file_was_locked_for_long(tmp_path: Path, cluster: str) -> None:
    toy.write_experiment(tmp_path, trials=8, workers=2, proxy={"seconds": 0.5})
    url = f"sqlite:///{tmp_path}/runs/nas.db"
    searching = driver(tmp_path, url, cluster)
    begun(tmp_path, 3)
    with locked(tmp_path / "runs" / "nas.db"):
        time.sleep(12)
    assert require_end(searching).count("database is locked; trying again") == 1
    require_each_once(tmp_path, url, 8)


def test_search_goes_on_when_its_disk_was_full(
    tmp_path: Path, small_disk: Path, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=10, workers=2, proxy={"seconds": 0.5})
    url = f"sqlite:///{small_disk}/nas.db"
    searching = driver(tmp_path, url, cluster)
    begun(tmp_path, 3)
    filling = small_disk / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    time.sleep(6)
    filling.unlink()
    said = require_end(searching)
    assert "full; trying again" in said
    assert "back after" in said
    require_each_once(tmp_path, url, 10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)])
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted by this user")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_search_whose_database_stays_away_fails_and_goes_on_later(
    tmp_path: Path, postgresql: own_postgresql.Server, database: str, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=10, workers=2, proxy={"seconds": 0.5})
    searching = driver(tmp_path, database, cluster, retry_seconds=3)
    begun(tmp_path, 4)
    postgresql.stop()
    try:
        said = require_end(searching, code=1)
    finally:
        postgresql.start()
    last = said.splitlines()[-1]
    assert "it stayed away. What finished is recorded, the same command goes on" in last
    before = {t.identity for t in TrialStore.open(database, "toy").trials() if t.ended}
    assert len(before) >= 2
    require_end(driver(tmp_path, database, cluster))
    finished = [t for t in TrialStore.open(database, "toy").trials() if not t.void]
    assert len(finished) == len({t.identity for t in finished}) == 10
    assert before <= {t.identity for t in finished}


@pytest.mark.parametrize("waiting", [True, False])
def test_driver_is_stopped_at_once_while_its_database_is_away(
    tmp_path: Path, postgresql: own_postgresql.Server, database: str, cluster: str, waiting: bool
) -> None:
    seconds = 0.3 if waiting else 60
    toy.write_experiment(tmp_path, trials=10, workers=1, proxy={"seconds": seconds})
    searching = driver(tmp_path, database, cluster)
    begun(tmp_path, 2 if waiting else 1)
    postgresql.stop()
    try:
        if waiting:
            assert searching.stderr is not None
            while "trying again" not in searching.stderr.readline():
                pass
        searching.send_signal(signal.SIGINT)
        said = require_end(searching, code=130)
    finally:
        postgresql.start()
    assert said.splitlines()[-1].startswith("nas: stopped; what finished is recorded")
