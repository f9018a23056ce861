"""A study whose space has grown: what is checked, and what is rewritten in its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy
from optuna.distributions import (
    CategoricalDistribution,
    distribution_to_json,
    json_to_distribution,
)

from nas.record.records import StudyRecord, Trial
from nas.record.storage import StudyError, one_line_errors
from search_spaces.blocks import Design
from search_spaces.migration import growth
from search_spaces.space import SearchSpace, SpaceError

if TYPE_CHECKING:
    from nas.record.store import TrialStore


def grow(store: TrialStore, space: SearchSpace) -> str | None:
    """Takes in what was added to a study's space since it was recorded.

    Every recorded trial is kept under its choices. Does nothing when the space is the same.

    Args:
        store: acquired.
        space: as it is now.

    Returns:
        What was added, in words; None when nothing was.

    Raises:
        StudyError: anything else has changed, or a trial would be built differently today.
    """
    added = require_description(store.name, store.record(), space.description())
    if added is None:
        return None
    trials = store.trials()
    require_trials(store.name, trials, space)
    rewrite_choices(store.url, store.study_id, space)
    grown = {
        "added": added,
        "ask": max((trial.ask for trial in trials), default=-1) + 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store.set_grown(grown, space.description())
    return added


def require_description(
    study: str, recorded: StudyRecord, present: Mapping[str, Any]
) -> str | None:
    """What was added to a study's space, in words; None when it is the same.

    Raises:
        StudyError: they differ in anything but additions, or the study does not say.
    """
    if recorded.description == present:
        return None
    try:
        if not recorded.description:
            raise SpaceError("a version of this program that did not record spaces wrote it")
        return str(growth(recorded.description, present))
    except SpaceError as difference:
        raise StudyError(
            f"study {study!r} was recorded in another space: {difference};"
            " undo that or choose another name with --study"
        ) from None


def require_trials(study: str, trials: Sequence[Trial], space: SearchSpace) -> None:
    """Fails unless every trial is an architecture of the space, built of the blocks it had then.

    Raises:
        StudyError: one is not.
    """
    for trial in trials:
        try:
            architecture = space.architecture(space.encode(trial.choices))
        except SpaceError as problem:
            raise StudyError(f"study {study!r}, trial {trial.number}: {problem}") from None
        # A user's own oracle prices without blocks, and there may be no builder.
        now = _signatures(space.design(architecture)) if trial.blocks else {}
        if architecture.key != trial.key or any(now != _recorded(b) for b in trial.blocks.values()):
            raise StudyError(
                f"study {study!r}, trial {trial.number} would be built differently today: a default"
                " must be what recorded architectures have; choose another name with --study"
            )


def _signatures(design: Design) -> dict[str, list[str]]:
    stages = design.stages.items()
    return {name: [block.signature for block in s.network.blocks] for name, s in stages}


def _recorded(blocks: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, list[str]]:
    return {stage: [signature for _, signature, _ in rows] for stage, rows in blocks.items()}


def rewrite_choices(url: str, study_id: int, space: SearchSpace) -> None:
    """Gives every recorded trial the present choices of its parameters, in one transaction.

    Optuna holds a choice as its index and refuses a study in which a parameter has had others. Its
    tables are rewritten here; doing so twice changes nothing.
    """
    with one_line_errors(url):
        _rewrite(sqlalchemy.create_engine(url), study_id, space)


def _rewrite(engine: sqlalchemy.Engine, study_id: int, space: SearchSpace) -> None:
    tables = sqlalchemy.MetaData()
    tables.reflect(engine, only=["trials", "trial_params"])
    params, trials = tables.tables["trial_params"], tables.tables["trials"]
    own = params.c.trial_id.in_(
        sqlalchemy.select(trials.c.trial_id).where(trials.c.study_id == study_id)
    )
    content = (params.c.param_name, params.c.distribution_json, params.c.param_value)
    with engine.begin() as connection:
        for row in connection.execute(sqlalchemy.select(*content).where(own).distinct()).all():
            name, text, value = row
            choices = space.parameters[space.names.index(name)].choices
            choice = json_to_distribution(text).to_external_repr(value)
            same = [column == x for column, x in zip(content, row, strict=True)]
            connection.execute(
                sqlalchemy.update(params)
                .where(own, *same)
                .values(
                    distribution_json=distribution_to_json(CategoricalDistribution(choices)),
                    param_value=float(choices.index(choice)),
                )
            )
    engine.dispose()
