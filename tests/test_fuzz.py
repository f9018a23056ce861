"""The fuzz campaign, on a few inputs of every format; and that it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "experiments/benchmarks/fuzz.py"
FORMATS = {
    "experiment", "space", "latency table", "bitstream", "codec file", "training checkpoint",
    "supernet file", "photograph", "measured codec", "stated rates", "export", "storage",
    "study name", "arguments",
}  # fmt: skip


def fuzz(out: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, result, and what was printed."""
    command = [sys.executable, str(SCRIPT), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert out.is_file(), done.stdout + done.stderr
    return done.returncode, json.loads(out.read_text()), done.stdout + done.stderr


@pytest.mark.slow
def test_damaged_inputs_of_every_format_are_refused_in_one_line_or_taken(tmp_path: Path) -> None:
    code, result, printed = fuzz(tmp_path / "fuzz.json", "--inputs", "300", "--seed", "9")
    assert (code, result["faults"]) == (0, []), printed
    formats = result["formats"]
    assert set(formats) == FORMATS
    for name, counts in formats.items():
        assert counts["done"] == counts["inputs"] == counts["accepted"] + counts["refused"], name
        assert counts["refused"] > 0, name
    # Of what was hardly changed some is still in order: it was read to its end.
    assert sum(counts["accepted"] > 0 for counts in formats.values()) > len(formats) / 2


def test_a_broken_reader_is_reported_whatever_it_does(tmp_path: Path) -> None:
    options = ["--formats", "self-check", "--inputs", "30", "--seconds", "1"]
    code, result, printed = fuzz(tmp_path / "fuzz.json", *options)
    assert code == 1
    assert result["formats"]["self-check"]["faults"] == len(result["faults"]) == 30
    expected = {
        "raises": "traceback: KeyError: 'not foreseen'",
        "recurses": "traceback: RecursionError",
        "swallows memory": "traceback: MemoryError",
        "crashes": "the process died: SIGSEGV",
        "exits": "the process died: exit 3",
        "takes its time": "too slow",
        "says much": "its error is not one line",
        "writes outside": "wrote outside its place",
    }
    found = {fault["kind"]: fault["verdict"] for fault in result["faults"]}
    assert found.keys() == expected.keys(), printed
    for kind, verdict in expected.items():
        assert found[kind].startswith(verdict), kind


def test_a_stopped_campaign_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    options = ["--formats", "space,latency table", "--inputs", "40"]
    _, whole, _ = fuzz(out, *options)
    half = json.loads(json.dumps(whole))
    emptied = {**half["formats"]["latency table"], "done": 0, "accepted": 0, "refused": 0}
    half["formats"]["latency table"] = {**emptied, "by_kind": {}}
    out.write_text(json.dumps(half))
    code, again, printed = fuzz(out, *options)
    assert (code, again["formats"]["space"]) == (0, whole["formats"]["space"]), printed
    counts = ("done", "accepted", "refused", "by_kind")
    for name in counts:
        assert again["formats"]["latency table"][name] == whole["formats"]["latency table"][name]
