"""The space benchmark still runs, and its translation means what our spaces mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from random_spaces import RandomSpace, random_spaces, space_of

from search_spaces.load import load_space
from search_spaces.space import Codes, Parameter, SearchSpace

BENCHMARKS = Path(__file__).parent.parent / "experiments/benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from configspace_peer import NotExpressibleError, boxes, some_code, translate  # noqa: E402
from space_enumeration import part_of, same_grid  # noqa: E402


def every_code(space: SearchSpace) -> Codes:
    """All canonical codes, those that a constraint forbids included."""
    grid = np.indices(tuple(space.cardinalities)).reshape(len(space.names), -1).T
    return np.unique(space.canonical(grid), axis=0)


@given(random_spaces())
@settings(max_examples=60, deadline=None, derandomize=True)  # ConfigSpace has defects of its own
def test_configspace_judges_every_code_of_a_random_space_as_we_do(random: RandomSpace) -> None:
    space, codes = random.space, every_code(random.space)
    for relations in (False, True):
        peer = translate(space, random.codes[0], relations, 0)
        assert peer.valid(peer.vectors(codes)).tolist() == space.valid(codes).tolist()


@pytest.mark.parametrize("name", ["pico_decoder", "tiny", "codec"])
def test_shipped_spaces_draw_what_the_other_finds_valid(name: str) -> None:
    space = load_space(name)
    for relations in (False, True):
        peer = translate(space, some_code(space), relations, 0)
        assert space.valid(peer.codes(peer.theirs.sample_configuration(300))).all()
        assert peer.valid(peer.vectors(space.sample(np.random.default_rng(0), 300))).all()


@pytest.mark.parametrize("name", ["pico_decoder", "tiny", "codec"])
def test_the_part_that_both_enumerate_is_one_of_the_space(name: str) -> None:
    space = load_space(name)
    part, fixed = part_of(space, 400)
    members = same_grid(translate(part, some_code(part), False, 0))
    assert 1 < len(members) <= 400
    assert set(fixed) | set(part.names) == set(space.names)
    reference = {n: space.reference.choices[n] for n in fixed}
    for code in members[:50]:
        space.architecture(space.encode({**reference, **part.decode(code)}))


def test_boxes_hold_the_inactive_state_only_where_an_axis_is_whole() -> None:
    either = np.array([[True, True, True], [True, False, False], [True, False, False]])
    assert sorted(boxes(either, [2, 2])) == [([0], [0, 1, 2]), ([0, 1, 2], [0])]
    active = np.array([[True, True, False], [True, True, False], [False, False, False]])
    assert boxes(active, [2, 2]) == [([0, 1], [0, 1])]


def test_a_constraint_over_too_many_parameters_is_refused_by_name() -> None:
    names = [f"p{i}" for i in range(10)]
    space = space_of([Parameter(n, (1, 2, 3, 4)) for n in names], [f"{' + '.join(names)} <= 30"])
    with pytest.raises(NotExpressibleError, match=r"p0 \+ p1 .* too many parameters"):
        translate(space, np.zeros(10, dtype=np.int64), True, 0)


def test_benchmark_compares_both_and_states_the_goals(tmp_path: Path) -> None:
    script = str(BENCHMARKS / "space_throughput.py")
    command = [sys.executable, script, "--quick", "--out", "result.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["size"] == result["count"]["ours"]["count"] == 1_417_500
    assert result["count"]["configspace_estimate"]["count"] > result["size"]
    assert result["enumerate"]["whole"]["ours"]["bytes_a_member"] >= 8
    assert result["enumerate"]["part"]["times"] > 1
    assert result["uniformity"]["ours"]["p"] > 1e-6 > result["uniformity"]["configspace"]["p"]
    assert {"samples_per_s", "enumeration_s"} == result["goals"].keys()
    assert 0 < result["neighbourhoods"]["of_its_found_by_ours"] <= 1
    assert {"machine", "versions", "python", "seed", "command"} <= result.keys()
    assert "sample one at a time" in done.stdout
