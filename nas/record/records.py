"""What the record holds: a study's terms, a claim, a trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evaluators.protocol import Direction
from nas.searchers.problem import FULL, Ask
from search_spaces.space import Architecture, Choice

State = Literal["running", "complete", "stopped", "failed"]
Void = Literal["abandoned", "withdrawn", "lost"]


def objective_values(
    metrics: Mapping[str, Any], price: Mapping[str, Any], objectives: Iterable[str]
) -> list[float]:
    """What is scored and what is priced, in the order of the objectives; prices go first."""
    known = {**metrics, **price}
    return [float(known[name]) for name in objectives]


@dataclass(frozen=True)
class StudyRecord:
    """What a study was recorded under.

    Attributes:
        identity: all that a result depends on beside the space; a study goes on under the same
            one only.
        objectives: name -> better direction.
        limits: device, or label of a user's own oracle -> metric -> limit.
        space: name of the space.
        provenance: device -> how its latencies are known.
        about: experiment file, versions, machine, date: for people.
        description: of the space, as last grown; empty in studies of version 0.1.
        grown: what was added to the space since, oldest first: `added` (text), `ask` (the first
            one in the grown space), `date`.
        warm: what it began with: `study` that results were taken over from, `asks` (how many),
            `left_out` (outside this budget); None without.
        shared: whether several drivers have searched it at once.
        other_limits: metric -> limit of what is no device's latency.
    """

    identity: Mapping[str, Any]
    objectives: Mapping[str, Direction]
    limits: Mapping[str, Mapping[str, float]]
    space: str
    provenance: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]
    description: Mapping[str, Any] = field(default_factory=dict)
    grown: Sequence[Mapping[str, Any]] = ()
    warm: Mapping[str, Any] | None = None
    shared: bool = False
    other_limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def flat_limits(self) -> dict[str, float]:
        """Limits by the flat metrics' names: those of the first device, and of what is none's."""
        return {**next(iter(self.limits.values()), {}), **self.other_limits}

    @property
    def since(self) -> int:
        """The first ask that this study's own searcher answered in the space as it is described."""
        asks = [int(grown["ask"]) for grown in self.grown]
        return max([0, *asks, int(self.warm["asks"]) if self.warm else 0])


@dataclass(frozen=True)
class Claim:
    """What is recorded when an architecture is asked for.

    Attributes:
        ask: position among its driver's asks; a repeated ask keeps it.
        told_before: outcomes that the searcher had been told when it asked.
        architecture: what was asked for.
        price: its latency and size, JSON-ready.
        blocks: its latency by block, JSON-ready.
        overshoot: over each limit, at most 0.
        fidelity: share of the full training.
    """

    ask: int
    told_before: int
    architecture: Architecture
    price: Mapping[str, Any]
    blocks: Mapping[str, Any]
    overshoot: Sequence[float]
    fidelity: float = FULL

    @property
    def identity(self) -> tuple[str, float]:
        """What is evaluated once a study: architecture and fidelity."""
        return self.architecture.key, self.fidelity

    @property
    def wanted(self) -> Ask:
        """What the searcher asked for."""
        return Ask(self.architecture, self.fidelity)


@dataclass(frozen=True)
class Trial:
    """One recorded trial.

    Attributes:
        fidelity: share of the full training; only full ones are compared on a front.
        told: position among the outcomes that the searcher was told; None while it was not.
        metrics: what the evaluator returned; of a stopped one, what was known by then.
        error: why it failed or was stopped, one line; else None.
        abandoned: failed because its owner was gone: asked for again under the same `ask`.
        withdrawn: failed because another driver had claimed the same one before.
        lost: failed because a machine ended it, and tried again under the same `ask`.
        seconds: the evaluation took; None while running or abandoned.
    """

    number: int
    state: State
    ask: int
    told_before: int
    told: int | None
    key: str
    code: tuple[int, ...]
    choices: Mapping[str, Choice]
    price: Mapping[str, Any]
    blocks: Mapping[str, Any]
    values: tuple[float, ...] | None
    metrics: Mapping[str, Any]
    error: str | None
    abandoned: bool
    withdrawn: bool
    seconds: float | None
    started: str
    fidelity: float
    owner: str
    lost: bool = False

    @property
    def identity(self) -> tuple[str, float]:
        """What is evaluated once a study: architecture and fidelity."""
        return self.key, self.fidelity

    @property
    def void(self) -> bool:
        """Whether the claim came to nothing: abandoned, withdrawn or lost."""
        return self.abandoned or self.withdrawn or self.lost

    @property
    def ended(self) -> bool:
        """Whether its evaluation has ended, whichever way."""
        return self.state != "running" and not self.void

    @property
    def scored(self) -> bool:
        """Whether it is complete at full fidelity: what fronts are made of."""
        return self.state == "complete" and self.fidelity == FULL
