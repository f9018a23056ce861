"""The record: claims, leases and results, on real SQLite."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import toy

from nas.processes import runs
from nas.record import lease
from nas.record.entries import study_document
from nas.record.records import Claim, StudyRecord
from nas.record.storage import StudyError, shown
from nas.record.store import TrialStore, studies
from search_spaces.load import load_space
from search_spaces.space import SearchSpace

RECORD = StudyRecord(
    identity={"space": "toy 1", "objectives": ["loss", "decode_ms"], "seed": 1},
    objectives={"loss": "minimize", "decode_ms": "minimize"},
    limits={"phone": {"decode_ms": 150.0}},
    space="toy",
    provenance={"phone": {"kind": "analytic", "held_against": "point estimate"}},
    about={"created": "2026-01-01"},
)


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    toy.write_experiment(tmp_path)
    return load_space(tmp_path / "toy.yaml")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs/nas.db"


def claim(space: SearchSpace, ask: int, depth: int = 1, fidelity: float = 1.0) -> Claim:
    choices = {"depth": depth, "width": 8, "mixing": "shuffle", "groups": 2}
    architecture = space.architecture(space.encode(choices))
    price = {"decode_ms": 10.0 * depth, "latency": {"phone": {"decode_ms": 10.0 * depth}}}
    blocks = {"phone": {"decode": [["a", "b", 1.0]]}}
    return Claim(ask, 0, architecture, price, blocks, [-140.0], fidelity)


def test_trial_is_running_until_it_is_finished(url: str, space: SearchSpace) -> None:
    store = TrialStore.create(url, "s", RECORD)
    number = store.claim(space, claim(space, 0))
    assert TrialStore.open(url, "s").trials()[0].state == "running"
    store.complete(number, [1.5, 10.0], {"loss": 1.5}, told=0, seconds=2.0)
    (trial,) = TrialStore.open(url, "s").trials()
    assert (trial.state, trial.values, trial.metrics) == ("complete", (1.5, 10.0), {"loss": 1.5})
    assert trial.choices == claim(space, 0).architecture.choices
    assert space.architecture(trial.code).key == trial.key


def test_trial_is_finished_only_once(url: str, space: SearchSpace) -> None:
    store = TrialStore.create(url, "s", RECORD)
    number = store.claim(space, claim(space, 0))
    store.fail(number, "collapsed")
    with pytest.raises(StudyError, match="trial 0 was finished by another process"):
        store.complete(number, [1.0, 1.0], {}, told=0, seconds=1.0)
    (trial,) = store.trials()
    assert (trial.state, trial.error, trial.abandoned) == ("failed", "collapsed", False)


def test_reader_sees_every_change_in_whatever_order_trials_end(
    url: str, space: SearchSpace
) -> None:
    writer = TrialStore.create(url, "s", RECORD)
    other = TrialStore.create(url, "other", RECORD)
    reader = TrialStore.open(url, "s")
    assert reader.trials() == []
    for ask in range(4):
        writer.claim(space, claim(space, ask, depth=ask + 1))
        other.claim(space, claim(space, ask, depth=ask + 1))
    for number in (3, 1, 0, 2):
        writer.complete(number, [1.0 + number, 2.0], {"loss": 1.0}, told=0, seconds=1.0)
        assert reader.trials() == TrialStore.open(url, "s").trials()
        assert reader.trials()[number].values == (1.0 + number, 2.0)
    writer.claim(space, claim(space, 4, depth=5))
    assert [trial.state for trial in reader.trials()] == ["complete"] * 4 + ["running"]
    assert [trial.number for trial in TrialStore.open(url, "other").trials()] == [0, 1, 2, 3]


def test_trials_of_older_versions_and_of_optuna_itself(url: str, space: SearchSpace) -> None:
    store = TrialStore.create(url, "s", RECORD)
    store.complete(store.claim(space, claim(space, 0)), [1.0, 2.0], {"loss": 1.0}, 0, 1.0)
    before = store.trials()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
        rows = database.execute("SELECT trial_id, value_json FROM trial_user_attributes").fetchall()
        database.execute("DELETE FROM trial_user_attributes")
        flat = [(i, k, json.dumps(v)) for i, text in rows for k, v in json.loads(text).items()]
        database.executemany(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)", flat
        )
    assert TrialStore.open(url, "s").trials() == before
    optuna.load_study(study_name="s", storage=url).enqueue_trial({"depth": 1})
    assert len(TrialStore.open(url, "s").trials()) == 1


def test_claims_of_a_dead_process_are_abandoned(
    url: str, space: SearchSpace, tmp_path: Path
) -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[3]);"
        "from test_store import RECORD, claim, load_space, TrialStore;"
        "space = load_space(sys.argv[2] + '/toy.yaml');"
        "store = TrialStore.create(sys.argv[1], 's', RECORD); store.acquire();"
        "store.claim(space, claim(space, 0)); os._exit(1)"
    )
    tests = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, url, str(tmp_path), tests], timeout=60)
    store = TrialStore.create(url, "s", RECORD)
    assert [trial.state for trial in store.trials()] == ["running"]
    store.acquire()
    (trial,) = store.trials()
    assert (trial.state, trial.abandoned) == ("failed", True)


def test_claims_of_a_living_process_are_left_to_it(url: str, space: SearchSpace) -> None:
    first, second = (TrialStore.create(url, "s", RECORD) for _ in range(2))
    first.acquire()
    first.claim(space, claim(space, 0))
    second.acquire()
    assert first.trials()[0].state == "running"
    first.lease.release()
    second.abandon()
    assert first.trials()[0].abandoned


def test_process_that_ended_unasked_after_does_not_live() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 30
    while runs(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(process.pid)
    assert process.wait() == 0


def test_storage_is_made_by_several_at_once(url: str) -> None:
    code = "import sys; from nas.record.storage import create_storage; create_storage(sys.argv[1])"
    command = [sys.executable, "-c", code, url]
    drivers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[1] for process in drivers]
    assert [process.returncode for process in drivers] == [0] * 4, said


def test_study_that_two_have_searched_at_once_stays_a_shared_one(url: str) -> None:
    first, second = (TrialStore.create(url, "s", RECORD) for _ in range(2))
    first.acquire()
    assert not first.shared()
    second.acquire()
    assert first.shared()
    assert second.shared()
    for store in (first, second):
        store.lease.release()
    assert TrialStore.open(url, "s").record().shared


def test_of_two_claims_of_one_evaluation_the_later_is_withdrawn(
    url: str, space: SearchSpace
) -> None:
    first, second = (TrialStore.create(url, "s", RECORD) for _ in range(2))
    wanted, elsewhere = claim(space, 0), claim(space, 0, fidelity=0.5)
    numbers = [first.claim(space, wanted), second.claim(space, wanted)]
    assert not first.withdraw(numbers[0], wanted)
    assert second.withdraw(numbers[1], wanted)
    assert not second.withdraw(second.claim(space, elsewhere), elsewhere)
    assert [trial.withdrawn for trial in first.trials()] == [False, True, False]
    first.fail(numbers[0], "abandoned", void="abandoned")
    assert not second.withdraw(second.claim(space, wanted), wanted)


def test_results_below_full_fidelity_are_on_no_front(url: str, space: SearchSpace) -> None:
    store = TrialStore.create(url, "s", RECORD)
    for depth, fidelity in ((1, 1.0), (2, 1 / 3)):
        number = store.claim(space, claim(space, depth, depth, fidelity))
        store.complete(number, [1.0 / depth, 10.0 * depth], {"loss": 1.0}, depth, 1.0, fidelity)
    document = study_document(store)
    assert [entry["trial"] for entry in document["front"]] == [0]
    assert document["dominated"] == []
    assert (document["trials"]["complete"], document["trials"]["partial"]) == (1, 1)
    low = store.trials()[1]
    assert (low.state, low.values, low.fidelity) == ("complete", (0.5, 20.0), 1 / 3)
    study = optuna.load_study(study_name="s", storage=url)
    assert [trial.number for trial in study.best_trials] == [0]


def claim_elsewhere(url: str, space: SearchSpace, seconds: float) -> TrialStore:
    """A store with a claim by a driver on another machine, whose lease ends in so many seconds."""
    store = TrialStore.create(url, "s", RECORD)
    store.lease.owner = "elsewhere:1:abc"
    store.claim(space, claim(space, 0))
    set_lease(url, seconds)
    return store


def set_lease(url: str, seconds: float) -> None:
    study = optuna.load_study(study_name="s", storage=url)
    holder = f"{lease.PREFIX}elsewhere:1:abc"
    study._storage.set_study_system_attr(study._study_id, holder, time.time() + seconds)


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_driver_elsewhere_whose_lease_does_not_change_is_gone_whatever_its_clock_says(
    url: str, space: SearchSpace, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    store = claim_elsewhere(url, space, seconds)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 3.0)
    said: list[str] = []
    other = TrialStore.create(url, "s", RECORD)
    other.acquire(said.append)
    deadline = time.monotonic() + 120
    while not store.trials()[0].abandoned and time.monotonic() < deadline:
        time.sleep(0.1)
        other.abandon()
    assert store.trials()[0].abandoned
    assert any("process 1 on elsewhere may still be at it" in line for line in said) == (
        seconds < 0
    )
    assert other.shared() == (seconds > 0)


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_driver_elsewhere_that_renews_its_lease_lives_whatever_its_clock_says(
    url: str, space: SearchSpace, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    store = claim_elsewhere(url, space, seconds)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    other = TrialStore.create(url, "s", RECORD)
    other.lease.standings()
    for tick in range(1, 7):
        time.sleep(0.5)
        set_lease(url, seconds + tick)
        other.abandon()
        assert other.lease.others() == ["elsewhere:1:abc"]
    other.acquire()
    assert store.trials()[0].state == "running"


def test_time_in_which_nobody_looked_says_nothing_of_a_driver(
    url: str, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = claim_elsewhere(url, space, 3600.0)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    other = TrialStore.create(url, "s", RECORD)
    other.acquire()
    time.sleep(1.5)
    other.abandon()
    assert store.trials()[0].state == "running"


def test_own_lease_is_renewed_whatever_the_clock_does(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrialStore.create(url, "s", RECORD)
    store.acquire()
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    time.sleep(0.1)
    assert store.lease.renew()


def test_outcome_of_a_driver_that_was_taken_for_dead_is_recorded_once(
    url: str, space: SearchSpace
) -> None:
    first, second = (TrialStore.create(url, "s", RECORD) for _ in range(2))
    said: list[str] = []
    first.acquire(said.append)
    numbers = [first.claim(space, claim(space, ask, depth=ask + 1)) for ask in range(3)]
    for number in numbers:
        second.fail(number, "abandoned: its search was stopped", void="abandoned")
    taken = second.claim(space, claim(space, 1, depth=2))
    done = second.claim(space, claim(space, 2, depth=3))
    second.complete(done, [3.0, 30.0], {"loss": 3.0}, told=0, seconds=1.0)
    outcomes = [
        first.complete(number, [1.0, 10.0], {"loss": 1.0}, told=number, seconds=1.0)
        for number in numbers
    ]
    recorded = {trial.number: trial for trial in second.trials()}
    assert outcomes == [5, None, None]
    assert recorded[5].values == (1.0, 10.0)
    assert (recorded[5].identity, recorded[5].ask) == (recorded[0].identity, 0)
    assert recorded[taken].state == "running"
    left = [trial for trial in recorded.values() if not trial.void]
    assert len({trial.identity for trial in left}) == len(left) == 3
    assert [line for line in said if "gave trial 0 up" in line and "recorded as trial 5" in line]
    assert first.withdraw(first.claim(space, claim(space, 1, depth=2)), claim(space, 1, depth=2))


def test_giving_up_what_is_given_up_already_is_no_error(url: str, space: SearchSpace) -> None:
    first, second = (TrialStore.create(url, "s", RECORD) for _ in range(2))
    number = first.claim(space, claim(space, 0))
    second.fail(number, "abandoned", void="abandoned")
    assert first.fail(number, "withdrawn", void="withdrawn") == number
    assert first.trials()[0].abandoned


def test_outcome_and_abandonment_that_meet_leave_one_of_them(url: str, space: SearchSpace) -> None:
    store = TrialStore.create(url, "s", RECORD)
    number = store.claim(space, claim(space, 0))
    study = optuna.load_study(study_name="s", storage=url)
    (trial_id,) = (trial._trial_id for trial in study.trials)
    study._storage.set_trial_user_attr(trial_id, "void", {"abandoned": True, "error": "gone"})
    store.complete(number, [1.0, 10.0], {"loss": 1.0}, told=0, seconds=1.0)
    (trial,) = TrialStore.open(url, "s").trials()
    assert (trial.state, trial.values, trial.abandoned) == ("complete", (1.0, 10.0), False)


@pytest.mark.parametrize(
    ("key", "value"), [("space", "toy 2"), ("objectives", ["loss"]), ("seed", 2)]
)
def test_study_goes_on_under_the_same_identity_only(
    url: str, space: SearchSpace, key: str, value: object
) -> None:
    store = TrialStore.create(url, "s", RECORD)
    store.claim(space, claim(space, 0))
    other = replace(RECORD, identity={**RECORD.identity, key: value})
    with pytest.raises(StudyError, match=f"'s' was recorded with {key} .*--study") as caught:
        TrialStore.create(url, "s", other)
    assert "\n" not in str(caught.value)
    assert len(TrialStore.create(url, "s", RECORD).trials()) == 1


def test_study_without_trials_is_made_anew(url: str) -> None:
    TrialStore.create(url, "s", RECORD)
    other = replace(RECORD, identity={"space": "other"}, objectives={"loss": "minimize"})
    assert TrialStore.create(url, "s", other).record().objectives == {"loss": "minimize"}


def test_foreign_study_is_left_alone(url: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    optuna.create_study(study_name="s", storage=url).optimize(lambda _: 1.0, n_trials=1)
    with pytest.raises(StudyError, match="was not recorded by nas"):
        TrialStore.create(url, "s", RECORD)
    assert len(optuna.load_study(study_name="s", storage=url).trials) == 1


def test_optuna_reads_what_was_recorded(url: str, space: SearchSpace) -> None:
    store = TrialStore.create(url, "s", RECORD)
    for ask, values in enumerate([(3.0, 10.0), (1.0, 30.0), (4.0, 20.0)]):
        number = store.claim(space, claim(space, ask, depth=ask + 1))
        store.complete(number, values, {"loss": values[0]}, told=ask, seconds=1.0)
    study = optuna.load_study(study_name="s", storage=url)
    front = study_document(store)["front"]
    assert {trial.number for trial in study.best_trials} == {e["trial"] for e in front} == {0, 1}
    assert study.trials[1].params == {"depth": 2, "width": 8, "mixing": "shuffle", "groups": 2}
    assert study.trials[1].system_attrs["constraints"] == [-140.0]
    json.dumps(study_document(store), allow_nan=False)


def test_locked_storage_is_one_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.record.storage.LOCK_SECONDS", 0.2)
    TrialStore.create(url, "s", RECORD)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StudyError, match="database is locked; another process") as caught:
            TrialStore.create(url, "s", RECORD)
    assert "\n" not in str(caught.value)


def test_read_only_storage_is_read_and_not_written(url: str, space: SearchSpace) -> None:
    writable = TrialStore.create(url, "s", RECORD)
    writable.claim(space, claim(space, 0))
    file = url.removeprefix("sqlite:///")
    read_only = f"sqlite:///file:{file}?mode=ro&uri=true"
    assert len(TrialStore.open(read_only, "s").trials()) == 1
    with pytest.raises(StudyError, match="readonly database; make the file") as caught:
        TrialStore.create(read_only, "s", RECORD).acquire()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///none/nas.db", "there is no such file yet"),
        ("nas.db", "is not an SQLAlchemy URL"),
        ("nosuch://host/db", "nosuch"),
    ],
)
def test_storage_that_cannot_be_opened_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=expected) as caught:
        TrialStore.open(url, "s")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database" * 100)
    with pytest.raises(StudyError, match="file is not a database"):
        TrialStore.create(f"sqlite:///{file}", "s", RECORD)
    assert file.read_text() == "not a database" * 100


@pytest.mark.parametrize(
    "change",
    [
        "update trial_user_attributes set value_json = '7'",
        "update trial_user_attributes set value_json = '{'",
        "update trial_user_attributes set value_json = '{\"ask\": 0}'",
        "update trial_user_attributes set value_json = replace(value_json, '32', 'NaN')",
        "update trials set state = 'x'",
        "delete from trial_values",
        "update trials set number = 'x'",
        "update trials set datetime_start = 'x'",
        "update study_user_attributes set value_json = '[]' where key = 'limits'",
        "update study_user_attributes set value_json = '{}' where key = 'limits'",
        "update study_user_attributes set value_json = '' where key = 'about'",
        "update study_user_attributes set value_json = '[1]' where key = 'proposals'",
        "update study_directions set direction = 'x'",
    ],
)
def test_a_damaged_record_is_one_line(url: str, space: SearchSpace, change: str) -> None:
    store = TrialStore.create(url, "a", RECORD)
    number = store.claim(space, claim(space, 0, depth=3))
    metrics = {"loss": 2.0, "size": 32.5}
    store.complete(number, [2.0, 1.0][: len(RECORD.objectives)], metrics, told=0, seconds=1.0)
    store.count(3, 1)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute(change).rowcount
        connection.commit()
    with pytest.raises(StudyError, match="damaged") as caught:
        [study_document(TrialStore.open(url, name)) for name in studies(url)]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_unknown_study_names_the_nearest(url: str) -> None:
    TrialStore.create(url, "quickstart", RECORD)
    with pytest.raises(StudyError, match=r"no study 'quickstrt' .*did you mean 'quickstart'"):
        TrialStore.open(url, "quickstrt")


def test_passwords_are_not_shown() -> None:
    assert "secret" not in shown("postgresql://user:secret@host/db")
