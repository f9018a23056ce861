"""Conditions and constraints as tables over the few parameters that each reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.expressions import Expression
from search_spaces.rules import Rules


@dataclass(frozen=True)
class Table:
    """A function of a few states.

    Attributes:
        scope: columns, ascending: the axes of `values`.
        values: by state; counts are whole numbers (Python's, where they outgrow 64 bits).
    """

    scope: tuple[int, ...]
    values: NDArray[Any]


def tables_of(rules: Rules, constraints: Sequence[Expression], count_type: Any) -> Iterator[Table]:
    """One table a condition and a constraint: 1 where it allows the states, 0 where not.

    Args:
        rules: of the space.
        constraints: those to be written out.
        count_type: of the entries.
    """
    for column, condition in rules.conditions.items():
        scope = tuple(sorted({*rules.scope(condition), column}))
        grid = rules.grid(scope)
        active, _ = rules.decide(condition, grid)
        allowed = active == (grid[column] < rules.inactive[column])
        yield _table(rules, scope, allowed, count_type)
    for constraint in constraints:
        scope = tuple(sorted(rules.scope(constraint)))
        _, fails = rules.decide(constraint, rules.grid(scope))
        yield _table(rules, scope, ~fails, count_type)


def _table(rules: Rules, scope: tuple[int, ...], allowed: NDArray[Any], kind: Any) -> Table:
    shape = tuple(rules.states_of[list(scope)])
    return Table(scope, np.broadcast_to(allowed, shape).astype(np.int64).astype(kind))


def combined(operation: Callable[[Any, Any], Any], a: Table, b: Table) -> Table:
    """Entry by entry, over the union of the scopes."""
    scope = tuple(sorted({*a.scope, *b.scope}))
    return Table(scope, operation(_spread(a, scope), _spread(b, scope)))


def _spread(table: Table, scope: tuple[int, ...]) -> NDArray[Any]:
    """The values with an axis of length one for every column that the table does not read."""
    missing = tuple(axis for axis, column in enumerate(scope) if column not in table.scope)
    return np.expand_dims(table.values, missing)


def scopes_of(rules: Rules, constraints: Sequence[Expression]) -> list[set[int]]:
    """Columns of the table of every condition and of the given constraints."""
    scopes = [{*rules.scope(when), column} for column, when in rules.conditions.items()]
    return scopes + [set(rules.scope(constraint)) for constraint in constraints]


def greedy_order(
    rules: Rules, scopes: list[set[int]], later: Mapping[int, set[int]], largest_table: int
) -> list[int] | None:
    """Columns by the size of the table that eliminating each takes, smallest first.

    Args:
        rules: for the numbers of states.
        scopes: columns of every table.
        later: column -> those that may be eliminated only after it.
        largest_table: None is returned when it is not enough.
    """
    left, order = set(range(len(rules.parameters))), []
    while left:
        free = left.difference(*(late for column, late in later.items() if column in left))
        joined = {c: set().union({c}, *(s for s in scopes if c in s)) for c in free}
        column = min(free, key=lambda c: (entries(rules, joined[c]), c))
        if entries(rules, joined[column]) > largest_table:
            return None
        scopes = [scope for scope in scopes if column not in scope]
        scopes.append(joined[column] - {column})
        left.remove(column)
        order.append(column)
    return order


def entries(rules: Rules, columns: Sequence[int] | set[int]) -> int:
    """Size of a table over these columns."""
    return prod(int(rules.states_of[column]) for column in set(columns))
