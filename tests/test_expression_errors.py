"""Texts that are no expressions: one line that says what and where, and nothing worse."""

from __future__ import annotations

import re

import pytest
from expression_trees import CONSTANTS, SCOPE
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.expressions import ExpressionError, parse_expression

ERRORS = [
    ("dpeth == 1", 1, "unknown name 'dpeth'; did you mean 'depth'?"),
    ("flag and widht == 1", 10, "unknown name 'widht'; did you mean 'width'?"),
    ("scaled and latnet == 8", 12, "unknown name 'latnet'; did you mean 'latent'?"),
    ("full.kernel == 3", 1, "unknown name 'full.kernel'"),
    ("kernel == 3", 1, "unknown name 'kernel'; did you mean 'quarter.kernel'?"),
    ("block == residual", 10, "write 'residual' in quotes"),
    ("residual == block", 1, "write 'residual' in quotes"),
    ("block in ['größe', residual]", 20, "write 'residual' in quotes"),
    ("block == 'residul'", 10, "half.block is never 'residul'; did you mean 'residual'?"),
    ("'zzz' != block", 1, "half.block is never 'zzz'; it is one of 'residual',"),
    ("block in ['größe', 'resiual']", 20, "never 'resiual'; did you mean 'residual'?"),
    ("width == 9", 10, "half.width is never 9; it is one of 0, 0.1, 1, 8"),
    ("width not in [8, -8]", 18, "half.width is never -8"),
    ("8 == width == 64", 15, "half.width is never 64"),
    ("always == false", 11, "always is never false; it is one of true"),
    ("block == 8", 1, "'block' is text and '8' is a number: they are never equal"),
    ("8 in [1, 'one']", 1, "'8' is a number and \"'one'\" is text"),
    ("flag == 1", 1, "'flag' is true or false and '1' is a number"),
    ("latent == 'x'", 1, "'latent' is a number and \"'x'\" is text"),
    ("block < 'residual'", 1, "'block' is text, where a number is needed"),
    ("1 < depth < flag", 13, "'flag' is true or false, where a number is needed"),
    ("flag + 1 > 1", 1, "'flag' is true or false, where a number is needed"),
    ("1 + 2 * block > 1", 9, "'block' is text, where a number is needed"),
    ("-flag == 1", 2, "'flag' is true or false, where a number is needed"),
    ("width", 1, "'width' is a number, where true or false is needed"),
    ("flag and (width + 1)", 10, "'(width + 1)' is a number, where true or false is needed"),
    ("not block", 5, "'block' is text, where true or false is needed"),
    ("flag implies 'x'", 14, "\"'x'\" is text, where true or false is needed"),
    ("1", 1, "'1' is a number, where true or false is needed"),
    ("9007199254740993 > 1", 1, "numbers end at 2**53"),
    ("1" * 400 + " > 1", 1, "numbers end at 2**53"),
    ("flag && flag", 6, "'&' means nothing here"),
    ("width = 8", 7, "'=' means nothing here; did you mean '=='?"),
    ("block == 'residual", 10, "without its second quote"),
    ("flag andd flag", 6, "'andd', where an operator or the end was expected; did you mean 'and'?"),
    ("flag OR flag", 6, "did you mean 'or'?"),
    (
        "block == 2x2",
        11,
        "'x2', where an operator or the end was expected; text is written in quotes",
    ),
    ("flag not flag", 10, "'flag', where 'in' was expected"),
    ("width in 8", 10, "'8', where '[' was expected"),
    ("width in []", 11, "']', where a value was expected"),
    ("width in [8", 12, "the end, where ',' or ']' was expected"),
    ("(flag", 6, "the end, where ')' was expected"),
    ("flag)", 5, "')', where an operator or the end was expected"),
    ("and and", 1, "'and', where a value was expected"),
    ("flag and and flag", 10, "'and', where a value was expected"),
    ("width == not flag", 10, "'not', where a value was expected"),
    ("", 1, "the end, where a value was expected"),
    ("  ", 3, "the end, where a value was expected"),
    ("flag\nand flag", 5, "not a printable character"),
    ("flag\x00", 5, "not a printable character"),
    ("block == 'resi\ud800dual'", 15, "not a printable character"),
    (" " * 2001 + "flag", 2001, "longer than 2,000 characters"),
]


