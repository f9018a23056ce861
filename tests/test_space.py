"""Spaces: exact size, uniform sampling, canonical codes, stable keys."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from search_spaces.load import load_space
from search_spaces.space import Parameter, SearchSpace, SpaceError


@st.composite
def spaces(draw: Any) -> SearchSpace:
    parameters: list[Parameter] = []
    for i in range(draw(st.integers(1, 5))):
        choices = tuple(range(draw(st.integers(1, 4))))
        when = None
        if parameters and draw(st.booleans()):
            parent = draw(st.sampled_from(parameters))
            opens = draw(st.sets(st.sampled_from(parent.choices), min_size=1))
            when = f"{parent.name} in {sorted(opens)}"
        parameters.append(Parameter(f"p{i}", choices, when=when))
    return SearchSpace("random", tuple(parameters), lambda _: None, "none:none", {}, {})  # type: ignore[arg-type,return-value]


def brute_force(space: SearchSpace) -> set[tuple[int, ...]]:
    every = np.array(list(itertools.product(*(range(n) for n in space.cardinalities))))
    return {tuple(row) for row in space.canonical(every).tolist()}


@given(spaces())
@settings(max_examples=60, deadline=None)
def test_size_is_what_brute_force_counts(space: SearchSpace) -> None:
    assert space.size == len(brute_force(space))


@given(spaces(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_codes_survive_a_round_trip_through_choices(space: SearchSpace, seed: int) -> None:
    for code in space.sample(np.random.default_rng(seed), 5):
        assert space.encode(space.decode(code)).tolist() == code.tolist()
        assert space.architecture(code).code == tuple(code.tolist())


@given(spaces(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_codes_that_build_the_same_network_have_one_key(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, space.cardinalities, size=(30, len(space.cardinalities)))
    by_canonical: dict[tuple[int, ...], set[str]] = {}
    for code in codes:
        architecture = space.architecture(code)
        by_canonical.setdefault(architecture.code, set()).add(architecture.key)
    keys = [key for found in by_canonical.values() for key in found]
    assert len(keys) == len(set(keys)) == len(by_canonical)


def test_sampling_is_uniform_over_architectures() -> None:
    parameters = (
        Parameter("depth", (0, 1, 2)),
        Parameter("width", (8, 16, 32), when="depth in [1, 2]"),
        Parameter("kernel", (3, 5), when="width == 32"),
    )
    space = SearchSpace("nested", parameters, lambda _: None, "none:none", {}, {})  # type: ignore[arg-type,return-value]
    assert space.size == 1 + 2 * (2 + 2)
    codes = space.sample(np.random.default_rng(0), 9000)
    _, counts = np.unique(codes, axis=0, return_counts=True)
    assert len(counts) == space.size
    assert chisquare(counts).pvalue > 1e-3


def test_tiny_is_large_enough_and_has_few_signatures(tiny: SearchSpace) -> None:
    assert tiny.size == 129_360
    codes = tiny.sample(np.random.default_rng(0), 1500)
    blocks = {
        block.signature
        for code in codes
        for block in tiny.design(tiny.architecture(code)).accelerator_blocks
    }
    assert len(blocks) <= 60


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


def space_file(tmp_path: Path, **changes: Any) -> Path:
    document = {
        "name": "mine",
        "builder": "search_spaces.codec.family:build_design",
        "parameters": {"depth": {"choices": [0, 1]}, "width": {"choices": [8, 16]}},
        "reference": {"depth": 1, "width": 8},
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(document | changes, sort_keys=False))
    return file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parametres": {}}, "parametres: unknown key; did you mean 'parameters'"),
        ({"parameters": {"depth": {"choices": []}}}, "parameters.depth.choices"),
        ({"parameters": {"depth": {"choices": [1, 1]}}}, "repeats a value"),
        ({"parameters": {"depth": {"choices": [1, "two"]}}}, "mixes types"),
        ({"parameters": {"a": {"choices": [1], "when": {"b": [1]}}}}, "not a parameter above it"),
        ({"builder": "search_spaces.codec.family:build_desing"}, "did you mean 'build_design'"),
        ({"builder": "search_spaces.codek:build"}, "cannot import"),
        ({"builder": "nothing"}, "is not package.module:Name"),
        ({"reference": {"depth": 3, "width": 8}}, "depth is one of"),
        ({"reference": {"depth": 1}}, "width has no value"),
        ({"fixed": {"depth": 1}}, "also under fixed"),
    ],
)
def test_a_wrong_space_file_is_one_line(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        load_space(space_file(tmp_path, **changes))
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "- 1", "!!python/object:os.system {}", ""])
def test_what_is_not_a_plain_yaml_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SpaceError, match=r"mine\.yaml"):
        load_space(file)


def test_an_unknown_space_names_those_that_ship() -> None:
    with pytest.raises(SpaceError, match=r"shipped: .*tiny"):
        load_space("tyni")
