"""Curves of classical codecs beside a study's own, on the same crops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluators.protocol import EvaluationError, SetupError
from nas.experiment import ExperimentError, load_experiment
from nas.folders import study_folder
from nas.named import is_named
from nas.record.records import StudyRecord
from search_spaces.files import write_atomically

Curves = dict[str, list[dict[str, Any]]]


def peers(study: str, record: StudyRecord) -> Curves:
    """By name; made once a study, by its evaluator, and kept in its folder.

    Args:
        study: its name.
        record: says where its experiment is; one that nobody named here is not run.

    Returns:
        Nothing where the evaluator knows no others.

    Raises:
        ExperimentError, SetupError: it cannot be made: experiment or photographs are not there.
    """
    file = study_folder(study) / "peers.json"
    if file.is_file():
        known: Curves = json.loads(file.read_text(encoding="utf-8"))
        return known
    shared = study_folder(study) / "shared"
    experiment = Path(str(record.about.get("file", "")))
    if not is_named(experiment):
        raise ExperimentError(f"its experiment {experiment} was never named here")
    if not shared.is_dir() or not experiment.is_file():
        raise ExperimentError("its experiment and what it was scored on are not where they were")
    evaluator = load_experiment(experiment).evaluator.build(ExperimentError)
    made = getattr(evaluator, "peers", None)
    try:
        curves: Curves = made(shared.resolve()) if callable(made) else {}
    except (EvaluationError, OSError) as problem:
        raise SetupError(f"other codecs' curves: {problem}") from None
    write_atomically(file, json.dumps(curves, allow_nan=False))
    return curves
