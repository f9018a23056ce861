"""The commands that only read: studies, front, show, space, dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import (
    csv_option,
    json_option,
    limit_options,
    parsed_limits,
    precision_option,
    show,
    storage_option,
    warn,
)

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace


@click.command()
@storage_option
@json_option
def studies(storage: str, as_json: bool) -> None:
    """Lists the studies of a storage."""
    from nas.display import tables
    from nas.record import store
    from nas.record.entries import study_document

    documents: list[Any] = []
    for name in store.studies(storage):
        whole = study_document(store.TrialStore.open(storage, name))
        del whole["dominated"]
        documents.append({**whole, "front": len(whole["front"])})
    show(documents, tables.studies(documents), as_json)


@click.command()
@click.argument("study")
@storage_option
@csv_option
@json_option
def front(study: str, storage: str, as_csv: bool, as_json: bool) -> None:
    """Shows a study's front as a table, and draws it."""
    from nas.display import tables
    from nas.display.plot import save_front
    from nas.folders import study_folder
    from nas.record.entries import study_document
    from nas.record.store import TrialStore

    document = study_document(TrialStore.open(storage, study))
    picture = study_folder(study) / "front.png"
    if document["front"]:
        save_front(document, picture)
    shown = {name: value for name, value in document.items() if name != "dominated"}
    show(shown, tables.front(document, plotted=True), as_json, shown["front"] if as_csv else None)
    if document["front"]:
        click.echo(f"plot: {picture}", err=True)


@click.command("show")
@click.argument("study")
@click.argument("trial", type=click.IntRange(min=0))
@storage_option
@json_option
def show_trial(study: str, trial: int, storage: str, as_json: bool) -> None:
    """Shows one trial: choices, figures, latency by block."""
    from nas.display import tables
    from nas.folders import log_file, log_folder
    from nas.record.entries import trial_document
    from nas.record.store import TrialStore

    store = TrialStore.open(storage, study)
    document = trial_document(store, store.trial(trial))
    document["log"] = str(log_file(log_folder(study), trial))
    show(document, tables.trial(document), as_json)


@click.command()
@click.argument("space_name", metavar="SPACE")
@click.option("--device", help="Price it on this device: a shipped name or a table's path.")
@precision_option("fp16 where the device's table has it")
@limit_options(
    "230", "150", "Limit of another stage, for spaces of other things than codecs.", "STAGE_ms=MS"
)
@json_option
def space(
    space_name: str,
    device: str | None,
    precision: str | None,
    encode_ms: float | None,
    decode_ms: float | None,
    limits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Shows a search space: a YAML file or a shipped name."""
    from rich.console import Console

    from nas.display import space_table
    from nas.display.space_document import space_document
    from search_spaces.load import load_space

    if device is None and (precision or encode_ms or decode_ms or limits):
        raise click.UsageError("--precision and limits need a --device")
    loaded = load_space(Path(space_name))
    with Console(stderr=True).status("taking it apart"):
        document = space_document(loaded)
    if device is not None:
        stated = {"encode_ms": encode_ms, "decode_ms": decode_ms, **parsed_limits(limits)}
        document["latency"] = _latency(loaded, device, precision, stated)
    show(document, space_table.space(document), as_json)


def _latency(
    space: SearchSpace, device: str, precision: str | None, stated: Mapping[str, float | None]
) -> dict[str, Any]:
    """Prices sampled architectures; lowers what nobody lowered before."""
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from latency.oracle import LatencyOracle
    from latency.table_files import load_table
    from nas.display.space_document import latency_document
    from nas.experiment import DEFAULT_LIMITS, ExperimentError
    from nas.latency_estimate import precision_of
    from nas.pricing.budget import Gate
    from nas.pricing.devices import DevicePricer

    stages = [f"{stage}_ms" for stage in space.design(space.reference).stages]
    for name, limit in stated.items():
        if limit is not None and name not in stages:
            option = f"--{name.replace('_', '-')}"
            raise ExperimentError(f"{option}: {space.name} has {', '.join(stages)} only")
    known = {n: limit or DEFAULT_LIMITS[n] for n, limit in stated.items() if n in stages}
    if not known:
        raise ExperimentError(f"--limit: is missing; name one, such as --limit {stages[0]}=100")
    table = load_table(device)
    warn(table.stale)
    oracle = LatencyOracle(table, precision_of(table, precision))
    gate = Gate(DevicePricer(space, {table.device: oracle}), {table.device: known})
    unlowered = gate.unlowered(np.random.default_rng(0))
    console = Console(stderr=True)
    for code in track(list(unlowered.values()), "lowering", console=console, transient=True):
        gate.price(space.architecture(code))
    with console.status("pricing"):
        return latency_document(gate)


@click.command()
@click.argument("study")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@storage_option
def dashboard(study: str, port: int, storage: str) -> None:
    """Opens optuna-dashboard on a study, for this machine only."""
    import signal

    import optuna_dashboard

    from nas.record.storage import StudyError, open_storage
    from nas.record.store import TrialStore

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
