"""A study that begins with what another one found, under whatever budget or device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluators.protocol import Direction
from nas.pricing.budget import Gate
from nas.record.records import Trial, objective_values
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from nas.replay import claimed
from nas.searchers.problem import Ask
from search_spaces.space import Architecture, SpaceError

# What a score hangs on; budget, device, objectives and searcher may differ.
_SCORING = ("evaluator", "proxy", "data", "seed", "precision", "anchor")


def take_over(
    store: TrialStore,
    source: TrialStore,
    gate: Gate,
    objectives: Mapping[str, Direction],
    fidelities: Sequence[float],
) -> str:
    """Records another study's results in this one; priced anew, never trained again.

    Interrupted, it goes on where it was. Does nothing once it is done.

    Args:
        store: of this study, acquired.
        source: of the other one.
        gate: of this study: what is outside its budget is left out.
        objectives: of this study.
        fidelities: of this study.

    Returns:
        What was taken over, for people; empty when nothing was to be done.

    Raises:
        StudyError: its scores are not comparable, or another driver is at it.
    """
    if store.record().warm is not None:
        return ""
    store.lease.require_no_other()
    _require_comparable(store, source)
    trials = [t for t in source.trials() if t.state == "complete" and t.fidelity in fidelities]
    known = [(trial, a) for trial in trials if (a := _architecture(gate, trial))]
    inside = _inside(gate, [architecture for _, architecture in known])
    taken = [pair for pair, ok in zip(known, inside, strict=True) if ok]
    there = {trial.identity for trial in store.trials()}
    for index, (trial, architecture) in enumerate(taken):
        if trial.identity not in there:
            claim = claimed(gate, Ask(architecture, trial.fidelity), index, index)
            values = objective_values(trial.metrics, claim.price, objectives)
            origin = {"study": source.name, "trial": trial.number}
            store.take_over(gate.space, claim, values, trial.metrics, trial.seconds, origin)
    left_out = len(trials) - len(taken)
    store.set_warm({"study": source.name, "asks": len(taken), "left_out": left_out})
    return f"{len(taken)} results of {source.name} taken over, {left_out} outside the budget"


def _require_comparable(store: TrialStore, source: TrialStore) -> None:
    mine, other = store.record().identity, source.record().identity
    for key in _SCORING:
        if mine.get(key) != other.get(key):
            raise StudyError(
                f"warm_start: {source.name!r} was scored with {key} {other.get(key)!r}, this study"
                f" is with {mine.get(key)!r}: their scores are not comparable"
            )


def _architecture(gate: Gate, trial: Trial) -> Architecture | None:
    """In this study's space; None where it has no such member."""
    try:
        architecture = gate.space.architecture(gate.space.encode(trial.choices))
    except SpaceError:
        return None
    return architecture if architecture.key == trial.key else None


def _inside(gate: Gate, architectures: Sequence[Architecture]) -> Sequence[bool]:
    if not architectures:
        return []
    inside: list[bool] = gate.feasible(np.array([a.code for a in architectures])).tolist()
    return inside
