"""A declared search space: parameters, rules, exact size, uniform sampling, stable keys.

Architectures travel as rows of an integer matrix, one column a parameter, each entry the index of a
choice. A parameter whose condition does not hold is inactive: its entry is 0 in every canonical
row, so that two codes that build the same network are one architecture.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.blocks import Design
from search_spaces.elimination import Elimination, eliminate
from search_spaces.hints import did_you_mean
from search_spaces.parameter import Choice, Codes, Mask, Parameter, SpaceError
from search_spaces.rules import Rules

__all__ = ["Architecture", "Choice", "Codes", "Parameter", "SearchSpace", "SpaceError"]

_DRAWS = 100_000


def no_builder(choices: Mapping[str, Choice]) -> Design:
    """The builder of a space that is never built: evaluator and oracle are the user's own."""
    raise SpaceError("there is no builder")


@dataclass(frozen=True)
class Architecture:
    """One member of a space: its canonical code, its active choices and its stable key."""

    key: str
    code: tuple[int, ...]
    choices: Mapping[str, Choice] = field(compare=False)


@dataclass(frozen=True, eq=False)  # one is itself: what is found of it is kept beside it
class SearchSpace:
    """A finite set of architectures and the way to build each of them.

    Attributes:
        name: as shown and recorded.
        parameters: in column order.
        builder: choices (fixed ones included) -> the networks they describe; a space of other
            things than networks has none.
        builder_name: import path of `builder`, part of every key.
        fixed: choices that every architecture shares, those of a paired encoder included.
        reference_choices: the architecture that all others are compared with.
        constraints: expressions that every architecture satisfies.
        paired_encoder: names in `fixed` of the encoder that a space of decoders alone goes with.
    """

    name: str
    parameters: tuple[Parameter, ...]
    builder: Callable[[Mapping[str, Choice]], Design] = field(
        default=no_builder, repr=False, compare=False
    )
    builder_name: str = ""
    fixed: Mapping[str, Choice] = field(default_factory=dict)
    reference_choices: Mapping[str, Choice] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    paired_encoder: tuple[str, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Parameter names in column order."""
        return tuple(parameter.name for parameter in self.parameters)

    @cached_property
    def cardinalities(self) -> Codes:
        """Number of choices of each parameter, shape (P,)."""
        return np.array([len(parameter.choices) for parameter in self.parameters], dtype=np.int64)

    @cached_property
    def rules(self) -> Rules:
        """Conditions and constraints, parsed.

        Raises:
            ExpressionError, RuleError: some that make no sense.
        """
        return Rules.parse(self.parameters, self.constraints, self.fixed)

    @cached_property
    def elimination(self) -> Elimination:
        """What counting, drawing and the operators go by."""
        return eliminate(self.rules)

    @property
    def exact(self) -> bool:
        """Whether `size` is exact: every constraint is over few enough parameters."""
        return not self.elimination.loose

    @cached_property
    def size(self) -> int:
        """Number of different architectures, conditions and constraints counted.

        Where it is not `exact`, estimated from the share of 100,000 draws that the constraints
        over many parameters leave.
        """
        if self.exact:
            return self.elimination.count
        states = self.elimination.draw(np.random.default_rng(0), _DRAWS)
        held = int(self.holds_loose(states).sum())
        return self.elimination.count * held // _DRAWS

    @cached_property
    def nearness(self) -> list[NDArray[np.float64]]:
        """By column: the weight of every state as a change from another, shape (S, S).

        Halves with every step between ordered choices; 1 everywhere else.
        """
        return [
            _nearness(int(states), parameter)
            for states, parameter in zip(self.rules.states_of, self.parameters, strict=True)
        ]

    @cached_property
    def reference(self) -> Architecture:
        """The architecture that BD-rates are measured against."""
        return self.architecture(self.encode(self.reference_choices))

    def description(self) -> dict[str, Any]:
        """All that decides which architectures there are and what is built, JSON-ready."""
        return {
            "parameters": [
                {
                    "name": parameter.name,
                    "choices": list(parameter.choices),
                    "ordered": parameter.ordered,
                    "when": self._when(column),
                    "default": parameter.default,
                }
                for column, parameter in enumerate(self.parameters)
            ],
            "constraints": [constraint.text for constraint in self.rules.constraints],
            "fixed": dict(self.fixed),
            "builder": self.builder_name,
            "reference": dict(self.reference.choices),
        }

    def sample(self, rng: np.random.Generator, count: int) -> Codes:
        """Draws architectures uniformly, with repetition.

        Returns:
            Canonical codes, shape (count, P).

        Raises:
            SpaceError: the constraints leave nothing, or next to nothing.
        """
        if not self.elimination.count:
            raise SpaceError(f"{self.name}: its constraints leave nothing")
        states = self.elimination.draw(rng, count)
        drawn = count
        while len(wrong := np.flatnonzero(~self.holds_loose(states))):
            if drawn > 1000 * (count + 1000):
                raise SpaceError(f"{self.name}: its constraints leave less than 1 draw in 1,000")
            more = self.elimination.draw(rng, max(len(wrong), 1000))
            kept = more[self.holds_loose(more)][: len(wrong)]
            states[wrong[: len(kept)]] = kept
            drawn += len(more)
        return self.rules.codes(states)

    def enumerate(self) -> Codes:
        """Every architecture once, shape (size, P); for spaces whose codes fit into memory."""
        states = self.elimination.enumerate()
        if not self.exact:
            states = states[self.holds_loose(states)]
        states *= states != self.rules.inactive.astype(states.dtype)
        return states.astype(np.int64)

    def canonical(self, codes: Codes) -> Codes:
        """Sets every inactive entry to 0. Shape (N, P) in and out."""
        return self.rules.codes(self.rules.states(codes))

    def valid(self, codes: Codes) -> Mask:
        """Which rows are canonical codes that satisfy every constraint. Shape (N, P) -> (N,)."""
        inside = np.asarray(((codes >= 0) & (codes < self.cardinalities)).all(axis=1))
        states = self.rules.states(np.where(inside[:, None], codes, 0))
        canonical = (self.rules.codes(states) == codes).all(axis=1)
        held: Mask = inside & canonical & self.rules.hold(states)
        return held

    def holds_loose(self, states: Codes) -> Mask:
        """Which rows of states the constraints allow that elimination left out. Shape (N,)."""
        return self.rules.hold(states, self.elimination.loose)

    def encode(self, choices: Mapping[str, Choice]) -> Codes:
        """Canonical code of a mapping from parameter to choice, shape (P,).

        Args:
            choices: every active parameter that has no default; inactive ones may be absent and
                are ignored.

        Raises:
            SpaceError: an unknown parameter, a value that is not among its choices, or an active
                parameter without a value.
        """
        for name in choices:
            if name not in self.names:
                raise SpaceError(
                    f"{self.name} has no parameter {name!r}{_nearest(name, self.names)}"
                )
        states = self.rules.inactive.copy()
        for column in self.rules.order:
            if self.rules.active(column, states):
                states[column] = self._index(self.parameters[column], choices)
        return self.rules.codes(states)

    def decode(self, code: Sequence[int] | Codes) -> dict[str, Choice]:
        """The active choices of one code, by parameter name.

        Raises:
            SpaceError: the wrong length, or an entry outside its parameter's choices.
        """
        row = np.asarray(code, dtype=np.int64)
        if row.shape != self.cardinalities.shape:
            raise SpaceError(
                f"{self.name}: a code has {len(self.parameters)} entries, not {row.shape}"
            )
        if (row < 0).any() or (row >= self.cardinalities).any():
            raise SpaceError(f"{self.name}: code {row.tolist()} has an entry outside its choices")
        return self.rules.choices(self.rules.states(row[None])[0])

    def architecture(self, code: Sequence[int] | Codes) -> Architecture:
        """The architecture of a code, canonical or not.

        Raises:
            SpaceError: no code of this space, or one that a constraint forbids.
        """
        choices = self.decode(code)
        states = self.rules.states(np.asarray(code, dtype=np.int64)[None])
        for constraint in self.rules.constraints:
            if not self.rules.hold(states, [constraint])[0]:
                read = [f"{n} = {choices[n]!r}" for n in constraint.names if n in choices]
                raise SpaceError(f"{self.name}: {', '.join(read)} violates {constraint.text!r}")
        return Architecture(self.key(choices), tuple(self.rules.codes(states)[0].tolist()), choices)

    def key(self, choices: Mapping[str, Choice]) -> str:
        """Hash of what is built; the same in every process, version and study.

        Defaults do not count: a parameter that is added with one leaves the keys as they were.
        """
        defaults = {p.name: p.default for p in self.parameters if p.default is not None}
        stated = {n: x for n, x in choices.items() if n not in defaults or x != defaults[n]}
        return _digest({**self.fixed, **stated, "": self.builder_name})[:12]

    def design(self, architecture: Architecture) -> Design:
        """The networks of an architecture.

        Raises:
            SpaceError: its builder fails; says where. Or there is none.
        """
        return self.build(architecture.choices)

    def build(self, choices: Mapping[str, Choice]) -> Design:
        """What the builder makes of an architecture's choices; errors as for `design`."""
        if self.builder is no_builder:
            raise SpaceError(f"{self.name} has no builder; only an oracle of your own can price it")
        try:
            return self.builder({**self.fixed, **choices})
        except Exception as problem:
            line = traceback.extract_tb(problem.__traceback__)[-1]
            raise SpaceError(
                f"{self.name}: {self.builder_name} fails on {dict(choices)}: "
                f"{type(problem).__name__}: {problem} ({line.filename}:{line.lineno})"
            ) from problem

    def all_choices(self, architecture: Architecture) -> dict[str, Choice]:
        """What the builder is given: the architecture's choices and the fixed ones."""
        return {**self.fixed, **architecture.choices}

    def _when(self, column: int) -> str | None:
        condition = self.rules.conditions.get(column)
        return condition.text if condition else None

    def _index(self, parameter: Parameter, choices: Mapping[str, Choice]) -> int:
        value = choices.get(parameter.name, parameter.default)
        if value is None:
            raise SpaceError(f"{self.name}: {parameter.name} has no value")
        for i, choice in enumerate(parameter.choices):
            if choice == value and type(choice) is type(value):
                return i
        raise SpaceError(
            f"{self.name}: {parameter.name} is one of {list(parameter.choices)}, not {value!r}"
        )


def _nearness(states: int, parameter: Parameter) -> NDArray[np.float64]:
    nearness = np.ones((states, states))
    if parameter.ordered:
        index = np.arange(len(parameter.choices))
        steps = np.abs(index[:, None] - index)
        nearness[: len(index), : len(index)] = 0.5 ** np.maximum(steps - 1, 0)
    return nearness


def _nearest(name: str, valid: Sequence[str]) -> str:
    return did_you_mean(name, valid) or f"; it has {', '.join(valid)}"


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
