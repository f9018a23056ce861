"""The oracle: whole-image latency of an architecture, and budgets held against it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from latency import lowering
from latency.oracle import Estimate, LatencyOracle, StageEstimate, within
from latency.table import Dispatch, LatencyTable, MissingRowError, Row
from latency.table_files import load_table, save_table
from search_spaces.blocks import Design, Network, Stage, Step
from search_spaces.codec import coding_blocks
from search_spaces.load import load_space

SPACE = load_space("tiny")
DEVICE = "iphone-17-pro-max"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lowered")


def quantiser(symbols_decoded: int, tiles: int, count: int = 1) -> Design:
    names = ["a", *[f"step{i}" for i in range(count)]]
    steps = [
        Step(after, coding_blocks.Quantise(16, False), (before, "b"))
        for before, after in pairwise(names)
    ]
    network = Network(("a", "b"), tuple(steps), (names[-1],))
    return Design({"decode": Stage(network, symbols_decoded=symbols_decoded)}, tiles, 512**2)


def row(block: str, ops: list[str], ms: float) -> Row:
    samples = {"repeats": 3, "once_ms": [0.1], "repeated_ms": [0.1 + 2 * ms]}
    return Row(block=block, ops=ops, precision="fp16", median_ms=ms, spread_percent=0.0, **samples)


def measured(row_ms: float, cache: Path, device: str = "test-phone") -> LatencyTable:
    ops = [op.text for op in lowering.lower(coding_blocks.Quantise(16, False), cache)]
    header = {"device": device, "provenance": "measured", "model": None}
    dispatch = Dispatch(median_ms=0.25, samples_ms=[0.25])
    costs = {"rows": [row("quantise", ops, row_ms)], "dispatch": dispatch, "margin_percent": 10.0}
    return load_table(DEVICE).model_copy(update={**header, **costs})


def test_slower_network_hides_the_coding_of_all_tiles_but_one(cache: Path) -> None:
    table = measured(1.0, cache)
    symbols = round(0.5e6 * table.cpu.cores / table.cpu.decode_ns_per_symbol)
    stage = (
        LatencyOracle(table, cache=cache).estimate(quantiser(symbols, tiles=48)).stages["decode"]
    )
    assert stage.total_ms == pytest.approx(48 * 1.25 + 0.5, rel=1e-4)
    assert stage.network_ms == pytest.approx(48 * 1.25)
    assert stage.coding_ms == pytest.approx(48 * 0.5, rel=1e-4)
    assert stage.upper_ms == pytest.approx(1.1 * stage.total_ms)


def test_slower_coding_hides_the_network_of_all_tiles_but_one(cache: Path) -> None:
    table = measured(1.0, cache)
    symbols = round(2e6 * table.cpu.cores / table.cpu.decode_ns_per_symbol)
    stage = (
        LatencyOracle(table, cache=cache).estimate(quantiser(symbols, tiles=48)).stages["decode"]
    )
    assert stage.total_ms == pytest.approx(48 * 2 + 1.25, rel=1e-4)


def test_dispatch_is_paid_once_a_tile_and_not_once_a_block(cache: Path) -> None:
    stage = LatencyOracle(measured(1.0, cache), cache=cache).estimate(quantiser(0, 10, count=3))
    assert stage.stages["decode"].network_ms == pytest.approx(10 * (3 * 1.0 + 0.25))


def test_cpu_network_and_written_symbols_count_as_coding(cache: Path) -> None:
    table = measured(1.0, cache)
    step = Step("scale", coding_blocks.ScaleDecoder(192, 24, 48, False), ("hyper", "level"))
    cpu = Network(("hyper", "level"), (step,), ("scale",))
    plain = quantiser(0, 1)
    stage = Stage(plain.stages["decode"].network, cpu, symbols_encoded=1000)
    estimate = LatencyOracle(table, cache=cache).estimate(Design({"encode": stage}, 1, 512**2))
    expected_ns = 1000 * table.cpu.encode_ns_per_symbol + step.block.macs * table.cpu.ns_per_mac
    coding_ms = expected_ns / table.cpu.cores / 1e6
    assert estimate.stages["encode"].coding_ms == pytest.approx(coding_ms)


def test_measured_table_without_the_block_is_an_error_and_never_zero(cache: Path) -> None:
    with pytest.raises(MissingRowError, match=r"test-phone has no latency for analysis"):
        LatencyOracle(measured(1.0, cache), cache=cache).estimate(SPACE.design(SPACE.reference))


def test_measured_table_drops_into_the_place_of_the_analytic_one(
    cache: Path, tmp_path: Path
) -> None:
    analytic, design = load_table(DEVICE), SPACE.design(SPACE.reference)
    oracle = LatencyOracle(analytic, cache=cache)
    rows = []
    for block in design.accelerator_blocks:
        ops = lowering.lower(block, cache)
        ms = 2 * analytic.price_ms(block.signature, ops)
        rows.append(row(block.signature, [op.text for op in ops], ms))
    dispatch = Dispatch(median_ms=0.1, samples_ms=[0.1])
    change = {"provenance": "measured", "model": None, "rows": rows, "dispatch": dispatch}
    save_table(analytic.model_copy(update=change), tmp_path / "phone.yaml")
    slower = LatencyOracle(load_table(tmp_path / "phone.yaml"), cache=cache).estimate(design)
    faster = oracle.estimate(design)
    for stage in ("encode", "decode"):
        twice = [2 * ms for *_, ms in faster.stages[stage].blocks]
        assert [ms for *_, ms in slower.stages[stage].blocks] == pytest.approx(twice)
    assert slower.provenance == "measured"


def test_block_shares_add_up_to_the_network_without_dispatch(cache: Path) -> None:
    oracle, design = LatencyOracle(load_table(DEVICE), cache=cache), SPACE.design(SPACE.reference)
    stage = oracle.estimate(design).stages["decode"]
    dispatch_ms = design.tiles_per_image * oracle.table.dispatch_ms
    assert sum(ms for *_, ms in stage.blocks) + dispatch_ms == pytest.approx(stage.network_ms)
    steps = design.stages["decode"].network.steps
    assert [name for name, *_ in stage.blocks] == [step.name for step in steps]


def test_deeper_decoder_costs_more_and_encoding_does_not_change(cache: Path) -> None:
    oracle = LatencyOracle(load_table(DEVICE), cache=cache)
    choices = [{**SPACE.reference.choices, "decoder.half.depth": depth} for depth in (1, 2, 6)]
    architectures = [SPACE.architecture(SPACE.encode(choice)) for choice in choices]
    records = [oracle.estimate(SPACE.design(a)).as_record() for a in architectures]
    network_ms = [record["network_ms"] for record in records]
    assert network_ms == sorted(set(network_ms))
    assert len({record["encode_ms"] for record in records}) == 1


def test_record_names_every_stage_and_the_parts_of_the_last(cache: Path) -> None:
    record = LatencyOracle(load_table(DEVICE), cache=cache).estimate(SPACE.design(SPACE.reference))
    assert set(record.as_record()) == {
        *("encode_ms", "encode_ms_upper", "encode_network_ms", "encode_coding_ms"),
        *("decode_ms", "decode_ms_upper", "network_ms", "coding_ms"),
    }


def estimate(provenance: str) -> Estimate:
    stage = StageEstimate(100.0, 125.0, 80.0, 20.0, ())
    held_against = LatencyOracle(
        load_table(DEVICE).model_copy(update={"provenance": provenance})
    ).held_against
    return Estimate("phone", provenance, held_against, {"encode": stage, "decode": stage})


def test_budget_is_held_against_the_upper_value_only_where_it_was_measured() -> None:
    assert within(estimate("analytic"), {"decode_ms": 110})
    assert not within(estimate("measured"), {"decode_ms": 110})
    assert estimate("analytic").held_against == "point estimate"
    assert estimate("measured").held_against == "upper value"


def test_every_limit_is_hard() -> None:
    assert within(estimate("analytic"), {"encode_ms": 100, "decode_ms": 100})
    assert not within(estimate("analytic"), {"encode_ms": 99, "decode_ms": 500})


def test_limit_on_an_unknown_stage_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'decode_ms'"):
        within(estimate("analytic"), {"decod_ms": 100})


def test_unlowered_blocks_are_named_once_until_they_are_on_disk(tmp_path: Path) -> None:
    oracle = LatencyOracle(load_table(DEVICE), cache=tmp_path)
    block = coding_blocks.Quantise(16, False)
    assert oracle.unlowered([block, coding_blocks.Quantise(16, False)]) == [block]
    lowering.lower(block, tmp_path)
    assert oracle.unlowered([block]) == []
