"""A study as pandas frames: the documented way into a record from Python.

    from nas import frames
    trials = frames.trials("sqlite:///runs/nas.db", "quickstart")
    front = trials[trials.on_front]

Column names are those of the JSON documents; a choice is `choices.<parameter>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nas import pareto
from nas.record.entries import entry
from nas.record.records import Trial
from nas.record.store import TrialStore


def trials(url: str, study: str) -> pd.DataFrame:
    """A row a trial, in the order of their numbers, failed and running ones too.

    Args:
        url: SQLAlchemy URL of the storage.
        study: its name.

    Returns:
        `trial`, `state`, `on_front`, `error`, `started`, then what `of_entries` gives.

    Raises:
        StudyError: no such storage or study.
    """
    store = TrialStore.open(url, study)
    recorded, objectives = store.trials(), store.record().objectives
    entries = [entry(trial) for trial in recorded if trial.scored]
    on_front = {e["trial"] for e in pareto.front(entries, objectives)}
    heads = pd.DataFrame(
        {
            "state": [trial.state for trial in recorded],
            "on_front": [trial.number in on_front for trial in recorded],
            "error": [trial.error for trial in recorded],
            "started": pd.to_datetime([trial.started for trial in recorded]),
        }
    )
    rows = of_entries(entry(trial) for trial in recorded)
    return pd.concat([rows[["trial"]], heads, rows.drop(columns="trial")], axis=1)


def of_entries(entries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Entries of a document (`front`, `dominated`), a row each: choices and all that is one value.

    Rate-distortion points and latencies of further devices have frames of their own.
    """
    return pd.DataFrame([_flat(one) for one in entries])


def rd_points(url: str, study: str) -> pd.DataFrame:
    """A row a rate-distortion point of a scored trial: `trial`, then what the evaluator states.

    Raises:
        StudyError: no such storage or study.
    """
    recorded = TrialStore.open(url, study).trials()
    return pd.DataFrame(
        [
            {"trial": trial.number, **point}
            for trial in recorded
            for point in trial.metrics.get("rd_points", ())
        ]
    )


def blocks(url: str, study: str) -> pd.DataFrame:
    """A row a block of a trial: `trial`, `device`, `stage`, `step`, `block`, `ms` of a whole image.

    Raises:
        StudyError: no such storage or study.
    """
    recorded = TrialStore.open(url, study).trials()
    rows = [row for trial in recorded for row in _block_rows(trial)]
    return pd.DataFrame(rows, columns=["trial", "device", "stage", "step", "block", "ms"])


def _block_rows(trial: Trial) -> Iterable[tuple[Any, ...]]:
    for device, stages in trial.blocks.items():
        for stage, rows in stages.items():
            for step, block, ms in rows:
                yield trial.number, device, stage, step, block, ms


def _flat(one: Mapping[str, Any]) -> dict[str, Any]:
    choices = {f"choices.{name}": choice for name, choice in one["choices"].items()}
    single = {n: x for n, x in one.items() if not isinstance(x, (Mapping, list, tuple))}
    return {"trial": single.pop("trial"), **single, **choices}
