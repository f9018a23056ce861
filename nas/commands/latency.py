"""`nas latency`: tables, estimates, measuring."""

from __future__ import annotations

from pathlib import Path

import click

from nas.commands.options import json_option, precision_option, show, warn

_device = click.option(
    "--device", required=True, metavar="NAME", help="A device's name, or its table's path."
)
_space = click.option(
    "--space", "space_name", required=True, type=Path, metavar="SPACE", help="YAML or shipped name."
)
_backend = click.option(
    "--backend",
    type=click.Choice(["host", "coreml"]),
    help="Default: coreml for names that begin with iphone or ipad, else this machine.",
)
_precision = precision_option("fp16 on a phone, fp32 on this machine")
_threads = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of this machine."
)


@click.group()
def latency() -> None:
    """What architectures cost on devices: tables, estimates, measurements."""


@latency.command()
@_device
@_space
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The table; default NAME.yaml."
)
@_backend
@_precision
@_threads
@click.option(
    "--networks",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    help="Whole networks measured along.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="In which everything is visited; unsure rows get up to twice as many.",
)
@click.option("--sustained", is_flag=True, help="Heat the device up for ten minutes first.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be measured, and stop.")
@json_option
def measure(
    device: str,
    space_name: Path,
    output: Path | None,
    backend: str | None,
    precision: str | None,
    threads: int,
    networks: int,
    rounds: int,
    sustained: bool,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Fills a latency table with what a space needs; goes on where it broke off."""
    from latency.measure.campaign import Effort
    from nas import latency_setup
    from nas.display import latency_tables

    target = latency_setup.target(device, output, backend, precision, threads)
    measured = None if only_plan else latency_setup.ready(target)
    plan = latency_setup.planned(target, space_name, networks)
    effort = Effort(fewest_rounds=rounds, most_rounds=2 * rounds)
    click.echo(latency_tables.plan_line(target, plan, effort), err=True)
    if measured is None:
        document = latency_tables.plan_document(target, plan, effort)
    else:
        speed = "sustained" if sustained else "burst"
        filled = latency_setup.measure(target, measured, plan, effort, speed)
        document = latency_tables.filled_document(target, plan, filled)
    show(document, latency_tables.summary(document), as_json)


@latency.command()
@_device
@_space
@_backend
@_precision
@_threads
@click.option(
    "--networks",
    type=click.IntRange(min=5),
    default=20,
    show_default=True,
    help="Whole networks, drawn anew.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    help="In which each network is visited.",
)
@click.option(
    "--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of the draw."
)
@click.option("--save", is_flag=True, help="Write the error, and a margin from it, into the table.")
@json_option
def validate(
    device: str,
    space_name: Path,
    backend: str | None,
    precision: str | None,
    threads: int,
    networks: int,
    rounds: int,
    seed: int,
    save: bool,
    as_json: bool,
) -> None:
    """Holds a table against whole networks that no row came from."""
    from nas import latency_setup
    from nas.display import latency_tables

    target = latency_setup.target(device, None, backend, precision, threads)
    document = latency_setup.validate(target, space_name, networks, rounds, seed, save)
    show(document, latency_tables.validation(document), as_json)


@latency.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@json_option
def devices(tables: tuple[str, ...], as_json: bool) -> None:
    """Lists the shipped tables, and those named, with what they are worth."""
    from latency.table_files import find_table, load_table, shipped_tables
    from nas.display import latency_tables

    documents = []
    for name in (*shipped_tables(), *tables):
        table = load_table(name)
        warn(table.stale)
        documents.append(latency_tables.device_document(table, str(find_table(name))))
    show(documents, latency_tables.devices(documents), as_json)


@latency.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The new table."
)
def merge(first: Path, second: Path, output: Path) -> None:
    """Writes the rows of two measured tables of one device; the later row wins."""
    from latency.merge import merge_tables
    from latency.table_files import load_table, save_table

    merged = merge_tables(load_table(first), load_table(second))
    save_table(merged, output)
    warn(merged.stale)
    click.echo(f"{output}: {len(merged.rows):,} rows", err=True)


@latency.command()
@_device
@click.option("--module", metavar="FILE.py:FACTORY", help="Any torch module: what makes it.")
@click.option(
    "--input", "inputs", multiple=True, metavar="1x3x224x224", help="Shape of each of its inputs."
)
@click.option(
    "--space", "space_name", type=Path, metavar="SPACE", help="Or an architecture of this."
)
@click.option(
    "--set", "stated", multiple=True, metavar="NAME=CHOICE", help="Differing from its reference."
)
@precision_option("fp16 where the table has it")
@json_option
def estimate(
    device: str,
    module: str | None,
    inputs: tuple[str, ...],
    space_name: Path | None,
    stated: tuple[str, ...],
    precision: str | None,
    as_json: bool,
) -> None:
    """Prices a torch module, one run; or an architecture, a whole image."""
    from nas import latency_estimate
    from nas.display import latency_tables

    if (module is None) == (space_name is None):
        raise click.UsageError("name either a --module with its --input, or a --space")
    if module is not None:
        if stated:
            raise click.UsageError("--set is for an architecture of a --space")
        document = latency_estimate.of_module(device, module, inputs, precision)
        show(document, latency_tables.module(document), as_json)
        return
    if inputs:
        raise click.UsageError("--input is for a --module")
    assert space_name is not None
    document = latency_estimate.of_architecture(device, space_name, stated, precision)
    show(document, latency_tables.architecture(document), as_json)


COMMANDS = (latency,)
