"""The format of space files: what each key means, and the spaces that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from space_files import HEAD, SCALE, loaded, written

from search_spaces.document import read_declared
from search_spaces.load import SHIPPED, find_space, load_space, shipped_spaces
from search_spaces.space import Parameter, SearchSpace

BASE = """
parameters:
  depth: {ordered: [1, 2, 3]}
  width: {ordered: [8, 16], when: depth > 1}
  block: {choices: [residual, inverted]}
constraints: [block != 'inverted' or depth < 3]
reference: {depth: 1, block: residual}
"""


def conditions(space: SearchSpace) -> dict[str, str | None]:
    return {parameter.name: parameter.when for parameter in space.parameters}


def test_parameters_stand_as_written(tmp_path: Path) -> None:
    space = loaded(tmp_path, BASE)
    assert space.name == "mine"
    assert space.builder_name == "search_spaces.codec.family:build_design"
    assert space.parameters == (
        Parameter("depth", (1, 2, 3), ordered=True),
        Parameter("width", (8, 16), ordered=True, when="depth > 1"),
        Parameter("block", ("residual", "inverted")),
    )
    assert space.constraints == ("block != 'inverted' or depth < 3",)
    assert space.size == 2 * 1 + 2 * 2 + 1 * 2
    assert space.reference.choices == {"depth": 1, "block": "residual"}


def test_numbers_text_and_truth_keep_their_types(tmp_path: Path) -> None:
    menus = "a: {choices: [0, 1]}, b: {choices: [1.0, 0.5]}, c: {choices: [off, on]}"
    text = f"parameters: {{{menus}, d: {{choices: ['off', '1']}}}}\n"
    space = loaded(tmp_path, text + "reference: {a: 1, b: 1.0, c: on, d: '1'}")
    values = [space.reference.choices[name] for name in "abcd"]
    assert values == [1, 1.0, True, "1"]
    assert [type(value) for value in values] == [int, float, bool, str]


def test_templates_are_written_out_under_every_stage(tmp_path: Path) -> None:
    stages = """
stages:
  top.half: {template: scale, width: [32, 64, 96]}
  top.full: {template: scale, depth: 2}
constraints: [top.full.width <= top.half.width]
reference: {top: {half: {depth: 1}, full: {width: 16}}}
"""
    space = loaded(tmp_path, SCALE + stages)
    assert space.parameters == (
        Parameter("top.half.depth", (1, 2, 3), ordered=True),
        Parameter("top.half.width", (32, 64, 96), ordered=True, when="top.half.depth > 1"),
        Parameter("top.half.block", ("residual", "inverted"), default="residual"),
        Parameter("top.full.width", (8, 16), ordered=True, when="top.full.depth > 1"),
        Parameter("top.full.block", ("residual", "inverted"), default="residual"),
    )
    assert space.fixed == {"top.full.depth": 2}
    assert space.constraints == (
        "top.half.depth < 3 or top.half.width > 8",
        "top.full.depth < 3 or top.full.width > 8",
        "top.full.width <= top.half.width",
    )


def test_names_of_the_template_come_before_those_of_the_space(tmp_path: Path) -> None:
    text = """
templates:
  scale: {parameters: {depth: {choices: [1, 2]}, width: {choices: [8], when: depth == 2 and on}}}
stages: {top: {template: scale}}
parameters: {depth: {choices: [2, 3]}, on: {choices: [false, true]}, "top": {choices: [1]}}
reference: {depth: 2, "on": true, "top": 1, top.depth: 1}
""".replace("on:", '"on":')
    space = loaded(tmp_path, text)
    assert conditions(space)["top.width"] == "top.depth == 2 and on"


def test_fixed_values_and_references_may_be_nested_or_dotted(tmp_path: Path) -> None:
    stages = "stages: {top.half: {template: scale}}\n"
    nested = loaded(
        tmp_path,
        SCALE + stages + "fixed: {a: {b: {c: 1}, d: x}}\nreference: {top: {half: {depth: 1}}}",
    )
    dotted = loaded(
        tmp_path, SCALE + stages + "fixed: {a.b.c: 1, a.d: x}\nreference: {top.half.depth: 1}"
    )
    assert nested.fixed == dotted.fixed == {"a.b.c": 1, "a.d": "x"}
    assert nested.reference == dotted.reference


def test_defaults_need_not_stand_in_the_reference(tmp_path: Path) -> None:
    space = loaded(tmp_path, "parameters: {a: {choices: [1, 2], default: 2}}\nreference: {}")
    assert space.reference.choices == {"a": 2}


def test_a_mapping_for_when_means_all_of_its_entries(tmp_path: Path) -> None:
    text = """
