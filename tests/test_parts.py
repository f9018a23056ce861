"""Designs taken apart: look-ups that say what building would."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from random_spaces import RandomSpace, random_spaces, space_of

from search_spaces import operators
from search_spaces.blocks import Design, Network, Stage, Step
from search_spaces.load import load_space
from search_spaces.parts import Parts, PartsError, Piece, Place, find_parts, pieces
from search_spaces.space import Choice, Codes, Parameter, SearchSpace

Choices = Mapping[str, Choice]


def built_by(space: SearchSpace, builder: Callable[[Choices], Design]) -> SearchSpace:
    first = space.decode(space.enumerate()[0]) if space.size < 10**5 else {}
    first = first or {p.name: p.choices[0] for p in space.parameters}
    return SearchSpace(
        "test", space.parameters, builder, "test:build", {}, first, space.constraints
    )


def toy_space() -> SearchSpace:
    parameters = (
        Parameter("groups", (1, 2, 4), when="mixing == 'shuffle'"),
        Parameter("depth", (1, 2, 3, 4, 5, 6), ordered=True),
        Parameter("width", (8, 16, 32), ordered=True),
        Parameter("mixing", ("none", "shuffle")),
    )
    return built_by(space_of(parameters, ["width < 32 or depth < 6"]), toy.build_design)


def chain(widths: Iterable[int]) -> Design:
    """Layers of these widths, one after the other, as the only stage."""
    blocks = [toy.Layer(width, 1) for width in widths]
    names = ["x", *(f"layer.{i}" for i in range(len(blocks)))]
    steps = tuple(Step(names[i + 1], b, (names[i],)) for i, b in enumerate(blocks))
    return Design({"decode": Stage(Network(("x",), steps, (names[-1],)))}, 1, 1)


@dataclass(frozen=True)
class Layers:
    """Builds layers, each as wide as some parameters say together."""

    reads: tuple[tuple[str, ...], ...]

    def __call__(self, choices: Choices) -> Design:
        read = [[choices.get(name) for name in names] for names in self.reads]
        return chain(1 + zlib.crc32(repr(values).encode()) % 50 for values in read)


def parameters_of(place: Place, piece: Piece) -> float:
    return 0 if isinstance(piece, int) or place[1] != "weights" else piece.parameters


def macs_of(stage: str, place: Place, piece: Piece) -> float:
    return 0 if isinstance(piece, int) or place[0] != stage else piece.macs


def symbols_of(place: Place, piece: Piece) -> float:
    return piece if isinstance(piece, int) and place[1] == "symbols" else 0


@pytest.fixture(scope="module", params=["tiny", "pico_decoder", "toy"])
def parts(request: pytest.FixtureRequest) -> Parts:
    return find_parts(toy_space() if request.param == "toy" else load_space(request.param))


def test_sums_over_parts_are_those_of_the_built_designs(parts: Parts) -> None:
    space = parts.space
    codes = space.sample(np.random.default_rng(7), 100)
    designs = [space.design(space.architecture(code)) for code in codes]
    assert parts.total(codes, parameters_of).tolist() == [d.parameters for d in designs]
    for stage in designs[0].stages:
        expected = [d.kmacs_per_pixel(stage) * d.pixels_per_tile * 1e3 for d in designs]
        assert parts.total(codes, partial(macs_of, stage)) == pytest.approx(expected, rel=1e-12)
    symbols = [
        sum(stage.symbols_encoded + stage.symbols_decoded for stage in design.stages.values())
        for design in designs
    ]
    assert parts.total(codes, symbols_of).tolist() == symbols


def test_ranges_are_reached_and_not_left() -> None:
    for space in (toy_space(), load_space("tiny")):
        parts = find_parts(space)
        for measure in (parameters_of, partial(macs_of, "decode")):
            totals = parts.total(space.enumerate(), measure)
            assert parts.range(measure) == (totals.min(), totals.max())


@pytest.mark.parametrize(("name", "most"), [("tiny", 56), ("pico_decoder", 129)])
def test_the_blocks_of_a_space_are_those_of_its_members(name: str, most: int) -> None:
    space = load_space(name)
    found = {block.signature for block in find_parts(space).accelerator_blocks}
    assert len(found) == len(find_parts(space).accelerator_blocks) == most
    codes = space.sample(np.random.default_rng(5), 1500)
    designs = [space.design(space.architecture(code)) for code in codes]
    built = {block.signature for design in designs for block in design.accelerator_blocks}
    assert built <= found
    assert len(built) > 0.9 * len(found)


def test_the_blocks_of_a_small_space_are_exactly_those_of_its_members() -> None:
    space = toy_space()
    designs = [space.design(space.architecture(code)) for code in space.enumerate()]
    built = {block.signature for design in designs for block in design.accelerator_blocks}
    assert {block.signature for block in find_parts(space).accelerator_blocks} == built


def test_codec_is_taken_apart_into_blocks_that_can_be_measured() -> None:
    space = load_space("codec")
    parts = find_parts(space)
    assert len(parts.accelerator_blocks) <= 2000
    codes = space.sample(np.random.default_rng(3), 40)
    designs = [space.design(space.architecture(code)) for code in codes]
    assert parts.total(codes, parameters_of).tolist() == [d.parameters for d in designs]
    least, most = parts.range(parameters_of)
    assert least <= min(d.parameters for d in designs)
    assert max(d.parameters for d in designs) <= most


def test_pico_decoders_lie_around_those_of_the_paper() -> None:
    parts = find_parts(load_space("pico_decoder"))

    def kmacs_of(place: Place, piece: Piece) -> float:
        return macs_of("decode", place, piece) / 512**2 / 1e3

    def decoder_of(place: Place, piece: Piece) -> float:
        return 0 if isinstance(piece, int) or place[0] != "decode" else piece.parameters

    least, most = parts.range(kmacs_of)
    assert least < 32.7
    assert most > 48.0
    codes = parts.space.sample(np.random.default_rng(0), 20_000)
    kmacs, parameters = parts.total(codes, kmacs_of), parts.total(codes, decoder_of)
    near = (kmacs > 32.7) & (kmacs < 48.0) & (abs(parameters / 9.6e6 - 1) < 0.05)
    assert near.any()
    design = parts.space.design(parts.space.architecture(codes[near][0]))
    own = {step.name: step.block for step in design.stages["decode"].network.steps}
    assert sum(b.parameters for b in own.values()) == pytest.approx(9.6e6, rel=0.06)


@pytest.mark.parametrize("name", ["tiny", "pico_decoder", "codec"])
def test_different_architectures_are_different_networks(name: str) -> None:
    """Of one decision more than of any other pair: neighbours are compared."""
    space = load_space(name)
    rng = np.random.default_rng(2)
    for code in space.sample(rng, 200):
        own = pieces(space.design(space.architecture(code)))
        beside = operators.neighbours(space, code[None])
        for other in beside[rng.permutation(len(beside))[:2]]:
            assert pieces(space.design(space.architecture(other))) != own, space.decode(other)


@given(random_spaces(), st.data())
@settings(max_examples=40, deadline=None)
def test_what_hangs_on_a_few_parameters_is_foretold(random: RandomSpace, data: Any) -> None:
    names = st.lists(st.sampled_from(random.space.names), max_size=2, unique=True).map(tuple)
    reads = data.draw(st.lists(names, min_size=1, max_size=4))
    space = built_by(random.space, Layers(tuple(reads)))
    codes = random.codes[: 10 if len(random.members) > 300 else None]
    parts = find_parts(space)
    assert parts.total(codes, parameters_of).tolist() == [
        space.design(space.architecture(code)).parameters for code in codes
    ]


def exhaustively_right(space: SearchSpace) -> bool:
    codes: Codes = space.enumerate()
    built = [space.design(space.architecture(code)).parameters for code in codes]
    return find_parts(space).total(codes, parameters_of).tolist() == built


def test_an_interaction_of_three_parameters_is_learnt_from_the_first_that_shows_it() -> None:
    space = space_of(Parameter(f"p{i}", (1, 2, 3)) for i in range(5))

    def build(choices: Choices) -> Design:
        rare = choices["p0"] == choices["p2"] == choices["p4"] == 3
        return chain([8, 32 if rare else 16, int(choices["p1"])])

    assert exhaustively_right(built_by(space, build))


def test_a_place_that_only_some_architectures_have_is_learnt() -> None:
    space = space_of(Parameter(f"p{i}", (1, 2, 3, 4)) for i in range(4))

    def build(choices: Choices) -> Design:
        return chain([8] * (2 if choices["p0"] == choices["p3"] == 2 else 1))

    assert exhaustively_right(built_by(space, build))


def test_what_hangs_on_all_parameters_is_right_while_they_are_few() -> None:
    space = space_of([*(Parameter(f"p{i}", (1, 2, 3)) for i in range(5))], ["p0 <= p4"])
    assert exhaustively_right(built_by(space, Layers((space.names,))))


def test_ordered_choices_with_a_gap_between_them_are_learnt() -> None:
    parameters = [Parameter(f"p{i}", (1, 2, 3), ordered=True) for i in range(3)]
    space = space_of(parameters, ["p0 != 2", "p1 != 2"])
    assert exhaustively_right(built_by(space, Layers((("p0",), ("p0", "p1")))))


def test_a_single_architecture_is_taken_apart_too() -> None:
    assert exhaustively_right(built_by(space_of([Parameter("p", (1,))]), Layers((("p",), ()))))


@pytest.mark.parametrize("count", [10, 40])
def test_what_hangs_on_too_many_parameters_is_refused(count: int) -> None:
    space = space_of(Parameter(f"p{i}", (1, 2, 3)) for i in range(count))
    with pytest.raises(PartsError, match=r"test: .*layer\.0.* hangs on"):
        find_parts(built_by(space, Layers((space.names,))))


def test_a_builder_that_rolls_dice_is_refused() -> None:
    space = space_of(Parameter(f"p{i}", (1, 2, 3)) for i in range(3))
    rng = np.random.default_rng(0)
    with pytest.raises(PartsError, match="cannot be told apart"):
        find_parts(built_by(space, lambda choices: chain([int(rng.integers(1, 99))])))


def test_constraints_over_many_parameters_are_kept_while_learning() -> None:
    """What they forbid need not be built to know the rest."""
    space = space_of(Parameter(f"p{i}", (0, 1, 2)) for i in range(12))
    total = " + ".join(space.names) + " <= 14"
    space = built_by(space_of(space.parameters, [total]), Layers((("p0",), ("p1", "p2"))))
    assert not space.exact
    codes = space.sample(np.random.default_rng(1), 50)
    built = [space.design(space.architecture(code)).parameters for code in codes]
    assert find_parts(space).total(codes, parameters_of).tolist() == built
