"""Speeds of several tasks that take turns, so that a busy machine slows them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np

Task = Callable[[], int]
Speeds = dict[str, dict[str, float]]


def measured(tasks: Mapping[str, Task], repeats: int) -> Speeds:
    """Items a second of every task: median, slowest and fastest round.

    Args:
        tasks: each returns how many items it made.
        repeats: rounds that count; one more, before them, fills caches.
    """
    rounds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats + 1):
        for name, task in tasks.items():
            started = perf_counter()
            done = task()
            rounds[name].append(done / (perf_counter() - started))
    return {name: _figures(speeds[1:]) for name, speeds in rounds.items()}


def compared(speeds: Speeds, ours: str = "ours", theirs: str = "configspace") -> dict[str, Any]:
    """Speeds, and how many times faster ours is, by medians."""
    return {**speeds, "times": speeds[ours]["per_s"] / speeds[theirs]["per_s"]}


def _figures(speeds: list[float]) -> dict[str, float]:
    return {"per_s": float(np.median(speeds)), "slowest": min(speeds), "fastest": max(speeds)}
