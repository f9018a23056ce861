"""A whole space priced at once: the same figures as one architecture after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latency.oracle import LatencyOracle
from latency.score import Scorer
from latency.table import LatencyTable, MissingRowError
from latency.table_files import load_table
from search_spaces.load import load_space
from search_spaces.parts import find_parts
from search_spaces.space import SearchSpace, SpaceError
from tests.test_oracle import measured

DEVICE = "iphone-17-pro-max"


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return load_table(DEVICE)


@pytest.fixture(scope="module")
def scorer(table: LatencyTable) -> Scorer:
    return Scorer(LatencyOracle(table), find_parts(load_space("tiny")))


def one_by_one(oracle: LatencyOracle, space: SearchSpace, codes: Any) -> list[list[float]]:
    designs = [space.design(space.architecture(tuple(code))) for code in codes.tolist()]
    return [
        [stage.total_ms for stage in oracle.estimate(design).stages.values()] for design in designs
    ]


def test_scores_are_the_oracles_estimates(scorer: Scorer, tiny: SearchSpace) -> None:
    codes = tiny.sample(np.random.default_rng(0), 100)
    scored = scorer.score(codes)
    assert scorer.stages == ("encode", "decode")
    np.testing.assert_allclose(scored, one_by_one(scorer.oracle, tiny, codes), rtol=1e-9)


def test_all_of_a_space_is_scored_as_its_members_are(scorer: Scorer, tiny: SearchSpace) -> None:
    codes = tiny.enumerate()
    scored = scorer.score(codes)
    assert scored.shape == (tiny.size, 2)
    assert np.isfinite(scored).all()
    some = np.random.default_rng(1).choice(len(codes), 20, replace=False)
    np.testing.assert_allclose(
        scored[some], one_by_one(scorer.oracle, tiny, codes[some]), rtol=1e-9
    )


def test_another_precision_has_scores_of_its_own(table: LatencyTable, tiny: SearchSpace) -> None:
    codes = tiny.sample(np.random.default_rng(2), 20)
    oracle = LatencyOracle(table, "w8a8")
    scored = Scorer(oracle, find_parts(tiny)).score(codes)
    np.testing.assert_allclose(scored, one_by_one(oracle, tiny, codes), rtol=1e-9)
    assert (scored < Scorer(LatencyOracle(table), find_parts(tiny)).score(codes)).all()


def test_no_codes_have_no_scores(scorer: Scorer, tiny: SearchSpace) -> None:
    assert scorer.score(np.empty((0, len(tiny.parameters)), dtype=np.int64)).shape == (0, 2)


def test_a_block_without_a_row_is_an_error_and_never_zero(
    tiny: SearchSpace, tmp_path: Path
) -> None:
    oracle = LatencyOracle(measured(1.0, tmp_path))
    with pytest.raises(MissingRowError, match="test-phone has no latency for"):
        Scorer(oracle, find_parts(tiny)).score(tiny.sample(np.random.default_rng(0), 2))


def test_a_code_that_a_constraint_forbids_has_no_price(table: LatencyTable) -> None:
    space = load_space("pico_decoder")
    names = [parameter.name for parameter in space.parameters]
    code = np.array([space.reference.code])
    code[0, names.index("decoder.eighth.expand")] = 1  # above expand_out, which is 1
    assert not space.valid(code).any()
    with pytest.raises(SpaceError, match="constraints forbid"):
        Scorer(LatencyOracle(table), find_parts(space)).score(code)


def test_blocks_are_lowered_when_they_are_first_scored(
    table: LatencyTable, tiny: SearchSpace, tmp_path: Path
) -> None:
    lean = replace(LatencyOracle(table), cache=tmp_path)
    scored = Scorer(lean, find_parts(tiny)).score(np.array([tiny.reference.code]))
    lowered = len(list(tmp_path.glob("*.json")))
    assert lowered == len(tiny.design(tiny.reference).accelerator_blocks)
    np.testing.assert_allclose(
        scored, one_by_one(LatencyOracle(table), tiny, np.array([tiny.reference.code]))
    )
