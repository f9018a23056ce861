"""Random expressions: as trees, as they are written, and what they mean in plain Python."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from search_spaces.expressions import Expression

NUMBERS = (0, 0.1, 1, 8)
TEXTS = ("residual", "it's", "größe")
TRUTHS = (True, False)
SCOPE: dict[str, tuple[Any, ...]] = {
    "half.width": NUMBERS,
    "depth": NUMBERS,
    "half.block": TEXTS,
    "context": TEXTS,
    "half.scaled": TRUTHS,
    "flag": TRUTHS,
}
CONSTANTS = {"latent": 8, "mode": "it's", "strict": True}

Tree = tuple[Any, ...]


def leaves(choices: tuple[Any, ...]) -> st.SearchStrategy[Tree]:
    names = [name for name, own in SCOPE.items() if own == choices]
    names += [name for name, value in CONSTANTS.items() if type(value) is type(choices[-1])]
    literals = st.sampled_from(choices).map(lambda value: ("literal", value))
    return literals | st.sampled_from(names).map(lambda name: ("name", name))


def larger_numbers(smaller: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    pairs = st.tuples(st.sampled_from(["+", "-", "*"]), smaller, smaller)
    # A negated literal is a literal that no parameter equals, which is an error of its own.
    return pairs | st.tuples(st.just("minus"), pairs) | st.tuples(st.just("group"), pairs)


numbers = st.recursive(leaves(NUMBERS), larger_numbers, max_leaves=4)
texts = leaves(TEXTS)


def comparisons(operands: st.SearchStrategy[Tree], operators: list[str]) -> st.SearchStrategy[Tree]:
    steps = st.lists(st.tuples(st.sampled_from(operators), operands), min_size=1, max_size=3)
    lists = st.lists(operands, min_size=1, max_size=3)
    return st.tuples(st.just("chain"), operands, steps) | st.tuples(
        st.sampled_from(["in", "not in"]), operands, lists
    )


def larger_conditions(smaller: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return (
        st.tuples(st.sampled_from(["and", "or", "implies"]), smaller, smaller)
        | st.tuples(st.sampled_from(["not", "group"]), smaller)
        | comparisons(smaller, ["==", "!="])
    )


ORDER = ["==", "!=", "<", "<=", ">", ">="]
conditions = st.recursive(
    comparisons(numbers, ORDER) | comparisons(texts, ["==", "!="]) | leaves(TRUTHS),
    larger_conditions,
    max_leaves=6,
)

# How tightly each kind binds, and what it needs of its operands.
LEVELS = {"implies": (0, 1, 0), "or": (1, 1, 2), "and": (2, 2, 3), "not": (3, 3)}
LEVELS |= {"chain": (4, 5), "in": (4, 5), "not in": (4, 5), "+": (5, 5, 6), "-": (5, 5, 6)}
LEVELS |= {"*": (6, 6, 7), "minus": (7, 7), "group": (8, 0)}


def tokens(tree: Tree, needed: int = 0) -> list[str]:
    kind = tree[0]
    if kind == "name":
        return [tree[1]]
    if kind == "literal":
        return [written(tree[1])]
    level, *needs = LEVELS[kind]
    if level < needed:
        return ["(", *tokens(tree), ")"]
    if kind == "group":
        return ["(", *tokens(tree[1]), ")"]
    first = tokens(tree[1], needs[0])
    if kind in ("not", "minus"):
        return ["-" if kind == "minus" else kind, *first]
    if kind == "chain":
        return first + [word for name, t in tree[2] for word in (name, *tokens(t, 5))]
    if kind in ("in", "not in"):
        items = [word for t in tree[2] for word in (",", *tokens(t, 5))]
        return [*first, *kind.split(), "[", *items[1:], "]"]
    return [*first, kind, *tokens(tree[2], needs[1])]


def written(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower()


def meaning(tree: Tree, row: Mapping[str, Any]) -> Any:
    """The value of a tree; None where it hangs on what is None in the row."""
    kind = tree[0]
    if kind == "literal":
        return tree[1]
    if kind == "name":
        return {**CONSTANTS, **row}[tree[1]]
    first = meaning(tree[1], row)
    if kind == "group":
        return first
    if kind in ("not", "minus"):
        return None if first is None else (-first if kind == "minus" else not first)
    if kind == "chain":
        values = [first, *(meaning(t, row) for _, t in tree[2])]
        pairs = zip(tree[2], itertools.pairwise(values), strict=True)
        return all_of([compared(name, a, b) for (name, _), (a, b) in pairs])
    if kind in ("in", "not in"):
        found = opposite(
            all_of([opposite(compared("==", first, meaning(t, row))) for t in tree[2]])
        )
        return found if kind == "in" else opposite(found)
    second = meaning(tree[2], row)
    if kind == "and":
        return all_of([first, second])
    if kind == "or":
        return opposite(all_of([opposite(first), opposite(second)]))
    if kind == "implies":
        return opposite(all_of([first, opposite(second)]))
    return compared(kind, first, second)


def opposite(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def all_of(truths: list[bool | None]) -> bool | None:
    if any(truth is False for truth in truths):
        return False
    return None if any(truth is None for truth in truths) else True


def compared(name: str, a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    results = {"==": a == b, "!=": a != b}
    if not isinstance(a, str):
        results |= {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
        results |= {"+": a + b, "-": a - b, "*": a * b}
    return results[name]


def arrays(rows: list[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    values, active = {}, {}
    for name, choices in SCOPE.items():
        junk = {str: "junk", bool: True}.get(type(choices[0]), np.nan)
        column = [junk if row[name] is None else row[name] for row in rows]
        dtype = np.float64 if choices is NUMBERS else None
        values[name] = np.array(column, dtype=dtype)
        active[name] = np.array([row[name] is not None for row in rows])
    return values, active


def decisions(expression: Expression, rows: list[Mapping[str, Any]]) -> list[bool | None]:
    values, active = arrays(rows)
    read = expression.names
    holds, fails = expression.decide({n: values[n] for n in read}, {n: active[n] for n in read})
    assert holds.dtype == fails.dtype == bool
    assert not (holds & fails).any()
    pairs = zip(*(np.broadcast_to(mask, len(rows)) for mask in (holds, fails)), strict=True)
    return [True if hold else False if fail else None for hold, fail in pairs]


def names_in(tree: Any) -> set[str]:
    if isinstance(tree, (tuple, list)):
        return set().union(*(names_in(part) for part in tree)) & set(SCOPE)
    return {tree} if isinstance(tree, str) else set()


rows_of_choices = st.lists(
    st.fixed_dictionaries({n: st.none() | st.sampled_from(own) for n, own in SCOPE.items()}),
    min_size=1,
    max_size=8,
)
