"""One full training from its job to the files of its folder; what is there already goes on.

recipe.json             what is trained and how, fixed before the first step
checkpoint.safetensors  while it is trained
curve.csv               losses by step
samples/                held-back photographs beside their reconstructions
codec.safetensors       the trained codec
metrics.json            scores; written last: where it is, the training is finished
"""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from evaluators.candidates import inherit_what_helps
from evaluators.devices import torch_device
from evaluators.full_recipe import FullRecipe
from evaluators.full_scores import SCORED_CROP, HeldBackPhotos
from evaluators.full_training import TERMS, FullTraining, codec_of
from evaluators.joint import distortion_loss
from evaluators.perceptual import described
from evaluators.photo_store import stored
from evaluators.photos import Photo, find_photos, load_photos
from evaluators.protocol import SetupError
from evaluators.together import ALONE, Place
from evaluators.training import fit_entropy_model
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import load_codec, save_codec
from search_spaces.files import write_atomically
from search_spaces.space import Choice

log = logging.getLogger(__name__)

Report = Callable[[dict[str, Any]], None]

_SHOWN = 10  # times that it is scored meanwhile
_TIMED_STEPS = 1000  # of a recipe whose phases are timed
_WAIT_SECONDS = 2.0  # between two reports of a step


@dataclass(frozen=True)
class Job:
    """A full training, as what any process can make of it.

    Attributes:
        choices: of the codec.
        start: codec file to begin from; None begins from scratch.
        data: a folder of photographs, or `sample`.
        photographs: of the folder, at most.
        photo_folder: where they are kept decoded.
        recipe: of the training; its steps are planned anew where `hours` is stated.
        hours: that all of it may take, or None.
        seed: of every random choice.
        device: where torch runs.
        folder: of the results.
        checkpoint_seconds: between two checkpoints.
        scored_crops: held-back crops that are scored at the end, at most.
        vgg_crops: of them, that LPIPS-vgg sees too.
        about: what `recipe.json` says beside the recipe.
    """

    choices: Mapping[str, Choice]
    start: str | None
    data: str
    photographs: int
    photo_folder: str
    recipe: FullRecipe
    hours: float | None
    seed: int
    device: str
    folder: str
    checkpoint_seconds: float
    scored_crops: int
    vgg_crops: int
    about: Mapping[str, Any]

    @property
    def recipe_file(self) -> Path:
        """Says that a training has been planned."""
        return Path(self.folder) / "recipe.json"

    @property
    def checkpoint(self) -> Path:
        """Of the training."""
        return Path(self.folder) / "checkpoint.safetensors"


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
    course = _Course(job, training, held_back, report if place.first else _silent, seconds)
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
    left = job.hours * 3600 - scoring * (_SHOWN + work)
    steps = int(left / (share * seconds[0] + (1 - share) * seconds[1]))
    if steps < 1:
        raise SetupError(
            f"hours: {job.hours:g} are too few: a step takes {seconds[1]:.2g} s here and scoring"
            f" {scoring * (_SHOWN + work):.0f} s in all"
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


class _Course:
    """A training's way as the first process sees it: what is written and reported."""

    def __init__(
        self,
        job: Job,
        training: FullTraining,
        held_back: HeldBackPhotos,
        report: Report,
        seconds: tuple[float, float],
    ) -> None:
        self._job, self._training, self._held_back = job, training, held_back
        self._report, self._seconds = report, seconds
        self._folder = Path(job.folder)
        self._scores: list[dict[str, Any]] = []
        self._began = self._saved = self._told = time.monotonic()
        self._first_step = 0

    @property
    def _recipe(self) -> FullRecipe:
        return cast(FullRecipe, self._training.run.recipe)

    def go_on(self) -> None:
        """From the checkpoint, if there is one; else what it begins with is scored."""
        if not self._job.checkpoint.is_file():
            self._watch()
        else:
            notes = self._training.load(self._job.checkpoint)
            self._scores = notes["scores"]
            self._began -= notes["seconds"]
            self._first_step = self._training.run.step
        self._started = time.monotonic()

    def after_step(self) -> None:
        """Reports, scores and saves where it is time to."""
        now, training = time.monotonic(), self._training
        if now - self._told > _WAIT_SECONDS and training.curve:
            self._told = now
            self._tell()
        if not training.at_window or training.ended:
            return
        if self._scored_here():
            self._watch()
        if time.monotonic() - self._saved > self._job.checkpoint_seconds:
            self._save()

    def finish(self) -> None:
        """Writes the results; the checkpoint goes when all are there."""
        if not self._job.checkpoint.is_file() or self._first_step < self._recipe.steps:
            self._save()
        self._tell()
        codec = codec_of(self._training)
        self._report({"event": "scoring"})
        points = self._held_back.finally_(codec)
        self._pictures(codec)
        save_codec(codec.cpu(), self._job.choices, self._folder / "codec.safetensors")
        metrics = {
            **{name: self._job.about["asked"][name] for name in ("study", "trial", "key")},
            "steps": self._recipe.steps,
            "seconds": self._elapsed_seconds,
            "rd_points": points,
            "lpips_backbones": [described("alex"), described("vgg")],
            "scores": self._scores,
            "curve": self._training.curve,
        }
        write_atomically(
            self._folder / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False) + "\n"
        )
        self._job.checkpoint.unlink(missing_ok=True)

    @property
    def _elapsed_seconds(self) -> float:
        return time.monotonic() - self._began

    def _scored_here(self) -> bool:
        """Whether a tenth of the steps ended within the window that has just been closed."""
        step, tenth = self._training.run.step, self._recipe.steps / _SHOWN
        return step // tenth > (step - self._recipe.window) // tenth

    def _watch(self) -> None:
        run = self._training.run
        with run.shown():
            codec = cast(Codec, run.codec)
            codec.freeze()
            points = self._held_back.meanwhile(codec)
            self._pictures(codec)
        self._scores.append(
            {"step": run.step, "seconds": self._elapsed_seconds, "rd_points": points}
        )
        self._report({"event": "scored", "step": run.step, "rd_points": points})

    def _pictures(self, codec: Codec) -> None:
        name = f"step-{self._training.run.step:07d}"
        self._held_back.pictures(codec, self._folder / "samples", name)

    def _save(self) -> None:
        notes = {"scores": self._scores, "seconds": self._elapsed_seconds}
        self._training.save(self._job.checkpoint, notes)
        write_atomically(self._folder / "curve.csv", _as_csv(self._training.curve))
        self._saved = time.monotonic()

    def _tell(self) -> None:
        step = self._training.run.step
        self._report(
            {
                "event": "step",
                "step": step,
                "steps": self._recipe.steps,
                "seconds_left": self._seconds_left(),
                "losses": self._training.curve[-1],
            }
        )

    def _seconds_left(self) -> float:
        """By what steps of either phase took before the start, and how it has gone since."""
        step = self._training.run.step
        spent = time.monotonic() - self._started
        expected = self._expected(self._first_step, step)
        pace = spent / expected if expected > 0 else 1.0
        return pace * self._expected(step, self._recipe.steps)

    def _expected(self, first: int, last: int) -> float:
        of_first = max(0, min(last, self._recipe.phase_2) - first)
        return of_first * self._seconds[0] + (last - first - of_first) * self._seconds[1]


def _as_csv(curve: list[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["step", *TERMS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return text.getvalue()


def _silent(_: dict[str, Any]) -> None: ...
