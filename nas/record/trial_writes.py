"""Trials written once each, however often it is tried: an answer that was lost is recognised."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas.record.optuna_trials import CLAIM
from nas.record.retrying import PatientStorage
from nas.record.trial_rows import number_of, read_rows


def create_once(storage: PatientStorage, study_id: int, template: FrozenTrial, since: int) -> int:
    """Creates a trial; returns its number.

    Args:
        storage: of the study.
        study_id: which study.
        template: its claim holds a token that no other trial has.
        since: trials of smaller ids are older.
    """
    token, attempts = template.user_attrs[CLAIM]["token"], count()

    def create() -> int:
        if next(attempts) and (number := _with_token(storage, study_id, token, since)) is not None:
            return number
        return number_of(storage.engine, storage.create_new_trial(study_id, template))

    return storage.patiently(create)


def finish_once(
    storage: PatientStorage,
    study_id: int,
    number: int,
    state: TrialState,
    values: Sequence[float] | None,
    outcome: tuple[str, Mapping[str, Any]],
) -> bool:
    """Finishes a trial; whether it is finished so now: False when somebody has done it otherwise.

    Args:
        storage: of the study.
        study_id: which study.
        number: of the trial.
        state: that it gets.
        values: of a COMPLETE one.
        outcome: name and content of the attribute that says the rest.
    """
    kind, attributes = outcome
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
    try:
        storage.set_trial_user_attr(trial_id, kind, dict(attributes))
        storage.set_trial_state_values(trial_id, state, values)
    except UpdateFinishedTrialError:
        there = storage.get_trial(trial_id)
        return there.state == state and _text(there.user_attrs.get(kind)) == _text(attributes)
    return True


def _with_token(storage: PatientStorage, study_id: int, token: str, since: int) -> int | None:
    rows = read_rows(storage.engine, study_id, since)
    claims = ((row.number, row.attributes.get(CLAIM, {})) for row in rows)
    return next((number for number, claim in claims if claim.get("token") == token), None)


def _text(attributes: Mapping[str, Any] | None) -> str:
    """As it is stored."""
    return json.dumps(attributes, sort_keys=True)
