"""`nas compress` and `nas decompress`: a codec on files and folders."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import json_option

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from nas.codec_files import Entry, Goal, Job, Model, Runtime
    from nas.picture_files import Colour
    from search_spaces.codec.pictures import Progress

    Work = Callable[[Job, Progress], Entry]

_DEFAULT_QUALITY = 4.0
_MOST_THREADS = 4  # by default: each may hold a tile's features, some hundred megabytes

_path = click.Path(path_type=Path)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quality(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (0 <= value <= 7 and value * 16 == int(value * 16)):
        nearest = round(16 * min(max(0.0, value), 7.0)) / 16
        raise click.BadParameter(f"{value:g} is no sixteenth of 0 to 7; the nearest is {nearest:g}")
    return value


def _colour(_: click.Context, __: click.Parameter, value: str | None) -> Colour | None:
    from PIL import ImageColor

    if value is None:
        return None
    try:
        red, green, blue = ImageColor.getrgb(value)[:3]
    except ValueError:
        raise click.BadParameter(f"no colour {value!r}; try white or #808080") from None
    return red, green, blue


model_argument = click.argument("model", type=_path)
source_argument = click.argument("source", metavar="IN", type=_path)
target_argument = click.argument("target", metavar="OUT", type=_path)
force_option = click.option("--force", is_flag=True, help="Overwrite what is there.")
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["torch", "onnx"]),
    default="torch",
    show_default=True,
    help="Of the networks; onnx takes a folder that `nas export` made. Either reads the other's.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=lambda: min(_MOST_THREADS, _cores()),
    metavar="N",
    help=f"Tiles at a time, default a core each up to {_MOST_THREADS}; changes no byte.",
)


@click.command()
@model_argument
@source_argument
@target_argument
@click.option(
    "--quality",
    type=float,
    callback=_quality,
    metavar="Q",
    help=f"0 to 7 in steps of 1/16, default {_DEFAULT_QUALITY:g}.",
)
@click.option(
    "--bpp",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="The best quality of at most X bits per pixel.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    metavar="N",
    help="The best quality of at most N bytes a file.",
)
@click.option(
    "--flatten", callback=_colour, metavar="COLOUR", help="Lay it behind transparent parts."
)
@runtime_option
@threads_option
@force_option
@json_option
def compress(
    model: Path,
    source: Path,
    target: Path,
    quality: float | None,
    bpp: float | None,
    max_bytes: int | None,
    flatten: Colour | None,
    runtime: Runtime,
    threads: int,
    force: bool,
    as_json: bool,
) -> int:
    """Compresses a picture, or a folder of pictures into another.

    MODEL is a codec file, or a folder of `nas train` or `nas export`; IN anything that Pillow
    opens; OUT a .nasc file.
    """
    from nas import codec_files

    goal = _goal(quality, bpp, max_bytes)
    jobs = codec_files.compress_jobs(source, target)
    loaded = codec_files.load_model(model, runtime)
    work = partial(
        codec_files.compress_file, model=loaded, goal=goal, flatten=flatten, threads=threads
    )
    return _run(jobs, work, loaded, source.is_dir(), force, as_json)


@click.command()
@model_argument
@source_argument
@target_argument
@runtime_option
@threads_option
@force_option
@json_option
def decompress(
    model: Path,
    source: Path,
    target: Path,
    runtime: Runtime,
    threads: int,
    force: bool,
    as_json: bool,
) -> int:
    """Decompresses a .nasc file, or a folder of them into another.

    MODEL is the codec file, or the folder of `nas train` or `nas export`, that wrote IN. OUT is,
    by its ending, .png (also without one, and in folders), .ppm, .tif, .bmp, .webp without loss,
    or .jpg.
    """
    from nas import codec_files

    jobs = codec_files.decompress_jobs(source, target)
    loaded = codec_files.load_model(model, runtime)
    work = partial(codec_files.decompress_file, model=loaded, threads=threads)
    return _run(jobs, work, loaded, source.is_dir(), force, as_json)


COMMANDS = (compress, decompress)


def _goal(quality: float | None, bpp: float | None, max_bytes: int | None) -> Goal:
    from nas.codec_files import Goal

    if sum(given is not None for given in (quality, bpp, max_bytes)) > 1:
        raise click.UsageError("--quality, --bpp and --max-bytes exclude each other; give one")
    return Goal(_DEFAULT_QUALITY if quality is None else quality, bpp, max_bytes)


def _run(
    jobs: list[Job], work: Work, model: Model, folder: bool, force: bool, as_json: bool
) -> int:
    """Works off all jobs; in a folder, what fails is reported and the rest goes on."""
    from nas.codec_files import require_free
    from nas.picture_files import OutputError, PictureFileError

    document: dict[str, Any] = {"model": model.key.hex(), "files": [], "failed": []}
    with _bar(len(jobs)) as bar:
        for number, job in enumerate(jobs):
            try:
                require_free(job, model, force)
                entry = work(job, _progress(bar, number, job))
                document["files"].append(entry)
                _tell(entry, as_json)
            except (PictureFileError, OutputError) as problem:
                if not folder:
                    raise
                document["failed"].append(_report(job, problem))
                if isinstance(problem, OutputError):
                    break  # the next one would meet the same full disk
    if as_json:
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    return 1 if document["failed"] else 0


def _report(job: Job, problem: Exception) -> dict[str, str]:
    reason = " ".join(str(problem).split())
    print(f"nas: {reason}", file=sys.stderr)
    return {"file": str(job.source), "error": reason}


def _tell(entry: Entry, as_json: bool) -> None:
    """By `print`, which goes above a bar; `click.echo` writes through it."""
    source, target = (click.format_filename(entry[name]) for name in ("file", "output"))
    for remark in entry["remarks"]:
        print(f"{source}: {remark}", file=sys.stderr)
    if not as_json:
        print(
            f"{source} -> {target}: {entry['width']} x {entry['height']},"
            f" {entry['bytes']:,} bytes, {entry['bpp']:.3f} bpp, quality {entry['quality']:g}"
        )


def _bar(files: int) -> Bar:
    """A bar on stderr with the time that is left; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[done]}/{task.total:.0f}"),
        TimeLeft(),
        console=console,
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
        disable=not console.is_terminal,
    )
    bar.add_task("", total=files, done=0)
    return bar


def _progress(bar: Bar, done: int, job: Job) -> Progress:
    task = bar.task_ids[0]
    bar.update(task, description=job.source.name, completed=done, done=done)
    return lambda tiles, all_tiles: bar.update(task, completed=done + tiles / all_tiles)
