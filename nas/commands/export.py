"""`nas export`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import json_option, show, storage_option, warn

if TYPE_CHECKING:
    from nas.exporting.coreml import Precision, Progress

_PRECISIONS = ("fp16", "w8a8")
_path = click.Path(path_type=Path)


def _precisions(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if name not in _PRECISIONS:
            raise click.BadParameter(f"no precision {name!r}; one or both of fp16,w8a8")
    return names


@click.command()
@click.argument("study", metavar="STUDY|MODEL")
@click.argument("trial", required=False, type=click.IntRange(min=0))
@click.option("--out", type=_path, help="The folder; default runs/STUDY/export-TRIAL.")
@click.option(
    "--precision",
    "precisions",
    default="fp16,w8a8",
    callback=_precisions,
    show_default=True,
    metavar="LIST",
    help="Of the Core ML packages.",
)
@click.option("--onnx/--no-onnx", default=True, help="ONNX networks too, or not.")
@click.option(
    "--calibrate",
    default="sample",
    show_default=True,
    metavar="DIR",
    help="Photographs: ranges of 8-bit activations are taken from two thirds of them, losses are"
    " measured on the others. `sample` are those that installed packages carry.",
)
@click.option("--force", is_flag=True, help="Replace an export that is there.")
@storage_option
@json_option
def export(
    study: str,
    trial: int | None,
    out: Path | None,
    precisions: tuple[Precision, ...],
    onnx: bool,
    calibrate: str,
    force: bool,
    storage: str,
    as_json: bool,
) -> None:
    """Writes a codec as Core ML packages, integers for the CPU, and ONNX.

    The codec is that of `nas train STUDY TRIAL`; where that was not run, the one that the search
    scored. MODEL is a codec file, or a folder of `nas train`, in place of both.
    """
    from nas import export as exporting
    from nas.display.export_table import export_table
    from nas.export_source import of_model, of_trial

    source = of_model(Path(study)) if trial is None else of_trial(storage, study, trial)
    warn(source.warning)
    target = out or source.folder
    request = exporting.Request(
        source.codec, source.origin, target, precisions, onnx, calibrate, force
    )
    with ExitStack() as stack:
        manifest = exporting.export(request, _progress(stack))
    document = {"folder": str(target), "warning": source.warning, **manifest}
    for warning in exporting.losses_beyond(manifest):
        warn(warning)
    show(document, export_table(document), as_json)


COMMANDS = (export,)


def _progress(stack: ExitStack) -> Progress:
    """A bar on stderr with the time that is left; one line a step where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(bar_width=24)]
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    if not console.is_terminal:
        return _Lines()
    stack.enter_context(bar)
    task = bar.add_task("")

    def show_step(step: str, done: int, count: int) -> None:
        if bar.tasks[0].description != step:
            bar.reset(task, total=count, description=step)
        bar.update(task, completed=done)

    return show_step


class _Lines:
    """A line for every step that begins."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, step: str, done: int, count: int) -> None:
        if step != self._last:
            print(step, file=sys.stderr, flush=True)
        self._last = step
