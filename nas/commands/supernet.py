"""`nas supernet`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import json_option, ray_address_option, show

if TYPE_CHECKING:
    from evaluators.inherited import SupernetTraining
    from nas.experiment import Experiment

_TRAINING = "evaluators.inherited:SupernetTraining"


@click.command()
@click.argument("experiment_yaml", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps; default 2000.")
@click.option("--out", type=click.Path(path_type=Path), help="Copy it here as well.")
@ray_address_option
@json_option
def supernet(
    experiment_yaml: Path,
    steps: int | None,
    out: Path | None,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Trains the weights that all decoders of an experiment's space share; resumable.

    With `training: joint` whole codecs share them: encoder, entropy model and decoder.
    """
    from evaluators.supernet_file import supernet_about
    from nas.commands import setup
    from nas.display import tables
    from nas.display.live import track
    from nas.folders import study_folder

    experiment = setup.experiment(experiment_yaml)
    training, experiment = _for_training(experiment, steps)
    shared = (study_folder(experiment.study) / "shared").resolve()
    file = training.trained_file(shared)
    if not file.is_file():
        with setup.workers(experiment, ray_address, shared) as workers:
            track("supernet", _progress(workers, file.with_suffix(".json"), training))
    if out is not None:
        _copy(file, out)
    document = {"supernet": str(out or file), "study": experiment.study, **supernet_about(file)}
    show(document, tables.supernet(document), as_json)


COMMANDS = (supernet,)


def _for_training(experiment: Experiment, steps: int | None) -> tuple[SupernetTraining, Experiment]:
    """What trains the supernet, with the settings of an experiment's own evaluator.

    Raises:
        ExperimentError: that evaluator is neither the proxy nor scores by a supernet.
    """
    from evaluators.inherited import SupernetTraining
    from evaluators.proxy import ProxyEvaluator
    from nas.experiment import ExperimentError

    spec = experiment.evaluator
    if not isinstance(spec.build(ExperimentError), ProxyEvaluator):
        raise ExperimentError(f"evaluator: {spec.path} trains no codecs that could share weights")
    settings = {n: v for n, v in spec.settings.items() if n != "supernet"}
    settings |= {} if steps is None else {"supernet_steps": steps}
    spec = replace(spec, path=_TRAINING, settings=settings)
    training: Any = spec.build(ExperimentError)
    assert isinstance(training, SupernetTraining)
    return training, replace(experiment, evaluator=spec, workers=1)


def _progress(workers: Any, file: Path, training: SupernetTraining) -> Iterator[tuple[int, int]]:
    """Steps done and left, as the worker writes them."""
    said = 0
    for _ in workers.prepare({}):
        step = _last_step(file)
        if step > said:
            said = step
            yield step, training.supernet_steps - step


def _last_step(file: Path) -> int:
    try:
        curve = json.loads(file.read_text())["curve"]
    except FileNotFoundError:
        return 0
    return int(curve[-1]["step"])


def _copy(file: Path, out: Path) -> None:
    import shutil

    from nas.picture_files import OutputError
    from search_spaces.files import replacing

    try:
        with replacing(out) as unfinished:
            shutil.copyfile(file, unfinished)
    except OSError as problem:
        raise OutputError(f"{out}: {problem.strerror}") from None
