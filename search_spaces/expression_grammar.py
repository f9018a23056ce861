"""From the text of an expression to its syntax tree, or to one line about what is wrong with it.

The parser is a table and a stack (LALR), so that no text makes it recurse; trees that are nested
too deeply are refused before anything walks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from search_spaces.hints import did_you_mean

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.exceptions import UnexpectedInput

    Branch = Token | Tree[Token]

LONGEST_TEXT = 2000
DEEPEST_NESTING = 50
WORDS = ("and", "or", "not", "in", "implies")
SIGNS = {"COMMA": ",", "IN": "in", "LSQB": "[", "RPAR": ")", "RSQB": "]"}
GRAMMAR = r"""
?start: implication
?implication: some ("implies" implication)?
?some: every ("or" every)*
?every: negation ("and" negation)*
?negation: "not" negation -> negated
         | comparison
?comparison: sum (COMPARISON sum)*
           | sum "in" "[" sum ("," sum)* "]" -> within
           | sum "not" "in" "[" sum ("," sum)* "]" -> without
?sum: product ((PLUS | MINUS) product)*
?product: sign ("*" sign)*
?sign: MINUS sign -> minus
     | value
?value: "(" implication ")" -> group
      | NAME | NUMBER | TEXT | TRUE | FALSE
TRUE: "true"
FALSE: "false"
PLUS: "+"
MINUS: "-"
COMPARISON: /[=!<>]=|[<>]/
NAME: /[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*/
NUMBER: /[0-9]+(\.[0-9]+)?/
TEXT: /'[^']*'|"[^"]*"/
%ignore " "
"""


class ExpressionError(ValueError):
    """A text that is no expression over the given names; the message says what and where."""


def error(text: str, at: int, what: str) -> ExpressionError:
    """An error that shows the text around a position, counted from 0."""
    start = max(0, at - 40)
    cut = text[start : at + 40]
    before, after = "..." * (start > 0), "..." * (start + len(cut) < len(text))
    return ExpressionError(f"{before + cut + after!r}, position {at + 1}: {what}")


def parse(text: str) -> Branch:
    """The syntax tree, punctuation included; a lone token is itself.

    Raises:
        ExpressionError: longer than 2,000 characters, not printable, not in the grammar, or
            nested more than 50 deep.
    """
    from lark.exceptions import UnexpectedInput

    if len(text) > LONGEST_TEXT:
        raise error(text, LONGEST_TEXT, "longer than 2,000 characters")
    if not text.isprintable():
        at = next(i for i, letter in enumerate(text) if not letter.isprintable())
        raise error(text, at, f"{text[at]!r} is not a printable character")
    try:
        tree: Branch = _parser().parse(text)
    except UnexpectedInput as problem:
        raise _syntax_error(text, problem) from None
    _check_depth(text, tree)
    return tree


def tokens(tree: Branch) -> Iterator[Token]:
    """All tokens of a tree, in the order of the text."""
    stack = [tree]
    while stack:
        branch = stack.pop()
        if isinstance(branch, str):
            yield branch
        else:
            stack.extend(reversed(branch.children))


def start(branch: Branch) -> int:
    """Where it starts in the text, counted from 0."""
    return (branch.start_pos if isinstance(branch, str) else branch.meta.start_pos) or 0


def excerpt(text: str, branch: Branch) -> str:
    """What was written, shortened to 40 characters."""
    end = branch.end_pos if isinstance(branch, str) else branch.meta.end_pos
    return _cut(text[start(branch) : end])


def shown(value: float | str | bool) -> str:
    """A value as it is written in an expression: quoted text, numbers without an exponent."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if "'" in value else f"'{value}'"
    return np.format_float_positional(value, trim="-")


@cache
def _parser() -> Lark:
    from lark import Lark  # here, because most who import this room parse nothing

    return Lark(
        GRAMMAR, parser="lalr", lexer="basic", keep_all_tokens=True, propagate_positions=True
    )


def _check_depth(text: str, tree: Branch) -> None:
    level = [tree]
    for _ in range(DEEPEST_NESTING + 1):
        nodes = [branch for branch in level if not isinstance(branch, str)]
        level = [child for node in nodes for child in node.children]
    if nodes:
        raise error(text, start(nodes[0]), f"nested more than {DEEPEST_NESTING} deep")


def _syntax_error(text: str, problem: UnexpectedInput) -> ExpressionError:
    from lark.exceptions import UnexpectedToken

    if not isinstance(problem, UnexpectedToken):
        return _character_error(text, problem.pos_in_stream or 0)
    token, expected = problem.token, _expected(problem.expected)
    if token.type == "$END":
        return error(text, len(text), f"the end, where {expected} was expected")
    hint = _hint(text, token) if token.type == "NAME" else ""
    return error(text, start(token), f"{_cut(token)!r}, where {expected} was expected{hint}")


def _hint(text: str, name: Token) -> str:
    if text[: start(name)][-1:].isdigit():  # such as 2x2
        return "; text is written in quotes"
    return did_you_mean(name.lower(), WORDS)


def _character_error(text: str, at: int) -> ExpressionError:
    if text[at] in "'\"":
        return error(text, at, "quoted text without its second quote")
    return error(text, at, f"{text[at]!r} means nothing here{did_you_mean(text[at], ['=='])}")


def _expected(terminals: set[str]) -> str:
    if "NAME" in terminals:
        return "a value"
    if terminals <= SIGNS.keys():
        return " or ".join(repr(SIGNS[terminal]) for terminal in sorted(terminals))
    return "an operator or the end"


def _cut(text: str) -> str:
    return str(text) if len(text) <= 40 else text[:37] + "..."
