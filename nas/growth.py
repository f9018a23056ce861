"""A study whose space has grown: what is checked, and what is rewritten in its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.distributions import (
    CategoricalDistribution,
    distribution_to_json,
    json_to_distribution,
)

from nas.records import StudyRecord, Trial
from nas.storage import StudyError
from search_spaces.migration import growth
from search_spaces.space import SearchSpace, SpaceError


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
        stages = space.design(architecture).stages
        now = {n: [s.block.signature for s in stage.network.steps] for n, stage in stages.items()}
        for device, recorded in trial.blocks.items():
            then = {
                stage: [signature for _, signature, _ in rows] for stage, rows in recorded.items()
            }
            if architecture.key != trial.key or then != now:
                raise StudyError(
                    f"study {study!r}, trial {trial.number} would be built differently today"
                    f" ({device}): a default must be what recorded architectures have; choose"
                    " another name with --study"
                )


def rewrite_choices(url: str, study_id: int, space: SearchSpace) -> None:
    """Gives every recorded trial the present choices of its parameters, in one transaction.

    Optuna holds a choice as its index and refuses a study in which a parameter has had others. Its
    tables are rewritten here; doing so twice changes nothing.
    """
    engine = sqlalchemy.create_engine(url)
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
