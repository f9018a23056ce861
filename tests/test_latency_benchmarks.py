"""The oracle's benchmarks still run, and say what they are meant to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from test_latency_cli import SPACE

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments/results"


def run(script: str, folder: Path, *options: str) -> Any:
    command = [sys.executable, str(ROOT / "experiments/benchmarks" / script), *options]
    done = subprocess.run(
        [*command, "--out", "result.json"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "result.json").read_text())


def test_accuracy_measures_a_table_and_whole_networks_it_was_not_made_of(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPACE)
    options = ("--space", "small.yaml", "--networks", "5", "--rounds", "2")
    result = run("oracle_accuracy.py", tmp_path, *options)
    assert result["networks"] == len(result["by_network"]) == 5
    assert set(result["goals"].values()) <= {True, False}
    for row in result["by_network"]:
        assert len(row["visits_ms"]) == 2
        error = 100 * (row["predicted_ms"] / row["measured_ms"] - 1)
        assert abs(error - row["error_percent"]) < 1e-6


def test_throughput_compares_with_peers_that_agree(tmp_path: Path) -> None:
    result = run("oracle_throughput.py", tmp_path, "--quick", "--spaces", "tiny")
    tiny = result["spaces"]["tiny"]
    assert tiny["times_faster_than"]["dictionary"] > 1
    assert result["first_estimate_ms"]["count"] > 1
    assert result["lowering_s"]["median"] > 0


def test_committed_results_hold_their_goals_or_say_so() -> None:
    accuracy = json.loads((RESULTS / "oracle_accuracy.json").read_text())
    assert accuracy["networks"] == 50
    assert accuracy["rounds"] >= 4
    assert accuracy["void"] == (accuracy["median_repeatability_percent"] > 4)
    within = [abs(row["error_percent"]) <= 10 for row in accuracy["by_network"]]
    assert accuracy["within_10_percent"] == 100 * sum(within) / len(within)
    assert accuracy["goals"]["at least 95 % within 10 %"] == (accuracy["within_10_percent"] >= 95)
