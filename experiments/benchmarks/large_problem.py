"""A space of 16 million codes whose members cost nothing to score: what is timed is the search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.protocol import Direction
from search_spaces.space import Architecture, Codes, Parameter, SearchSpace

COLUMNS, CHOICES = 12, 4
COST = np.linspace(1.0, 3.0, COLUMNS)
GAIN = np.random.default_rng(0).normal(1.0, 0.6, (COLUMNS, CHOICES)).cumsum(axis=1)


def space() -> SearchSpace:
    names = [f"p{i}" for i in range(COLUMNS)]
    return SearchSpace(
        name="large",
        parameters=tuple(Parameter(n, tuple(range(CHOICES)), ordered=True) for n in names),
        reference_choices=dict.fromkeys(names, 0),
    )


@dataclass(frozen=True)
class Formula:
    """The more, the better, with diminishing returns and neighbours that help each other.

    Attributes:
        mean_seconds: of an evaluation, which sleeps a log-normal time.
    """

    mean_seconds: float = 0.0

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"loss": "minimize"}

    def check(self) -> None: ...

    def prepare(self, space: SearchSpace, directory: Path) -> None: ...

    def evaluate(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> dict[str, Any]:
        import os
        import time

        code = np.array(architecture.code)
        began = time.time()
        if self.mean_seconds:
            rng = np.random.default_rng([seed, *architecture.code])
            time.sleep(rng.lognormal(np.log(self.mean_seconds) - 0.18, 0.6))
        with (directory / f"busy-{os.getpid()}.txt").open("a") as file:
            file.write(f"{began} {time.time()}\n")
        return {"loss": loss(code)}


def loss(code: NDArray[np.int64]) -> float:
    """Of one code."""
    gained = GAIN[np.arange(COLUMNS), code].sum() + 0.3 * (code[1:] == code[:-1]).sum()
    return float(100 / (1 + max(gained, 0.0)))


@dataclass(frozen=True)
class Board:
    """A cost that adds up."""

    provenance = "made up"

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"cost": "minimize"}

    def price(self, space: SearchSpace, architecture: Architecture) -> Mapping[str, float]:
        return {"cost": float(COST @ np.array(architecture.code))}

    def prices(self, space: SearchSpace, codes: Codes) -> NDArray[np.float64]:
        return np.asarray(codes @ COST)[:, None]
