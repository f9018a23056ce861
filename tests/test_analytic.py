"""The model that prices operations on a device nobody could measure."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from latency.analytic import AnalyticModel, moved_bytes
from latency.lowering import lower_module
from latency.ops import Op
from latency.table import load_table

ROOT = Path(__file__).parents[1]
MODEL = AnalyticModel(ms_per_megabyte=2.0, ms_per_gmac=3.0)


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


def test_activation_is_free_only_directly_after_a_convolution() -> None:
    assert MODEL.price_ms([CONV, RELU]) == MODEL.price_ms([CONV])
    assert MODEL.price_ms([CONV, ADD, RELU]) > MODEL.price_ms([CONV, ADD])
    assert MODEL.price_ms([RELU]) > 0
    elsewhere = op("relu", (1, 4, 5, 5), out=(1, 4, 5, 5))
    assert MODEL.price_ms([CONV, elsewhere]) > MODEL.price_ms([CONV])


def test_reshape_is_free_and_addition_is_not() -> None:
    assert MODEL.price_ms([op("reshape", (1, 8), out=(1, 8, 1))]) == 0
    assert MODEL.price_ms([ADD]) == pytest.approx(3 * 400 * 2 / 1e6 * 2)


def test_transposed_convolution_visits_its_weights_once_an_input_value() -> None:
    up = op("conv_transpose", (1, 8, 10, 10), out=(1, 4, 20, 20), weights=(8, 4, 2, 2))
    assert up.macs == 8 * 4 * 2 * 2 * 100


def test_shipped_table_holds_the_committed_fit_scaled_to_the_published_decoder() -> None:
    fit = json.loads((ROOT / "experiments/results/analytic_fit.json").read_text())
    scaled = [c / fit["paper_like_decoder"]["speed_up"]["sum"] for c in fit["coefficients"]["sum"]]
    table = load_table("iphone-17-pro-max")
    assert table.model is not None
    held = [table.dispatch_ms, table.model.ms_per_megabyte, table.model.ms_per_gmac]
    assert held == pytest.approx(scaled, rel=1e-3)


def test_shipped_table_gives_the_published_decoder_its_published_time() -> None:
    script = runpy.run_path(str(ROOT / "experiments/benchmarks/fit_analytic_table.py"))
    ops = lower_module(script["_Decoder"](), [(script["SCALES"][0][1], 16, 16)], "decoder")
    table = load_table("iphone-17-pro-max")
    tile_ms = table.dispatch_ms + table.price_ms("decoder", ops)
    assert script["TILES"] * tile_ms == pytest.approx(100, rel=0.01)
