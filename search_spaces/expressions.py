"""Conditions and constraints: a small language over the parameters of a space.

From loosest to tightest: `implies` (from the right), `or`, `and`, `not`, comparisons (`==`, `!=`,
`<`, `<=`, `>`, `>=`, chains such as `8 <= width <= 64`, `in [a, b]`, `not in [a, b]`), `+` and `-`,
`*`, unary `-`, parentheses. Values are names, numbers, quoted text, `true` and `false`.

A comparison that reads an inactive parameter is neither true nor false. A chain is its comparisons
joined by `and`, a list is its equalities joined by `or`. Arithmetic is float64.

A text is parsed and checked once, into nodes that numpy evaluates; Python never runs any of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.expression_grammar import (
    LONGEST_TEXT,
    ExpressionError,
    error,
    excerpt,
    parse,
    shown,
    start,
    tokens,
)
from search_spaces.expression_nodes import (
    NUMBER,
    ORDER,
    TEXT,
    TRUTH,
    Arithmetic,
    Choice,
    Compare,
    In,
    Join,
    Literal,
    Mask,
    Node,
    Not,
    Read,
    evaluate,
    kind,
)
from search_spaces.hints import did_you_mean

if TYPE_CHECKING:
    from lark import Token

    from search_spaces.expression_grammar import Branch

__all__ = ["Expression", "ExpressionError", "parse_expression"]

LARGEST_NUMBER = 2**53
VALUES = {"NAME", "NUMBER", "TEXT", "TRUE", "FALSE", "RPAR", "RSQB"}  # that end a value


@dataclass(frozen=True)
class Expression:
    """A condition or a constraint.

    Attributes:
        text: normalised: absolute names, single spaces, plain numbers. It parses to itself.
        names: absolute names of the parameters it reads, first appearance first.
        node: what is evaluated.
    """

    text: str
    names: tuple[str, ...]
    node: Node = field(compare=False, repr=False)

    def decide(
        self, values: Mapping[str, NDArray[Any]], active: Mapping[str, Mask]
    ) -> tuple[Mask, Mask]:
        """Where it holds and where it fails; neither where that hangs on an inactive parameter.

        Args:
            values: for each of `names` the choices themselves: float64 for numbers, unicode for
                text, bool for truth. Anything where the parameter is inactive.
            active: for each of `names` where the parameter is active.

        Returns:
            Two masks of the shape that `values` and `active` broadcast to.
        """
        with np.errstate(all="ignore"):  # inactive values may be anything, infinity too
            value, known = evaluate(self.node, values, active)
        return np.asarray(value & known), np.asarray(~value & known)


def parse_expression(
    text: str,
    scope: Mapping[str, Sequence[Choice]],
    constants: Mapping[str, Choice] = {},
    prefix: str = "",
) -> Expression:
    """Parses and checks a condition or constraint.

    Args:
        text: at most 2,000 characters, also once normalised. Nested at most 50 deep: parentheses
            are a level, and so is every operator, but a flat chain of one operator is one level.
        scope: parameter name -> its choices, all of one type.
        constants: further names that may be read -> their values.
        prefix: such as "decoder.half."; a name is looked up behind it first, then as it stands.

    Raises:
        ExpressionError: not an expression, an unknown name, types that do not fit, or a
            parameter compared with a literal that it never equals.
    """
    source = _Source(text, scope, constants, prefix)
    tree = parse(text)
    node = _typed(source, tree, TRUTH)
    words = list(tokens(tree))
    names = [source.absolute(word) for word in words if word.type == "NAME"]
    written = _written(source, words)
    if len(written) > LONGEST_TEXT:
        raise source.error(tree, f"longer than {LONGEST_TEXT:,} characters with full names")
    return Expression(written, tuple(dict.fromkeys(n for n in names if n in scope)), node)


@dataclass(frozen=True)
class _Source:
    """A text and the names that it may use."""

    text: str
    scope: Mapping[str, Sequence[Choice]]
    constants: Mapping[str, Choice]
    prefix: str

    def error(self, branch: Branch, what: str) -> ExpressionError:
        return error(self.text, start(branch), what)

    def find(self, name: str) -> str | None:
        for known in (self.prefix + name, name):
            if known in self.scope or known in self.constants:
                return str(known)
        return None

    def absolute(self, token: Token) -> str:
        found = self.find(token)
        if found is None:
            what = f"unknown name {excerpt(self.text, token)!r}{self._nearest(token)}"
            raise self.error(token, what)
        return found

    def _nearest(self, name: str) -> str:
        full = [*self.scope, *self.constants]
        relative = [n.removeprefix(self.prefix) for n in full if n.startswith(self.prefix)]
        longer = [n for n in full if n.endswith("." + name)]
        return did_you_mean(longer[0], longer) if longer else did_you_mean(name, relative + full)


def _node(source: _Source, branch: Branch) -> Node:
    if isinstance(branch, str):
        return _leaf(source, branch)
    parts = branch.children
    match branch.data:
        case "group":
            return _node(source, parts[1])
        case "minus":
            return _minus(_typed(source, parts[1], NUMBER))
        case "sum" | "product":
            return Arithmetic(tuple(map(str, parts[1::2])), _all_typed(source, parts, NUMBER))
        case "comparison":
            return _comparison(source, parts)
        case "within":
            return _within(source, parts[0], parts[3:-1:2])
        case "without":
            return Not(_within(source, parts[0], parts[4:-1:2]))
        case "negated":
            return Not(_typed(source, parts[1], TRUTH))
        case "implication":
            condition, consequence = _all_typed(source, parts, TRUTH)
            return Join(True, (Not(condition), consequence))
        case _:
            return Join(branch.data == "some", _all_typed(source, parts, TRUTH))


def _leaf(source: _Source, token: Token) -> Node:
    if token.type == "NAME":
        name = source.absolute(token)
        if name in source.scope:
            return Read(name, tuple(source.scope[name]))
        return _literal(source, token, source.constants[name], constant=True)
    if token.type == "TEXT":
        return Literal(token[1:-1])
    if token.type == "NUMBER":
        return _literal(source, token, float(token) if "." in token else int(token))
    return Literal(token.type == "TRUE")


def _literal(source: _Source, token: Token, value: Choice, constant: bool = False) -> Literal:
    if isinstance(value, (bool, str)):
        return Literal(value, constant)
    if abs(value) > LARGEST_NUMBER:
        raise source.error(token, f"numbers end at 2**53 = {LARGEST_NUMBER}")
    return Literal(float(value), constant)


def _minus(operand: Node) -> Node:
    if isinstance(operand, Literal):
        return replace(operand, value=-float(operand.value))
    return Arithmetic(("*",), (Literal(-1.0), operand))


def _typed(source: _Source, branch: Branch, needed: str) -> Node:
    node = _node(source, branch)
    _check_kind(source, branch, node, needed)
    return node


def _all_typed(source: _Source, parts: Sequence[Branch], needed: str) -> tuple[Node, ...]:
    """The operands of a chain, which stand at every other place."""
    return tuple(_typed(source, part, needed) for part in parts[::2])


def _comparison(source: _Source, parts: Sequence[Branch]) -> Node:
    _check_quotes(source, parts[::2])
    operators = tuple(map(str, parts[1::2]))
    nodes = tuple(_node(source, part) for part in parts[::2])
    sides = list(zip(parts[::2], nodes, strict=True))
    for operator, (left, right) in zip(operators, pairwise(sides), strict=True):
        if operator in ORDER:
            _check_kind(source, *left, NUMBER)
            _check_kind(source, *right, NUMBER)
        else:
            _check_equality(source, left, right)
    return Compare(operators, nodes)


def _within(source: _Source, branch: Branch, items: Sequence[Branch]) -> Node:
    _check_quotes(source, [branch, *items])
    node = _node(source, branch)
    nodes = tuple(_node(source, item) for item in items)
    for item in zip(items, nodes, strict=True):
        _check_equality(source, (branch, node), item)
    return In(node, nodes)


def _check_kind(source: _Source, branch: Branch, node: Node, needed: str) -> None:
    if kind(node) != needed:
        what = f"{excerpt(source.text, branch)!r} is {kind(node)}, where {needed} is needed"
        raise source.error(branch, what)


def _check_quotes(source: _Source, operands: Sequence[Branch]) -> None:
    """Refuses an unknown word that is a choice of a parameter it is compared with."""
    words = [word for word in operands if isinstance(word, str) and word.type == "NAME"]
    choices = [c for word in words for c in source.scope.get(source.find(word) or "", ())]
    for word in words:
        if source.find(word) is None and word in choices:
            raise source.error(word, f"unknown name {str(word)!r}; write '{word}' in quotes")


def _check_equality(source: _Source, left: tuple[Branch, Node], right: tuple[Branch, Node]) -> None:
    kinds = [kind(node) for _, node in (left, right)]
    if kinds[0] != kinds[1]:
        texts = [repr(excerpt(source.text, branch)) for branch, _ in (left, right)]
        what = f"{texts[0]} is {kinds[0]} and {texts[1]} is {kinds[1]}: they are never equal"
        raise source.error(left[0], what)
    for (_, read), (branch, literal) in ((left, right), (right, left)):
        if isinstance(read, Read) and isinstance(literal, Literal):
            _check_choice(source, read, branch, literal)


def _check_choice(source: _Source, read: Read, branch: Branch, literal: Literal) -> None:
    if literal.constant or literal.value in read.choices:
        return
    nearest = did_you_mean(str(literal.value), map(str, read.choices)) if kind(read) == TEXT else ""
    choices = f"; it is one of {', '.join(map(shown, read.choices))}"
    raise source.error(branch, f"{read.name} is never {shown(literal.value)}{nearest or choices}")


def _written(source: _Source, words: Sequence[Token]) -> str:
    """The text with full names and one space between tokens, but none within brackets."""
    text, joined, valued = "", True, False
    for word in words:
        space = "" if joined or word in (")", "]", ",") else " "
        text += space + _word(source, word)
        joined = word in ("(", "[") or (word == "-" and not valued)
        valued = word.type in VALUES
    return text


def _word(source: _Source, word: Token) -> str:
    if word.type == "NAME":
        return source.absolute(word)
    if word.type == "TEXT":
        return shown(word[1:-1])
    return shown(float(word)) if word.type == "NUMBER" else str(word)
