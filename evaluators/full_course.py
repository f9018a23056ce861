"""A full training's way as the process sees it that writes: checkpoints, scores, results."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any, cast

from evaluators.checkpoint import whole
from evaluators.full_job import Job, Report
from evaluators.full_recipe import FullRecipe
from evaluators.full_scores import HeldBackPhotos
from evaluators.full_training import TERMS, FullTraining, codec_of
from evaluators.perceptual import described
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import CODEC_FILE, save_codec
from search_spaces.files import write_atomically

SHOWN = 10  # times that a training is scored meanwhile
_WAIT_SECONDS = 2.0  # between two reports of a step


class Course:
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
            with whole(self._job.checkpoint):
                self._scores = list(notes["scores"])
                self._began -= float(notes["seconds"])
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
        save_codec(codec.cpu(), self._job.choices, self._folder / CODEC_FILE)
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
        step, tenth = self._training.run.step, self._recipe.steps / SHOWN
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
