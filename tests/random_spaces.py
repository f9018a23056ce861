"""Random small spaces, and their members as plain Python finds them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from expression_trees import Tree, meaning, tokens
from hypothesis import strategies as st

from search_spaces.elimination import Elimination
from search_spaces.space import Choice, Codes, Parameter, SearchSpace

MENUS: tuple[tuple[Choice, ...], ...] = (
    (1, 2, 3, 4),
    (0, 8, 16),
    (0.5, 1.5, 2.0),
    ("residual", "inverted", "a b"),
    (False, True),
)
ORDER = ("<", "<=", ">", ">=")
Code = tuple[int, ...]


@dataclass(frozen=True)
class RandomSpace:
    """A space, and what decides about its members, as trees.

    Attributes:
        members: every canonical code that is valid, sorted.
    """

    space: SearchSpace
    conditions: Mapping[str, Tree]
    constraints: Sequence[Tree]
    members: Sequence[Code] = field(repr=False)

    @property
    def codes(self) -> Codes:
        """The members as a matrix."""
        return np.array(self.members, dtype=np.int64).reshape(-1, len(self.space.parameters))


def space_of(
    parameters: Iterable[Parameter], constraints: Iterable[str] = (), **fixed: Choice
) -> SearchSpace:
    """A space whose networks nobody builds."""
    return SearchSpace(
        "test", tuple(parameters), lambda _: None, "none:none", fixed, {}, tuple(constraints)
    )


def with_elimination(space: SearchSpace, elimination: Elimination) -> SearchSpace:
    """The same space, counted otherwise: such as with constraints left loose."""
    changed = space_of(space.parameters, space.constraints)
    changed.__dict__["elimination"] = elimination
    return changed


@st.composite
def random_spaces(
    draw: Any, constrained: bool = True, conditional: bool = True, least_members: int = 1
) -> RandomSpace:
    """Between one and six parameters; conditions read any others that leave no circle."""
    count = draw(st.integers(1, 6))
    parameters = [draw(_parameters(f"s{i % 2}.p{i}", 4 if count < 5 else 3)) for i in range(count)]
    conditions: dict[str, Tree] = {}
    above: list[Parameter] = []
    for parameter in draw(st.permutations(parameters)):
        if conditional and above and draw(st.booleans()):
            conditions[parameter.name] = draw(_conditions(above))
        above.append(parameter)
    some = st.lists(st.sampled_from(parameters), min_size=1, max_size=3, unique_by=id)
    trees = st.lists(some.flatmap(_conditions), max_size=3 if constrained else 0)
    found = _random_space(parameters, conditions, draw(trees))
    if len(found.members) < least_members:
        return _random_space(parameters, conditions, [])
    return found


def _random_space(
    parameters: Sequence[Parameter], conditions: Mapping[str, Tree], constraints: Sequence[Tree]
) -> RandomSpace:
    whole = [
        Parameter(p.name, p.choices, p.ordered, _text(conditions.get(p.name)), p.default)
        for p in parameters
    ]
    space = space_of(whole, [text for tree in constraints if (text := _text(tree))])
    members = brute_force(parameters, conditions, constraints)
    return RandomSpace(space, conditions, constraints, members)


def _text(tree: Tree | None) -> str | None:
    return None if tree is None else " ".join(tokens(tree))


@st.composite
def _parameters(draw: Any, name: str, most: int) -> Parameter:
    menu = draw(st.sampled_from(MENUS))
    size = draw(st.integers(1, min(most, len(menu))))
    choices = tuple(draw(st.permutations(menu))[:size])
    ordered = draw(st.booleans()) and not isinstance(menu[0], bool)
    if ordered:
        choices = tuple(sorted(choices, reverse=draw(st.booleans())))
    default = draw(st.none() | st.sampled_from(choices))
    return Parameter(name, choices, ordered, None, default)


def _conditions(parameters: Sequence[Parameter]) -> st.SearchStrategy[Tree]:
    comparisons = st.sampled_from(parameters).flatmap(lambda p: _comparisons(p, parameters))

    def larger(smaller: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
        return st.tuples(st.sampled_from(["and", "or", "implies"]), smaller, smaller) | smaller.map(
            lambda tree: ("not", tree)
        )

    return st.recursive(comparisons, larger, max_leaves=3)


def _comparisons(parameter: Parameter, others: Sequence[Parameter]) -> st.SearchStrategy[Tree]:
    """What may be asked about a parameter, alone or beside another of its kind."""
    name: Tree = ("name", parameter.name)
    own = st.sampled_from(parameter.choices).map(lambda value: ("literal", value))
    alike = [p for p in others if _kind(p) == _kind(parameter)]
    other = st.sampled_from(alike).map(lambda p: ("name", p.name))
    equal = st.tuples(st.sampled_from(["==", "!="]), own | other)
    within = st.tuples(
        st.sampled_from(["in", "not in"]), st.just(name), st.lists(own, min_size=1, max_size=2)
    )
    found = st.tuples(st.just("chain"), st.just(name), st.lists(equal, min_size=1, max_size=1))
    if _kind(parameter) is float:
        order = st.tuples(st.sampled_from(ORDER), own | other)
        chain = st.lists(order, min_size=1, max_size=2)
        total = st.tuples(st.just("+"), st.just(name), own | other)
        found |= st.tuples(st.just("chain"), st.just(name) | total, chain)
    if _kind(parameter) is bool:
        found |= st.just(name)
    return found | within


def _kind(parameter: Parameter) -> type:
    kind = type(parameter.choices[0])
    return float if kind is int else kind


def brute_force(
    parameters: Sequence[Parameter], conditions: Mapping[str, Tree], constraints: Sequence[Tree]
) -> list[Code]:
    """Every canonical code that the trees allow, sorted: by trying all combinations."""
    found = set()
    for indices in itertools.product(*(range(len(p.choices)) for p in parameters)):
        given = {p.name: p.choices[i] for p, i in zip(parameters, indices, strict=True)}
        row: dict[str, Choice | None] = {}
        while len(row) < len(parameters):
            for name in given:
                _decide(name, given, conditions, row)
        if all(meaning(tree, row) is not False for tree in constraints):
            active = [row[p.name] is not None for p in parameters]
            found.add(tuple(i if on else 0 for i, on in zip(indices, active, strict=True)))
    return sorted(found)


def _decide(
    name: str,
    given: Mapping[str, Choice],
    conditions: Mapping[str, Tree],
    row: dict[str, Choice | None],
) -> None:
    """Adds one parameter to a row as soon as all that its condition reads stands there."""
    condition = conditions.get(name)
    if condition is None:
        row[name] = given[name]
    elif _names(condition) <= row.keys():
        row[name] = given[name] if meaning(condition, row) is True else None


def _names(tree: Any) -> set[str]:
    if not isinstance(tree, (tuple, list)):
        return set()
    if len(tree) == 2 and tree[0] == "name":
        return {tree[1]}
    return set().union(*(_names(part) for part in tree if not isinstance(part, str)))


def as_set(codes: Codes) -> set[Code]:
    """Rows of a matrix."""
    return {tuple(row) for row in codes.tolist()}
