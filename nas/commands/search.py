"""`nas check` and `nas search`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import (
    DEFAULT_STORAGE,
    json_option,
    print_table,
    ray_address_option,
    show,
    storage_option,
    workers_option,
)

if TYPE_CHECKING:
    from nas.display.live import SearchDisplay
    from nas.experiment import Experiment
    from nas.pricing.budget import Gate
    from nas.record.store import TrialStore
    from nas.workers import Workers

_positive = click.IntRange(min=1)


@click.command()
@click.argument("experiment_yaml", type=click.Path(path_type=Path))
@click.option("--study", help="Record under this name instead of the experiment's.")
@click.option("--trials", type=_positive, help="Candidates to train in the whole study.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after this long.")
@workers_option
@ray_address_option
@storage_option
def search(
    experiment_yaml: Path,
    study: str | None,
    trials: int | None,
    hours: float | None,
    workers: int | None,
    ray_address: str | None,
    storage: str,
) -> None:
    """Runs a study or goes on with it; ends with its front."""
    from nas.commands import setup
    from nas.display.live import SearchDisplay
    from nas.record.growth import grow
    from nas.record.store import TrialStore

    experiment = setup.experiment(
        experiment_yaml, study=study, trials=trials, hours=hours, workers=workers
    )
    gate = setup.gate(experiment)
    store = TrialStore.create(storage, experiment.study, setup.record(experiment))
    with (
        SearchDisplay(experiment.trials, experiment.hours) as display,
        _owned(store, display.say),
    ):
        if added := grow(store, experiment.space):
            display.say(f"{experiment.study}: its space has grown by {added}")
        if _finished(store, experiment.trials):
            display.say(f"{experiment.study} already has its {experiment.trials} trials")
        else:
            _search(experiment, gate, store, display, ray_address)
    _report(store, storage)


@click.command()
@click.argument("experiment_yaml", type=click.Path(path_type=Path))
@json_option
def check(experiment_yaml: Path, as_json: bool) -> None:
    """Validates an experiment and all that it names."""
    import numpy as np

    from nas.commands import setup
    from nas.display import tables

    experiment = setup.experiment(experiment_yaml)
    gate, rng = setup.gate(experiment), np.random.default_rng(experiment.seed)
    _lower(experiment, gate, rng)
    gate.require_feasible(rng)
    document = setup.check_document(experiment, gate, gate.share_inside(rng))
    show(document, tables.check(document), as_json)


COMMANDS = (check, search)


@contextmanager
def _owned(store: TrialStore, say: Callable[[str], None]) -> Iterator[None]:
    store.acquire(say)
    try:
        yield
    finally:
        store.lease.release()


def _finished(store: TrialStore, trials: int | None) -> bool:
    recorded = store.trials()
    asked = {trial.identity for trial in recorded}
    finished = {trial.identity for trial in recorded if not trial.void}
    return trials is not None and len(asked) >= trials and asked == finished


def _search(
    experiment: Experiment,
    gate: Gate,
    store: TrialStore,
    display: SearchDisplay,
    ray_address: str | None,
) -> None:
    import numpy as np

    from nas.commands import setup

    rng = np.random.default_rng(experiment.seed)
    unlowered = gate.unlowered(rng)
    if not unlowered:
        gate.require_feasible(rng)
    cores = os.cpu_count() or 1
    if not ray_address and (experiment.workers or 1) > cores:
        display.say(
            f"workers: {experiment.workers} share {cores} cores, so that each takes longer;"
            " state fewer, or a cluster with --ray-address"
        )
    with setup.workers(experiment, ray_address) as workers:
        size = f"{experiment.space.size:,} architectures of {experiment.space.name}"
        display.say(f"{experiment.study}: {size}, {workers.count} workers")
        _prepare(gate, store, workers, display, unlowered, rng)
        if experiment.warm_start:
            display.say(_taken_over(experiment, gate, store))
        _run(experiment, gate, store, workers, display)


def _taken_over(experiment: Experiment, gate: Gate, store: TrialStore) -> str:
    from nas.record.store import TrialStore
    from nas.warm import take_over

    source = TrialStore.open(store.url, str(experiment.warm_start))
    return take_over(store, source, gate, experiment.objectives, experiment.fidelities)


def _prepare(
    gate: Gate,
    store: TrialStore,
    workers: Workers,
    display: SearchDisplay,
    unlowered: dict[str, tuple[int, ...]],
    rng: Any,
) -> None:
    """Lowers and prepares; a budget that nothing meets shows as soon as all is lowered."""
    checked = False
    with closing(workers.prepare(unlowered)) as preparation:
        for done in preparation:
            display.prepare(done.lowered, done.blocks, done.prepared)
            for warning in done.warnings:
                display.say(warning)
            store.lease.renew()
            if done.lowered == done.blocks and not checked:
                gate.require_feasible(rng)
                checked = True


def _run(
    experiment: Experiment, gate: Gate, store: TrialStore, workers: Workers, display: SearchDisplay
) -> None:
    from nas.commands import setup
    from nas.folders import log_folder
    from nas.replay import replay
    from nas.search import Search, run_search

    objectives = experiment.objectives
    searcher = setup.searcher(experiment, gate, store)
    progress = replay(searcher, gate, store, objectives)
    ending, logs = setup.ending(experiment), log_folder(experiment.study)
    retries = experiment.needs.retries
    search = Search(searcher, gate, store, workers, objectives, logs, ending, retries)
    with closing(run_search(search, progress)) as events:
        for progress in events:
            display.search(progress, (searcher.proposed, searcher.over_budget))
    if progress.ended:
        display.say(f"{experiment.study}: {progress.ended}")


def _report(store: TrialStore, storage: str) -> None:
    """The front as a table and a picture, and where to go from here."""
    from nas.display import tables
    from nas.display.plot import save_front
    from nas.folders import study_folder
    from nas.record.entries import study_document
    from nas.record.storage import shown

    document = study_document(store)
    if not document["front"]:
        partial = document["trials"]["partial"]
        why = f"{partial} are trained in part" if partial else f"nas show {store.name} 0 says why"
        click.echo(f"{store.name}: no trial is complete; {why}")
        return
    picture = study_folder(store.name) / "front.png"
    save_front(document, picture)
    print_table(tables.front(document, plotted=True))
    option = "" if storage == DEFAULT_STORAGE else f" --storage {shown(storage)}"
    best = document["front"][0]["trial"]
    click.echo(f"plot: {picture}")
    click.echo(f"next: nas show {store.name} {best}{option} · nas dashboard {store.name}{option}")


def _lower(experiment: Experiment, gate: Gate, rng: Any) -> None:
    """Lowers what sampled architectures need: then their share inside the budget is quick."""
    from nas.commands import setup
    from nas.display.live import SearchDisplay

    unlowered = gate.unlowered(rng)
    if not unlowered:
        return
    with SearchDisplay(None, None) as display, setup.workers(experiment, None) as workers:
        for done in workers.lower(unlowered):
            display.prepare(done.lowered, done.blocks, None)
