"""`nas latency` as a person or a script meets it, on this very machine."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml

from latency.table_files import load_table
from nas.cli import main

SPACE = """
name: small
builder: search_spaces.codec.family:build_design
fixed: {latent_channels: 64, hyper_channels: 8, hyper_width: 16, decoder: {half: {block: residual}}}
parameters:
  decoder.half.depth: {ordered: [1, 2, 3]}
  decoder.half.width: {ordered: [4, 8]}
reference:
  decoder.half: {depth: 1, width: 4}
"""
MEASURE = ("latency", "measure", "--device", "here", "--space", "small.yaml", "--rounds", "2")
MODULE = """
import torch

def small():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1))

def broken():
    raise ValueError("no weights at hand")

def no_module():
    return 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of this machine, measured for a space of six decoders."""
    folder = tmp_path_factory.mktemp("latency")
    (folder / "small.yaml").write_text(SPACE)
    (folder / "modules.py").write_text(MODULE)
    (folder / "raises.py").write_text("raise RuntimeError('no licence\\nat all')")
    done = toy.nas(folder, *MEASURE, "--networks", "4", "--json", timeout_seconds=300)
    assert done.returncode == 0, done.stderr
    (folder / "measured.json").write_text(done.stdout)
    (folder / "progress.txt").write_text(done.stderr)
    return folder


def document(folder: Path, *arguments: str) -> Any:
    done = toy.nas(folder, "latency", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(folder: Path, *arguments: str) -> str:
    """The one line of a wrong request, in this process: starting another takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["nas", "latency", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 2, out.getvalue() + err.getvalue()
    assert out.getvalue() == ""
    (line,) = err.getvalue().splitlines()
    return line


def test_measured_table_says_what_ran_and_keeps_every_sample(folder: Path) -> None:
    table = load_table(folder / "here.yaml")
    assert (table.device, table.provenance, table.speed) == ("here", "measured", "burst")
    assert table.precisions == ["fp32"]
    assert table.compute_unit == "cpu, 1 thread"
    assert "onnxruntime" in table.library_versions
    assert all(len(row.once_ms) >= 2 for row in table.rows)
    assert any("nas latency measure --device here" in source for source in table.sources)
    summary = json.loads((folder / "measured.json").read_text())
    assert summary["rows"] == len(table.rows)
    progress = (folder / "progress.txt").read_text()
    assert "measuring: " in progress
    assert " left" in progress


def test_measuring_again_measures_nothing_again(folder: Path) -> None:
    samples = folder / "here.fp32.samples.jsonl"
    before, table = samples.read_text(), load_table(folder / "here.yaml")
    done = toy.nas(folder, *MEASURE, "--networks", "4")
    assert done.returncode == 0, done.stderr
    assert samples.read_text() == before
    assert load_table(folder / "here.yaml").rows == table.rows


def test_plan_says_how_long_it_takes_and_measures_nothing(folder: Path) -> None:
    done = toy.nas(folder, *MEASURE, "-o", "other.yaml", "--plan", "--json")
    plan = json.loads(done.stdout)
    assert plan["rows"] > 3
    assert plan["seconds"] > 0
    assert not (folder / "other.yaml").exists()
    assert "rounds: some" in done.stderr


def test_killed_campaign_keeps_what_it_has(folder: Path) -> None:
    command = [sys.executable, "-m", "nas", *MEASURE, "-o", "killed.yaml", "--networks", "4"]
    running = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
    samples = folder / "killed.fp32.samples.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (samples.is_file() and lines(samples) > 4):
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    kept = samples.read_text()
    whole = kept[: kept.rfind("\n") + 1]
    assert len(whole.splitlines()) > 4
    assert not (folder / "killed.yaml").exists()
    assert toy.nas(folder, *MEASURE, "-o", "killed.yaml", "--networks", "4").returncode == 0
    assert samples.read_text().startswith(whole)
    assert len(load_table(folder / "killed.yaml").rows) == len(
        load_table(folder / "here.yaml").rows
    )


def lines(file: Path) -> int:
    return file.read_text().count("\n")


def test_validation_is_printed_beside_its_peers_and_can_be_saved(folder: Path) -> None:
    arguments = ("validate", "--device", "here.yaml", "--space", "small.yaml", "--networks", "6")
    found = document(folder, *arguments, "--rounds", "3", "--save")
    assert found["networks"] >= 5
    assert found["rounds"] == 3
    assert set(found["peers"]) == {"macs_linear", "bytes_linear"}
    assert {"within_5_percent", "within_10_percent", "within_20_percent"} <= set(found)
    assert found["repeatability_percent"] > 0
    table = load_table(folder / "here.yaml")
    if not found["void"]:
        error = found["mean_absolute_error_percent"]
        assert table.held_out_error_percent == pytest.approx(error, abs=0.01)
    words = toy.nas(folder, "latency", *arguments, "--rounds", "3").stdout
    assert "macs, linear" in words
    assert max(map(len, words.splitlines())) <= 120


def test_measured_table_prices_and_gates_a_space(folder: Path) -> None:
    found = document(folder, "estimate", "--device", "here.yaml", "--space", "small.yaml")
    assert found["provenance"] == "measured"
    assert found["held_against"] == "upper value"
    assert found["precision"] == "fp32"
    assert 0 < found["network_ms"] < found["decode_ms"] + found["coding_ms"]
    wider = document(
        folder, "estimate", "--device", "here.yaml", "--space", "small.yaml",
        "--set", "decoder.half.depth=3", "--set", "decoder.half.width=8",
    )  # fmt: skip
    assert wider["decode_ms"] > found["decode_ms"]
    assert wider["encode_ms"] == found["encode_ms"]


def test_experiment_runs_on_a_measured_table_at_its_precision(folder: Path) -> None:
    experiment = {
        "study": "here", "space": "small.yaml", "precision": "fp32", "trials": 1,
        "budget": {"here.yaml": {"decode_ms": 10_000}, "iphone-17-pro-max": {"decode_ms": 10_000}},
    }  # fmt: skip
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment))
    done = toy.nas(folder, "check", "experiment.yaml")
    assert done.returncode == 2
    assert "precision: iphone-17-pro-max has no latencies in fp32; it has fp16" in done.stderr
    del experiment["budget"]["iphone-17-pro-max"]  # type: ignore[attr-defined]
    file.write_text(yaml.safe_dump(experiment))
    checked = json.loads(toy.nas(folder, "check", "experiment.yaml", "--json").stdout)
    assert checked["provenance"]["here"]["held_against"] == "upper value"
    assert checked["provenance"]["here"]["precision"] == "fp32"


