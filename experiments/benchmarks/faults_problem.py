"""What `faults.py` searches: small networks that tell digits apart, really trained.

An evaluation writes down that it runs and that it has finished, and suffers what is laid out for
it: it hangs, takes all memory or finds its disk full, as happens on machines.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.protocol import Direction
from search_spaces.space import Architecture, Parameter, SearchSpace

RUNNING, FINISHED, FAULTS, SUFFERED = "running", "finished.txt", "faults", "suffered"


def space() -> SearchSpace:
    """1,280 networks."""
    return SearchSpace(
        name="digits",
        parameters=(
            Parameter("depth", (1, 2), ordered=True),
            Parameter("width", (4, 6, 8, 12, 16, 24, 32, 48), ordered=True),
            Parameter("second", (4, 8, 16, 32), ordered=True, when="depth == 2"),
            Parameter("activation", ("relu", "tanh")),
            Parameter("rate", (0.001, 0.003, 0.01, 0.03), ordered=True),
            Parameter("decay", (1e-5, 1e-3, 1e-1, 1.0), ordered=True),
        ),
        reference_choices={
            "depth": 1, "width": 4, "activation": "relu", "rate": 0.01, "decay": 1e-3,
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Digits:
    """Trains a network on half of scikit-learn's digits; scores on the rest.

    Attributes:
        passes: through the digits.
        pause_seconds: that it takes longer, as real trainings do.
    """

    passes: int = 12
    pause_seconds: float = 0.0

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"loss": "minimize"}

    def check(self) -> None: ...

    def prepare(self, space: SearchSpace, directory: Path) -> None:
        for name in (RUNNING, FAULTS, SUFFERED):
            (directory / name).mkdir(exist_ok=True)

    def evaluate(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> dict[str, Any]:
        mark = directory / RUNNING / str(os.getpid())
        mark.write_text(architecture.key)
        try:
            _take_fault(directory, architecture.key)
            time.sleep(self.pause_seconds)
            loss = held_back_loss(architecture.choices, self.passes, seed)
            with (directory / FINISHED).open("a") as file:
                file.write(f"{architecture.key}\n")
        finally:
            mark.unlink()
        return {"loss": loss}


@dataclass(frozen=True)
class Weights:
    """The size of a network."""

    provenance = "counted"

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"weights": "minimize"}

    def price(self, space: SearchSpace, architecture: Architecture) -> Mapping[str, float]:
        sizes = [64, *layers(architecture.choices), 10]
        return {"weights": sum((a + 1) * b for a, b in pairwise(sizes))}


def layers(choices: Mapping[str, Any]) -> list[int]:
    """Widths of the hidden layers."""
    return [int(choices["width"])] + ([int(choices["second"])] if choices["depth"] == 2 else [])


def held_back_loss(choices: Mapping[str, Any], passes: int, seed: int) -> float:
    """Cross-entropy on the digits that were held back, in nats."""
    import warnings

    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    digits = load_digits()
    pixels = digits.data / 16
    network = MLPClassifier(
        layers(choices),
        activation=choices["activation"],
        alpha=float(choices["decay"]),
        learning_rate_init=float(choices["rate"]),
        max_iter=passes,
        random_state=seed,
    )
    with warnings.catch_warnings(action="ignore"):  # it stops before it has converged
        network.fit(pixels[::2], digits.target[::2])
    return float(log_loss(digits.target[1::2], network.predict_proba(pixels[1::2])))


def _take_fault(directory: Path, key: str) -> None:
    """Suffers the fault that lies ready, if one does: each is suffered once, and that noted."""
    for file in sorted((directory / FAULTS).iterdir()):
        with suppress(FileNotFoundError):
            file.rename(directory / SUFFERED / f"{file.name}-{key}")
            _suffer(file.name.partition("-")[2])


def _suffer(kind: str) -> None:
    if kind == "hung":
        ctypes.PyDLL(None).sleep(3600)  # without giving the interpreter back
    if kind == "out_of_memory":
        np.ones(2**30)  # 8 GB
    if kind == "disk_full":
        with Path("/dev/full").open("w") as file:
            file.write("a checkpoint")
