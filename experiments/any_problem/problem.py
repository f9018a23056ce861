"""A search of anything: which features a regression is fitted on, under a microcontroller's limits.

No networks, no codec, no Core ML. Space, evaluator and oracle are what an experiment names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.protocol import Direction, EvaluationError
from search_spaces.space import Architecture, Choice, Parameter, SearchSpace

Floats = NDArray[np.float64]


def space() -> SearchSpace:
    """Powers, waves and steps of one variable, and how strongly they are held back."""
    return SearchSpace(
        name="features",
        parameters=(
            Parameter("powers", (1, 2, 3, 5, 7), ordered=True),
            Parameter("waves", (0, 1, 2, 4, 8), ordered=True),
            Parameter("period", (0.5, 1.0, 2.0, 4.0), ordered=True, when="waves > 0"),
            Parameter("steps", (0, 2, 4, 8, 16), ordered=True),
            Parameter("ridge", (1e-6, 1e-3, 1.0), ordered=True),
        ),
        constraints=("powers + waves <= 12",),
        reference_choices={"powers": 1, "waves": 0, "steps": 0, "ridge": 1e-3},
    )


def features(x: Floats, choices: Mapping[str, Choice]) -> Floats:
    """Shape (N,) in (-1, 1) -> (N, F)."""
    columns = [x**power for power in range(int(choices["powers"]) + 1)]
    for i in range(int(choices["waves"])):
        phase = np.pi * x * (i + 1) / float(choices["period"])
        columns += [np.sin(phase), np.cos(phase)]
    columns += [x > edge for edge in np.linspace(-1, 1, int(choices["steps"]) + 2)[1:-1]]
    return np.stack(columns, axis=1).astype(np.float64)


@dataclass(frozen=True)
class Regression:
    """Fits on noisy samples; scores on what was held back.

    Attributes:
        samples: to fit on, and as many to score on.
        noise: standard deviation of what is added to the samples.
    """

    samples: int = 400
    noise: float = 0.1

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"rmse": "minimize", "explained": "maximize"}

    def check(self) -> None: ...

    def prepare(self, space: SearchSpace, directory: Path) -> None: ...

    def evaluate(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        x = rng.uniform(-1, 1, 2 * self.samples)
        y = np.tanh(4 * x) * np.cos(9 * x) + 0.5 * (x > 0.3) + rng.normal(0, self.noise, len(x))
        columns = features(x, architecture.choices)
        fitted, held_back = slice(self.samples), slice(self.samples, None)
        a = columns[fitted]
        normal = a.T @ a + float(architecture.choices["ridge"]) * np.eye(a.shape[1])
        weights = np.linalg.solve(normal, a.T @ y[fitted])
        missed = columns[held_back] @ weights - y[held_back]
        if not np.isfinite(missed).all():
            raise EvaluationError("the fit diverged")
        return {
            "rmse": float(np.sqrt(np.mean(missed**2))),
            "explained": 1 - float(missed.var() / y.var()),
        }


@dataclass(frozen=True)
class Board:
    """What a prediction takes on a microcontroller without a floating-point unit.

    Attributes:
        sine_cycles: of one sine.
    """

    sine_cycles: int = 90
    provenance = "cycles counted by hand"

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"cycles": "minimize", "flash_bytes": "minimize"}

    def price(self, space: SearchSpace, architecture: Architecture) -> Mapping[str, float]:
        names = ("powers", "waves", "steps")
        powers, waves, steps = (int(architecture.choices[name]) for name in names)
        cycles = 12 * powers + (2 * self.sine_cycles + 24) * waves + 6 * steps
        return {"cycles": cycles, "flash_bytes": 4 * (1 + powers + 2 * waves + 2 * steps)}
