"""`nas retarget`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import (
    csv_option,
    json_option,
    limit_options,
    milliseconds,
    parsed_limits,
    show,
    storage_option,
    warn,
)

if TYPE_CHECKING:
    from nas.pricing.budget import Gate
    from nas.record.store import TrialStore

_RANGE = "LOW:HIGH:STEP"


@click.command()
@click.argument("study")
@click.option("--device", help="A shipped name or a table's path; default the study's first.")
@limit_options(
    "the study's",
    "the study's",
    "Limit of another stage or of a size, such as package_bytes=2e7.",
    "NAME=VALUE",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    help="Per cent that upper values add; default the study's.",
)
@click.option("--space", help="Where the study's space is now, if it has moved.")
@click.option("--sweep-decode", metavar=_RANGE, help="The best for each limit of decoding.")
@click.option("--sweep-encode", metavar=_RANGE, help="The best for each limit of encoding.")
@click.option(
    "--search",
    "more",
    type=click.IntRange(min=1),
    metavar="N",
    help="Go on searching there: N more trials in a study of its own, warm-started.",
)
@click.option("--experiment", type=click.Path(path_type=Path), help="For --search, if it moved.")
@click.option(
    "--supernet",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For --search: score N architectures by its weights instead of training them.",
)
@click.option(
    "--tune",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="With --supernet: of the best, how many are trained briefly from its weights.",
)
@storage_option
@csv_option
@json_option
@click.pass_context
def retarget(
    context: click.Context,
    study: str,
    device: str | None,
    encode_ms: float | None,
    decode_ms: float | None,
    limits: tuple[str, ...],
    margin: float | None,
    space: str | None,
    sweep_decode: str | None,
    sweep_encode: str | None,
    more: int | None,
    experiment: Path | None,
    supernet: Path | None,
    tune: int,
    storage: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """The front under another device or budget, from what is recorded."""
    from nas import retarget as retargeting
    from nas.commands.search import search
    from nas.display import tables
    from nas.record.store import TrialStore

    if supernet is not None and more is None:
        raise click.UsageError("--supernet: scores what --search N finds; state N")
    sweeps = {"decode_ms": sweep_decode, "encode_ms": sweep_encode}
    swept = {name: _values(f"--sweep-{name[:6]}", text) for name, text in sweeps.items() if text}
    if len(swept) > 1:
        raise click.UsageError("--sweep-decode and --sweep-encode: one at a time")
    stated = {"encode_ms": encode_ms, "decode_ms": decode_ms, **parsed_limits(limits)}
    stated |= {name: values[-1] for name, values in swept.items()}
    store = TrialStore.open(storage, study)
    record = store.record()
    gate = retargeting.device_gate(
        record,
        retargeting.recorded_space(record, space),
        device,
        {name: most for name, most in stated.items() if most is not None},
        margin,
    )
    for text in gate.pricer.warnings:
        warn(text)
    if swept:
        _sweep(store, gate, *next(iter(swept.items())), as_csv, as_json)
        return
    document = retargeting.retarget_document(store, gate)
    show(document, tables.retargeted(document), as_json, document["front"] if as_csv else None)
    if more is not None:
        file = _experiment(store, gate, device, margin, more, experiment, supernet, tune)
        click.echo(f"experiment: {file}", err=True)
        context.invoke(search, experiment_yaml=file, storage=store.url)


COMMANDS = (retarget,)


def _sweep(
    store: TrialStore, gate: Gate, name: str, values: list[float], as_csv: bool, as_json: bool
) -> None:
    """A table and a plot of the best architecture for each limit."""
    from nas import retarget as retargeting
    from nas.display import tables
    from nas.display.plot import save_sweep
    from nas.folders import study_folder

    document = retargeting.sweep_document(store, gate, name, values)
    rows = [{"limit": row["limit"], **row["best"]} for row in document["rows"] if row["best"]]
    show(document, tables.sweep(document), as_json, rows if as_csv else None)
    if rows:
        picture = study_folder(store.name) / f"sweep-{name}.png"
        save_sweep(document, picture)
        click.echo(f"plot: {picture}", err=True)


def _experiment(
    store: TrialStore,
    gate: Gate,
    device: str | None,
    margin: float | None,
    more: int,
    experiment: Path | None,
    supernet: Path | None,
    tune: int,
) -> Path:
    from nas.warm_experiment import Inheriting, write_warm_experiment

    inheriting = None if supernet is None else Inheriting(supernet, min(tune, more))
    return write_warm_experiment(store, gate, device, margin, more, experiment, inheriting)


def _values(option: str, text: str) -> list[float]:
    """The limits of a sweep, both ends included."""
    parts: list[Any] = text.split(":")
    try:
        low, high, step = (milliseconds.convert(part, None, None) for part in parts)
    except (ValueError, click.BadParameter):
        raise click.UsageError(f"{option}: {text!r} is not {_RANGE}, such as 60:240:20") from None
    if low > high or (high - low) / step > 1000:
        raise click.UsageError(f"{option}: {text!r} goes from low to high in at most 1,000 steps")
    count = int((high - low) / step + 1e-9) + 1
    return [round(low + i * step, 9) for i in range(count)]
