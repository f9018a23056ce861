"""`nas ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import (
    csv_option,
    json_option,
    ray_address_option,
    show,
    storage_option,
    workers_option,
)

if TYPE_CHECKING:
    from nas.ablate import Row
    from nas.experiment import Experiment
    from nas.pricing.budget import Gate


@click.command()
@click.argument("experiment_yaml", type=click.Path(path_type=Path))
@click.argument("trial", type=click.IntRange(min=0))
@click.option("--study", help="Recorded under this name instead of the experiment's.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="A choice, what the names of several begin with, or `training`; may be repeated.",
)
@workers_option
@ray_address_option
@storage_option
@csv_option
@json_option
def ablate(
    experiment_yaml: Path,
    trial: int,
    study: str | None,
    only: tuple[str, ...],
    workers: int | None,
    ray_address: str | None,
    storage: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Sets each choice of a trial to its alternatives, turns off each knob, and evaluates them."""
    from nas import ablate as ablation
    from nas.commands import setup
    from nas.display import tables
    from nas.experiment import ExperimentError
    from nas.record.store import TrialStore

    experiment = setup.experiment(experiment_yaml, study=study, workers=workers)
    store = TrialStore.open(storage, experiment.study)
    setup.require_recorded(store, experiment)
    space = experiment.space
    architecture = space.architecture(space.encode(store.trial(trial).choices))
    knobs = getattr(experiment.evaluator.build(ExperimentError), "ablations", {})
    try:
        rows = ablation.rows_of(space, architecture, knobs, only)
    except ValueError as problem:
        raise ExperimentError(f"--only: {problem}") from None
    gate = setup.gate(experiment)
    results = _evaluated(experiment, gate, rows, trial, ray_address)
    document: dict[str, Any] = {
        "study": store.name,
        "trial": trial,
        "objectives": list(experiment.objectives),
        "provenance": setup.provenance(experiment),
        "rows": ablation.ablation_document(rows, results, gate, experiment.objectives),
    }
    show(document, tables.ablated(document), as_json, _flat(document["rows"]) if as_csv else None)


COMMANDS = (ablate,)


def _evaluated(
    experiment: Experiment, gate: Gate, rows: list[Row], trial: int, address: str | None
) -> dict[str, Any]:
    """Evaluates what is missing, a bar on stderr meanwhile: one set of workers a setting."""
    from nas.batch import load_results
    from nas.commands import setup
    from nas.folders import study_folder

    terms = {
        "identity": setup.as_recorded(experiment.identity),
        "key": rows[0].architecture.key,
    }
    file = study_folder(experiment.study) / f"ablation-{trial:04d}.json"
    known = load_results(file, terms)
    missing = [row for row in rows if row.name not in known]
    settings = list({str(row.settings): row.settings for row in missing}.values())
    for one in settings:
        same = [row for row in missing if row.settings == one]
        _run(experiment, gate, same, trial, address, terms, file)
    return load_results(file, terms)


def _run(
    experiment: Experiment,
    gate: Gate,
    rows: list[Row],
    trial: int,
    address: str | None,
    terms: dict[str, Any],
    file: Path,
) -> None:
    from dataclasses import replace

    import numpy as np

    from nas.batch import run_jobs
    from nas.commands import setup
    from nas.display.live import track
    from nas.folders import log_folder

    spec = experiment.evaluator
    changed = replace(spec, settings={**spec.settings, **rows[0].settings})
    unlowered = gate.pricer.unlowered(np.array([row.architecture.code for row in rows]))
    with setup.workers(replace(experiment, evaluator=changed), address) as workers:
        track("preparing", setup.prepared(workers, unlowered))
        jobs = [row.job(trial) for row in rows]
        track("ablating", run_jobs(jobs, workers, file, terms, log_folder(experiment.study)))


def _flat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of single values, for CSV."""
    return [
        {
            "trial": i,
            "choices": {},
            **{n: row[n] for n in ("what", "change", "key", "inside", "error")},
            **row["values"],
            **{f"{n}_difference": x for n, x in row["differences"].items()},
            **row["latency_ms"],
            **{f"{n}_difference": x for n, x in row["latency_differences"].items()},
            **{f"{n}_against_base": x for n, x in (row["bd_rates"] or {}).items()},
        }
        for i, row in enumerate(rows)
    ]
