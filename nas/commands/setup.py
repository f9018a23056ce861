"""From an experiment to the parts of a search; with `search.py` all that ever holds one."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas.commands.options import warn
from nas.experiment import Experiment, ExperimentError, load_experiment, require_name
from nas.experiment_file import FUNNEL
from nas.folders import log_folder, study_folder
from nas.pricing.budget import Gate
from nas.pricing.price import Code
from nas.record.records import StudyRecord
from nas.record.storage import StudyError
from nas.searchers.problem import FULL, Feasible, Problem, Searcher
from nas.tasks import Setting, cap_threads
from nas.workers import Workers
from search_spaces.space import Codes

if TYPE_CHECKING:
    from nas.record.store import TrialStore
    from nas.search import Ending

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
    for text in loaded.pricer.warnings:
        warn(text)
    return replace(loaded, **{k: value for k, value in overrides.items() if value is not None})


def recorded_experiment(store: TrialStore, stated: Path | None, workers: int | None) -> Experiment:
    """The experiment that a study was recorded under.

    Args:
        store: of the study.
        stated: its file, if it has moved since.
        workers: evaluations at a time; None leaves what the file says.

    Raises:
        StudyError: the file is not there, or says something else now.
    """
    loaded = experiment(store.experiment_file(stated), study=store.name, workers=workers)
    require_recorded(store, loaded)
    return loaded


def require_recorded(store: TrialStore, experiment: Experiment) -> None:
    """Fails unless a study was recorded under an experiment.

    Raises:
        StudyError: it was recorded under another one.
    """
    if dict(store.record().identity) != as_recorded(experiment.identity):
        raise StudyError(
            f"{experiment.file} differs from what study {store.name!r} was recorded under"
        )


def as_recorded(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as it comes out of a record."""
    recorded: dict[str, Any] = json.loads(json.dumps(dict(identity)))
    return recorded


def prepared(
    workers: Workers, unlowered: dict[str, Code] | None = None
) -> Iterator[tuple[int, int]]:
    """Done and left of what all evaluations share.

    Args:
        workers: started.
        unlowered: blocks to be lowered first, from `Gate.unlowered` or a pricer.
    """
    blocks = unlowered or {}
    for done in workers.prepare(blocks):
        yield done.lowered + 1, len(blocks) - done.lowered + int(not done.prepared)


def gate(experiment: Experiment) -> Gate:
    """The budget's gate."""
    return Gate(experiment.pricer, experiment.limits, experiment.other_limits)


def workers(experiment: Experiment, address: str | None, shared: Path | None = None) -> Workers:
    """Workers that are not started yet.

    Args:
        experiment: states how many.
        address: of a Ray cluster to join, or None for a local one.
        shared: what evaluations share; default the study's own folder.
    """
    shared = (shared or study_folder(experiment.study) / "shared").resolve()
    setting = Setting(
        space_file=str(experiment.space_file),
        evaluator=experiment.evaluator,
        directory=str(shared),
        seed=experiment.seed,
        fidelities=_fidelities(experiment),
        needs=experiment.needs,
    )
    return Workers(setting, log_folder(experiment.study), experiment.workers, address)


def _fidelities(experiment: Experiment) -> tuple[float, ...]:
    """That evaluations have: the funnel's are its own."""
    if experiment.searcher != FUNNEL:
        return experiment.fidelities
    from nas.searchers.funnel import PARTIAL

    return PARTIAL, FULL


def searcher(experiment: Experiment, gate: Gate, store: TrialStore) -> Searcher:
    """A new searcher. Where several drivers search, each has random choices of its own."""
    from nas.searchers.choice import make_searcher

    names, seed = list(experiment.objectives), experiment.seed
    if store.shared():
        seed = int(np.random.default_rng([seed, len(store.trials())]).integers(2**32))
    problem = Problem(
        space=gate.space,
        directions=list(experiment.objectives.values()),
        feasible=gate.feasible,
        prices=lambda codes: gate.prices(codes, names),
        start=experiment.start,
        seed=seed,
    )
    return make_searcher(
        experiment.searcher,
        problem,
        population=experiment.population,
        fidelities=experiment.fidelities,
        trials=experiment.trials,
        model=experiment.model,
        filtered=_band(experiment, gate),
    )


def _band(experiment: Experiment, gate: Gate) -> Feasible | None:
    """Which codes the funnel may draw."""
    if experiment.kmacs_per_pixel is None:
        return None
    low, high = experiment.kmacs_per_pixel

    def inside(codes: Codes) -> NDArray[np.bool_]:
        kmacs = gate.prices(codes, ["kmacs_per_pixel"])[:, 0]
        return np.asarray((kmacs >= low) & (kmacs <= high))

    return inside


def ending(experiment: Experiment) -> Ending:
    """When the search ends."""
    from nas.search import Ending

    return Ending(experiment.trials, experiment.hours, experiment.plateau)


def record(experiment: Experiment) -> StudyRecord:
    """What the study is recorded under."""
    return StudyRecord(
        identity=experiment.identity,
        objectives=experiment.objectives,
        limits=experiment.limits,
        other_limits=experiment.other_limits,
        space=experiment.space.name,
        provenance=provenance(experiment),
        about=_about(experiment),
        description=experiment.space.description(),
    )


def provenance(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Device or label -> how its prices are known and which of them the budget is held against."""
    return {label: dict(known) for label, known in experiment.pricer.provenance.items()}


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
        "limits": dict(experiment.other_limits),
        "provenance": provenance(experiment),
        "objectives": list(experiment.objectives),
        "reference": {name: x for name, x in reference.items() if name != "latency"},
        "latency": reference.get("latency", {}),
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
        "space_file": experiment.space_file,
        "tables": dict(experiment.table_files),
        "versions": {name: version(name) for name in _LIBRARIES},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
