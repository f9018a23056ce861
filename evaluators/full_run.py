"""One full training from its job to the files of its folder; what is there already goes on.

recipe.json             what is trained and how, fixed before the first step
checkpoint.safetensors  while it is trained
curve.csv               losses by step
samples/                held-back photographs beside their reconstructions
codec.safetensors       the trained codec
metrics.json            scores; written last: where it is, the training is finished
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.candidates import SCORED_CROP, inherit_what_helps
from evaluators.devices import torch_device
from evaluators.full_course import SHOWN, Course
from evaluators.full_job import Job, Report
from evaluators.full_recipe import FullRecipe
from evaluators.full_scores import HeldBackPhotos
from evaluators.full_training import FullTraining
from evaluators.joint import distortion_loss
from evaluators.photo_store import stored
from evaluators.photos import Photo, find_photos, load_photos
from evaluators.protocol import SetupError
from evaluators.together import ALONE, Place
from evaluators.training import fit_entropy_model
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import load_codec
from search_spaces.files import write_atomically

log = logging.getLogger(__name__)

_TIMED_STEPS = 1000  # of a recipe whose phases are timed


def run_job(job: Job, report: Report, place: Place = ALONE) -> None:
    """Trains, or goes on, and writes the results.

    Args:
        job: of the training.
        report: is told how far it is: mappings with `event`, which is `planned`, `step` or
            `scored`; by the first process alone.
        place: among the processes that train together.

    Raises:
        SetupError: photographs, weights or the device are missing, or the folder holds another
            training.
        EvaluationError: a loss is no longer finite.
        OSError: a file cannot be written; what was there before is as it was.
    """
    photos, held_back = _photographs(job, place)
    recipe, seconds = _planned(job, photos, held_back, report, place)
    codec = _begun(job, photos)
    training = FullTraining(codec, photos, recipe, job.seed, torch_device(job.device), place)
    course = Course(job, training, held_back, report if place.first else _silent, seconds)
    if place.first:
        course.go_on()
    elif job.checkpoint.is_file():
        training.load(job.checkpoint)
    while not training.ended:
        training.take_step()
        if place.first:
            course.after_step()
    if place.first:
        course.finish()


def _photographs(job: Job, place: Place) -> tuple[list[Photo], HeldBackPhotos]:
    """To train on, mapped from the disk; and held back, for the first process."""
    found = find_photos(job.data, job.photographs)
    folder = Path(job.photo_folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    photos = stored(folder, lambda: load_photos(found.train, job.recipe.crop))
    held_back = load_photos(found.held_back, SCORED_CROP) if place.first else []
    device = torch_device(job.device)
    return photos, HeldBackPhotos(held_back, device, job.scored_crops, job.vgg_crops)


def _planned(
    job: Job, photos: list[Photo], held_back: HeldBackPhotos, report: Report, place: Place
) -> tuple[FullRecipe, tuple[float, float]]:
    """The recipe, by which this training goes on if it had begun, and seconds a step by phase."""
    if job.recipe_file.is_file():
        known = json.loads(job.recipe_file.read_text())
        recipe, seconds = FullRecipe(**known["recipe"]), tuple(known["seconds_a_step"])
    else:
        seconds, scoring = _timed(job, photos, held_back, place)
        recipe = replace(job.recipe, steps=_steps(job, seconds, scoring, held_back.work))
        known = {"recipe": asdict(recipe), "seconds_a_step": seconds, **job.about}
        known["photographs"] = {"train": len(photos), "held_back": len(held_back.photos)}
        recipe, seconds = place.agreed((recipe, seconds))
        if place.first:
            write_atomically(job.recipe_file, json.dumps(known, indent=1) + "\n")
    if place.first:
        report({"event": "planned", "folder": job.folder, **known})
    return recipe, (seconds[0], seconds[1])


def _timed(
    job: Job, photos: list[Photo], held_back: HeldBackPhotos, place: Place
) -> tuple[tuple[float, float], float]:
    """Seconds a step in either phase here, and of scoring; from a few of them."""
    device = torch_device(job.device)
    codec = Codec(build_design(job.choices))
    recipe = replace(job.recipe, steps=_TIMED_STEPS)
    training = FullTraining(codec, photos, recipe, job.seed, device, place)
    seconds = []
    last = _TIMED_STEPS - 1
    for steps in ([0], [last - 1, last - 1, last - 1, last - last % recipe.seam_every]):
        for repeat in range(2):  # the first steps of each kind allocate and compile
            began = time.perf_counter()
            for step in steps if repeat else steps[-2:]:
                training.run.step = step
                training.take_step()
        seconds.append((time.perf_counter() - began) / len(steps))
    began = time.perf_counter()
    if place.first and job.hours is not None:
        codec.freeze()
        held_back.meanwhile(codec.eval())
    return (seconds[0], seconds[1]), time.perf_counter() - began


def _steps(job: Job, seconds: tuple[float, float], scoring: float, work: float) -> int:
    """Steps that the recipe states, or that fit into the stated time."""
    if job.hours is None:
        return job.recipe.steps
    share = job.recipe.perceptual_from
    left = job.hours * 3600 - scoring * (SHOWN + work)
    steps = int(left / (share * seconds[0] + (1 - share) * seconds[1]))
    if steps < 1:
        raise SetupError(
            f"hours: {job.hours:g} are too few: a step takes {seconds[1]:.2g} s here and scoring"
            f" {scoring * (SHOWN + work):.0f} s in all"
        )
    return steps


def _begun(job: Job, photos: list[Photo]) -> Codec:
    """The codec with the weights that it begins from."""
    torch.manual_seed(job.seed)
    codec = Codec(build_design(job.choices))
    if job.checkpoint.is_file():
        return codec  # takes its weights from there
    if job.start is None:
        fit_entropy_model(codec, photos, np.random.default_rng(job.seed))
        return codec
    anchor = load_codec(Path(job.start))
    if anchor.design == codec.design:
        codec.load_state_dict(anchor.state_dict())
        return codec
    crop = job.recipe.crop
    share, _ = inherit_what_helps(codec, anchor, lambda: distortion_loss(codec, photos, crop))
    log.info("%.0f %% of the steps begin from %s", 100 * share, job.start)
    if share == 0:
        raise SetupError(f"{job.start}: its architecture has nothing in common with this one")
    return codec


def _silent(_: dict[str, Any]) -> None: ...
