"""What every choice of an architecture is worth: each set to its alternatives, one at a time.

So are the knobs of its training, as far as the evaluator names them (`ablations`). Everything is
evaluated like the architecture itself, which is the first row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluators.metrics import bd_rates
from evaluators.protocol import EvaluationError
from nas.batch import Job
from nas.pricing.budget import Gate
from search_spaces.operators import changes
from search_spaces.space import Architecture, SearchSpace

BASE = "as it is"
TRAINING = "training"


@dataclass(frozen=True)
class Row:
    """One line of the table, before it is evaluated.

    Attributes:
        what: parameter, `training` or `as it is`.
        change: in words.
        architecture: that is evaluated.
        settings: of the evaluator that differ.
    """

    what: str
    change: str
    architecture: Architecture
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its result in the file."""
        return f"{self.what}: {self.change}"

    def job(self, trial: int) -> Job:
        """Its evaluation, with the study's own seed."""
        log = f"ablate-{trial:04d}-{self.architecture.key}"
        return Job(self.name, tuple(self.architecture.code), None, log)


def rows_of(
    space: SearchSpace,
    architecture: Architecture,
    knobs: Mapping[str, Mapping[str, Any]],
    only: Sequence[str] = (),
) -> list[Row]:
    """The architecture, each alternative of each choice, and each knob of the training.

    What a change forces (a parameter that it switches on, a constraint) changes with it, to what is
    nearest.

    Args:
        space: of the architecture.
        architecture: that is taken apart.
        knobs: name -> settings of the evaluator that turn it.
        only: parameters, or what their names begin with, or `training`; empty for all.

    Raises:
        ValueError: nothing is called so.
    """
    states = space.rules.states(np.array([architecture.code]))
    reached, columns = changes(space, states, far=True)
    rows = [
        _choice_row(space, architecture, space.architecture(code), space.names[column])
        for code, column in zip(space.rules.codes(reached), columns, strict=True)
    ]
    rows += [Row(TRAINING, name, architecture, settings) for name, settings in knobs.items()]
    kept = [row for row in rows if not only or any(_called(row.what, name) for name in only)]
    if not kept:
        known = list(dict.fromkeys(row.what for row in rows))
        raise ValueError(f"nothing to change is called {', '.join(only)}; there are {known}")
    return [Row(BASE, "", architecture), *kept]


def ablation_document(
    rows: Sequence[Row],
    results: Mapping[str, Any],
    gate: Gate,
    objectives: Iterable[str],
) -> list[dict[str, Any]]:
    """What every change does, JSON-ready.

    Args:
        rows: from `rows_of`.
        results: of their names: `metrics` and `error`.
        gate: prices them.
        objectives: of the study.

    Returns:
        A mapping a row: `what`, `change`, `key`, `inside` (the budget), `values` of the objectives,
        `differences` from the first row, `latency_ms` and its `latency_differences` by stage,
        `bd_rates` against the first row where curves are known, `error`.
    """
    names = list(objectives)
    whole = [_evaluated(row, results, gate, names) for row in rows]
    base = whole[0]
    return [
        {
            **{name: x for name, x in one.items() if name != "rd_points"},
            "differences": _differences(one["values"], base["values"]),
            "latency_differences": _differences(one["latency_ms"], base["latency_ms"]),
            **_bd_rates(one["rd_points"], base["rd_points"], one["error"]),
        }
        for one in whole
    ]


def _choice_row(
    space: SearchSpace, before: Architecture, after: Architecture, parameter: str
) -> Row:
    old, new = before.choices, after.choices
    forced = [
        name
        for name in space.names
        if name != parameter and name in old and name in new and old[name] != new[name]
    ]
    further = f" (and {', '.join(f'{n} {old[n]} → {new[n]}' for n in forced)})" if forced else ""
    return Row(parameter, f"{old[parameter]} → {new[parameter]}{further}", after)


def _called(what: str, name: str) -> bool:
    return what == name or what.startswith(f"{name}.")


def _evaluated(
    row: Row, results: Mapping[str, Any], gate: Gate, objectives: Sequence[str]
) -> dict[str, Any]:
    """A row with what it scored and what it costs."""
    price, result = gate.price(row.architecture), results[row.name]
    known = {**(result["metrics"] or {}), **price.as_record()}
    stages = {f"{stage}_ms" for estimate in price.estimates.values() for stage in estimate.stages}
    return {
        "what": row.what,
        "change": row.change,
        "key": row.architecture.key,
        "inside": all(over <= 0 for over in gate.overshoot(price)),
        "values": {name: float(known[name]) for name in objectives if name in known},
        "latency_ms": {name: float(x) for name, x in known.items() if name in stages},
        "rd_points": known.get("rd_points"),
        "error": result["error"],
    }


def _differences(values: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    return {name: value - base[name] for name, value in values.items() if name in base}


def _bd_rates(points: Any, base: Any, error: str | None) -> dict[str, Any]:
    """Against the architecture as it is; the reason where curves cannot be compared."""
    if not points or not base:
        return {"bd_rates": None, "error": error}
    try:
        rates = bd_rates(points, base)
    except EvaluationError as problem:
        return {"bd_rates": None, "error": error or str(problem)}
    return {"bd_rates": {n: x for n, x in rates.items() if n != "bd_overlap"}, "error": error}
