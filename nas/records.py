"""What the record holds: a study's terms, a claim, a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evaluators.protocol import Direction
from search_spaces.space import Architecture, Choice

State = Literal["running", "complete", "stopped", "failed"]


@dataclass(frozen=True)
class StudyRecord:
    """What a study was recorded under.

    Attributes:
        identity: all that a result depends on beside the space; a study goes on under the same
            one only.
        objectives: name -> better direction.
        limits: device -> metric -> limit in ms.
        space: name of the space.
        provenance: device -> how its latencies are known.
        about: experiment file, versions, machine, date: for people.
        description: of the space, as last grown; empty in studies of version 0.1.
        grown: what was added to the space since, oldest first: `added` (text), `ask` (the first
            one in the grown space), `proposals` (until then), `date`.
    """

    identity: Mapping[str, Any]
    objectives: Mapping[str, Direction]
    limits: Mapping[str, Mapping[str, float]]
    space: str
    provenance: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]
    description: Mapping[str, Any] = field(default_factory=dict)
    grown: Sequence[Mapping[str, Any]] = ()

    @property
    def since(self) -> int:
        """The first ask in the space as it is described."""
        return int(self.grown[-1]["ask"]) if self.grown else 0


@dataclass(frozen=True)
class Claim:
    """What is recorded when an architecture is asked for.

    Attributes:
        ask: position among the study's asks; a repeated ask keeps it.
        told_before: results that the searcher had been told when it asked.
        architecture: what was asked for.
        price: its latency and size, JSON-ready.
        blocks: its latency by block, JSON-ready.
        overshoot: ms over each limit, at most 0.
    """

    ask: int
    told_before: int
    architecture: Architecture
    price: Mapping[str, Any]
    blocks: Mapping[str, Any]
    overshoot: Sequence[float]


@dataclass(frozen=True)
class Trial:
    """One recorded trial.

    Attributes:
        told: position among the results that the searcher was told; None unless complete.
        metrics: what the evaluator returned; of a stopped one, what was known by then.
        error: why it failed or was stopped, one line; else None.
        abandoned: failed because its owner was gone: asked for again under the same `ask`.
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
    seconds: float | None
    started: str
