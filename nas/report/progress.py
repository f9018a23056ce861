"""How the front grew: hypervolume over results and over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from nas import pareto
from nas.record.records import StudyRecord, Trial


def volume(
    record: StudyRecord, trials: Sequence[Trial], whole: Mapping[str, Any] | None
) -> dict[str, list[float]]:
    """Hypervolume after every result that changed the front, and after the last one.

    Args:
        record: of the study.
        trials: full results.
        whole: of the study, from `entries.hypervolume`: all are measured from its reference point,
            so that the last one is the study's own.

    Returns:
        Columns `results`, `hours` since the first trial began, and `hypervolume`.
    """
    told = sorted(trials, key=lambda trial: (trial.told is None, trial.told or 0, trial.number))
    columns: dict[str, list[float]] = {"results": [], "hours": [], "hypervolume": []}
    if whole is None:
        return columns
    front = pareto.RunningFront(record.objectives, record.flat_limits)
    signs = [1.0 if way == "minimize" else -1.0 for way in record.objectives.values()]
    point = np.array(list(whole["reference"].values())) * signs
    began = min((t for t in map(_began, told) if t), default=None)
    for i, trial in enumerate(told):
        front.add(np.array(trial.values))
        if front.since_growth and i < len(told) - 1:
            continue
        columns["results"].append(i + 1)
        columns["hours"].append(_hours(trial, began))
        columns["hypervolume"].append(pareto.hypervolume(front.members, point))
    return columns


def _began(trial: Trial) -> datetime | None:
    return datetime.fromisoformat(trial.started) if trial.started else None


def _hours(trial: Trial, began: datetime | None) -> float:
    start = _began(trial)
    if start is None or began is None:
        return 0.0
    return (start + timedelta(seconds=trial.seconds or 0) - began).total_seconds() / 3600
