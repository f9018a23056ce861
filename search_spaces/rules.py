"""Which codes are architectures: conditions that switch parameters on, constraints that must hold.

Codes become states and back. A state is the index of a choice; one past the last says that the
parameter is inactive. In a code an inactive parameter is 0, so that two codes that build the same
network are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.expressions import Expression, parse_expression
from search_spaces.parameter import Choice, Codes, Mask, Parameter

_LARGEST_TRUTH = 2**12


class RuleError(ValueError):
    """Rules that contradict themselves; the message names the parameters."""


@dataclass(frozen=True)
class _Truth:
    """An expression for every combination of the states that it reads.

    Attributes:
        columns: that it reads.
        holds: by combination, the last column fastest.
        fails: the same.
    """

    columns: tuple[int, ...]
    holds: Mask
    fails: Mask


@dataclass(frozen=True)
class Rules:
    """The conditions and constraints of a space.

    Attributes:
        parameters: in column order.
        conditions: column -> when it is active; parameters without one always are.
        constraints: that every architecture satisfies.
    """

    parameters: tuple[Parameter, ...]
    conditions: Mapping[int, Expression]
    constraints: tuple[Expression, ...]

    @classmethod
    def parse(
        cls,
        parameters: Sequence[Parameter],
        constraints: Sequence[str],
        constants: Mapping[str, Choice],
    ) -> Rules:
        """Parses every expression.

        Args:
            parameters: in column order; a condition may name any other.
            constraints: expressions.
            constants: names that expressions may read beside the parameters.

        Raises:
            ExpressionError: an expression that is none.
            RuleError: conditions that go round in a circle.
        """
        scope = {parameter.name: parameter.choices for parameter in parameters}
        conditions = {
            column: parse_expression(parameter.when, scope, constants)
            for column, parameter in enumerate(parameters)
            if parameter.when is not None
        }
        parsed = tuple(parse_expression(text, scope, constants) for text in constraints)
        rules = cls(tuple(parameters), conditions, parsed)
        _ = rules.order
        return rules

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """Parameter name -> column."""
        return {parameter.name: column for column, parameter in enumerate(self.parameters)}

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Columns, each after those that its condition reads."""
        graph = {
            column: self.scope(self.conditions[column]) if column in self.conditions else ()
            for column in range(len(self.parameters))
        }
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as problem:
            names = [self.parameters[column].name for column in reversed(problem.args[1])]
            raise RuleError(
                f"parameters.{names[0]}.when: conditions in a circle: {' needs '.join(names)}"
            ) from None

    @cached_property
    def inactive(self) -> Codes:
        """The state that says inactive, by column: the number of choices. Shape (P,)."""
        return np.array([len(p.choices) for p in self.parameters], dtype=np.int64)

    @cached_property
    def states_of(self) -> Codes:
        """Number of states by column: one more than choices where there is a condition."""
        return self.inactive + np.isin(np.arange(len(self.parameters)), list(self.conditions))

    def scope(self, expression: Expression) -> tuple[int, ...]:
        """Columns that an expression reads."""
        return tuple(self.columns[name] for name in expression.names)

    def states(self, codes: Codes) -> Codes:
        """States of codes, canonical or not. Shape (N, P) in and out."""
        states = np.array(codes, dtype=np.int64, copy=True)
        for column in self.order:
            if column in self.conditions:
                active, _ = self.decide(self.conditions[column], dict(enumerate(states.T)))
                states[~np.broadcast_to(active, len(states)), column] = self.inactive[column]
        return states

    def active(self, column: int, states: Codes) -> bool:
        """Whether one parameter is on, given the states before it in `order`. Shape (P,)."""
        if column not in self.conditions:
            return True
        active, _ = self.decide(self.conditions[column], dict(enumerate(states)))
        return bool(active)

    def codes(self, states: Codes) -> Codes:
        """Canonical codes of states. Shape (..., P) in and out."""
        return np.where(states == self.inactive, 0, states)

    def choices(self, states: Codes) -> dict[str, Choice]:
        """The active choices of one architecture, shape (P,), by parameter name."""
        pairs = zip(self.parameters, states.tolist(), strict=True)
        return {p.name: p.choices[state] for p, state in pairs if state < len(p.choices)}

    def hold(self, states: Codes, constraints: Sequence[Expression] | None = None) -> Mask:
        """Which rows no constraint (default: of all) forbids. Shape (N,)."""
        held = np.ones(len(states), dtype=bool)
        for constraint in self.constraints if constraints is None else constraints:
            _, fails = self.decide(constraint, dict(enumerate(states.T)))
            held &= ~fails
        return held

    def decide(self, expression: Expression, states: Mapping[int, Codes]) -> tuple[Mask, Mask]:
        """Where an expression holds and where it fails; neither where inactive parameters decide.

        Args:
            expression: a condition or a constraint.
            states: column -> states, of shapes that broadcast.
        """
        truth = self._truth(expression)
        if truth is None:
            return self._evaluate(expression, states)
        row: Any = 0
        for column in truth.columns:
            row = row * int(self.states_of[column]) + states[column]
        return truth.holds[row], truth.fails[row]

    def grid(self, columns: Iterable[int]) -> dict[int, Codes]:
        """All combinations of these columns' states, as an open grid with an axis a column."""
        axes = np.ix_(*(np.arange(self.states_of[column]) for column in columns))
        return dict(zip(columns, axes, strict=True))

    def _truth(self, expression: Expression) -> _Truth | None:
        """The expression written out; None where that would be large."""
        if expression.text not in self._truths:
            columns = self.scope(expression)
            shape = tuple(int(n) for n in self.states_of[list(columns)])
            truth = None
            if prod(shape) <= _LARGEST_TRUTH:
                parts = self._evaluate(expression, self.grid(columns))
                holds, fails = (np.broadcast_to(part, shape).ravel() for part in parts)
                truth = _Truth(columns, holds, fails)
            self._truths[expression.text] = truth
        return self._truths[expression.text]

    @cached_property
    def _truths(self) -> dict[str, _Truth | None]:
        return {}

    def _evaluate(self, expression: Expression, states: Mapping[int, Codes]) -> tuple[Mask, Mask]:
        read = self.scope(expression)
        values = {self.parameters[c].name: self._values[c][states[c]] for c in read}
        active = {self.parameters[c].name: states[c] < self.inactive[c] for c in read}
        return expression.decide(values, active)

    @cached_property
    def _values(self) -> list[NDArray[Any]]:
        """By column: the value of every state; that of the inactive one means nothing."""
        tables = []
        for parameter in self.parameters:
            values = [*parameter.choices, parameter.choices[0]]
            numbers = not isinstance(values[0], (str, bool))
            tables.append(np.array(values, dtype=np.float64 if numbers else None))
        return tables