def test_two_tables_merge_and_a_stale_system_warns(folder: Path) -> None:
    table = load_table(folder / "here.yaml")
    from latency.table_files import save_table

    older = table.model_copy(update={"os_build": "another build", "rows": table.rows[:2]})
    newer = table.model_copy(update={"rows": table.rows[2:]})
    save_table(older, folder / "older.yaml")
    save_table(newer, folder / "newer.yaml")
    done = toy.nas(folder, "latency", "merge", "older.yaml", "newer.yaml", "-o", "merged.yaml")
    assert done.returncode == 0, done.stderr
    assert "2 of" in done.stderr
    assert "measured under another build" in done.stderr
    assert len(load_table(folder / "merged.yaml").rows) == len(table.rows)
    listed = toy.nas(folder, "latency", "devices", "merged.yaml")
    assert "measured under another build" in listed.stderr
    priced = toy.nas(
        folder, "latency", "estimate", "--device", "merged.yaml", "--space", "small.yaml", "--json"
    )
    assert json.loads(priced.stdout)["device"] == "here"
    assert "measured under another build" in priced.stderr


def test_devices_are_listed_with_their_provenance(folder: Path) -> None:
    shown = {d["device"]: d for d in document(folder, "devices", "here.yaml")}
    assert shown["here"]["provenance"] == "measured"
    for name in ("iphone-17-pro-max", "iphone-16-pro", "iphone-15-pro", "iphone-12"):
        assert shown[name]["provenance"] == "analytic"
        assert {"fp16", "w8a8"} <= set(shown[name]["precisions"])
        assert shown[name]["sources"]


