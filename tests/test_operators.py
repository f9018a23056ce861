"""Neighbours, mutation and crossover: what they promise, beside plain brute force."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_spaces import Code, RandomSpace, as_set, random_spaces, space_of, with_elimination
from scipy.stats import chisquare

from search_spaces import operators
from search_spaces.elimination import eliminate
from search_spaces.load import load_space
from search_spaces.rules import RuleError
from search_spaces.space import Codes, Parameter, SearchSpace

seeds = st.integers(0, 2**32 - 1)


def parents(random: RandomSpace, seed: int) -> tuple[np.random.Generator, Codes, Codes]:
    rng = np.random.default_rng(seed)
    first, second = (random.codes[rng.integers(0, len(random.members), 30)] for _ in range(2))
    return rng, first, second


@given(random_spaces(), st.sampled_from([6, 12, 30, 2**18]), seeds)
@settings(max_examples=60, deadline=None)
def test_no_operator_leaves_the_members(random: RandomSpace, largest_table: int, seed: int) -> None:
    try:
        space = with_elimination(random.space, eliminate(random.space.rules, largest_table))
    except RuleError:
        assume(False)
    rng, first, second = parents(random, seed)
    for codes in (
        operators.mutate(space, first, rng),
        operators.crossover(space, first, second, rng),
        operators.neighbours(space, first),
    ):
        assert as_set(codes) <= set(random.members)
        assert space.valid(codes).all()


@given(random_spaces(least_members=2), seeds)
@settings(max_examples=60, deadline=None)
def test_mutation_changes_every_architecture(random: RandomSpace, seed: int) -> None:
    codes = random.codes
    mutated = operators.mutate(random.space, codes, np.random.default_rng(seed))
    assert mutated.shape == codes.shape
    assume(len(codes) > 1)
    assert (mutated != codes).any(axis=1).all()


def test_mutation_leaves_the_only_architecture_as_it_is() -> None:
    space = space_of([Parameter("a", (1, 2)), Parameter("b", (3,))], ["a == 2"])
    codes = space.enumerate()
    assert operators.mutate(space, codes, np.random.default_rng(0)).tolist() == codes.tolist()


def test_mutation_changes_about_one_decision_and_each_as_often() -> None:
    space = space_of(Parameter(f"p{i}", (0, 1, 2)) for i in range(10))
    rng = np.random.default_rng(0)
    codes = space.sample(rng, 4000)
    changed = operators.mutate(space, codes, rng) != codes
    assert 1.8 < changed.sum(axis=1).mean() < 2.0  # one for certain, 9 with probability 1 / 10
    assert chisquare(changed.sum(axis=0)).pvalue > 1e-3


def test_ordered_choices_move_to_near_ones_more_often() -> None:
    space = space_of([Parameter("width", (8, 16, 24, 32, 40), ordered=True)])
    codes = np.full((6000, 1), 1)
    moved = operators.mutate(space, codes, np.random.default_rng(0))[:, 0]
    weights = np.array([1, 1, 1 / 2, 1 / 4])
    counts = np.bincount(moved, minlength=5)[[0, 2, 3, 4]]
    assert chisquare(counts, weights / weights.sum() * 6000).pvalue > 1e-3


def test_unordered_choices_move_anywhere_alike() -> None:
    space = space_of([Parameter("block", ("a", "b", "c", "d"))])
    moved = operators.mutate(space, np.full((6000, 1), 1), np.random.default_rng(0))[:, 0]
    assert chisquare(np.bincount(moved, minlength=4)[[0, 2, 3]]).pvalue > 1e-3


@given(random_spaces(), seeds)
@settings(max_examples=60, deadline=None)
def test_crossover_of_an_architecture_with_itself_is_itself(random: RandomSpace, seed: int) -> None:
    codes = random.codes
    crossed = operators.crossover(random.space, codes, codes, np.random.default_rng(seed))
    assert crossed.tolist() == codes.tolist()


@given(random_spaces(), seeds)
@settings(max_examples=60, deadline=None)
def test_children_are_like_a_parent_wherever_that_is_possible(
    random: RandomSpace, seed: int
) -> None:
    """A gene that neither parent has stands only where the genes before it rule one of them out."""
    rng, first, second = parents(random, seed)
    rules = random.space.rules
    children = rules.states(operators.crossover(random.space, first, second, rng))
    members = rules.states(random.codes)
    decided: list[int] = []
    for column in [decision.column for decision in random.space.elimination.decisions]:
        for child, *both in zip(children, rules.states(first), rules.states(second), strict=True):
            wished = {p[column] for p in both} - {rules.inactive[column]}
            if wished and child[column] != rules.inactive[column] and child[column] not in wished:
                same = (members[:, decided] == child[decided]).all(axis=1)
                assert not wished <= set(members[same, column])
        decided.append(column)


def test_free_genes_come_from_both_parents_alike() -> None:
    space = space_of(Parameter(f"p{i}", (0, 1)) for i in range(50))
    zeros, ones = np.zeros((40, 50), dtype=int), np.ones((40, 50), dtype=int)
    children = operators.crossover(space, zeros, ones, np.random.default_rng(0))
    assert 0.45 < children.mean() < 0.55
    assert len(np.unique(children, axis=0)) == 40


def test_genes_that_one_parent_alone_has_are_kept_with_what_switches_them_on() -> None:
    space = space_of(
        [Parameter("depth", (0, 1)), Parameter("width", (8, 16, 32), when="depth > 0")]
    )
    without, wide = space.encode({"depth": 0}), space.encode({"depth": 1, "width": 32})
    pairs = np.tile(without, (50, 1)), np.tile(wide, (50, 1))
    children = operators.crossover(space, *pairs, np.random.default_rng(0))
    assert as_set(children) == as_set(np.array([without, wide]))


def single_changes(space: SearchSpace, code: Code) -> Iterator[Code]:
    for column, parameter in enumerate(space.parameters):
        for choice in range(len(parameter.choices)):
            step = abs(choice - code[column])
            if step == 1 or (step and not parameter.ordered):
                yield (*code[:column], choice, *code[column + 1 :])


@given(random_spaces(constrained=False, conditional=False), seeds)
@settings(max_examples=40, deadline=None)
def test_neighbours_without_rules_are_the_single_changes(random: RandomSpace, seed: int) -> None:
    code = random.members[seed % len(random.members)]
    found = operators.neighbours(random.space, np.array([code]))
    assert [tuple(row) for row in found.tolist()] == sorted(single_changes(random.space, code))


@given(random_spaces(), seeds)
@settings(max_examples=60, deadline=None)
def test_neighbours_are_all_that_one_decision_makes(random: RandomSpace, seed: int) -> None:
    """Whatever takes one decision alone is among them; whatever is among them takes no other."""
    space, code = random.space, random.members[seed % len(random.members)]
    own = space.rules.states(np.array([code]))[0]
    found = as_set(operators.neighbours(space, np.array([code])))
    assert code not in found
    order = [decision.column for decision in space.elimination.decisions]
    for member, states in zip(random.members, space.rules.states(random.codes), strict=True):
        changed = [c for c in order if states[c] != own[c]]
        if member in found:  # what stands before the change is untouched, and it is one step
            step = abs(states[changed[0]] - own[changed[0]])
            assert step == 1 or not space.parameters[changed[0]].ordered
        elif len(changed) == 1:
            assert member not in set(single_changes(space, code))


def test_neighbours_of_many_are_sorted_and_hold_none_of_them() -> None:
    space = load_space("tiny")
    codes = space.sample(np.random.default_rng(0), 40)
    found = operators.neighbours(space, codes)
    rows = [tuple(row) for row in found.tolist()]
    assert rows == sorted(set(rows))
    assert not set(rows) & as_set(codes)


def test_neighbours_switch_on_the_first_choices_that_rules_allow() -> None:
    parameters = [
        Parameter("depth", (0, 1), ordered=True),
        Parameter("width", (8, 16, 32), ordered=True, when="depth > 0"),
    ]
    space = space_of(parameters, ["width > 8"])
    off = space.encode({"depth": 0})
    assert operators.neighbours(space, off[None]).tolist() == [[1, 1]]


@pytest.mark.parametrize("name", ["tiny", "pico_decoder", "codec"])
def test_shipped_spaces_are_walked_without_leaving_them(name: str) -> None:
    space = load_space(name)
    rng = np.random.default_rng(0)
    codes = space.sample(rng, 300)
    mutated = operators.mutate(space, codes, rng)
    assert (mutated != codes).any(axis=1).all()
    crossed = operators.crossover(space, codes, mutated[::-1], rng)
    assert space.valid(np.vstack([codes, mutated, crossed])).all()
    assert space.valid(operators.neighbours(space, codes[:20])).all()


def test_operators_hang_on_the_seed_alone() -> None:
    space = load_space("pico_decoder")
    codes = space.sample(np.random.default_rng(0), 50)

    def bred(seed: int) -> Codes:
        rng = np.random.default_rng(seed)
        return operators.crossover(space, codes, operators.mutate(space, codes, rng), rng)

    assert bred(1).tolist() == bred(1).tolist()
    assert bred(1).tolist() != bred(2).tolist()
