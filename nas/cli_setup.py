"""From an experiment to the parts of a search; with `cli_search.py` all that ever holds one."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from latency.oracle import LatencyOracle
from nas.budget import Gate
from nas.cli_options import warn
from nas.experiment import Experiment, ExperimentError, load_experiment, require_name
from nas.folders import log_folder, study_folder
from nas.records import StudyRecord
from nas.tasks import Setting, cap_threads
from nas.workers import Workers

_LIBRARIES = ("nas-codecs", "torch", "coremltools", "pymoo", "optuna", "ray", "numpy")


def experiment(file: Path, **overrides: Any) -> Experiment:
    """Reads an experiment, replaces what the command line states, and checks the evaluator.

    Args:
        file: YAML.
        overrides: fields of `Experiment`; None leaves what the file says.

    Raises:
        ExperimentError, SpaceError, TableError, SetupError: it cannot be run.
    """
    loaded = load_experiment(file)
    if overrides.get("study"):
        require_name(overrides["study"], "--study")
    loaded.evaluator.build(ExperimentError).check()
    for oracle in loaded.oracles.values():
        warn(oracle.table.stale)
    return replace(loaded, **{k: value for k, value in overrides.items() if value is not None})


def gate(experiment: Experiment) -> Gate:
    """The budget's gate over the experiment's devices."""
    return Gate(experiment.space, experiment.oracles, experiment.limits)


def workers(experiment: Experiment, address: str | None, shared: Path | None = None) -> Workers:
    """Workers that are not started yet.

    Args:
        experiment: states how many.
        address: of a Ray cluster to join, or None for a local one.
        shared: what evaluations share; default the study's own folder.
    """
    shared = (shared or study_folder(experiment.study) / "shared").resolve()
    setting = Setting(
        str(experiment.space_file), experiment.evaluator, str(shared), experiment.seed
    )
    return Workers(setting, log_folder(experiment.study), experiment.workers, address)


def record(experiment: Experiment) -> StudyRecord:
    """What the study is recorded under."""
    return StudyRecord(
        identity=experiment.identity,
        objectives=experiment.objectives,
        limits=experiment.limits,
        space=experiment.space.name,
        provenance=provenance(experiment),
        about=_about(experiment),
        description=experiment.space.description(),
    )


def provenance(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Device -> how its latencies are known and which of them the budget is held against."""
    return {device: _provenance(oracle) for device, oracle in experiment.oracles.items()}


def _provenance(oracle: LatencyOracle) -> dict[str, Any]:
    table = oracle.table
    return {
        "kind": table.provenance,
        "held_against": oracle.held_against,
        "margin_percent": oracle.margin_in_use_percent,
        "precision": oracle.precision,
        "chip": table.chip,
        "os_build": table.os_build,
        "compute_unit": table.compute_unit,
        "date": table.date.isoformat(),
    }


def check_document(experiment: Experiment, gate: Gate, share_inside: float) -> dict[str, Any]:
    """What `nas check` found, JSON-ready; `seconds` is None when the evaluator states none."""
    evaluator = experiment.evaluator.build(ExperimentError)
    timed = getattr(evaluator, "seconds_per_trial", None)
    cap_threads()  # as workers are: what is timed is what will run
    per_trial = timed(experiment.space) if callable(timed) else None
    count = experiment.workers or os.cpu_count() or 1
    reference = gate.price(experiment.space.reference).as_record()
    return {
        "experiment": str(experiment.file),
        "study": experiment.study,
        "space": experiment.space.name,
        "size": experiment.space.size,
        "share_inside_budget": share_inside,
        "budget": dict(experiment.limits),
        "provenance": provenance(experiment),
        "objectives": list(experiment.objectives),
        "reference": {name: x for name, x in reference.items() if name != "latency"},
        "latency": reference["latency"],
        "trials": experiment.trials,
        "workers": count,
        "seconds": _seconds(per_trial, experiment.trials, count),
    }


def _seconds(per_trial: float | None, trials: int | None, count: int) -> float | None:
    return None if per_trial is None or trials is None else per_trial * trials / count


def _about(experiment: Experiment) -> dict[str, Any]:
    return {
        "experiment": experiment.file.read_text(encoding="utf-8"),
        "file": str(experiment.file.resolve()),
        "versions": {name: version(name) for name in _LIBRARIES},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
