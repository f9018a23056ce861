"""What a parsed expression is made of, and its value over arrays.

Logic is Kleene's: what is not known stays so, unless the rest decides. Every node is evaluated
once, however often its value is compared: nested chains would take exponential time otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add, and_, eq, ge, gt, le, lt, mul, ne, or_, sub
from typing import Any

import numpy as np
from numpy.typing import NDArray

Choice = int | float | str | bool
Mask = NDArray[np.bool_]
Part = tuple[NDArray[Any], Mask]  # values, and where they are known

NUMBER, TEXT, TRUTH = "a number", "text", "true or false"
ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {"+": add, "-": sub, "*": mul}
ORDER: Mapping[str, Callable[[Any, Any], Any]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {"==": eq, "!=": ne, **ORDER}


@dataclass(frozen=True)
class Literal:
    """A value; `constant` when a name stands for it in the text."""

    value: Choice
    constant: bool = False


@dataclass(frozen=True)
class Read:
    """The value of a parameter."""

    name: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Arithmetic:
    """Operators of one precedence, from left to right."""

    operators: tuple[str, ...]
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Compare:
    """A chain of comparisons, all of which must hold."""

    operators: tuple[str, ...]
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class In:
    """Equality with at least one item."""

    operand: Node
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    operand: Node


@dataclass(frozen=True)
class Join:
    """`or` (some) or `and` (not some: all) of conditions."""

    some: bool
    operands: tuple[Node, ...]


Node = Literal | Read | Arithmetic | Compare | In | Not | Join


def kind(node: Node) -> str:
    """One of NUMBER, TEXT and TRUTH."""
    if isinstance(node, Arithmetic):
        return NUMBER
    if not isinstance(node, (Literal, Read)):
        return TRUTH
    value = node.value if isinstance(node, Literal) else node.choices[0]
    if isinstance(value, bool):
        return TRUTH
    return TEXT if isinstance(value, str) else NUMBER


def evaluate(node: Node, values: Mapping[str, NDArray[Any]], active: Mapping[str, Mask]) -> Part:
    """The values of a node and where they are known, of shapes that broadcast.

    Args:
        node: of any kind.
        values: parameter name -> its values, of shapes that broadcast.
        active: parameter name -> where it is active; it is not known elsewhere.
    """

    def parts(nodes: Sequence[Node]) -> list[Part]:
        return [evaluate(each, values, active) for each in nodes]

    match node:
        case Literal(value):
            return np.asarray(value), np.asarray(True)
        case Read(name):
            return values[name], active[name]
        case Arithmetic(operators, operands):
            return _arithmetic(operators, parts(operands))
        case Compare(operators, operands):
            return _compare(operators, parts(operands))
        case In(operand, items):
            return _in(evaluate(operand, values, active), parts(items))
        case Not(operand):
            condition, known = evaluate(operand, values, active)
            return ~condition, known
        case Join(some, operands):
            return _join(some, parts(operands))


def _arithmetic(operators: Sequence[str], parts: Sequence[Part]) -> Part:
    value, known = parts[0]
    for operator, (right, right_known) in zip(operators, parts[1:], strict=True):
        value, known = ARITHMETIC[operator](value, right), known & right_known
    return value, known


def _compare(operators: Sequence[str], parts: Sequence[Part]) -> Part:
    pairs = zip(operators, pairwise(parts), strict=True)
    return _join(False, [(COMPARISONS[name](a[0], b[0]), a[1] & b[1]) for name, (a, b) in pairs])


def _in(part: Part, items: Sequence[Part]) -> Part:
    return _join(True, [(part[0] == value, part[1] & known) for value, known in items])


def _join(some: bool, parts: Sequence[Part]) -> Part:
    """Known as soon as one part decides, or when all are known."""
    holds = [value & known for value, known in parts]
    fails = [~value & known for value, known in parts]
    held = reduce(or_ if some else and_, holds)
    failed = reduce(and_ if some else or_, fails)
    return held, held | failed
