"""The entropy coder's benchmark still runs, on latents of a few symbols."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "experiments/benchmarks/entropy_coder.py"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    few = ("--shapes", "16x8x8,24x8x4", "--repeats", "1", "--out", "result.json")
    command = [sys.executable, str(SCRIPT), *few, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_every_case_is_coded_at_its_ideal_size_and_printed(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    names = [case["case"] for case in result["cases"]]
    qualities = ("low", "middle", "high")
    assert names == [f"{shape}-{q}" for shape in ("16x8x8", "24x8x4") for q in qualities]
    for case in result["cases"]:
        assert case["case"] in done.stdout
        for ours in (case["ours_all"], case["ours_live"]):
            assert ours["ideal_bytes"] - 1 <= ours["bytes"] <= ours["ideal_bytes"] + 2.1
        assert case["ours_live"]["bytes"] <= case["ours_all"]["bytes"]
    assert {"machine", "versions", "python", "seed", "command"} <= result.keys()


def test_an_interpreter_without_the_peer_is_an_error_that_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "--peer-python", sys.executable)
    assert done.returncode != 0
    assert "has no compressai" in done.stderr
    assert not (tmp_path / "result.json").exists()
