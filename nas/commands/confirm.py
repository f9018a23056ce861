"""`nas confirm`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import (
    json_option,
    ray_address_option,
    show,
    storage_option,
    workers_option,
)

if TYPE_CHECKING:
    from nas.experiment import Experiment

_positive = click.IntRange(min=1)


@click.command()
@click.argument("study")
@click.option("--top", type=_positive, default=20, show_default=True, help="Architectures.")
@click.option("--seeds", type=_positive, default=3, show_default=True, help="Trainings of each.")
@click.option(
    "--longer",
    type=click.FloatRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    help="Times the steps of the search.",
)
@click.option("--experiment", type=click.Path(path_type=Path), help="If its file has moved since.")
@workers_option
@ray_address_option
@storage_option
@json_option
def confirm(
    study: str,
    top: int,
    seeds: int,
    longer: float,
    experiment: Path | None,
    workers: int | None,
    ray_address: str | None,
    storage: str,
    as_json: bool,
) -> None:
    """Trains the front again, longer and with other seeds, and marks what does not survive."""
    from nas import confirm as confirmation
    from nas.commands import setup
    from nas.display import tables
    from nas.record.store import TrialStore

    store = TrialStore.open(storage, study)
    loaded = setup.recorded_experiment(store, experiment, workers)
    trials, objectives = store.trials(), store.record().objectives
    work = confirmation.wanted(trials, objectives, top, seeds, loaded.seed)
    results = _confirmed(loaded, work, longer, ray_address)
    document = {
        "study": study,
        "objectives": list(objectives),
        "longer": longer,
        "seeds": seeds,
        "confirmed": confirmation.confirmation_document(trials, objectives, work, results),
    }
    show(document, tables.confirmed(document), as_json)


COMMANDS = (confirm,)


def _confirmed(
    experiment: Experiment, work: Any, longer: float, address: str | None
) -> dict[str, Any]:
    """Evaluates what is missing, a bar on stderr meanwhile."""
    from dataclasses import replace

    from nas import confirm as confirmation
    from nas.batch import load_results, run_jobs
    from nas.commands import setup
    from nas.display.live import track
    from nas.experiment import ExperimentError
    from nas.folders import log_folder, study_folder

    steps = getattr(experiment.evaluator.build(ExperimentError), "steps", None)
    if not isinstance(steps, int):
        raise ExperimentError(f"evaluator: {experiment.evaluator.path} has no steps to lengthen")
    evaluator = confirmation.lengthened(experiment.evaluator, longer, steps)
    folder = study_folder(experiment.study)
    terms = {"identity": setup.as_recorded(experiment.identity), "longer": longer}
    file = folder / "confirmed.json"
    longer_one = replace(experiment, evaluator=evaluator)
    known = load_results(file, terms)
    if all(one.name in known for one in work):
        return known
    logs = log_folder(experiment.study)
    with setup.workers(longer_one, address, folder / "confirm-shared") as workers:
        track("preparing", setup.prepared(workers))
        track("confirming", run_jobs([one.job for one in work], workers, file, terms, logs))
    return load_results(file, terms)
