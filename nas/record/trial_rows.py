"""What a study's trials have in Optuna's tables, read at once.

Optuna reads a trial with an object for every parameter, value and attribute: 10,000 trials take
ten seconds, most of it for what is in the claim as well. Three plain queries take half of one.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json
from sqlalchemy import DateTime, Engine, Select, column, select, table

_trials = table(
    "trials",
    column("trial_id"),
    column("study_id"),
    column("number"),
    column("state"),
    column("datetime_start", DateTime),
)
_attributes = table(
    "trial_user_attributes", column("trial_id"), column("key"), column("value_json")
)
_values = table("trial_values", column("trial_id"), column("objective"), column("value"))


@dataclass(frozen=True)
class TrialRow:
    """One trial as it stands.

    Attributes:
        trial_id: of the storage.
        number: of the study.
        state: name of an `optuna.trial.TrialState`.
        started: local time; None while waiting.
        attributes: the user's.
        values: in the order of the objectives; empty without any.
    """

    trial_id: int
    number: int
    state: str
    started: datetime | None
    attributes: Mapping[str, Any]
    values: tuple[float, ...]


def read_rows(engine: Engine, study_id: int, since: int = 0) -> list[TrialRow]:
    """Trials in the order of their numbers.

    Args:
        engine: of an Optuna `RDBStorage`.
        study_id: which study.
        since: only trials of this `trial_id` and later ones.
    """
    wanted = (_trials.c.study_id == study_id) & (_trials.c.trial_id >= since)
    ours = select(_trials.c.trial_id).where(wanted)
    attributes: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    values: defaultdict[int, list[float]] = defaultdict(list)
    with engine.connect() as connection:
        # Trials first: what is finished there has its attributes and values by then.
        trials = connection.execute(
            select(*list(_trials.c)).where(wanted).order_by(_trials.c.number)
        ).all()
        for trial_id, key, text in connection.execute(_of(_attributes, ours)):
            attributes[trial_id][key] = from_json(text, allow_inf_nan=False)
        for trial_id, _, value in connection.execute(_of(_values, ours).order_by("objective")):
            values[trial_id].append(value)
    return [
        TrialRow(
            trial_id, number, str(state), _local(started), attributes[trial_id],
            tuple(values[trial_id]),
        )
        for trial_id, _, number, state, started in trials
    ]  # fmt: skip


def number_of(engine: Engine, trial_id: int) -> int:
    """The number that the storage gave a trial."""
    with engine.connect() as connection:
        query = select(_trials.c.number).where(_trials.c.trial_id == trial_id)
        return int(connection.execute(query).scalar_one())


@contextmanager
def no_collection() -> Iterator[None]:
    """Puts garbage collection off: all that is made here lives on, and would be gone through again
    and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _of(rows: Any, trials: Select[Any]) -> Select[Any]:
    return select(*list(rows.c)).where(rows.c.trial_id.in_(trials))


def _local(moment: datetime | None) -> datetime | None:
    """Optuna keeps UTC without saying so."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment.replace(tzinfo=UTC).timestamp())