@pytest.mark.parametrize("path", ["modules.py:small", "./modules.py:small"])
def test_any_module_is_priced_operation_by_operation(folder: Path, path: str) -> None:
    arguments = ("estimate", "--module", path, "--input", "1x3x64x64", "--device", "iphone-12")
    found = document(folder, *arguments)
    assert found["provenance"] == "analytic"
    assert [op["op"].split()[0] for op in found["ops"]] == ["conv", "relu", "conv"]
    assert found["ops"][1]["ms"] == 0
    parts = sum(op["ms"] for op in found["ops"]) + found["dispatch_ms"]
    assert found["total_ms"] == pytest.approx(parts)
    assert found["macs"] == 62 * 62 * (3 * 8 * 9 + 8 * 4)
    quantised = document(folder, *arguments, "--precision", "w8a8")
    assert quantised["total_ms"] <= found["total_ms"]


WRONG = {
    "no such file": (["--module", "gone.py:f", "--input", "1x3x8x8"], "cannot import 'gone.py'"),
    "no such factory": (["--module", "modules.py:smal", "--input", "1x3x8x8"], "'small'"),
    "factory fails": (
        ["--module", "modules.py:broken", "--input", "1x3x8x8"],
        "no weights at hand",
    ),
    "raises": (["--module", "raises.py:f", "--input", "1x3x8x8"], "'raises.py': no licence"),
    "no module": (["--module", "modules.py:no_module", "--input", "1x3x8x8"], "gives a int"),
    "no input": (["--module", "modules.py:small"], "--input: is missing"),
    "bad input": (["--module", "modules.py:small", "--input", "3,8,8"], "is no shape such as"),
    "batch": (["--module", "modules.py:small", "--input", "2x3x8x8"], "batches of 1"),
    "unfit input": (["--module", "modules.py:small", "--input", "1x5x8x8"], "cannot be lowered"),
    "precision": (
        ["--module", "modules.py:small", "--input", "1x3x8x8", "--precision", "fp32"],
        "iphone-12 has no latencies in fp32",
    ),
    "both": (["--module", "modules.py:small", "--space", "tiny"], "name either"),
    "choice": (["--space", "tiny", "--set", "decoder.half.width=5"], "it has 16, 32"),
    "parameter": (["--space", "tiny", "--set", "decoder.half.with=16"], "did you mean"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_estimate_is_one_line_that_says_what_next(folder: Path, name: str) -> None:
    arguments, message = WRONG[name]
    assert message in refused(folder, "estimate", "--device", "iphone-12", *arguments)


def test_measured_table_prices_no_single_operations(folder: Path) -> None:
    line = refused(
        folder, "estimate", "--device", "here.yaml", "--module", "modules.py:small",
        "--input", "1x3x8x8",
    )  # fmt: skip
    assert "whole blocks only" in line


def test_a_block_without_a_row_names_the_command_that_measures_it(folder: Path) -> None:
    line = refused(folder, "estimate", "--device", "here.yaml", "--space", "tiny")
    assert "here has no latency for" in line
    assert "nearest: " in line
    assert "nas latency measure --device here" in line


def test_a_phone_without_a_mac_says_what_is_missing(folder: Path) -> None:
    line = refused(folder, "measure", "--device", "iphone-16-pro", "--space", "small.yaml")
    assert "Mac" in line
    assert "Xcode" in line


def test_a_precision_that_this_machine_does_not_run_is_refused_before_anything(
    folder: Path,
) -> None:
    arguments = (*MEASURE[1:], "-o", "w8.yaml", "--precision", "w8")
    assert "runs fp32, not w8" in refused(folder, *arguments)
    assert not (folder / "w8.w8.samples.jsonl").exists()


def test_table_of_another_chip_is_not_measured_here(folder: Path) -> None:
    from latency.table_files import save_table

    table = load_table(folder / "here.yaml").model_copy(update={"chip": "another chip"})
    save_table(table, folder / "chip.yaml")
    arguments = ("--device", "chip.yaml", "--space", "small.yaml")
    assert "is for chip 'another chip'" in refused(folder, "validate", *arguments)
    assert "chip 'another chip'" in refused(folder, "measure", *arguments)
