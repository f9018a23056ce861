"""What `faults.py` left in the record, held against evaluations without faults."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faults_problem

from evaluators.protocol import Direction
from nas import pareto
from nas.record.records import Trial

STUDY, SEED = "faults", 0
OBJECTIVES: dict[str, Direction] = {"loss": "minimize", "weights": "minimize"}


def verified(recorded: list[Trial], folder: Path) -> dict[str, Any]:
    """The record held against evaluations without faults.

    Args:
        recorded: all trials.
        folder: of the study.

    Returns:
        As `discrepancies`, and `front_equal`: whether the front that `nas front` prints is that of
        the evaluations without faults.
    """
    truth = {trial.identity: _without_faults(trial) for trial in recorded}
    entries = [
        {"trial": t.number, **dict(zip(OBJECTIVES, truth[t.identity], strict=True))}
        for t in recorded
        if t.state == "complete"
    ]
    front = {entry["trial"] for entry in pareto.front(entries, OBJECTIVES)}
    log = folder / f"runs/{STUDY}/shared/{faults_problem.FINISHED}"
    finished = Counter(log.read_text().split())
    return {
        **discrepancies(recorded, truth),
        "front_equal": front == _front(folder),
        "finished_and_done_again": finished.total() - len(finished),
    }


def discrepancies(
    recorded: list[Trial], truth: Mapping[tuple[str, float], tuple[float, ...]]
) -> dict[str, Any]:
    """What is wrong with a record.

    Args:
        recorded: all trials.
        truth: what was asked for -> the values that it has.

    Returns:
        `lost`: asked for and without an ending. `duplicated`: endings beyond one. `made_up`: whose
        values are not the true ones. Beside these what is there, by state.
    """
    ended = [trial for trial in recorded if trial.ended]
    endings = Counter(trial.identity for trial in ended)
    void = Counter(
        "abandoned" if t.abandoned else "withdrawn" if t.withdrawn else "lost"
        for t in recorded
        if t.void
    )
    complete = [trial for trial in ended if trial.state == "complete"]
    return {
        "trials": len(recorded),
        "architectures": len(truth),
        "complete": len(complete),
        "failed": sum(trial.state == "failed" for trial in ended),
        "attempts_without_result": dict(void),
        "running": sum(trial.state == "running" for trial in recorded),
        "lost": sum(identity not in endings for identity in truth),
        "duplicated": sum(count - 1 for count in endings.values()),
        "made_up": sum(trial.values != truth[trial.identity] for trial in complete),
    }


def _without_faults(trial: Trial) -> tuple[float, ...]:
    """Loss and size of an architecture, evaluated here."""
    space, passes = faults_problem.space(), faults_problem.Digits().passes
    architecture = space.architecture(trial.code)
    loss = faults_problem.held_back_loss(architecture.choices, passes, SEED)
    return loss, float(faults_problem.Weights().price(space, architecture)["weights"])


def _front(folder: Path) -> set[int]:
    command = [sys.executable, "-m", "nas", "front", STUDY, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return {entry["trial"] for entry in json.loads(done.stdout)["front"]}
