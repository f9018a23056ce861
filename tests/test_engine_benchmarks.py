"""The benchmarks of the search engine run, and what they write can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces.load import load_space

BENCHMARKS = Path(__file__).parent.parent / "experiments/benchmarks"


def run(folder: Path, script: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *options, "--out", "result.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_simulated_workers_are_busy_and_a_barrier_keeps_them_less_so(tmp_path: Path) -> None:
    options = ("--workers", "6", "--trials", "60", "--real-trials", "0")
    (found,) = run(tmp_path, "worker_utilisation.py", *options)["simulated"]
    assert found["trials"] == 60
    assert found["utilisation_with_barrier"] < 0.7 < found["utilisation"] <= 1


@pytest.mark.slow
def test_table_of_trained_codecs_holds_every_fidelity_and_trains_nothing_twice(
    tmp_path: Path,
) -> None:
    few = ("--architectures", "2", "--steps", "5", "--crops", "4", "--shared-steps", "3")
    options = (*few, "--record", "table/trained.jsonl")
    first = run(tmp_path, "trained_table.py", *options)
    space = load_space("tiny")
    for row in first["trained"]:
        assert space.architecture(row["code"]).key == row["key"]
        assert set(row["rungs"]) == {"0.4", "1"}
        assert row["bd_rate_psnr"] == row["rungs"]["1"]["bd_rate_psnr"]
        assert 0 < row["prices"]["decode_ms"] <= 150
    assert len(first["trained"]) + first["failed"] == 2
    assert run(tmp_path, "trained_table.py", *options) == first


def test_large_studies_are_read_and_their_page_is_small(tmp_path: Path) -> None:
    (row,) = run(tmp_path, "large_report.py", "--trials", "30", "--repeats", "1")["rows"]
    assert row["trials"] == 30
    assert row["report_bytes"] < 8e6
    assert set(row["seconds"]) == {"front", "retarget", "report"}
