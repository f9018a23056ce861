"""Expressions: grammar, and Kleene's logic against a plain evaluator."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from expression_trees import (
    CONSTANTS,
    NUMBERS,
    SCOPE,
    Tree,
    conditions,
    decisions,
    meaning,
    names_in,
    rows_of_choices,
    tokens,
)
from hypothesis import given, settings

from search_spaces.expressions import parse_expression


@given(conditions, rows_of_choices)
@settings(max_examples=300, deadline=None)
def test_decisions_are_those_of_a_plain_evaluator(tree: Tree, rows: list[Any]) -> None:
    expression = parse_expression(" ".join(tokens(tree)), SCOPE, CONSTANTS)
    assert decisions(expression, rows) == [meaning(tree, row) for row in rows]
    assert set(expression.names) == names_in(tree)


@given(conditions, rows_of_choices)
@settings(max_examples=100, deadline=None)
def test_the_normalised_text_parses_to_itself(tree: Tree, rows: list[Any]) -> None:
    first = parse_expression("   ".join(tokens(tree)), SCOPE, CONSTANTS, prefix="half.")
    again = parse_expression(first.text, SCOPE, CONSTANTS)
    assert (again.text, again.names) == (first.text, first.names)
    assert "  " not in first.text
    assert decisions(again, rows) == decisions(first, rows)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("flag", "flag"),
        ("true", "true"),
        ("not   flag", "not flag"),
        ("(flag)and not(half.scaled)", "(flag) and not (half.scaled)"),
        ("depth==8", "depth == 8"),
        ("depth == 8.0", "depth == 8"),
        ("depth == 0.10", "depth == 0.1"),
        ("0.00000001 < depth", "0.00000001 < depth"),
        ("depth in[0 ,1,8 ]", "depth in [0, 1, 8]"),
        ("depth not  in [0]", "depth not in [0]"),
        ("0<= depth<8", "0 <= depth < 8"),
        ("depth-1 > - 3", "depth - 1 > -3"),
        ("depth - -(depth) > 0", "depth - -(depth) > 0"),
        (
            "context != \"residual\" or context=='größe'",
            "context != 'residual' or context == 'größe'",
        ),
        ('context == "it\'s"', 'context == "it\'s"'),
        ("flag implies half.scaled implies flag", "flag implies half.scaled implies flag"),
        ("9007199254740992 > depth", "9007199254740992 > depth"),
    ],
)
def test_spelling_is_normalised(text: str, normalised: str) -> None:
    assert parse_expression(text, SCOPE).text == normalised


@pytest.mark.parametrize(
    "text",
    [
        "true or true and false",
        "not true or true",
        "not 1 == 2",
        "not true == false",
        "false implies false implies false",
        "not ((false implies false) implies false)",
        "not (true implies false)",
        "false or true implies true and true",
        "2 + 3 * 2 == 8",
        "10 - 3 - 2 == 5",
        "10 - (3 - 2) == 9",
        "-2 + 3 == 1",
        "-2 * -3 == 6",
        "--2 == 2",
        "1 < 3 > 2 != 3",
        "not 1 < 3 < 2",
        "1 in [2, 1] and 3 not in [2, 1]",
        "1 + 1 in [2]",
        "'a' in ['b', \"a\"]",
        "(1 < 2) == (2 < 3) == true",
    ],
)
def test_operators_bind_as_documented(text: str) -> None:
    holds, fails = parse_expression(text, {}).decide({}, {})
    assert holds.shape == fails.shape == ()
    assert holds
    assert not fails


# By string: flag is true, false, inactive; by letter: half.scaled is.
@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("flag and half.scaled", ["TFU", "FFF", "UFU"]),
        ("flag or half.scaled", ["TTT", "TFU", "TUU"]),
        ("flag implies half.scaled", ["TFU", "TTT", "TUU"]),
        ("flag == half.scaled", ["TFU", "FTU", "UUU"]),
        ("not flag", ["FFF", "TTT", "UUU"]),
        ("flag in [half.scaled, true]", ["TTT", "FTU", "UUU"]),
        ("flag not in [half.scaled, true]", ["FFF", "TFU", "UUU"]),
        ("flag == half.scaled == true", ["TFU", "FFU", "UFU"]),
        ("flag == true or true", ["TTT", "TTT", "TTT"]),
    ],
)
def test_logic_is_kleenes(text: str, table: list[str]) -> None:
    expression = parse_expression(text, SCOPE)
    truths = [True, False, None]
    rest = {name: choices[0] for name, choices in SCOPE.items()}
    rows = [rest | {"flag": a, "half.scaled": b} for a in truths for b in truths]
    letters = {True: "T", False: "F", None: "U"}
    assert "".join(letters[d] for d in decisions(expression, rows)) == "".join(table)


def test_arithmetic_on_an_inactive_parameter_is_unknown() -> None:
    rows = [dict.fromkeys(SCOPE) | {"depth": depth} for depth in (None, 8)]
    assert decisions(parse_expression("0 * depth == 0", SCOPE), rows) == [None, True]
    assert decisions(parse_expression("depth + half.width > 0", SCOPE), rows) == [None, None]


def test_a_decision_over_an_open_grid_is_that_of_every_cell() -> None:
    text = "depth + 1 <= half.width or context == 'residual' and not flag"
    expression = parse_expression(text, SCOPE)
    states = [[*SCOPE[name], None] for name in expression.names]
    grids = np.ix_(*(np.arange(len(own)) for own in states))
    values, active = {}, {}
    for name, own, grid in zip(expression.names, states, grids, strict=True):
        values[name] = np.array([*own[:-1], own[0]])[grid]
        active[name] = grid < len(own) - 1
    holds, fails = expression.decide(values, active)
    assert holds.shape == fails.shape == tuple(map(len, states))
    others = dict.fromkeys(SCOPE)
    for cell in np.ndindex(holds.shape):
        picked = [own[i] for own, i in zip(states, cell, strict=True)]
        row = others | dict(zip(expression.names, picked, strict=True))
        assert decisions(expression, [row]) == [
            True if holds[cell] else False if fails[cell] else None
        ]
    assert holds.any()
    assert fails.any()
    assert not (holds | fails).all()


def test_names_are_looked_up_behind_the_prefix_first() -> None:
    scope = {"half.depth": (0, 1), "depth": (7,), "full.depth": (2,)}
    expression = parse_expression(
        "depth == 1 and full.depth == 2 or depth == latent or width == 3",
        scope,
        {"half.width": 4, "latent": 1},
        prefix="half.",
    )
    assert expression.names == ("half.depth", "full.depth")
    assert expression.text == (
        "half.depth == 1 and full.depth == 2 or half.depth == latent or half.width == 3"
    )
    assert parse_expression("depth == 7", scope).names == ("depth",)


def test_later_parts_of_names_may_start_with_digits_or_be_reserved_words() -> None:
    scope = {"a.2x.in": (1,), "android": (True,), "_": (True,), "nothing.true": (True,)}
    expression = parse_expression("a.2x.in == 1 and android and not _ or nothing.true", scope)
    assert expression.names == tuple(scope)


def test_expressions_are_equal_by_what_they_say_and_survive_pickling() -> None:
    first = parse_expression("half.width<8", SCOPE)
    second = parse_expression("width  < 8.0", SCOPE, prefix="half.")
    assert first == second
    assert hash(first) == hash(second)
    assert first == parse_expression("half.width < 8", {"half.width": (3, 4)})
    assert first != parse_expression("width < 1", SCOPE, prefix="half.")
    revived = pickle.loads(pickle.dumps(first))  # reads what this line wrote
    rows = [dict.fromkeys(SCOPE) | {"half.width": width} for width in (None, *NUMBERS)]
    assert decisions(revived, rows) == decisions(first, rows) == [None, True, True, True, False]


@pytest.mark.parametrize(
    "text",
    [
        " and ".join(["flag"] * 200),
        " or ".join(["not flag"] * 150),
        " + ".join(["depth"] * 240) + " > 1",
        " * ".join(["1"] * 480) + " == 1",
        " <= ".join(["depth"] * 220),
        f"depth in [{', '.join(['8'] * 600)}]",
    ],
)
def test_long_flat_chains_are_fine(text: str) -> None:
    expression = parse_expression(text, SCOPE)
    assert expression.text == text
    rows = [dict.fromkeys(SCOPE) | {"flag": True, "depth": 8}, dict.fromkeys(SCOPE)]
    assert decisions(expression, rows)[0] is ("not" not in text)


class Counted(dict[str, Any]):
    """A mapping that counts how often it is read."""

    reads = 0

    def __getitem__(self, name: str) -> Any:
        self.reads += 1
        return super().__getitem__(name)


@pytest.mark.parametrize(
    "step", ["true == ({}) == true", "({}) in [true, true]", "({}) not in [false, false]"]
)
def test_work_is_linear_in_the_nesting(step: str) -> None:
    text = "flag"
    for _ in range(24):
        text = step.format(text)
    values = Counted(flag=np.array([True, False]))
    holds, _ = parse_expression(text, SCOPE).decide(values, {"flag": np.ones(2, dtype=bool)})
    assert holds.tolist() == [True, False]
    assert values.reads == 1


def test_importing_expressions_does_not_import_the_parser() -> None:
    program = "import sys, search_spaces.expressions; print('lark' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "False"
