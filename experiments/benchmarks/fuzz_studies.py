"""Studies for `fuzz.py`: recorded ones, and their SQLite files damaged by bytes and by rows."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import yaml
from fuzz_given import EXPERIMENT, Given
from fuzz_mutations import Rng, any_text, any_value, damaged, mutated

_POINTS = [
    {"level": level, "bpp_coded": 0.1 * (level + 1), "psnr": 24.0 + 2 * level, "lpips": 0.4 / level}
    for level in (1, 3, 5, 7)
]
_JSON = ("trial_user_attributes", "study_user_attributes", "trial_system_attributes")
_FIELDS = [
    ("trial_values", "value"), ("trial_values", "value_type"), ("trial_values", "objective"),
    ("trials", "state"), ("trials", "number"), ("trials", "datetime_start"), ("trials", "study_id"),
    ("studies", "study_name"), ("study_directions", "direction"), ("study_directions", "objective"),
    ("version_info", "schema_version"), ("version_info", "library_version"),
    ("alembic_version", "version_num"), ("trial_params", "distribution_json"),
    ("trial_params", "param_value"), ("trial_user_attributes", "key"),
    ("trial_user_attributes", "value_json"), ("study_user_attributes", "key"),
    ("study_user_attributes", "value_json"),
]  # fmt: skip


def record_study(given: Given) -> None:
    """Records a study of seven trials in `nas.db`; nothing is trained."""
    from nas.commands import setup
    from nas.experiment import load_experiment
    from nas.record.records import objective_values
    from nas.record.store import TrialStore
    from nas.replay import claimed
    from nas.searchers.problem import Ask

    file = given.folder / "recorded.yaml"
    file.write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
    experiment = load_experiment(file)
    gate = setup.gate(experiment)
    url = f"sqlite:///{given.path('nas.db')}"
    store = TrialStore.create(url, experiment.study, setup.record(experiment))
    store.acquire()
    for ask, code in enumerate(experiment.space.enumerate()[:7]):
        claim = claimed(gate, Ask(experiment.space.architecture(code)), ask, ask)
        number = store.claim(experiment.space, claim)
        if ask == 5:
            store.fail(number, "collapsed: <b>constant</b>", told=ask, seconds=0.1)
        elif ask < 5:
            metrics = {"bd_rate_psnr": 1.0 - ask, "psnr": 27.0, "rd_points": _POINTS}
            values = objective_values(metrics, claim.price, experiment.objectives)
            store.complete(number, values, metrics, told=ask, seconds=0.1)
    store.count(20, 4)
    store.lease.release()


def storage_bytes(given: Given, rng: Rng, work: Path) -> tuple[str, bytes]:
    """The storage damaged: a row's JSON, a row's field, a table, or bytes of the file."""
    kind = rng.integers(10)
    if kind >= 8:
        return damaged(given.bytes_of("nas.db"), rng)
    file = work / "changed.db"
    shutil.copyfile(given.path("nas.db"), file)
    with sqlite3.connect(file) as connection:
        name = _changed(connection, int(kind), rng)
    connection.close()
    content = file.read_bytes()
    file.unlink()
    return name, content


def _changed(connection: sqlite3.Connection, kind: int, rng: Rng) -> str:
    if kind < 5:
        return _json(connection, rng)
    if kind < 7:
        return _field(connection, rng)
    tables = [r[0] for r in connection.execute("select name from sqlite_master where type='table'")]
    table = tables[rng.integers(len(tables))]
    ways = [f"drop table '{table}'", f"delete from '{table}'", f"alter table '{table}' add x text"]
    connection.execute(ways[rng.integers(len(ways))])
    return "table"


def _json(connection: sqlite3.Connection, rng: Rng) -> str:
    table = _JSON[rng.integers(len(_JSON))]
    rows = connection.execute(f"select rowid, value_json from {table}").fetchall()
    row, text = rows[rng.integers(len(rows))]
    changed = json.dumps(mutated(json.loads(text), rng))
    connection.execute(f"update {table} set value_json = ? where rowid = ?", (changed, row))
    return f"{table} JSON"


def _field(connection: sqlite3.Connection, rng: Rng) -> str:
    table, column = _FIELDS[rng.integers(len(_FIELDS))]
    rows = connection.execute(f"select rowid from {table}").fetchall()
    row = rows[rng.integers(len(rows))][0]
    try:
        connection.execute(
            f"update {table} set {column} = ? where rowid = ?", (_plain(any_value(rng)), row)
        )
    except sqlite3.IntegrityError:
        connection.execute(f"delete from {table} where rowid = ?", (row,))
    return f"{table}.{column}"


def _plain(value: Any) -> Any:
    """As SQLite can hold it."""
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return str(value)
    return value


def named_storage(given: Given, name: str, work: Path) -> bytes:
    """The storage with its study under another name: whatever a database can hold."""
    file = work / "named.db"
    shutil.copyfile(given.path("nas.db"), file)
    with sqlite3.connect(file) as connection:
        connection.execute("update studies set study_name = ?", (name,))
    connection.close()
    content = file.read_bytes()
    file.unlink()
    return content


def any_name(given: Given, rng: Rng) -> str:
    """A name that a study could be called by someone who means harm."""
    outside = str(given.outside)
    ways = [
        lambda: any_text(rng), lambda: outside, lambda: f"../../{rng.integers(9)}",
        lambda: f"small/../../../{rng.integers(9)}", lambda: f"{outside}/../x",
        lambda: "..\\..\\x", lambda: "small\0/../../x", lambda: "a/" * rng.integers(1, 200),
        lambda: "..", lambda: ".", lambda: "-x", lambda: "--help", lambda: "small ", lambda: "NUL",
        lambda: "com1.txt", lambda: "\uff0e\uff0e\uff0fx", lambda: "sm\u0430ll",
        lambda: "x" * int(rng.integers(1, 5000)), lambda: "small", lambda: "<img src=x onerror=1>",
    ]  # fmt: skip
    return str(ways[rng.integers(len(ways))]()).encode("utf-8", "replace").decode()
