"""Exact counting, uniform sampling and enumeration by variable elimination.

Every condition and constraint is a table over the few parameters that it reads. Parameters are
eliminated one after the other: the tables that read one are multiplied and summed over it, which
leaves a table over its neighbours (Dechter, Bucket elimination, 1999). The last sum is the number
of architectures. Backwards, the same tables say how many architectures each choice leaves, given
the choices before it: drawing in these proportions is uniform, and no draw ends in a dead end.

A constraint over too many parameters for a table is left to the caller, who rejects what it
forbids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.expressions import Expression
from search_spaces.factors import Table, combined, entries, greedy_order, scopes_of, tables_of
from search_spaces.parameter import Codes
from search_spaces.rules import RuleError, Rules

LARGEST_TABLE = 2**16


@dataclass(frozen=True)
class Decision:
    """One parameter's choice given those made before it.

    Attributes:
        column: the parameter.
        given: columns decided before that its choice depends on.
        shape: number of states of each given column.
        share: of the architectures left that have each state, shape (prod(shape), states).
    """

    column: int
    given: tuple[int, ...]
    shape: tuple[int, ...]
    share: NDArray[np.float64]

    def rows(self, states: Codes) -> Codes:
        """Row of `share` for each row of states, shape (N, P) -> (N,)."""
        rows = np.zeros(len(states), dtype=np.int64)
        for column, count in zip(self.given, self.shape, strict=True):
            rows = rows * count + states[:, column]
        return rows

    def draw(self, rng: np.random.Generator, states: Codes) -> Codes:
        """Draws a state for each row of states, shape (N, P) -> (N,)."""
        drawn = rng.random(len(states))
        rows = self.rows(states) if self.given else 0
        # A pass a threshold: an axis of a few states would cost more than it does.
        states_drawn = np.zeros(len(states), dtype=np.int64)
        for below in self.cumulative.T:
            states_drawn += drawn >= below[rows]
        return states_drawn

    @cached_property
    def cumulative(self) -> NDArray[np.float64]:
        """Summed shares without the last one, which is 1: for drawing by inversion."""
        summed = np.cumsum(self.share, axis=1)
        # x / x is 1 exactly: what has no share after the last that has one is never drawn.
        whole = np.where(summed[:, -1:] == 0, 1, summed[:, -1:])
        return np.asarray(summed[:, :-1] / whole)


@dataclass(frozen=True)
class Elimination:
    """What elimination found.

    Attributes:
        count: architectures that satisfy everything but `loose`.
        decisions: one a parameter, in the order in which they are taken.
        loose: constraints that no table holds.
    """

    count: int
    decisions: tuple[Decision, ...]
    loose: tuple[Expression, ...]

    def draw(self, rng: np.random.Generator, count: int) -> Codes:
        """Uniformly drawn states, shape (count, P); `loose` is not looked at."""
        states = np.zeros((len(self.decisions), count), dtype=np.int64).T  # by column in memory
        for decision in self.decisions:
            states[:, decision.column] = decision.draw(rng, states)
        return states

    def enumerate(self, decided: int | None = None) -> NDArray[Any]:
        """All states once; `loose` is not looked at.

        Args:
            decided: enumerate only the combinations of that many first decisions, each completed
                by the first possible choice of every other.

        Returns:
            Shape (N, P), of a small type; all are different, `count` of them if `decided` is None.
        """
        largest = max((d.share.shape[1] for d in self.decisions), default=1)
        states = np.zeros((1, len(self.decisions)), dtype=np.min_scalar_type(largest))
        for i, decision in enumerate(self.decisions):
            possible = decision.share[decision.rows(states)] > 0
            if decided is not None and i >= decided:
                states[:, decision.column] = possible.argmax(axis=1)
                continue
            rows, choices = np.nonzero(possible)
            states = states[rows]
            states[:, decision.column] = choices
        return states


def eliminate(
    rules: Rules, largest_table: int = LARGEST_TABLE, first: Sequence[int] = ()
) -> Elimination:
    """Counts what the rules allow.

    Args:
        rules: conditions and constraints.
        largest_table: entries a table may have; constraints that need more become loose, those
            over the most states first.
        first: columns to decide before all others; otherwise, what a condition reads is decided
            before the parameter that it switches.

    Raises:
        RuleError: a condition that reads too many parameters.
    """
    for expression in rules.conditions.values():
        if entries(rules, rules.scope(expression)) > largest_table:
            raise RuleError(f"when: {expression.text!r} reads too many parameters at once")
    loose: list[Expression] = []
    kept = sorted(rules.constraints, key=lambda e: entries(rules, rules.scope(e)))
    while kept and entries(rules, rules.scope(kept[-1])) > largest_table:
        loose.append(kept.pop())
    while True:
        order = _order(rules, kept, largest_table, first)
        if order is not None or not kept:
            break
        loose.append(kept.pop())
    if order is None:
        raise RuleError("when: conditions hang on each other in too many ways to be counted")
    count, decisions = _eliminate(rules, kept, order)
    return Elimination(count, decisions, tuple(loose))


def extremes(rules: Rules, terms: Sequence[Table], largest_table: int) -> tuple[float, float]:
    """Smallest and largest sum of terms over everything that the rules allow.

    The same elimination, with sums for products and the best for the sum.

    Args:
        rules: conditions and constraints.
        terms: finite functions of a few states.
        largest_table: entries a table may have.

    Raises:
        RuleError: the terms hang on too many parameters at once.
    """
    scopes = scopes_of(rules, rules.constraints)
    scopes += [set(term.scope) for term in terms]
    order = greedy_order(rules, scopes, {}, largest_table)
    if order is None:
        raise RuleError("a sum over the space hangs on too many parameters at once")
    allowed = list(tables_of(rules, rules.constraints, np.int64))
    forbidden = [Table(t.scope, np.where(t.values > 0, 0.0, np.inf)) for t in allowed]
    smallest = _smallest(rules, [*forbidden, *terms], order)
    negated = [Table(term.scope, -term.values) for term in terms]
    return smallest, -_smallest(rules, [*forbidden, *negated], order)


def _smallest(rules: Rules, tables: Sequence[Table], order: Sequence[int]) -> float:
    for column in order:
        own = [table for table in tables if column in table.scope]
        start = Table((column,), np.zeros(rules.states_of[column]))
        joint = reduce(partial(combined, np.add), own, start)
        axis = joint.scope.index(column)
        best = Table(
            tuple(c for c in joint.scope if c != column), np.asarray(joint.values.min(axis=axis))
        )
        tables = [*(table for table in tables if column not in table.scope), best]
    return float(sum(table.values for table in tables))


def _eliminate(
    rules: Rules, constraints: Sequence[Expression], order: Sequence[int]
) -> tuple[int, tuple[Decision, ...]]:
    count_type = np.int64 if prod(rules.states_of.tolist()) < 2**62 else object
    tables = list(tables_of(rules, constraints, count_type))
    decisions = []
    for column in order:
        own = [table for table in tables if column in table.scope]
        tables = [table for table in tables if column not in table.scope]
        start = Table((column,), np.ones(rules.states_of[column], dtype=count_type))
        joint = reduce(partial(combined, np.multiply), own, start)
        axis = joint.scope.index(column)
        given = tuple(c for c in joint.scope if c != column)
        tables.append(Table(given, np.asarray(joint.values.sum(axis=axis), dtype=count_type)))
        decisions.append(_decision(column, given, np.moveaxis(joint.values, axis, -1)))
    total = prod(int(table.values) for table in tables)
    return total, tuple(reversed(decisions))


def _decision(column: int, given: tuple[int, ...], counts: NDArray[Any]) -> Decision:
    rows = counts.reshape(-1, counts.shape[-1])
    totals = rows.sum(axis=1, keepdims=True)
    share = np.divide(rows, np.where(totals == 0, 1, totals)).astype(np.float64)
    # A share too small for float64 is not none: share > 0 says what is possible.
    share[(rows > 0) & (share == 0)] = np.finfo(np.float64).tiny
    return Decision(column, given, counts.shape[:-1], share)


def _order(
    rules: Rules, constraints: Sequence[Expression], largest_table: int, first: Sequence[int]
) -> list[int] | None:
    """An order of elimination; None when a table outgrows the limit.

    Decisions are taken the other way round: what is to be decided first is eliminated last.
    """
    later = {column: set(rules.scope(when)) for column, when in rules.conditions.items()}
    if first:
        later = {c: set(first) for c in range(len(rules.parameters)) if c not in first}
    return greedy_order(rules, scopes_of(rules, constraints), later, largest_table)
