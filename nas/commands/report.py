"""`nas report`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import storage_option, warn

if TYPE_CHECKING:
    from nas.record.store import TrialStore
    from nas.report.devices import Devices

_LIVE_SECONDS = 5.0


@click.command()
@click.argument("studies", nargs=-1, required=True, metavar="STUDY…")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Default runs/STUDY/report.html."
)
@click.option("--device", "devices", multiple=True, help="A further device, by its table's path.")
@click.option("--space", help="Where the studies' space is now, if it has moved.")
@click.option("--serve", is_flag=True, help="Serve it instead, newer while the search runs.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True)
@storage_option
def report(
    studies: tuple[str, ...],
    out: Path | None,
    devices: tuple[str, ...],
    space: str | None,
    serve: bool,
    port: int,
    storage: str,
) -> None:
    """One page of a study, or of several laid over each other; works from disk, without network."""
    from nas.folders import study_folder
    from nas.record.store import TrialStore
    from nas.report.page import page

    stores = [TrialStore.open(storage, name) for name in dict.fromkeys(studies)]

    def document() -> dict[str, Any]:
        return _document(stores, devices, space)

    if serve:
        from nas.report.server import serve_page

        serve_page(document, lambda: _stamp(stores), port, _LIVE_SECONDS, click.echo)
        return
    from search_spaces.files import write_atomically

    file = out or study_folder(stores[0].name) / "report.html"
    text = page(document())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
    click.echo(f"report: {file} ({len(text) / 1e6:.1f} MB)")


COMMANDS = (report,)


def _stamp(stores: list[TrialStore]) -> list[Any]:
    """Whatever happened since: trials of every state."""
    return [Counter(trial.state for trial in store.trials()) for store in stores]


def _document(
    stores: list[TrialStore], wanted: tuple[str, ...], space: str | None
) -> dict[str, Any]:
    from nas.report.page import embed_pictures, page_document
    from nas.report.study import study

    shown = [study(store, _devices(store, wanted, space), _peers(store)) for store in stores]
    embed_pictures(shown)
    return page_document(shown)


def _peers(store: TrialStore) -> Any:
    """Of the study's own crops; nothing where they cannot be had."""
    from evaluators.protocol import SetupError
    from nas.experiment import ExperimentError
    from nas.report.peers import peers

    record = store.record()
    if not any("rd_points" in trial.metrics for trial in store.trials()):
        return {}
    try:
        return peers(store.name, record)
    except (ExperimentError, SetupError, ValueError) as problem:
        warn(f"{store.name}: no other codec's curve is shown: {problem}")
        return {}


def _devices(store: TrialStore, wanted: tuple[str, ...], space: str | None) -> Devices | None:
    """Every device that the study's trials can be priced on; None leaves those recorded."""
    from nas.record.storage import StudyError
    from nas.report.devices import priced_devices
    from nas.retarget import recorded_space
    from search_spaces.space import SpaceError

    record = store.record()
    if "oracle" in record.identity:
        return None
    trials = [trial for trial in store.trials() if trial.ended]
    try:
        return priced_devices(record, trials, recorded_space(record, space), wanted)
    except (StudyError, SpaceError) as problem:
        warn(f"{store.name}: only the recorded devices are shown: {problem}")
        return None
