"""Spaces: canonical codes, round trips through choices, stable keys."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_spaces import RandomSpace, random_spaces, space_of

from search_spaces.space import Codes, Parameter, SearchSpace, SpaceError

seeds = st.integers(0, 2**32 - 1)


def any_codes(random: RandomSpace, seed: int) -> Codes:
    """Codes in range, most of them not canonical."""
    cardinalities = random.space.cardinalities
    return np.random.default_rng(seed).integers(0, cardinalities, (60, len(cardinalities)))


@given(random_spaces())
@settings(max_examples=60, deadline=None)
def test_codes_survive_a_round_trip_through_choices(random: RandomSpace) -> None:
    space = random.space
    for code in random.members[:40]:
        choices = space.decode(code)
        assert tuple(space.encode(choices).tolist()) == code
        architecture = space.architecture(code)
        assert architecture.code == code
        assert architecture.choices == choices
        assert space.key(choices) == architecture.key


@given(random_spaces())
@settings(max_examples=40, deadline=None)
def test_choices_hold_what_is_active_and_nothing_else(random: RandomSpace) -> None:
    states = random.space.rules.states(random.codes)
    for code, row in zip(random.members, states, strict=True):
        expected = [
            p.name for p, i in zip(random.space.parameters, row, strict=True) if i < len(p.choices)
        ]
        assert list(random.space.decode(code)) == expected


@given(random_spaces())
@settings(max_examples=40, deadline=None)
def test_defaults_and_what_is_inactive_need_not_be_stated(random: RandomSpace) -> None:
    space = random.space
    defaults = {p.name: p.default for p in space.parameters}
    for code in random.members[:20]:
        choices = space.decode(code)
        short = {name: x for name, x in choices.items() if x != defaults[name]}
        long = {p.name: p.choices[-1] for p in space.parameters} | choices
        assert space.encode(short).tolist() == space.encode(long).tolist() == list(code)


@given(random_spaces(), seeds)
@settings(max_examples=60, deadline=None)
def test_canonical_codes_stay_as_they_are(random: RandomSpace, seed: int) -> None:
    codes = any_codes(random, seed)
    canonical = random.space.canonical(codes)
    assert (random.space.canonical(canonical) == canonical).all()
    assert (random.space.canonical(random.codes) == random.codes).all()
    valid = random.space.valid(canonical)
    assert {tuple(row) for row in canonical[valid].tolist()} <= set(random.members)


@given(random_spaces(), seeds)
@settings(max_examples=60, deadline=None)
def test_codes_have_one_key_exactly_if_they_build_the_same(random: RandomSpace, seed: int) -> None:
    codes = np.vstack([any_codes(random, seed), random.codes[:60]])
    keys: dict[tuple[int, ...], set[str]] = {}
    for code in codes[random.space.valid(random.space.canonical(codes))]:
        architecture = random.space.architecture(code)
        keys.setdefault(architecture.code, set()).add(architecture.key)
    every = [key for found in keys.values() for key in found]
    assert len(every) == len(set(every)) == len(keys)


def test_defaults_are_left_out_of_the_key() -> None:
    before = space_of([Parameter("depth", (1, 2))])
    after = space_of([Parameter("context", ("none", "two"), default="none"), *before.parameters])
    key = before.architecture([1]).key
    assert after.architecture([0, 1]).key == key
    assert after.architecture([1, 1]).key != key


@pytest.mark.parametrize(
    "changed",
    [{"fixed": {"latent": 96}}, {"fixed": {"latent": 128.0}}, {"builder_name": "other:build"}],
)
def test_keys_tell_apart_what_is_built_otherwise(changed: dict[str, Any]) -> None:
    space = space_of([Parameter("depth", (1, 2))], latent=128)
    key = space.architecture([0]).key
    assert replace(space, **changed).architecture([0]).key != key
    assert replace(space, name="other").architecture([0]).key == key


def test_one_and_true_are_different_choices() -> None:
    numbers, truths = (space_of([Parameter("a", c)]) for c in ((0, 1), (False, True)))
    assert numbers.architecture([1]).key != truths.architecture([1]).key
    with pytest.raises(SpaceError, match="not True"):
        numbers.encode({"a": True})


def test_an_architecture_that_a_constraint_forbids_is_refused() -> None:
    menus = [Parameter(f"p{i}", (1, 2, 3)) for i in range(30)]
    space = space_of(menus, ["p3 <= p7", "p1 != 2"])
    with pytest.raises(SpaceError, match=r"^test: p3 = 3, p7 = 2 violates 'p3 <= p7'$"):
        space.architecture([0, 0, 0, 2, 0, 0, 0, 1] + 22 * [0])


@pytest.mark.parametrize("code", [[0], [0, 0, 0], [[0, 0]], [0, 2], [-1, 0]])
def test_what_is_no_code_is_refused(code: Any) -> None:
    space = space_of([Parameter("a", (1, 2)), Parameter("b", (1, 2))])
    with pytest.raises(SpaceError, match=r"test: (a code has 2 entries|code .* has an entry)"):
        space.architecture(code)


def test_keys_are_the_same_in_another_process(tiny: SearchSpace) -> None:
    program = "from search_spaces.load import load_space; print(load_space('tiny').reference.key)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == tiny.reference.key


def test_reading_a_space_does_not_import_torch() -> None:
    program = (
        "import sys; from search_spaces.load import load_space;"
        "s = load_space('tiny'); s.design(s.reference); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"decoder.half.deph": 1}, "did you mean 'decoder.half.depth'"),
        ({"decoder.quarter.depth": 5}, "decoder.quarter.depth is one of"),
        ({"decoder.quarter.depth": True}, "not True"),
        ({}, "has no value"),
    ],
)
def test_wrong_choices_are_named(tiny: SearchSpace, choices: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        tiny.encode(choices)
