"""Whether a long study wears its driver out: memory and time a trial, over thousands of trials.

    python experiments/benchmarks/soak.py [--trials 5000]

A search of the usual searcher with Ray's workers and a record in SQLite, of a problem whose
evaluations cost nothing (`large_problem.py`): what is left is what the program takes itself. While
it runs, the driver's resident memory and the number of results are read once a second from outside
(Linux). Compared are the first and the last fifth of the trials, without the first 200, during
which libraries come in and the searcher's population is drawn.

Writes `experiments/results/soak.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from worker_utilisation import experiment_file

from search_spaces.files import write_atomically

HERE = Path(__file__).parent
SETTLED = 200
Samples = NDArray[np.float64]  # a row a second: seconds, results, bytes


def sampled(trials: int, folder: Path) -> Samples:
    """One search to its end, looked at once a second."""
    file = experiment_file(folder, "soak", trials=trials)
    command = [sys.executable, "-m", "nas", "search", str(file)]
    with (folder / "log").open("w") as log:
        driver = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    rows, start = [], time.monotonic()
    while driver.poll() is None:
        time.sleep(1)
        with suppress(OSError, sqlite3.Error):
            rows.append((time.monotonic() - start, _results(folder), _resident(driver.pid)))
        if len(rows) % 60 == 0 and rows:
            print(f"{rows[-1][1]} trials, {rows[-1][2] / 2**20:.0f} MB", flush=True)
    if driver.returncode:
        raise SystemExit((folder / "log").read_text())
    return np.array(rows, dtype=np.float64)


def summary(samples: Samples, trials: int) -> dict[str, Any]:
    """First and last fifth: milliseconds a trial, driver's memory."""
    fifth = (trials - min(SETTLED, trials // 5)) // 5
    first = _window(samples, trials - 5 * fifth, trials - 4 * fifth)
    last = _window(samples, trials - fifth, trials)
    return {
        "trials": trials,
        "first_fifth": first,
        "last_fifth": last,
        "times_as_long": last["ms_a_trial"] / first["ms_a_trial"],
        "times_the_memory": last["megabytes"] / first["megabytes"],
        "most_megabytes": float(samples[:, 2].max() / 2**20),
        "minutes": float(samples[-1, 0] / 60),
    }


def _window(samples: Samples, begin: int, end: int) -> dict[str, float]:
    """Between two numbers of results."""
    seconds = np.interp([begin, end], samples[:, 1], samples[:, 0])
    inside = samples[(samples[:, 1] >= begin) & (samples[:, 1] <= end)]
    return {
        "from": begin,
        "to": end,
        "ms_a_trial": float(1e3 * (seconds[1] - seconds[0]) / (end - begin)),
        "megabytes": float(np.median(inside[:, 2]) / 2**20),
    }


def _results(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "runs/nas.db", timeout=5)) as record:
        query = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"
        return int(record.execute(query).fetchone()[0])


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results/soak.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        samples = sampled(options.trials, Path(name))
    document = {
        **summary(samples, options.trials),
        "seed": 0,
        "command": f"python experiments/benchmarks/soak.py --trials {options.trials}",
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} hardware threads",
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("nas-codecs", "pymoo", "optuna", "ray", "numpy")},
    }
    write_atomically(options.out, json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
