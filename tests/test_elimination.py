"""Counting, drawing and enumerating, beside plain brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_spaces import RandomSpace, as_set, random_spaces, space_of, with_elimination
from scipy.stats import chisquare

from search_spaces.elimination import eliminate, extremes
from search_spaces.factors import Table
from search_spaces.rules import RuleError
from search_spaces.space import Parameter, SearchSpace, SpaceError

seeds = st.integers(0, 2**32 - 1)


@given(random_spaces(least_members=0))
@settings(max_examples=60, deadline=None)
def test_size_and_enumeration_are_what_brute_force_finds(random: RandomSpace) -> None:
    codes = random.space.enumerate()
    assert random.space.exact
    assert random.space.size == len(random.members) == len(codes)
    assert as_set(codes) == set(random.members)
    assert random.space.valid(codes).all()


@given(random_spaces(least_members=0), seeds)
@settings(max_examples=60, deadline=None)
def test_valid_is_membership_for_any_row_of_integers(random: RandomSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, random.space.cardinalities + 1, (200, len(random.space.names)))
    members = set(random.members)
    expected = [tuple(row) in members for row in rows.tolist()]
    assert random.space.valid(rows).tolist() == expected


@given(random_spaces(), st.sampled_from([2, 6, 12, 30]), seeds)
@settings(max_examples=60, deadline=None)
def test_constraints_that_no_table_holds_are_looked_at_afterwards(
    random: RandomSpace, largest_table: int, seed: int
) -> None:
    try:
        space = with_elimination(random.space, eliminate(random.space.rules, largest_table))
    except RuleError:
        assume(False)
    assert space.elimination.count >= len(random.members)
    assert space.exact == (not space.elimination.loose)
    assert as_set(space.enumerate()) == set(random.members)
    assert as_set(space.sample(np.random.default_rng(seed), 50)) <= set(random.members)


@given(random_spaces(), seeds, st.data())
@settings(max_examples=60, deadline=None)
def test_columns_decided_first_take_all_their_combinations(
    random: RandomSpace, seed: int, data: Any
) -> None:
    rules = random.space.rules
    columns = data.draw(st.lists(st.sampled_from(range(len(rules.parameters))), unique=True))
    states = eliminate(rules, first=columns).enumerate(len(columns))
    expected = {tuple(row) for row in rules.states(random.codes)[:, columns].tolist()}
    assert len(states) == len(expected)
    assert {tuple(row) for row in states[:, columns].tolist()} == expected
    assert as_set(rules.codes(states)) <= set(random.members)


@given(random_spaces(), st.data())
@settings(max_examples=60, deadline=None)
def test_extremes_are_those_of_all_members(random: RandomSpace, data: Any) -> None:
    rules = random.space.rules
    scopes = st.sets(st.sampled_from(range(len(rules.parameters))), max_size=3)
    terms = []
    for scope in data.draw(st.lists(scopes.map(lambda s: tuple(sorted(s))), max_size=4)):
        shape = tuple(rules.states_of[list(scope)])
        rng = np.random.default_rng(data.draw(seeds))
        terms.append(Table(scope, rng.integers(-9, 9, shape).astype(float)))
    states = rules.states(random.codes)
    sums = sum((t.values[tuple(states[:, list(t.scope)].T)] for t in terms), np.zeros(len(states)))
    assert extremes(rules, terms, 2**16) == (sums.min(), sums.max())


def nested() -> SearchSpace:
    parameters = (
        Parameter("kernel", (3, 5), when="width == 32"),
        Parameter("depth", (0, 1, 2)),
        Parameter("width", (8, 16, 32), when="depth > 0"),
    )
    return space_of(parameters)


def constrained() -> SearchSpace:
    widths = [Parameter(f"width{i}", (8, 16, 32, 64), ordered=True) for i in range(3)]
    kinds = [Parameter(f"kind{i}", ("a", "b"), when=f"width{i} > 8") for i in range(3)]
    rising = ["width0 <= width1", "width1 <= width2"]
    return space_of(
        [*kinds, *widths], [*rising, "kind0 == kind1", "kind2 == 'a' implies width0 < 32"]
    )


def loose() -> SearchSpace:
    """Its constraint needs a table of twice the largest size: 3 to the power of 12 entries."""
    parameters = [Parameter(f"p{i}", (0, 1, 2)) for i in range(12)]
    return space_of(parameters, [" + ".join(p.name for p in parameters) + " <= 10"])


def few() -> SearchSpace:
    """Loose by force, and most of what elimination draws is thrown away."""
    space = constrained()
    return with_elimination(space, eliminate(space.rules, largest_table=12))


@pytest.mark.parametrize("space", [nested(), constrained(), few()], ids=["nested", "tied", "loose"])
@pytest.mark.parametrize("seed", [0, 1])
def test_sampling_is_uniform_over_architectures(space: SearchSpace, seed: int) -> None:
    members = space.enumerate()
    codes = space.sample(np.random.default_rng(seed), 60 * len(members))
    found, counts = np.unique(codes, axis=0, return_counts=True)
    assert as_set(found) == as_set(members)
    assert chisquare(counts).pvalue > 1e-3


def test_spaces_count_to_what_the_hand_counts() -> None:
    assert nested().size == 1 + 2 * (2 + 2)
    assert not few().exact
    ways = np.ones(1)
    for _ in range(12):
        ways = np.convolve(ways, [1, 1, 1])
    assert len(loose().enumerate()) == ways[:11].sum()


def test_size_is_estimated_where_a_constraint_is_over_many_parameters() -> None:
    space = loose()
    ways = np.ones(1)
    for _ in range(12):
        ways = np.convolve(ways, [1, 1, 1])
    assert not space.exact
    assert space.size == pytest.approx(ways[:11].sum(), rel=0.02)
    sums = space.sample(np.random.default_rng(0), 4000).sum(axis=1)
    expected = ways[:11] / ways[:11].sum() * 4000
    counts = np.bincount(sums, minlength=11)
    assert (
        chisquare([counts[:5].sum(), *counts[5:]], [expected[:5].sum(), *expected[5:]]).pvalue
        > 1e-3
    )


def test_more_architectures_than_64_bits_hold_are_counted_exactly() -> None:
    parameters = [Parameter(f"p{i}", tuple(range(10))) for i in range(40)]
    space = space_of(parameters, ["p0 <= p1"])
    assert space.size == 55 * 10**38
    assert space.valid(space.sample(np.random.default_rng(0), 100)).all()


def test_choices_with_almost_no_share_are_still_choices() -> None:
    hundreds = [Parameter(f"p{i}", tuple(range(10)), when="on") for i in range(400)]
    space = space_of([Parameter("on", (True, False)), *hundreds])
    assert space.size == 10**400 + 1
    off = np.array([[1] + 400 * [0]])
    assert space.valid(off).all()
    shares = {d.column: d.share for d in space.elimination.decisions}
    assert (shares[0] > 0).all()


def test_draws_hang_on_the_seed_alone() -> None:
    space = constrained()
    first, again, other = (space.sample(np.random.default_rng(s), 50) for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_drawing_from_nothing_is_an_error() -> None:
    parameters = [Parameter(f"p{i}", (0, 1, 2)) for i in range(12)]
    nothing = " + ".join(p.name for p in parameters) + " > 30"
    for space in (space_of(parameters, [nothing]), space_of(parameters, ["p0 < p1", "p1 < p0"])):
        assert space.size == 0
        with pytest.raises(SpaceError, match="constraints leave"):
            space.sample(np.random.default_rng(0), 10)


def test_a_condition_over_too_many_parameters_is_refused() -> None:
    parameters = [Parameter(f"p{i}", (0, 1, 2)) for i in range(12)]
    when = " + ".join(p.name for p in parameters) + " > 3"
    space = space_of([*parameters, Parameter("last", (0, 1), when=when)])
    with pytest.raises(RuleError, match="reads too many parameters"):
        _ = space.size


def test_a_long_chain_of_neighbours_is_counted_though_all_hang_together() -> None:
    count = 60
    parameters = [Parameter(f"p{i}", (0, 1, 2)) for i in range(count)]
    space = space_of(parameters, [f"p{i} <= p{i + 1}" for i in range(count - 1)])
    assert space.size == sum(1 for _ in itertools.combinations_with_replacement(range(3), count))
