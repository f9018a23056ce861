"""The model that prices operations on a device nobody could measure, and the tables it fills."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from latency.analytic import AnalyticModel, Width, moved_bytes
from latency.ops import Op
from latency.table import LatencyTable, MissingRowError, TableError
from latency.table_files import SHIPPED, load_table
from search_spaces.blocks import Precision

ROOT = Path(__file__).parents[1]
FIT: dict[str, Any] = json.loads((ROOT / "experiments/results/analytic_fit.json").read_text())
TABLES: dict[str, Any] = FIT["tables"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "w8", "w8a8")
WIDTHS: dict[Precision, Width] = {
    "fp16": Width(weight_bytes=2, activation_bytes=2),
    "w8": Width(weight_bytes=1, activation_bytes=2),
    "w8a8": Width(weight_bytes=1, activation_bytes=1, mac_speed_up=2.0),
}
MODEL = AnalyticModel(ms_per_megabyte=2.0, ms_per_gmac=3.0, precisions=WIDTHS)


def op(
    kind: str, *inputs: tuple[int, ...], out: tuple[int, ...], weights: tuple[int, ...] = ()
) -> Op:
    return Op(kind, inputs, (weights,) if weights else (), (out,), (), "fp16")


CONV = op("conv", (1, 8, 10, 10), out=(1, 4, 10, 10), weights=(4, 8, 3, 3))
RELU = op("relu", (1, 4, 10, 10), out=(1, 4, 10, 10))
ADD = op("add", (1, 4, 10, 10), (1, 4, 10, 10), out=(1, 4, 10, 10))


def test_convolution_costs_its_bytes_and_its_arithmetic() -> None:
    assert moved_bytes(CONV) == 2 * (800 + 400 + 288)
    assert CONV.macs == 4 * 8 * 9 * 100
    assert MODEL.price_ms([CONV]) == pytest.approx(2976 / 1e6 * 2 + 28800 / 1e9 * 3)


def test_precision_changes_the_bytes_of_its_numbers_and_the_speed_of_arithmetic() -> None:
    w8 = (2 * (800 + 400) + 288) / 1e6 * 2 + 28800 / 1e9 * 3
    w8a8 = (800 + 400 + 288) / 1e6 * 2 + 28800 / 1e9 * 3 / 2
    assert MODEL.price_ms([CONV], "w8") == pytest.approx(w8)
    assert MODEL.price_ms([CONV], "w8a8") == pytest.approx(w8a8)


def test_activation_is_free_only_directly_after_a_convolution() -> None:
    assert MODEL.price_ms([CONV, RELU]) == MODEL.price_ms([CONV])
    assert MODEL.price_ms([CONV, ADD, RELU]) > MODEL.price_ms([CONV, ADD])
    assert MODEL.price_ms([RELU]) > 0
    elsewhere = op("relu", (1, 4, 5, 5), out=(1, 4, 5, 5))
    assert MODEL.price_ms([CONV, elsewhere]) > MODEL.price_ms([CONV])


def test_reshape_is_free_and_addition_is_not() -> None:
    assert MODEL.price_ms([op("reshape", (1, 8), out=(1, 8, 1))]) == 0
    assert MODEL.price_ms([ADD]) == pytest.approx(3 * 400 * 2 / 1e6 * 2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_costs_of_operations_stand_in_their_order_and_add_up(precision: Precision) -> None:
    each = MODEL.op_ms([CONV, RELU, ADD], precision)
    assert each == [MODEL.price_ms([CONV], precision), 0.0, MODEL.price_ms([ADD], precision)]
    assert sum(each) == MODEL.price_ms([CONV, RELU, ADD], precision)
    assert MODEL.op_ms([], precision) == []


def test_transposed_convolution_visits_its_weights_once_an_input_value() -> None:
    up = op("conv_transpose", (1, 8, 10, 10), out=(1, 4, 20, 20), weights=(8, 4, 2, 2))
    assert up.macs == 8 * 4 * 2 * 2 * 100


def test_precision_without_a_price_is_an_error_that_names_the_others() -> None:
    table = load_table("iphone-12")
    with pytest.raises(ValueError, match="prices fp16, w8, w8a8, not fp32"):
        MODEL.price_ms([CONV], "fp32")
    with pytest.raises(MissingRowError, match=r"iphone-12 .* conv\(\) fp32; .* fp16, w8, w8a8"):
        table.price_ms("conv()", [CONV], "fp32")
    with pytest.raises(MissingRowError, match=r"iphone-12 .* fp32; .* fp16, w8, w8a8"):
        table.op_ms([CONV], "fp32")


@pytest.mark.parametrize(
    ("key", "value"), [("weight_bytes", 0), ("weight_bytes", 1.5), ("mac_speed_up", 0.0)]
)
def test_impossible_width_is_refused_with_its_key(tmp_path: Path, key: str, value: float) -> None:
    document = yaml.safe_load((SHIPPED / "iphone-16-pro.yaml").read_text())
    document["model"]["precisions"]["w8a8"][key] = value
    (tmp_path / "phone.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(TableError, match=rf"model\.precisions\.w8a8\.{key}"):
        load_table(tmp_path / "phone.yaml")


def decoder_ms(table: LatencyTable, precision: Precision, ops: tuple[Op, ...]) -> float:
    return 48 * (table.dispatch_ms + table.price_ms("decoder", ops, precision))


@pytest.fixture(scope="module")
def decoder() -> tuple[Op, ...]:
    script = runpy.run_path(str(ROOT / "experiments/benchmarks/paper_like_decoder.py"))
    ops: tuple[Op, ...] = script["decoder_ops"]()
    return ops


@pytest.mark.parametrize("name", TABLES)
def test_shipped_table_holds_the_committed_fit(name: str) -> None:
    table, fit = load_table(name), TABLES[name]
    assert table.model is not None
    held = [table.dispatch_ms, table.model.ms_per_megabyte, table.model.ms_per_gmac]
    fitted = [fit["dispatch_ms"], fit["ms_per_megabyte"], fit["ms_per_gmac"]]
    assert held == pytest.approx(fitted, rel=1e-3)
    assert table.model.model_dump()["precisions"] == fit["precisions"]
    assert table.precisions == list(PRECISIONS)


@pytest.mark.parametrize("name", TABLES)
def test_header_states_the_error_on_networks_held_out_of_that_phone(name: str) -> None:
    table, held_out = load_table(name), TABLES[name]["held_out"]
    if held_out is None:
        assert table.held_out_error_percent is None
        assert any(source.startswith("Margin: borrowed") for source in table.sources)
    else:
        stated = round(held_out["mean_absolute_percent"], 1)
        assert table.held_out_error_percent == stated
        assert f"{stated} %" in " ".join(table.sources)


def test_oldest_phone_is_off_by_no_more_than_15_percent_and_less_than_macs_alone() -> None:
    for split in FIT["iPhone 12"]["held_out"].values():
        assert split["sum"]["mean_absolute_percent"] <= 15
        assert split["sum"]["mean_absolute_percent"] < split["macs_linear"]["mean_absolute_percent"]
        stated = " ".join(load_table("iphone-12").sources)
        for form in ("sum", "macs_linear"):
            assert f"{split[form]['mean_absolute_percent']:.1f}" in stated


@pytest.mark.parametrize("precision", PRECISIONS)
def test_header_of_iphone_15_pro_states_the_error_of_each_precision(precision: Precision) -> None:
    held_out = FIT["iPhone 15 Pro"]["one_network_held_out"][precision]
    stated = " ".join(load_table("iphone-15-pro").sources)
    assert f"{held_out['mean_absolute_percent']:.1f} %" in stated
    assert f"{held_out['largest_shortfall_percent']:.1f} %" in stated


def test_margins_cover_what_they_say_that_they_cover() -> None:
    few = TABLES["iphone-15-pro"]["held_out"]["largest_shortfall_percent"]
    many = TABLES["iphone-12"]["held_out"]["p95_shortfall_percent"]
    assert few <= load_table("iphone-15-pro").margin_percent < few + 5
    assert many <= load_table("iphone-12").margin_percent < many + 5
    for name in ("iphone-16-pro", "iphone-17-pro-max"):
        assert load_table(name).margin_percent == load_table("iphone-15-pro").margin_percent


@pytest.mark.parametrize("name", TABLES)
def test_fewer_bits_are_never_slower(name: str, decoder: tuple[Op, ...]) -> None:
    table = load_table(name)
    fp16, w8, w8a8 = (table.op_ms(decoder, precision) for precision in PRECISIONS)
    assert all(a <= b <= c for a, b, c in zip(w8a8, w8, fp16, strict=True))
    assert sum(w8) < sum(fp16)


def test_published_decoder_takes_its_published_time_on_the_newest_phones(
    decoder: tuple[Op, ...],
) -> None:
    for name in ("iphone-16-pro", "iphone-17-pro-max"):
        assert decoder_ms(load_table(name), "fp16", decoder) == pytest.approx(100, rel=0.001)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_older_phone_is_slower(precision: Precision, decoder: tuple[Op, ...]) -> None:
    names = ("iphone-12", "iphone-15-pro", "iphone-16-pro", "iphone-17-pro-max")
    times_ms = [decoder_ms(load_table(name), precision, decoder) for name in names]
    assert times_ms[0] > times_ms[1] > times_ms[2] == times_ms[3]
    fitted_ms = [TABLES[name]["paper_like_decoder_ms"][precision] for name in names]
    assert times_ms == pytest.approx(fitted_ms, rel=1e-3)
