"""The commands that only read: studies, front, show, space, dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nas.cli_options import json_option, show, storage_option


@click.command()
@storage_option
@json_option
def studies(storage: str, as_json: bool) -> None:
    """Lists the studies of a storage."""
    from nas import store, tables
    from nas.entries import study_document

    documents: list[Any] = []
    for name in store.studies(storage):
        whole = study_document(store.TrialStore.open(storage, name))
        del whole["dominated"]
        documents.append({**whole, "front": len(whole["front"])})
    show(documents, tables.studies(documents), as_json)


@click.command()
@click.argument("study")
@storage_option
@json_option
def front(study: str, storage: str, as_json: bool) -> None:
    """Shows a study's front as a table, and draws it."""
    from nas import tables
    from nas.entries import study_document
    from nas.folders import study_folder
    from nas.plot import save_front
    from nas.store import TrialStore

    document = study_document(TrialStore.open(storage, study))
    picture = study_folder(study) / "front.png"
    if document["front"]:
        save_front(document, picture)
    shown = {name: value for name, value in document.items() if name != "dominated"}
    show(shown, tables.front(document), as_json)
    if document["front"]:
        click.echo(f"plot: {picture}", err=True)


@click.command("show")
@click.argument("study")
@click.argument("trial", type=click.IntRange(min=0))
@storage_option
@json_option
def show_trial(study: str, trial: int, storage: str, as_json: bool) -> None:
    """Shows one trial: choices, figures, latency by block."""
    from nas import tables
    from nas.entries import trial_document
    from nas.folders import log_file, log_folder
    from nas.storage import StudyError
    from nas.store import TrialStore

    store = TrialStore.open(storage, study)
    trials = {recorded.number: recorded for recorded in store.trials()}
    if trial not in trials:
        known = f"0 to {max(trials)}" if trials else "none yet"
        raise StudyError(f"study {study!r} has no trial {trial}; it has {known}")
    log = log_file(log_folder(study), trial)
    document = {**trial_document(store, trials[trial]), "log": str(log)}
    show(document, tables.trial(document), as_json)


@click.command()
@click.argument("space_name", metavar="SPACE")
@json_option
def space(space_name: str, as_json: bool) -> None:
    """Shows a search space: a YAML file or a shipped name."""
    from nas import tables
    from nas.space_document import space_document
    from search_spaces.load import load_space

    document = space_document(load_space(Path(space_name)))
    show(document, tables.space(document), as_json)


@click.command()
@click.argument("study")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@storage_option
def dashboard(study: str, port: int, storage: str) -> None:
    """Opens optuna-dashboard on a study, for this machine only."""
    import signal

    import optuna_dashboard

    from nas.storage import StudyError, open_storage
    from nas.store import TrialStore

    # The server swallows exceptions inside a request, ours for SIGTERM too; it only reads.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    identifier = TrialStore.open(storage, study).study_id
    click.echo(
        f"http://127.0.0.1:{port}/dashboard/studies/{identifier}  (Ctrl-C ends it)", err=True
    )
    try:
        optuna_dashboard.run_server(open_storage(storage), host="127.0.0.1", port=port)
    except OSError as problem:
        raise StudyError(f"port {port}: {problem.strerror}; choose another with --port") from None


COMMANDS = (studies, front, show_trial, space, dashboard)
