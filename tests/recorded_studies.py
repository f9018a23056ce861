"""Studies that were recorded without workers: every trial is scored where the test runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import toy

from evaluators.protocol import EvaluationError
from nas.commands import setup
from nas.experiment import ExperimentError, load_experiment
from nas.record.records import objective_values
from nas.record.store import TrialStore
from nas.replay import claimed
from nas.searchers.problem import Ask


def recorded(folder: Path, rows: Sequence[int] = range(0, 72, 3), **changes: Any) -> str:
    """Records some architectures of the toy's space in `runs/nas.db`; returns its URL.

    Args:
        folder: of the experiment.
        rows: of the enumerated space.
        changes: to the experiment.
    """
    return record(toy.write_experiment(folder, **changes), rows)


def record(file: Path, rows: Sequence[int]) -> str:
    """Records some architectures of an experiment in `runs/nas.db` beside it; returns its URL."""
    folder = file.parent
    url = f"sqlite:///{folder}/runs/nas.db"
    experiment = load_experiment(file)
    gate = setup.gate(experiment)
    evaluator = experiment.evaluator.build(ExperimentError)
    shared = folder / "runs" / experiment.study / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    evaluator.prepare(experiment.space, shared)
    store = TrialStore.create(url, experiment.study, setup.record(experiment))
    store.acquire()
    codes = experiment.space.enumerate()
    for ask, row in enumerate(rows):
        architecture = experiment.space.architecture(codes[row])
        claim = claimed(gate, Ask(architecture), ask, ask)
        number = store.claim(experiment.space, claim)
        try:
            metrics = evaluator.evaluate(experiment.space, architecture, shared, experiment.seed)
        except EvaluationError as problem:
            store.fail(number, str(problem), told=ask, seconds=0.1)
            continue
        values = objective_values(metrics, claim.price, experiment.objectives)
        store.complete(number, values, metrics, told=ask, seconds=0.1)
    store.count(200, 40)
    store.lease.release()
    return url
