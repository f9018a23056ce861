"""The gate: every limit of every device is hard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import write_experiment

from latency.oracle import LatencyOracle
from latency.table_files import load_table
from nas.budget import Gate
from nas.experiment import load_experiment
from search_spaces.space import SearchSpace

NEW, OLD = "iphone-17-pro-max", "iphone-12"


def gate(space: SearchSpace, limits: dict[str, dict[str, float]], **options: Any) -> Gate:
    oracles = {device: LatencyOracle(load_table(device), **options) for device in limits}
    return Gate(space, oracles, limits)


@pytest.fixture(scope="module")
def codes(tiny: SearchSpace) -> Any:
    return tiny.sample(np.random.default_rng(0), 300)


def test_what_is_inside_is_inside_on_every_device(tiny: SearchSpace, codes: Any) -> None:
    limits = {NEW: {"encode_ms": 230.0, "decode_ms": 120.0}, OLD: {"decode_ms": 220.0}}
    both = gate(tiny, limits).feasible(codes)
    each = [gate(tiny, {d: held}).feasible(codes) for d, held in limits.items()]
    assert (both == (each[0] & each[1])).all()
    assert each[0].any()
    assert each[1].any()
    assert (each[0] != each[1]).any()


def test_prices_of_a_matrix_are_those_of_one_after_the_other(tiny: SearchSpace, codes: Any) -> None:
    limits = {NEW: {"encode_ms": 230.0, "decode_ms": 120.0}, OLD: {"decode_ms": 220.0}}
    judge = gate(tiny, limits, margin_percent=10.0)
    held_ms = judge.held_ms(codes[:20])
    for code, row in zip(codes[:20].tolist(), held_ms, strict=True):
        price = judge.price(tiny.architecture(tuple(code)))
        over = [ms - limit for ms, (*_, limit) in zip(row, judge.flat_limits, strict=True)]
        assert judge.overshoot(price) == pytest.approx(over)
        record = price.as_record()["latency"]
        expected = [
            record[NEW]["encode_ms_upper"],
            record[NEW]["decode_ms_upper"],
            record[OLD]["decode_ms_upper"],
        ]
        assert row == pytest.approx(expected)


def test_a_stated_margin_lets_fewer_in(tiny: SearchSpace, codes: Any) -> None:
    limits = {NEW: {"decode_ms": 120.0}}
    plain = gate(tiny, limits).feasible(codes)
    careful = gate(tiny, limits, margin_percent=20.0).feasible(codes)
    assert careful.sum() < plain.sum()
    assert (plain | ~careful).all()


def test_a_space_that_cannot_be_taken_apart_is_priced_all_the_same(tmp_path: Path) -> None:
    space = load_experiment(write_experiment(tmp_path)).space
    judge = gate(space, {NEW: {"decode_ms": 150.0}})
    codes = space.sample(np.random.default_rng(0), 10)
    fast = judge.held_ms(codes)
    judge.__dict__["_scorers"] = None  # as where `find_parts` fails
    assert judge.held_ms(codes) == pytest.approx(fast)
