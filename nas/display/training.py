"""A full training on stderr: what it will take, a bar with losses and time left, its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from nas.display.live import duration

_LINES = 20  # where there is no terminal
_SHOWN = {"bpp": "bpp", "squared_error": "mse", "lpips": "lpips", "adversarial": "adversarial"}


class TrainingDisplay:
    """Shows how far a full training is; a context manager, called with its events."""

    def __init__(self, folder: Path) -> None:
        """Nothing is shown yet.

        Args:
            folder: of the results, as people are to read it.
        """
        self._folder = folder
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("preparing", total=None, text="timing a few steps")
        self._said = -1.0

    def __enter__(self) -> TrainingDisplay:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Shows an event of `evaluators.full_run.run_job`."""
        {
            "planned": self._planned,
            "step": self._step,
            "scored": self._scored,
            "scoring": self._scoring,
        }[event["event"]](event)

    def _planned(self, event: Mapping[str, Any]) -> None:
        recipe, asked, photos = event["recipe"], event["asked"], event["photographs"]
        steps, share = recipe["steps"], recipe["perceptual_from"]
        first, second = event["seconds_a_step"]
        seconds = steps * (share * first + (1 - share) * second)
        self._say(
            f"{asked['study']}, trial {asked['trial']}: {steps:,} steps of {recipe['batch']} crops"
            f" of {recipe['crop']} x {recipe['crop']}, from {asked['from']}, on"
            f" {photos['train']} photographs ({photos['held_back']} held back)"
        )
        self._say(
            f"about {duration(seconds)} here: {first:.2g} s a step, {second:.2g} s with perception"
            f" from step {round(share * steps):,} on; results: {self._folder}"
        )

    def _step(self, event: Mapping[str, Any]) -> None:
        step, steps, losses = event["step"], event["steps"], event["losses"]
        shown = [f"{text} {losses[n]:.3g}" for n, text in _SHOWN.items() if n in losses]
        left = duration(event["seconds_left"])
        text = ", ".join([f"{step:,}/{steps:,}", *shown, f"{left} left"])
        self._bar.update(self._task, description="training", completed=step, total=steps, text=text)
        due = step >= self._said + steps / _LINES or (step == steps and self._said < steps)
        if not self._console.is_terminal and due:
            self._say(f"training: {text}")
            self._said = step

    def _scored(self, event: Mapping[str, Any]) -> None:
        points = event["rd_points"]
        middle = points[(len(points) - 1) // 2]
        self._say(
            f"step {event['step']:,}, held-back photographs at level {middle['level']}:"
            f" {middle['bpp_coded']:.3f} bpp, {middle['psnr']:.2f} dB, MS-SSIM"
            f" {middle['ms_ssim']:.4f}, LPIPS {middle['lpips']:.4f}; {self._folder / 'samples'}"
        )

    def _scoring(self, _: Mapping[str, Any]) -> None:
        self._bar.update(self._task, description="scoring", total=None, text="")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=not self._console.is_terminal, markup=False)


def trained(metrics: Mapping[str, Any]) -> Table:
    """What a trained codec reaches, a row a level."""
    columns: Sequence[tuple[str, str, str]] = (
        ("level", "level", "d"),
        ("bpp", "bpp_coded", ".3f"),
        ("PSNR, dB", "psnr", ".2f"),
        ("MS-SSIM", "ms_ssim", ".4f"),
        ("LPIPS alex", "lpips", ".4f"),
        ("LPIPS vgg", "lpips_vgg", ".4f"),
    )
    table = Table(
        title=f"{metrics['study']}, trial {metrics['trial']}: held-back photographs",
        title_justify="left",
    )
    points = metrics["rd_points"]
    for heading, name, _ in columns:
        if name in points[0]:
            table.add_column(heading, justify="right")
    for point in points:
        table.add_row(*(format(point[name], form) for _, name, form in columns if name in point))
    return table
