"""How long reading a large study takes, and how large its page is.

    python experiments/benchmarks/large_report.py [--trials 2000 10000]

A study of decoders of `tiny` is recorded: architectures, prices and blocks are real, scores are
drawn (nothing is trained; a reader cannot tell). Then the commands are run as a user runs them,
start of the program included, five times each: medians and ranges of seconds. The peer of
`nas front` is what Optuna itself takes to read the same study, `optuna.load_study(...).trials`.

Writes `experiments/results/large_report.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from latency.oracle import LatencyOracle
from latency.table_files import load_table
from nas.pricing.budget import Gate
from nas.pricing.devices import DevicePricer
from nas.record.records import StudyRecord
from nas.record.store import TrialStore
from nas.replay import claimed
from nas.searchers.problem import Ask
from search_spaces.files import write_atomically
from search_spaces.load import load_space, space_source

DEVICE = "iphone-17-pro-max"
LIMITS = {DEVICE: {"encode_ms": 230.0, "decode_ms": 150.0}}
REPEATS = 5
COMMANDS = {
    "front": ("front", "large"),
    "retarget": ("retarget", "large", "--device", "iphone-12", "--decode-ms", "300"),
    "report": ("report", "large"),
}
_OPTUNA = "import optuna, sys; optuna.load_study(study_name='large', storage=sys.argv[1]).trials"


def main() -> None:
    arguments = _arguments()
    rows = []
    for trials in arguments.trials:
        with tempfile.TemporaryDirectory() as name:
            rows.append(measured(trials, Path(name), arguments.repeats))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "rows": rows,
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("nas-codecs", "optuna", "plotly", "numpy")},
        "seed": 0,
        "command": "python experiments/benchmarks/large_report.py",
    }
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")


def measured(trials: int, folder: Path, repeats: int) -> dict[str, Any]:
    """Records a study and reads it."""
    url = f"sqlite:///{folder}/runs/nas.db"
    record(url, trials)
    program = [sys.executable, "-m", "nas"]
    seconds = {
        name: _seconds([*program, *command], folder, repeats) for name, command in COMMANDS.items()
    }
    return {
        "trials": trials,
        "seconds": seconds,
        "optuna_reads": _seconds([sys.executable, "-c", _OPTUNA, url], folder, min(2, repeats)),
        "database_bytes": (folder / "runs/nas.db").stat().st_size,
        "report_bytes": (folder / "runs/large/report.html").stat().st_size,
    }


def record(url: str, count: int) -> None:
    """A study whose scores follow its sizes, with noise."""
    space = load_space("tiny")
    gate = Gate(DevicePricer(space, {DEVICE: LatencyOracle(load_table(DEVICE))}), LIMITS)
    objectives = {"bd_rate_lpips": "minimize", "decode_ms": "minimize"}
    about = {"space_file": space_source("tiny", Path())}
    study = StudyRecord(
        identity={"precision": "fp16", "objectives": list(objectives)},
        objectives=objectives,  # type: ignore[arg-type]
        limits=gate.limits,
        space=space.name,
        provenance=gate.pricer.provenance,
        about=about,
        description=space.description(),
    )
    store = TrialStore.create(url, "large", study)
    store.acquire()
    rng = np.random.default_rng(0)
    codes = np.unique(space.sample(rng, 20 * count), axis=0)
    codes = codes[rng.permutation(len(codes))]
    for ask, code in enumerate(codes[gate.feasible(codes)][:count]):
        claim = claimed(gate, Ask(space.architecture(code)), ask, ask)
        score = float(-20 * np.log10(claim.price["kmacs_per_pixel"] + 1) + rng.normal())
        points = [_point(level, score, rng) for level in range(4)]
        metrics = {"bd_rate_lpips": score, **points[1], "rd_points": points}
        values = [score, claim.price["decode_ms"]]
        store.complete(store.claim(space, claim), values, metrics, ask, float(rng.uniform(30, 60)))
    store.lease.release()


def _point(level: int, score: float, rng: np.random.Generator) -> dict[str, float]:
    rate = 0.1 * 1.6**level
    return {
        "level": level,
        "bpp_coded": rate + 0.001 * float(rng.normal()),
        "bpp_estimated": rate,
        "psnr": 26 + 2 * level - score / 50,
        "ms_ssim": 0.9 + 0.02 * level,
        "lpips": 0.4 - 0.08 * level + score / 1000,
    }


def _seconds(command: list[str], folder: Path, repeats: int) -> dict[str, float]:
    """From the start of the program to its end."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        taken.append(time.perf_counter() - began)
        if done.returncode:
            raise SystemExit(done.stderr)
    return {"median": float(np.median(taken)), "least": min(taken), "most": max(taken)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    out = Path(__file__).parents[1] / "results" / "large_report.json"
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


if __name__ == "__main__":
    main()
