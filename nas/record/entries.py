"""From the record to what is shown: one document for table, plot and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas import pareto
from nas.record.records import StudyRecord, Trial
from nas.record.sound import damaged, require_number

if TYPE_CHECKING:
    from nas.record.store import TrialStore


def entry(trial: Trial) -> dict[str, Any]:
    """A complete trial as one flat record: what was chosen, what it scored and what it costs."""
    return {
        "trial": trial.number,
        "key": trial.key,
        "fidelity": trial.fidelity,
        "choices": dict(trial.choices),
        **trial.metrics,
        **trial.price,
        "seconds": trial.seconds,
    }


def study_document(store: TrialStore) -> dict[str, Any]:
    """What a study holds, JSON-ready.

    Returns:
        `study`, `objectives`, `directions`, `budget` (by device) and `limits` (of what is no
        device's), `provenance`, `about` (experiment, versions, machine, date), `space`, `trials`
        (counts), `proposals` (counts), `hypervolume` (`value`, `reference`; None before the first
        result), `front` and `dominated` (entries; the front from the best in the first objective
        on).
    """
    return document_of(store.name, store.record(), store.trials(), _proposals(store))


def document_of(
    study: str,
    record: StudyRecord,
    trials: Sequence[Trial],
    proposals: Mapping[str, int],
    entries: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """As `study_document`; with `entries`, of scored trials that were priced anew."""
    if entries is None:
        entries = [entry(trial) for trial in trials if trial.scored]
    for one in entries:
        for name in record.objectives:
            require_number(study, one["trial"], one, name)
    for trial in trials:
        if trial.scored and len(trial.values or ()) != len(record.objectives):
            raise damaged(study, f"trial {trial.number} has no value for each objective")
    best = pareto.front(entries, record.objectives)
    on_front = {e["trial"] for e in best}
    return {
        "study": study,
        "space": record.space,
        "objectives": list(record.objectives),
        "directions": dict(record.objectives),
        "budget": dict(record.limits),
        "limits": dict(record.other_limits),
        "provenance": dict(record.provenance),
        "about": dict(record.about),
        "trials": _counts(trials),
        "proposals": dict(proposals),
        "hypervolume": hypervolume(entries, record),
        "front": best,
        "dominated": [e for e in entries if e["trial"] not in on_front],
    }


def hypervolume(entries: list[dict[str, Any]], record: StudyRecord) -> dict[str, Any] | None:
    """Hypervolume with the reference point that it is measured from; None without entries."""
    if not entries:
        return None
    values = pareto.minimised(entries, record.objectives)
    point = pareto.reference_point(values, record.objectives, record.flat_limits)
    signs = [1.0 if way == "minimize" else -1.0 for way in record.objectives.values()]
    reference = {n: s * p for n, s, p in zip(record.objectives, signs, point.tolist(), strict=True)}
    return {"value": pareto.hypervolume(values, point), "reference": reference}


def trial_document(store: TrialStore, trial: Trial) -> dict[str, Any]:
    """One trial whole, JSON-ready, failed or running ones too."""
    shown = {
        "study": store.name,
        "state": trial.state,
        "started": trial.started,
        "error": trial.error,
        "provenance": dict(store.record().provenance),
    }
    return {**entry(trial), **shown, "blocks": dict(trial.blocks)}


def held_against(provenance: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence a device: how its latencies are known and what the budget was held against."""
    return ". ".join(f"{label}: {_known(known)}" for label, known in provenance.items())


def _known(provenance: Mapping[str, Any]) -> str:
    kind = provenance["kind"]
    if "oracle" in provenance:
        return f"prices are from {provenance['oracle']} ({kind})"
    measured = "" if kind == "measured" else ", not measured on a device"
    against = provenance["held_against"]
    return f"latencies are {kind}{measured}; the budget is held against the {against}"


def _counts(trials: Sequence[Trial]) -> dict[str, int]:
    return {
        "asked": len({trial.identity for trial in trials}),
        "complete": sum(trial.scored for trial in trials),
        "partial": sum(trial.state == "complete" and not trial.scored for trial in trials),
        "stopped": sum(trial.state == "stopped" for trial in trials),
        "failed": sum(trial.state == "failed" and not trial.void for trial in trials),
        "running": sum(trial.state == "running" for trial in trials),
        "abandoned": sum(trial.abandoned for trial in trials),
        "lost": sum(trial.lost for trial in trials),
    }


def _proposals(store: TrialStore) -> dict[str, int]:
    proposed, over_budget = store.proposals()
    return {"proposed": proposed, "over_budget": over_budget}
