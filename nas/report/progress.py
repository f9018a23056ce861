"""How the front grew: hypervolume over results and over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from nas import pareto
from nas.record.entries import entry
from nas.record.records import StudyRecord, Trial

Measured = Callable[[list[dict[str, Any]], StudyRecord], dict[str, Any] | None]


def volume(
    record: StudyRecord, trials: Sequence[Trial], measured: Measured
) -> dict[str, list[float]]:
    """Hypervolume after every result that changed the front, and after the last one.

    Args:
        record: of the study.
        trials: full results.
        measured: hypervolume of entries with its reference point, such as `entries.hypervolume`.

    Returns:
        Columns `results`, `hours` since the first trial began, and `hypervolume`, all of them from
        the reference point of the whole study: the last one is the study's own.
    """
    told = sorted(trials, key=lambda trial: (trial.told is None, trial.told or 0, trial.number))
    columns: dict[str, list[float]] = {"results": [], "hours": [], "hypervolume": []}
    entries = [entry(trial) for trial in told]
    whole = measured(entries, record)
    if whole is None:
        return columns
    signs = [1.0 if way == "minimize" else -1.0 for way in record.objectives.values()]
    reference = np.array(list(whole["reference"].values())) * signs
    values = pareto.minimised(entries, record.objectives)
    began = min((t for t in map(_began, told) if t), default=None)
    members = values[:0]
    for i, row in enumerate(values):
        grown = not (members <= row).all(axis=1).any()
        if grown:
            members = np.vstack([members[~(row <= members).all(axis=1)], row])
        elif i < len(values) - 1:
            continue
        columns["results"].append(i + 1)
        columns["hours"].append(_hours(told[i], began))
        columns["hypervolume"].append(pareto.hypervolume(members, reference))
    return columns


def _began(trial: Trial) -> datetime | None:
    return datetime.fromisoformat(trial.started) if trial.started else None


def _hours(trial: Trial, began: datetime | None) -> float:
    start = _began(trial)
    if start is None or began is None:
        return 0.0
    return (start + timedelta(seconds=trial.seconds or 0) - began).total_seconds() / 3600
