"""The gate: every limit of every device is hard."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import write_experiment

from latency.oracle import LatencyOracle
from latency.table_files import load_table
from nas.experiment import load_experiment
from nas.pricing.budget import BudgetError, Gate
from nas.pricing.devices import DevicePricer
from nas.pricing.sizes import Outputs, design_sizes
from search_spaces.blocks import Network
from search_spaces.build import NetworkModule, module_name
from search_spaces.load import load_space
from search_spaces.space import SearchSpace

NEW, OLD = "iphone-17-pro-max", "iphone-12"


def gate(
    space: SearchSpace,
    limits: dict[str, dict[str, float]],
    others: dict[str, float] | None = None,
    **options: Any,
) -> Gate:
    oracles = {device: LatencyOracle(load_table(device), **options) for device in limits}
    return Gate(DevicePricer(space, oracles), limits, others)


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
    held = judge.held(codes[:20])
    for code, row in zip(codes[:20].tolist(), held, strict=True):
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
    judge = gate(space, {NEW: {"decode_ms": 150.0}}, {"peak_bytes": 3e6})
    codes, names = space.sample(np.random.default_rng(0), 10), ["loss", *judge.pricer.metrics]
    fast = judge.held(codes), judge.prices(codes, names)
    judge.pricer.__dict__["_tables"] = None  # as where `find_parts` fails
    assert not judge.prices_at_once
    assert judge.held(codes) == pytest.approx(fast[0])
    assert judge.prices(codes, names) == pytest.approx(fast[1], nan_ok=True)


def test_every_price_of_a_matrix_is_what_is_recorded(tiny: SearchSpace, codes: Any) -> None:
    judge = gate(tiny, {NEW: {"decode_ms": 120.0}, OLD: {"decode_ms": 220.0}}, precision="w8a8")
    names = ["bd_rate_lpips", *judge.pricer.metrics]
    assert {"encode_ms_upper", "network_ms", "encode_coding_ms", "peak_bytes"} <= set(names)
    prices = judge.prices(codes[:10], names)
    assert np.isnan(prices[:, 0]).all()
    for code, row in zip(codes[:10].tolist(), prices, strict=True):
        record = judge.price(tiny.architecture(tuple(code))).as_record()
        assert row[1:] == pytest.approx([record[name] for name in names[1:]])


def test_sizes_are_limits_like_any_other(tiny: SearchSpace, codes: Any) -> None:
    limits = {NEW: {"decode_ms": 120.0}}
    sizes = {"package_bytes": 9e5, "peak_bytes": 1.6e7, "kmacs_per_pixel": 25.0}
    judge = gate(tiny, limits, sizes)
    prices = judge.prices(codes, list(sizes))
    small = (prices <= list(sizes.values())).all(axis=1)
    quick = gate(tiny, limits).feasible(codes)
    assert (judge.feasible(codes) == (small & quick)).all()
    assert 0 < (small & quick).sum() < min(small.sum(), quick.sum())
    price = judge.price(tiny.architecture(tuple(codes[0].tolist())))
    assert judge.overshoot(price)[1:] == pytest.approx(prices[0] - list(sizes.values()))


def test_bytes_are_those_of_the_precision(tiny: SearchSpace) -> None:
    design = tiny.design(tiny.reference)
    stages = [stage.network for stage in design.stages.values()]
    weights = [sum(block.parameters for block in network.blocks) for network in stages]
    for precision, weight_bytes, value_bytes in [("fp32", 4, 4), ("fp16", 2, 2), ("w8", 1, 2)]:
        found = design_sizes(design, precision, Outputs())  # type: ignore[arg-type]
        values = [max(held_values(network)) for network in stages]
        assert found["package_bytes"] == weight_bytes * sum(weights)
        assert found["peak_bytes"] == max(
            weight_bytes * w + value_bytes * v for w, v in zip(weights, values, strict=True)
        )


def held_values(network: Network) -> list[int]:
    """Of every block, what torch reads and writes."""
    modules, values = NetworkModule(network).eval(), []
    for step in network.steps:
        given = [torch.zeros(1, *shape) for shape in step.block.input_shapes]
        with torch.no_grad():
            written = modules.steps[module_name(step.name)](*given)
        values.append(sum(x.numel() for x in given) + written.numel())
    return values


def test_codec_of_the_paper_has_about_its_sizes() -> None:
    """The encoder of arXiv 2605.05148 takes 30.4 MB on disk and 38.8 MB at its peak."""
    space = load_space("pico_decoder")
    design = space.design(space.reference)
    encoder = replace(design, stages={"encode": design.stages["encode"]})
    sizes = design_sizes(encoder, "fp16", Outputs())
    assert sizes["package_bytes"] == pytest.approx(30.4e6, rel=0.01)
    assert sizes["peak_bytes"] == pytest.approx(38.8e6, rel=0.06)


def test_nothing_inside_says_how_near_the_nearest_comes(tiny: SearchSpace) -> None:
    judge = gate(tiny, {NEW: {"decode_ms": 45.0}}, {"peak_bytes": 8e6})
    with pytest.raises(BudgetError) as caught:
        judge.require_feasible(np.random.default_rng(0), 1000)
    message = str(caught.value)
    assert message.startswith("budget: none of 1,000 architectures drawn from tiny meets it; ")
    nearest = message.partition("the nearest to them all: ")[2]
    assert re.search(rf"{NEW} decode_ms \d+\.\d of 45, peak_bytes [\d.]+e\+06 of 8e\+06;", nearest)
    assert "\n" not in message


def test_small_space_is_looked_through_whole(tmp_path: Path) -> None:
    space = load_experiment(write_experiment(tmp_path)).space
    codes = space.enumerate()
    prices = gate(space, {NEW: {"decode_ms": 1e9}}).prices(codes, ["decode_ms", "peak_bytes"])
    best = prices[prices[:, 1].argmin()]
    exactly = gate(space, {NEW: {"decode_ms": float(best[0])}}, {"peak_bytes": float(best[1])})
    exactly.require_feasible(np.random.default_rng(0))
    less = gate(space, {NEW: {"decode_ms": 1e9}}, {"peak_bytes": float(best[1]) - 1})
    with pytest.raises(BudgetError, match="none of 72 architectures of toy"):
        less.require_feasible(np.random.default_rng(0))
