"""Between a claim or a trial of ours and what Optuna keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.record.records import Claim, State, Trial
from nas.record.trial_rows import TrialRow
from nas.searchers.problem import FULL
from search_spaces.space import SearchSpace

# One attribute each: every one is a row to write and to read. That a claim came to nothing is said
# beside the outcome: its owner may be writing that at the same time, and one of them is the first.
CLAIM, OUTCOME, VOID = "claim", "outcome", "void"

_STATES: Mapping[str, State] = {
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "stopped",
    "FAIL": "failed",
}


def to_optuna(
    space: SearchSpace,
    claim: Claim,
    owner: str,
    state: TrialState,
    attributes: Mapping[str, Any],
    values: Sequence[float] | None,
    token: str = "",
) -> FrozenTrial:
    """A trial for Optuna's storage.

    Args:
        space: whose choices are Optuna's categories.
        claim: what was asked for.
        owner: of the claim.
        state: of the trial.
        attributes: what is known beside the claim.
        values: of a COMPLETE one.
        token: that no other trial has.
    """
    choices = claim.architecture.choices
    options = {p.name: CategoricalDistribution(p.choices) for p in space.parameters}
    return create_trial(
        state=state,
        values=values,
        params=dict(choices),
        distributions={name: options[name] for name in choices},
        user_attrs={CLAIM: _claim_attributes(claim, owner, token), **attributes},
        system_attrs={"constraints": list(claim.overshoot)},
    )


def is_ours(row: TrialRow) -> bool:
    """Whether `to_optuna` made it, in this version or one before."""
    return CLAIM in row.attributes or "ask" in row.attributes


def to_trial(row: TrialRow) -> Trial:
    """A trial that `to_optuna` made, as it stands now."""
    state = _STATES[row.state]
    finished, failed = state != "running", state == "failed"
    recorded = row.attributes
    # Older versions kept what claim and outcome hold one by one.
    attributes = {**recorded, **recorded.get(CLAIM, {}), **recorded.get(OUTCOME, {})}
    attributes |= recorded.get(VOID, {}) if failed else {}
    values = row.values if state == "complete" else attributes.get("values")
    scored = finished and not failed and values is not None
    return Trial(
        number=row.number,
        state="complete" if scored else state,
        ask=attributes["ask"],
        told_before=attributes["told_before"],
        told=attributes.get("told") if finished else None,
        key=attributes["key"],
        code=tuple(attributes["code"]),
        choices=attributes["choices"],
        price=attributes["price"],
        blocks=attributes["blocks"],
        values=tuple(values) if scored and values else None,
        metrics=attributes["metrics"] if finished and not failed else {},
        error=attributes.get("error") if finished and not scored else None,
        abandoned=failed and bool(attributes.get("abandoned")),
        withdrawn=failed and bool(attributes.get("withdrawn")),
        seconds=attributes.get("seconds") if finished else None,
        started=row.started.isoformat(timespec="seconds") if row.started else "",
        fidelity=attributes.get("fidelity", FULL),
        owner=attributes.get("owner", ""),
        lost=failed and bool(attributes.get("lost")),
    )


def _claim_attributes(claim: Claim, owner: str, token: str) -> dict[str, Any]:
    return {
        "ask": claim.ask,
        "told_before": claim.told_before,
        "key": claim.architecture.key,
        "code": list(claim.architecture.code),
        "choices": dict(claim.architecture.choices),
        "price": dict(claim.price),
        "blocks": dict(claim.blocks),
        "owner": owner,
        "token": token,
        "fidelity": claim.fidelity,
    }