parameters:
  a: {ordered: [1, 2, 3]}
  b: {choices: [x, it's, a  b]}
  c: {choices: [false, true]}
  d: {choices: [1, 2], when: {a: [1, 2], b: [it's, a  b], c: true}}
reference: {a: 3, b: x, c: false}
"""
    space = loaded(tmp_path, text)
    assert space.size == 3 * 3 * 2 + 2 * 2
    active = [row for row in space.enumerate() if "d" in space.decode(row)]
    assert {tuple(row[:3]) for row in np.array(active).tolist()} == {
        (a, b, 1) for a in (0, 1) for b in (1, 2)
    }


def test_long_expressions_may_be_folded_over_lines(tmp_path: Path) -> None:
    menus, reference = BASE.split("constraints: [block != 'inverted' or depth < 3]\n")
    first = "  - >\n    block != 'inverted'\n    or depth < 3\n"
    second = "  - |\n    depth\n    < 3\n"
    space = loaded(tmp_path, f"{menus}constraints:\n{first}{second}{reference}")
    assert space.constraints == ("block != 'inverted' or depth < 3", "depth < 3")


def test_anchors_and_aliases_are_allowed(tmp_path: Path) -> None:
    text = "parameters:\n  a: &menu {choices: [1, 2]}\n  b: *menu\nreference: {a: 1, b: &two 2}"
    assert loaded(tmp_path, text).size == 4


def test_a_paired_encoder_is_fixed_and_known_by_name(tmp_path: Path) -> None:
    space = loaded(
        tmp_path, BASE + "fixed: {a: 1}\npaired_encoder: {scaled: true, half: {depth: 2}}"
    )
    assert space.fixed == {"a": 1, "encoder.scaled": True, "encoder.half.depth": 2}
    assert space.paired_encoder == ("encoder.scaled", "encoder.half.depth")


def test_an_including_file_adds_to_what_it_includes(tmp_path: Path) -> None:
    written(tmp_path, HEAD + BASE + SCALE + "fixed: {a: 1}", "base.yaml")
    own = """
include: [base.yaml]
name: own
stages: {top: {template: scale}}
parameters: {new: {choices: [1, 2]}}
constraints: [top.depth <= depth, new == 1 or a == 1]
reference: {depth: 2, width: 8, new: 2, top.depth: 1}
"""
    space = load_space(written(tmp_path, own))
    assert space.name == "own"
    added = ("new", "top.depth", "top.width", "top.block")
    assert space.names == ("depth", "width", "block", *added)
    assert space.constraints == (
        "block != 'inverted' or depth < 3",
        "top.depth < 3 or top.width > 8",
        "top.depth <= depth",
        "new == 1 or a == 1",
    )
    expected = {"depth": 2, "width": 8, "block": "residual", "new": 2}
    assert space.reference.choices == {**expected, "top.depth": 1, "top.block": "residual"}


def test_own_fixed_values_take_the_place_of_included_parameters(tmp_path: Path) -> None:
    written(tmp_path, HEAD + BASE + "fixed: {a: 1}", "base.yaml")
    space = load_space(written(tmp_path, "include: [base.yaml]\nfixed: {depth: 1, a: 3}"))
    assert space.names == ("width", "block")
    assert space.fixed == {"a": 3, "depth": 1}
    assert space.size == 2  # without a width
    with_width = "include: [base.yaml]\nfixed: {depth: 3}\nreference: {width: 8}"
    space = load_space(written(tmp_path, with_width))
    assert space.enumerate().tolist() == [[0, 0], [1, 0]]  # inverted blocks are not three deep
    assert space.reference.choices == {"width": 8, "block": "residual"}


def test_a_fixed_value_beside_no_parameter_is_for_the_builder_alone(tmp_path: Path) -> None:
    space = loaded(tmp_path, BASE + "fixed: {latent_channels: 96}")
    assert space.all_choices(space.reference)["latent_channels"] == 96


def test_shipped_spaces_are_included_by_name(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("not: this one")
    space = load_space(written(tmp_path, "include: [tiny]\nfixed: {decoder.quarter.depth: 0}"))
    tiny = load_space("tiny")
    assert space.size == tiny.size // (1 + 3 * 16)
    assert space.builder is tiny.builder
    assert len(space.design(space.reference).stages) == 2


def test_includes_and_builders_are_relative_to_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "own.py").write_text("def build(choices):\n    return choices\n")
    written(inner, "parameters: {a: {choices: [1]}}\nreference: {a: 1}", "menus.yaml")
    written(inner, "name: x\nbuilder: ./own.py:build\ninclude: [menus.yaml]", "base.yaml")
    file = written(tmp_path, "include: [inner/base.yaml]")
    monkeypatch.chdir("/")
    space = load_space(file)
    assert space.builder({"a": 1}) == {"a": 1}
    assert space.builder_name == "./own.py:build"


def test_stages_of_an_included_file_may_share_its_template_with_own_ones(tmp_path: Path) -> None:
    stages = "stages: {first: {template: scale}}\nreference: {first.depth: 1}"
    written(tmp_path, SCALE + stages, "base.yaml")
    own = "include: [base.yaml]\nstages: {second: {template: scale, depth: [1, 2]}}\n"
    space = load_space(written(tmp_path, HEAD + own + "reference: {second.depth: 1}"))
    assert space.cardinalities.tolist() == [3, 2, 2, 2, 2, 2]


def test_an_unknown_space_names_those_that_ship() -> None:
    with pytest.raises(ValueError, match=r"shipped: .*tiny.*mean 'tiny'"):
        load_space("tinny")


def test_a_file_is_not_taken_for_a_shipped_name(tmp_path: Path) -> None:
    assert find_space("tiny", tmp_path) == SHIPPED / "tiny.yaml"
    with pytest.raises(ValueError, match="no search space at"):
        find_space("tiny.yaml", tmp_path)


@pytest.mark.parametrize("name", shipped_spaces())
def test_shipped_spaces_are_read_and_their_references_built(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    assert space.exact
    assert space.design(space.reference).stages.keys() == {"encode", "decode"}
    assert read_declared(find_space(name)).name == name


def test_shipped_spaces_are_of_the_stated_sizes() -> None:
    assert load_space("tiny").size == 129_360
    assert load_space("pico_decoder").size == 1_417_500
    assert load_space("codec").size > 10**15
