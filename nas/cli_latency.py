"""`nas latency`: tables, estimates, measuring."""

from __future__ import annotations

from pathlib import Path

import click

from nas.cli_options import json_option, show

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
_precision = click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "w8", "w8a8"]),
    help="Default: fp16 on a phone, fp32 on this machine.",
)
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
@click.option("--sustained", is_flag=True, help="The device was warmed up: say so in the table.")
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
    from nas import latency_setup, latency_tables

    target = latency_setup.target(device, output, backend, precision, threads)
    plan = latency_setup.planned(target, space_name, networks)
    effort = Effort(fewest_rounds=rounds, most_rounds=2 * rounds)
    click.echo(latency_tables.plan_line(target, plan, effort), err=True)
    if only_plan:
        document = latency_tables.plan_document(target, plan, effort)
    else:
        speed = "sustained" if sustained else "burst"
        filled = latency_setup.measure(target, plan, effort, speed)
        document = latency_tables.filled_document(target, plan, filled)
    show(document, latency_tables.summary(document), as_json)


COMMANDS = (latency,)
