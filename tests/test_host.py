"""This machine as a device: ONNX Runtime really runs the packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latency.lowering import lower
from latency.measure.backend import MeasureError, Package
from latency.measure.coding import measure_coding
from latency.measure.host import Host
from latency.measure.packages import package, repeat
from search_spaces.blocks import Block, Precision
from search_spaces.codec import blocks, coding_blocks
from search_spaces.load import load_space

SMALL = blocks.Residual(16, 64, 3, "relu", False)
LARGE = blocks.Residual(32, 128, 3, "relu", False)  # 16 times the work


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("onnx"))


def once(block: Block, precision: Precision = "fp32", count: int = 1) -> Package:
    return package(f"{type(block).__name__}-{count}", repeat(block, lower(block), count), precision)


def test_more_work_takes_longer(host: Host) -> None:
    small, large = (min(host.sample_ms(once(block), 5)) for block in (SMALL, LARGE))
    assert 4 < large / small < 64


def test_repeats_add_up(host: Host) -> None:
    single, fourfold = (min(host.sample_ms(once(LARGE, count=n), 5)) for n in (1, 4))
    assert 2.5 < fourfold / single < 5.5


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_whole_networks_run(host: Host, stage: str) -> None:
    space = load_space("tiny")
    network = space.design(space.reference).stages[stage].network
    (sample_ms,) = host.sample_ms(package(stage, network, "fp32"), 1)
    assert sample_ms > 1


def test_copies_side_by_side_are_not_merged_into_one(host: Host) -> None:
    analysis = coding_blocks.Analysis(128)
    single, threefold = (min(host.sample_ms(once(analysis, count=n), 3)) for n in (1, 3))
    assert threefold > 2 * single


def test_a_package_is_translated_once(host: Host) -> None:
    host.sample_ms(once(SMALL), 1)
    files = {file: file.stat().st_mtime_ns for file in host.folder.glob("*.onnx")}
    host.sample_ms(once(SMALL), 1)
    assert {file: file.stat().st_mtime_ns for file in host.folder.glob("*.onnx")} == files


def test_what_the_reference_counts_as_is_kept_between_runs(host: Host) -> None:
    again = Host(host.folder)
    assert again.describe() == host.describe()
    assert again.describe().reference_ms == host.nominal_ms() > 0


def test_runs_count_in_reference_runs(host: Host) -> None:
    twice = Host(host.folder, reference_ms=2 * host.nominal_ms())
    plain = min(host.sample_ms(once(LARGE), 7))
    assert min(twice.sample_ms(once(LARGE), 7)) == pytest.approx(2 * plain, rel=0.4)


def test_a_damaged_reference_is_measured_again(tmp_path: Path) -> None:
    first = Host(tmp_path).nominal_ms()
    (file,) = tmp_path.glob("reference-*.json")
    file.write_text("{")
    assert Host(tmp_path).nominal_ms() == pytest.approx(first, rel=1.0)
    assert json.loads(file.read_text())["reference_ms"] > 0


def test_this_machine_is_described_with_its_threads(host: Host) -> None:
    assert host.describe().compute_unit == "cpu, 1 thread"
    assert Host(host.folder, threads=2).describe().compute_unit == "cpu, 2 threads"
    assert set(host.describe().library_versions) == {"onnxruntime", "onnx", "torch", "numpy"}


def test_another_precision_is_refused(host: Host) -> None:
    with pytest.raises(MeasureError, match="runs fp32, not w8a8"):
        host.sample_ms(once(SMALL, "w8a8"), 1)


def test_coding_is_timed_with_the_codecs_own_coder() -> None:
    cpu = measure_coding()
    assert 1 < cpu.encode_ns_per_symbol < 1000
    assert 1 < cpu.decode_ns_per_symbol < 1000
    assert 0.001 < cpu.ns_per_mac < 10
    assert "Measured here" in cpu.source
