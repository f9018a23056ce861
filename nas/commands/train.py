"""`nas train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import json_option, ray_address_option, show, storage_option

if TYPE_CHECKING:
    from evaluators.full_job import Job

_positive = click.IntRange(min=1)
_path = click.Path(path_type=Path)
_weight = click.FloatRange(min=0)
_above_zero = click.FloatRange(min=0, min_open=True)


def _recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that are fields of the recipe, under the fields' names."""
    for option in reversed(
        (
            click.option("--steps", type=_positive, help="Optimiser steps; default 4000."),
            click.option("--batch", type=_positive, help="Crops a step; default 4."),
            click.option("--crop", type=_positive, help="Their side in pixels; default 128."),
            click.option("--learning-rate", type=_above_zero, help="Of Adam; default 2e-3."),
            click.option(
                "--perceptual-from",
                type=click.FloatRange(0, 1),
                help="Share of the steps on rate and squared error alone; default 0.5.",
            ),
            click.option("--lpips-weight", type=_weight, help="Default 0.6."),
            click.option("--ms-ssim-weight", type=_weight, help="Default 0.5."),
            click.option(
                "--adversarial-weight", type=_weight, help="Of the discriminator; default 0.03."
            ),
            click.option("--seam-weight", type=_weight, help="Of tiles' borders; default 0.5."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("study")
@click.argument("trial", type=click.IntRange(min=0))
@click.option(
    "--from",
    "start",
    metavar="trial|anchor|scratch|FILE",
    help="Weights to begin from; default the trial's own if they were kept, else scratch.",
)
@click.option("--data", help="A folder of photographs, or sample; default the experiment's.")
@click.option("--photographs", type=click.IntRange(min=2), help="Of it, at most; default 1000.")
@click.option("--hours", type=_above_zero, help="As many steps as fit, scores too.")
@_recipe_options
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Default 0.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@click.option("--workers", type=_positive, default=1, show_default=True, help="GPUs or processes.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="From one to the next.",
)
@click.option(
    "--scored-crops", type=_positive, default=24, show_default=True, help="Held-back ones."
)
@click.option(
    "--vgg-crops",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Of them, by LPIPS-vgg too.",
)
@click.option("--out", type=_path, help="Results; default runs/STUDY/train-TRIAL.")
@click.option("--experiment", type=_path, help="If its file has moved since.")
@ray_address_option
@storage_option
@json_option
def train(
    study: str,
    trial: int,
    start: str | None,
    data: str | None,
    photographs: int | None,
    hours: float | None,
    seed: int | None,
    device: str,
    workers: int,
    checkpoint_minutes: float,
    scored_crops: int,
    vgg_crops: int,
    out: Path | None,
    experiment: Path | None,
    ray_address: str | None,
    storage: str,
    as_json: bool,
    **recipe: Any,
) -> None:
    """Trains one trial's architecture in full; the same command goes on where it was stopped."""
    from nas import train as training
    from nas.commands import setup
    from nas.display import training as display
    from nas.display.live import duration
    from nas.record.store import TrialStore

    if hours is not None and recipe["steps"] is not None:
        raise click.UsageError("--hours and --steps exclude each other; give one")
    store = TrialStore.open(storage, study)
    recorded = store.trial(trial)
    loaded = setup.recorded_experiment(store, experiment, None)
    request = training.Request(
        start=start,
        data=data,
        photographs=photographs,
        hours=hours,
        seed=seed,
        recipe=recipe,
        device=device,
        checkpoint_minutes=checkpoint_minutes,
        scored_crops=scored_crops,
        vgg_crops=vgg_crops,
        out=out,
    )
    job = training.make_job(loaded, recorded, request)
    folder = out or training.results_folder(study, trial)
    done = training.finished(folder)
    if done is None:
        _run(job, workers, folder, ray_address)
        done = training.finished(folder) or {}
    else:
        click.echo(f"{folder} is finished; --out trains into another folder", err=True)
    show(done, display.trained(done), as_json)
    took = f"{done['steps']:,} steps in {duration(done['seconds'])}"
    click.echo(f"{took}; codec: {folder / 'codec.safetensors'}", err=True)


COMMANDS = (train,)


def _run(job: Job, workers: int, folder: Path, ray_address: str | None) -> None:
    """Trains with a bar on stderr; what cannot be written is one line.

    Raises:
        OutputError: a full disk, or a folder that cannot be written.
        StudyError: another process trains into the folder.
    """
    from filelock import FileLock, Timeout

    from evaluators.full_run import run_job
    from nas.display.training import TrainingDisplay
    from nas.folders import log_folder
    from nas.picture_files import OutputError
    from nas.record.storage import StudyError
    from nas.train_workers import train_on_workers

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock", timeout=0), TrainingDisplay(folder) as report:
            if workers == 1 and ray_address is None:
                run_job(job, report)
            else:
                logs = log_folder(job.about["asked"]["study"])
                train_on_workers(job, workers, report, logs, ray_address)
    except Timeout:
        raise StudyError(f"{folder}: another process is training into it; wait for it") from None
    except OSError as problem:
        raise OutputError(
            f"{folder}: {problem.strerror or problem}; what was kept before is whole, the same"
            " command goes on from there"
        ) from None
