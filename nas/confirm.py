"""The last stage of a search: front members trained longer and with other seeds.

The best of many noisy scores is partly lucky. What still stands when it is measured again, longer
and several times, is what a study found; the rest is marked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from evaluators.protocol import Direction
from nas import pareto
from nas.batch import Job
from nas.plugin import EvaluatorSpec
from nas.record.records import Trial

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Wanted:
    """One training to be done.

    Attributes:
        trial: the recorded one whose architecture is confirmed.
        code: of the architecture.
        seed: not the study's own.
    """

    trial: int
    code: tuple[int, ...]
    seed: int

    @property
    def name(self) -> str:
        """Of its result in the file."""
        return f"{self.trial}/{self.seed}"

    @property
    def job(self) -> Job:
        """Its training."""
        return Job(self.name, self.code, self.seed, f"confirm-{self.trial:04d}-{self.seed}")


def lengthened(spec: EvaluatorSpec, factor: float, steps: int) -> EvaluatorSpec:
    """The evaluator with its `steps` times a factor."""
    return replace(spec, settings={**spec.settings, "steps": round(steps * factor)})


def wanted(
    trials: Sequence[Trial],
    objectives: Mapping[str, Direction],
    top: int,
    seeds: int,
    study_seed: int,
) -> list[Wanted]:
    """Front members first, then those nearest to it, until there are `top`; each with every seed.

    Args:
        trials: the study's.
        objectives: it was recorded under.
        top: architectures, at most.
        seeds: trainings of each, none with the study's own seed.
        study_seed: of the study's evaluations.
    """
    scored = [t for t in trials if t.scored]
    values = pareto.minimised([{**t.metrics, **t.price} for t in scored], objectives)
    order = [int(row) for rank in pareto.ranks(values, top) for row in rank] if scored else []
    chosen = [scored[row] for row in order[:top]]
    others = [study_seed + 1 + i for i in range(seeds)]
    return [Wanted(t.number, t.code, seed) for seed in others for t in chosen]


def confirmation_document(
    trials: Sequence[Trial],
    objectives: Mapping[str, Direction],
    work: Sequence[Wanted],
    results: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """What became of each architecture, JSON-ready.

    Returns:
        A mapping an architecture: `trial`, `key`, `choices`, `recorded` objective values, `mean`
        and `interval` (half of it, 95 %, by Student's t; None of a single seed) of each,
        `failed` (errors) and `survives`: no other one's means dominate its own.
    """
    recorded = {trial.number: trial for trial in trials}
    entries = []
    for number in dict.fromkeys(one.trial for one in work):
        outcomes = [
            results[one.name] for one in work if one.trial == number and one.name in results
        ]
        trial = recorded[number]
        entries.append(_entry(trial, objectives, outcomes))
    means = [entry for entry in entries if entry["mean"] is not None]
    rows = [{"trial": entry["trial"], **entry["mean"]} for entry in means]
    alive = {row["trial"] for row in pareto.front(rows, objectives)} if rows else set()
    return [{**entry, "survives": entry["trial"] in alive} for entry in entries]


def _entry(
    trial: Trial, objectives: Mapping[str, Direction], outcomes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    known = {**trial.metrics, **trial.price}
    done = [outcome["metrics"] for outcome in outcomes if outcome["metrics"] is not None]
    failed = [outcome["error"] for outcome in outcomes if outcome["metrics"] is None]
    values = {name: [float({**m, **trial.price}[name]) for m in done] for name in objectives}
    return {
        "trial": trial.number,
        "key": trial.key,
        "choices": dict(trial.choices),
        "recorded": {name: float(known[name]) for name in objectives},
        "mean": {name: float(np.mean(v)) for name, v in values.items()} if done else None,
        "interval": {name: _half_interval(v) for name, v in values.items()} if done else None,
        "seeds": len(done),
        "failed": failed,
    }


def _half_interval(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    quantile = student.ppf(0.5 + _CONFIDENCE / 2, len(values) - 1)
    return float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))
