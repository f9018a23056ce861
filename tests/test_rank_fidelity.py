"""The rank-fidelity benchmark: its statistics on rankings that are known, and that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "experiments/benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from rank_statistics import concluded  # noqa: E402


def rates(noise: float, seed: int, spread: float = 5.0) -> np.ndarray:
    """Of 14 architectures, 3 seeds and 2 sets; seeds and sets shift all alike, too."""
    rng = np.random.default_rng(seed)
    true = spread * np.linspace(-1, 1, 14)[:, None, None]
    shifts = 10 * rng.standard_normal((1, 3, 1)) + 10 * rng.standard_normal((1, 1, 2))
    return true + shifts + noise * rng.standard_normal((14, 3, 2))


def test_short_runs_that_rank_true_have_a_tau_near_one() -> None:
    guesses = {"kmacs": -np.linspace(1, 2, 14), "parameters": np.arange(14) % 3.0}
    found = concluded(rates(0.1, 0), rates(0.1, 1), {**guesses, "untrained": np.zeros(14)})
    assert found["resolved"]
    assert found["tau"]["tau"] > 0.95
    assert found["tau"]["low"] > 0.85
    assert found["tau_between_long_seeds"] > 0.95
    # Larger ones have the higher rate here: size foretells the opposite.
    assert found["tau_of_kmacs"]["tau"] == pytest.approx(-1)
    assert abs(found["tau_of_parameters"]["tau"]) < 0.5
    assert found["tau_of_untrained"] is None  # all alike: no ranking at all


def test_noise_above_the_spread_makes_a_run_void() -> None:
    found = concluded(rates(8.0, 0, 0.5), rates(8.0, 1, 0.5), {})
    assert found["void"]
    assert found["spread_percent"]["seeds"] > found["spread_percent"]["architectures"]
    assert found["tau"]["low"] < 0 < found["tau"]["high"]


def test_shifts_that_all_share_are_no_noise() -> None:
    spread = concluded(rates(0.1, 0), rates(0.1, 1), {})["spread_percent"]
    assert spread["seeds"] < 0.3
    assert spread["sets"] < 0.3
    assert spread["architectures"] == pytest.approx(5 * np.linspace(-1, 1, 14).std(ddof=1), rel=0.1)


@pytest.mark.slow
def test_benchmark_trains_records_and_goes_on(tmp_path: Path) -> None:
    options = ["--space", "tiny", "--steps", "2", "--longer", "2", "--architectures", "2"]
    options += ["--seeds", "2", "--crops", "2", "--shared-steps", "5", "--workers", "1"]
    options += ["--record", "runs/trainings.jsonl", "--out", "result.json"]
    command = [sys.executable, str(BENCHMARKS / "rank_fidelity.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = tmp_path / "runs/trainings.jsonl"
    assert len(record.read_text().splitlines()) == 3 * 2 * 2 + 3
    kept = record.read_text().splitlines(keepends=True)
    record.write_text("".join(kept[:-1]) + kept[-1][:20])  # the last one was broken off
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("15/15")
    lines = record.read_text().splitlines()
    failed = json.dumps({"job": json.loads(lines[-1])["job"], "error": "diverged"})
    record.write_text("\n".join([*lines[:-1], failed]) + "\n")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    without = json.loads((tmp_path / "result.json").read_text())
    assert without["architectures"] == 1
    assert list(without["failed"].values()) == ["diverged"]
    record.write_text("\n".join(lines) + "\n")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"psnr", "lpips"} == set(result["bd_rate"])
    assert result["steps"] == [2, 4]
    options = ["--runs", "result.json", "--supernet-steps", "2", "--folder", "runs/supernet"]
    script = BENCHMARKS / "supernet_rank_fidelity.py"
    command = [sys.executable, str(script), *options, "--out", "inherited.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    inherited = json.loads((tmp_path / "inherited.json").read_text())
    assert set(inherited["runs"]) == {f"{number}/0/inherited" for number in (-1, 0, 1)}
    found = inherited["bd_rate"]["psnr"]
    assert len(found["inherited_bd_rate"]) == len(found["long_bd_rate"]) == 2
    assert found["benchmark"]["tau"] == result["bd_rate"]["psnr"]["tau"]