@pytest.mark.parametrize(("text", "position", "message"), ERRORS)
def test_an_error_is_one_line_that_says_what_and_where(
    text: str, position: int, message: str
) -> None:
    scope = SCOPE | {"always": (True,), "quarter.kernel": (3,)}
    with pytest.raises(ExpressionError, match=re.escape(message)) as caught:
        parse_expression(text, scope, CONSTANTS, prefix="half.")
    assert f", position {position}: " in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


def test_constants_are_checked_by_type_alone() -> None:
    for text in ("latent == 5", "depth == -latent", "depth == latent", "block == mode"):
        parse_expression(text, SCOPE, {"latent": 77, "mode": "other"}, prefix="half.")
    with pytest.raises(ExpressionError, match=r"numbers end at 2\*\*53"):
        parse_expression("huge > 1", {}, {"huge": 10**400})


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(" * 100_000 + "flag" + ")" * 100_000,
        "(" * 990 + "flag" + ")" * 990,
        "(" * 1990,
        "not " * 490 + "flag",
        "-" * 1990 + "1 > 1",
        "[" * 1990,
        "flag implies " * 150 + "flag",
        "__import__('os').system('x')",
        "flag.__class__",
        "().__class__.__bases__[0]",
        "lambda: flag",
        "lambda flag: flag",
        "[flag for flag in [1]]",
        "flag if flag else flag",
        "flag := true",
        "depth ** 9 ** 9 > 1",
        "9**9**9 > 1",
        "depth / 0 > 1",
        "depth % 2 == 0",
        "f'{flag}' == 'x'",
        "flag; flag",
        "flag # flag",
        "context[0] == 'r'",
        "depth == 1_0",
        "depth == 0x1",
        "depth < 1e5",
        "depth < inf",
        "ﬂag",
        "depth > ٣",
        "flag\u00a0and flag",
        "flag\u2028",
        "\ufeffflag",
        "\x00" * 1000,
        "\ud800",
        "\\",
        "'" * 1999,
        "x" * 2000,
    ],
)
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text, SCOPE, CONSTANTS)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("before", "after"),
    [("(", ")"), ("not ", ""), ("flag implies ", ""), ("false or (", ")"), ("(not ", ")")],
)
def test_nesting_ends_at_fifty_levels(before: str, after: str) -> None:
    levels = 1 if before in ("(", "not ", "flag implies ") else 2
    deepest = 50 // levels
    parse_expression(before * deepest + "flag" + after * deepest, SCOPE)
    deepest += 1
    with pytest.raises(ExpressionError, match="nested more than 50 deep"):
        parse_expression(before * deepest + "flag" + after * deepest, SCOPE)


def test_a_text_of_two_thousand_characters_is_not_too_long() -> None:
    text = "flag" + " " * 1996
    assert parse_expression(text, SCOPE).text == "flag"
    with pytest.raises(ExpressionError, match="longer than 2,000 characters"):
        parse_expression(text + " ", SCOPE)


def test_what_is_too_long_with_full_names_is_refused() -> None:
    text = " and ".join(["scaled"] * 181)
    parse_expression(text[: -len(" and scaled") * 60], SCOPE, prefix="half.")
    with pytest.raises(ExpressionError, match="longer than 2,000 characters with full names"):
        parse_expression(text, SCOPE, prefix="half.")


WORDS = ["and", "or", "not", "in", "implies", "true", "flag", "depth", "context", "latent", "width"]
WORDS += ["==", "<", "!=", "=", "(", ")", "[", "]", ",", "+", "-", "*", ".", "8", "0.1", "1" * 20]
WORDS += ["'residual'", "'", '"x"', "block", "\n", "é"]


@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
@settings(max_examples=600, deadline=None)
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    try:
        expression = parse_expression(text, SCOPE, CONSTANTS, prefix="half.")
    except ExpressionError:
        return
    assert parse_expression(expression.text, SCOPE, CONSTANTS).text == expression.text
