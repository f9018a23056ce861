"""One of our spaces in ConfigSpace's terms, and both sides' codes in each other's.

Every condition and constraint is tabulated over the parameters that it reads, inactive ones
included, and the table is covered with boxes: one set of choices a parameter. A condition becomes
an `or` of boxes, each an `and` of memberships; a constraint forbids its boxes, or is one of
ConfigSpace's relations where the table says so. A membership is never true of an inactive
parameter, there as here, so that a box either leaves a parameter out or names choices of it. That
is always possible: logic is Kleene's, and what is decided while a parameter is inactive is decided
alike for every choice of it.

Two defects of ConfigSpace 1.2.2 limit what can be compared: an `and` and an `or` of the same
memberships count as one condition there, and `generate_grid` raises `KeyError` where an `or` reads
a parameter that is itself conditional. No shipped space has either.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import ConfigSpace
import numpy as np
from ConfigSpace.conditions import ConditionLike
from ConfigSpace.forbidden import ForbiddenLike

from search_spaces.expressions import Expression
from search_spaces.space import Codes, Mask, Parameter, SearchSpace

LARGEST_TABLE = 2**18
RELATIONS = {
    operator.gt: ConfigSpace.ForbiddenGreaterThanRelation,
    operator.ge: ConfigSpace.ForbiddenGreaterThanEqualsRelation,
    operator.eq: ConfigSpace.ForbiddenEqualsRelation,
}

Box = Mapping[int, tuple[int, ...]]  # column -> states; columns that are not there take any
Hyperparameters = Mapping[int, Any]
Vectors = np.ndarray[Any, np.dtype[np.float64]]


class NotExpressibleError(ValueError):
    """A rule that ConfigSpace cannot say; the message quotes it."""


@dataclass(frozen=True)
class Translation:
    """A space and the same one as ConfigSpace has it.

    Attributes:
        ours: exact.
        theirs: without the parameters that no architecture has.
        columns: of ours, by the entry of a vector of theirs.
    """

    ours: SearchSpace
    theirs: ConfigSpace.ConfigurationSpace
    columns: Codes

    def vectors(self, codes: Codes) -> Vectors:
        """Canonical codes as it keeps them: NaN where inactive. Shape (N, P) -> (N, entries)."""
        states = self.ours.rules.states(codes)
        vectors = np.where(states == self.ours.rules.inactive, np.nan, states)
        return np.ascontiguousarray(vectors[:, self.columns])

    def codes(self, configurations: Sequence[ConfigSpace.Configuration]) -> Codes:
        """Its configurations as codes, shape (N, P)."""
        codes = np.zeros((len(configurations), len(self.ours.parameters)), dtype=np.int64)
        vectors = np.array([c.get_array() for c in configurations])
        codes[:, self.columns] = np.nan_to_num(vectors.reshape(len(codes), -1))
        return codes

    def valid(self, vectors: Vectors) -> Mask:
        """Which rows its own check passes. Shape (N, entries) -> (N,)."""
        return np.array([self._passes(vector) for vector in vectors], dtype=bool)

    def _passes(self, vector: Vectors) -> bool:
        try:
            self.theirs.check_configuration_vector_representation(vector)
        except ValueError:
            return False
        return True


def some_code(space: SearchSpace) -> Codes:
    """The reference where there is one, otherwise any architecture; shape (P,)."""
    if space.reference_choices:
        return space.encode(space.reference_choices)
    return space.sample(np.random.default_rng(0), 1)[0]


def translate(space: SearchSpace, default: Codes, relations: bool, seed: int) -> Translation:
    """Says the same in ConfigSpace.

    Args:
        space: whose rules all fit into tables.
        default: a valid code, which ConfigSpace asks for.
        relations: whether a constraint may become a relation; otherwise all are memberships.
        seed: of the draws.

    Raises:
        NotExpressibleError: a rule over too many parameters, or that leaves nothing.
    """
    on: dict[int, list[Box]] = {}
    for column in space.rules.order:
        when = space.rules.conditions.get(column)
        on[column] = [{}] if when is None else cover(space, when, 0, on)
    made = {c: _hyperparameter(space.parameters[c], int(default[c])) for c in sorted(on) if on[c]}
    theirs = ConfigSpace.ConfigurationSpace(seed=seed)
    theirs.add(list(made.values()))
    theirs.add([_condition(made, column, on[column]) for column in made if all(on[column])])
    for constraint in space.rules.constraints:
        theirs.add(_forbidden(space, made, constraint, on, relations))
    columns = [space.names.index(name) for name in theirs.at]
    return Translation(space, theirs, np.array(columns, dtype=np.int64))


def cover(
    space: SearchSpace, expression: Expression, which: int, on: Mapping[int, Sequence[Box]]
) -> list[Box]:
    """Where an expression holds (0) or fails (1): boxes, of the parameters they narrow down.

    Args:
        space: of the expression.
        expression: a condition or a constraint.
        which: of the two.
        on: by parameter that it reads, where that one is active: nowhere if empty.

    Returns:
        None of the boxes for never, an empty one for always.
    """
    scope = space.rules.scope(expression)
    held = _table(space, expression, which)
    inactive = [int(space.rules.inactive[column]) for column in scope]
    found = []
    for sides in boxes(held, inactive):
        triples = zip(scope, sides, held.shape, strict=True)
        narrowed = {c: tuple(states) for c, states, count in triples if len(states) < count}
        if all(on[column] for column in narrowed):
            found.append(narrowed)
    return [{}] if {} in found else found


def _table(space: SearchSpace, expression: Expression, which: int) -> Mask:
    """By state of each parameter that an expression reads: where it holds (0) or fails (1)."""
    scope = space.rules.scope(expression)
    shape = tuple(int(count) for count in space.rules.states_of[list(scope)])
    if np.prod(shape, dtype=float) > LARGEST_TABLE:
        raise NotExpressibleError(f"{expression.text!r} reads too many parameters to be tabulated")
    grid = dict(zip(scope, np.ix_(*map(np.arange, shape)), strict=True))
    return np.broadcast_to(space.rules.decide(expression, grid)[which], shape)


def boxes(held: Mask, inactive: Sequence[int]) -> list[tuple[list[int], ...]]:
    """Boxes that cover a table and nothing else: states of every axis.

    Args:
        held: by state of every axis.
        inactive: by axis, the state that only whole axes hold.
    """
    covered, found = np.zeros_like(held), []
    for point in np.argwhere(held):
        if covered[tuple(point)]:
            continue
        box = [[int(state)] for state in point]
        # Axes that are inactive at this point have to be covered whole, and come first.
        for axis in np.argsort(point != np.array(inactive), kind="stable"):
            box[axis] = _widened(held, box, int(axis), inactive[axis])
        covered[np.ix_(*box)] = True
        found.append(tuple(box))
    return found


def _widened(held: Mask, box: Sequence[list[int]], axis: int, inactive: int) -> list[int]:
    others = [*box[:axis], [*range(held.shape[axis])], *box[axis + 1 :]]
    inside = np.moveaxis(held[np.ix_(*others)], axis, 0).reshape(held.shape[axis], -1).all(axis=1)
    states = [int(state) for state in np.flatnonzero(inside)]
    whole = len(states) == held.shape[axis]
    return [state for state in states if whole or state != inactive]


def _hyperparameter(parameter: Parameter, default: int) -> Any:
    kind = (
        ConfigSpace.OrdinalHyperparameter
        if parameter.ordered
        else ConfigSpace.CategoricalHyperparameter
    )
    return kind(parameter.name, parameter.choices, default_value=parameter.choices[default])


def _condition(made: Hyperparameters, column: int, found: Sequence[Box]) -> ConditionLike:
    parts = []
    for box in found:
        terms = [_membership(made[column], made[parent], box[parent]) for parent in box]
        parts.append(ConfigSpace.AndConjunction(*terms) if len(terms) > 1 else terms[0])
    return ConfigSpace.OrConjunction(*parts) if len(parts) > 1 else parts[0]


def _membership(child: Any, parent: Any, states: Sequence[int]) -> ConditionLike:
    choices = _choices(parent, states)
    if len(choices) == 1:
        return ConfigSpace.EqualsCondition(child, parent, choices[0])
    return ConfigSpace.InCondition(child, parent, choices)


def _choices(hyperparameter: Any, states: Sequence[int]) -> list[Any]:
    ordered = isinstance(hyperparameter, ConfigSpace.OrdinalHyperparameter)
    choices = hyperparameter.sequence if ordered else hyperparameter.choices
    return [choices[state] for state in states]


def _forbidden(
    space: SearchSpace,
    made: Hyperparameters,
    constraint: Expression,
    on: Mapping[int, Sequence[Box]],
    relations: bool,
) -> list[ForbiddenLike]:
    relation = _relation(space, made, constraint) if relations else None
    if relation is not None:
        return [relation]
    found = cover(space, constraint, 1, on)
    if not all(found):
        raise NotExpressibleError(f"{constraint.text!r} forbids everything")
    forbidden = []
    for box in found:
        clauses = [_clause(made[column], box[column]) for column in box]
        forbidden.append(
            ConfigSpace.ForbiddenAndConjunction(*clauses) if len(box) > 1 else clauses[0]
        )
    return forbidden


def _clause(hyperparameter: Any, states: Sequence[int]) -> ForbiddenLike:
    choices = _choices(hyperparameter, states)
    if len(choices) == 1:
        return ConfigSpace.ForbiddenEqualsClause(hyperparameter, choices[0])
    return ConfigSpace.ForbiddenInClause(hyperparameter, choices)


def _relation(
    space: SearchSpace, made: Hyperparameters, constraint: Expression
) -> ForbiddenLike | None:
    """The comparison of two parameters that a constraint forbids, if it is one."""
    scope = space.rules.scope(constraint)
    if len(scope) != 2 or any(column not in made for column in scope):
        return None
    fails = _table(space, constraint, 1)
    for first, second in permutations((0, 1)):
        values = [np.array(space.parameters[scope[axis]].choices) for axis in (first, second)]
        active = fails.transpose(first, second)[: len(values[0]), : len(values[1])]
        if any(v.dtype.kind not in "if" for v in values) or active.sum() < fails.sum():
            return None
        for compare, relation in RELATIONS.items():
            if (active == compare(values[0][:, None], values[1])).all():
                return relation(made[scope[first]], made[scope[second]])
    return None
