"""Scripts around long trainings still run, at their shortest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces.codec.saved import load_codec

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SCRIPT = EXPERIMENTS / "benchmarks/awake.py"


@pytest.mark.slow
def test_awake_trains_a_kind_both_ways(tmp_path: Path) -> None:
    options = ["--seconds", "0.01", "--kinds", "residual", "--shared-steps", "5", "--crops", "2"]
    options += ["--probes", "1", "2"]
    command = [sys.executable, str(SCRIPT), *options, "--out", "result.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert [(row["training"], row["kind"]) for row in rows] == [
        ("decoder", "residual"),
        ("joint", "residual"),
    ]
    assert all(row["steps"] >= 1 for row in rows)


@pytest.mark.slow
def test_anchor_is_trained_saved_as_a_codec_and_goes_on(tmp_path: Path) -> None:
    options = ["--steps", "2", "--crops", "1", "--out", "anchor.json"]
    command = [sys.executable, str(EXPERIMENTS / "train_anchor.py"), *options]
    for _ in range(2):  # the second time all is done already
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "anchor.json").read_text())
    assert [score["step"] for score in result["held_back"]] == [1, 2]
    codec = load_codec(tmp_path / "anchor.safetensors")
    assert codec.design.parameters == result["parameters"]
