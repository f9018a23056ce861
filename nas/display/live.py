"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

if TYPE_CHECKING:
    from nas.progress import Progress as SearchProgress


class SearchDisplay:
    """Shows how far a search is; a context manager."""

    def __init__(self, trials: int | None, hours: float | None) -> None:
        """Nothing is shown yet.

        Args:
            trials: that the study will have, if stated.
            hours: that the search may take, if stated.
        """
        self._trials, self._hours = trials, hours
        self._console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
        )
        self._bar = Progress(
            *columns,
            console=self._console,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._task: TaskID | None = None
        self._start = time.monotonic()
        self._done_before: int | None = None
        self._last = ""
        self._next_seconds = 0.0

    def __enter__(self) -> SearchDisplay:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, soft_wrap=not self._console.is_terminal, markup=False)

    def prepare(self, lowered: int, blocks: int, prepared: bool | None) -> None:
        """The work before the first evaluation; `prepared` is None where there is only lowering."""
        parts = [f"{lowered}/{blocks} blocks lowered"] if blocks else []
        if prepared is not None:
            parts.append(f"shared part {'done' if prepared else 'running'}")
        self._show("preparing", lowered + bool(prepared), blocks + 1, ", ".join(parts))

    def search(self, progress: SearchProgress, proposals: tuple[int, int]) -> None:
        """The search itself.

        Args:
            progress: of the whole study.
            proposals: architectures looked at, and how many of them were over the budget.
        """
        now = time.monotonic()
        if progress.running and now < self._next_seconds:
            return
        self._search(progress, proposals)
        # What is shown may take a twentieth of the driver's time, however large the study.
        self._next_seconds = time.monotonic() + 20 * (time.monotonic() - now)

    def _search(self, progress: SearchProgress, proposals: tuple[int, int]) -> None:
        done, running = progress.done, len(progress.running)
        if self._done_before is None:
            self._done_before, self._start = done, time.monotonic()
        goal = f"/{self._trials}" if self._trials else ""
        counts = {
            "in part": progress.partial,
            "failed": progress.failed,
            "stopped early": progress.stopped,
            "attempts lost": progress.lost.total(),
        }
        parts = [f"{done}{goal} trials"]
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        proposed, over_budget = proposals
        if proposed:
            parts.append(f"{(proposed - over_budget) / proposed:.0%} inside budget")
        if (hypervolume := progress.front.hypervolume) is not None:
            parts.append(f"hypervolume {hypervolume:.4g}")
        left = self._time_left(done, running)
        self._show("searching", round(1000 * self._fraction(done)), 1000, ", ".join(parts), left)

    def _show(self, what: str, done: int, total: int, text: str, left: str = "") -> None:
        if not self._console.is_terminal:
            if text != self._last:
                self.say(f"{what}: {text}{left}")
            self._last = text
            return
        text += left
        if self._task is None:
            self._task = self._bar.add_task(what, total=total, text=text)
        self._bar.update(self._task, description=what, completed=done, total=total, text=text)

    def _fraction(self, done: int) -> float:
        by_trials = done / self._trials if self._trials else 0.0
        by_time = self._elapsed_seconds() / (self._hours * 3600) if self._hours else 0.0
        return min(1.0, max(by_trials, by_time))

    def _time_left(self, done: int, running: int) -> str:
        finished = done - (self._done_before or 0)
        bounds = [self._hours * 3600 - self._elapsed_seconds()] if self._hours else []
        # One tells nothing: the reference comes with the shared part, at once.
        if self._trials and finished > 1:
            # What runs now is half done, on average.
            pace_seconds = self._elapsed_seconds() / (finished + running / 2)
            bounds.append((self._trials - done - running / 2) * pace_seconds)
        return f", {duration(max(0.0, min(bounds)))} left" if bounds else ""

    def _elapsed_seconds(self) -> float:
        return time.monotonic() - self._start


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def track(what: str, events: Iterable[tuple[int, int]]) -> None:
    """Runs something to its end that says itself how far it is, and shows it.

    Args:
        what: is done, for people.
        events: how much is done and how much is left, after each piece.
    """
    console = Console(stderr=True, highlight=False)
    start = time.monotonic()
    said = 0.0
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(what, total=None, text="")
        for done, left in events:
            seconds = (time.monotonic() - start) / done * left
            text = f"{done:,}/{done + left:,}, {duration(seconds)} left"
            bar.update(task, completed=done, total=done + left, text=text)
            if not console.is_terminal and (done >= said + (done + left) / 20 or not left):
                console.print(f"{what}: {text}", soft_wrap=True)
                said = done
