"""How busy a search keeps its workers, and what the driver costs.

    python experiments/benchmarks/worker_utilisation.py [--workers 8 256] [--trials 1000 10000]
        [--real-trials 60]

Simulated workers: evaluations take log-normal times with a mean of 30 s on a clock of their own,
while every second that the driver really takes, storage included, is charged to that clock: workers
that wait for it are idle. The loop, the searcher (screened NSGA-II) and the record (SQLite) are the
real ones. A worker is busy while it evaluates; counted is the time up to the last ask. Beside it
stands what a barrier after every generation of as many evaluations as workers would give.

The driver's own time is what it takes between two events, storage excluded; it is shown by thousand
recorded trials. Then the study is opened again.

Real workers: a search whose evaluator sleeps, with Ray on this machine; a worker is busy while the
evaluator is.

Writes `experiments/results/worker_utilisation.json`.
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
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml
from large_problem import COST, loss

from nas.commands import setup
from nas.experiment import load_experiment
from nas.record.store import TrialStore
from nas.replay import replay
from nas.search import Ending, Search, run_search
from nas.tasks import Outcome
from search_spaces.files import write_atomically

HERE = Path(__file__).parent
BUDGET = float(COST.sum())  # 7 % of the space
MEAN_SECONDS, SIGMA = 30.0, 0.6
SLEEP_SECONDS = 2.0
WINDOW = 1000  # trials by which the driver's cost is shown


class SimulatedWorkers:
    """Evaluates at once and says so later, on a clock that the driver's real time moves on."""

    def __init__(self, count: int, evaluate: Callable[[tuple[int, ...]], dict[str, float]]) -> None:
        self.count = count
        self.now_seconds = 0.0
        self.started: list[tuple[float, float]] = []
        self._evaluate = evaluate
        self._rng = np.random.default_rng(0)
        self._running: dict[int, tuple[float, Outcome]] = {}
        self._left_at = time.perf_counter()

    @property
    def free(self) -> int:
        return self.count - len(self._running)

    def submit(self, trial: int, code: tuple[int, ...], log: Path, **_: Any) -> None:
        self._charge()
        seconds = float(self._rng.lognormal(np.log(MEAN_SECONDS) - SIGMA**2 / 2, SIGMA))
        self.started.append((self.now_seconds, seconds))
        outcome = Outcome(self._evaluate(code), None, "", seconds)
        self._running[trial] = (self.now_seconds + seconds, outcome)
        self._left_at = time.perf_counter()

    def wait(self, timeout_seconds: float = 1.0) -> list[tuple[int, Outcome]]:
        """The next that ends, as Ray gives it."""
        self._charge()
        trial = min(self._running, key=lambda number: self._running[number][0])
        end_seconds, outcome = self._running.pop(trial)
        self.now_seconds = max(self.now_seconds, end_seconds)
        self._left_at = time.perf_counter()
        return [(trial, outcome)]

    def cancel(self) -> None:
        self._running.clear()

    def _charge(self) -> None:
        self.now_seconds += time.perf_counter() - self._left_at

    def utilisation(self) -> float:
        """Share of the workers' time up to the last ask in which they evaluated."""
        starts, seconds = np.array(self.started).T
        until = starts.max()
        busy = np.minimum(seconds, until - starts).sum()
        return float(busy / (self.count * until))


class TimedStore:
    """A record that knows how long it took."""

    def __init__(self, store: TrialStore) -> None:
        self._store, self.seconds = store, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return found(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def simulated(workers: int, trials: int, folder: Path) -> dict[str, Any]:
    """One search with simulated workers."""
    experiment = load_experiment(experiment_file(folder, f"w{workers}", trials))
    gate = setup.gate(experiment)
    url = f"sqlite:///{folder}/{workers}.db"
    store = TrialStore.create(url, experiment.study, setup.record(experiment))
    store.acquire()
    timed: Any = TimedStore(store)
    crew: Any = SimulatedWorkers(workers, lambda code: {"loss": loss(np.array(code))})
    searcher = setup.searcher(experiment, gate, store)
    objectives = experiment.objectives
    start = replay(searcher, gate, store, objectives)
    search = Search(searcher, gate, timed, crew, objectives, folder, Ending(trials))
    marks = [(0, 0.0, 0.0)]
    began = time.perf_counter()
    for progress in run_search(search, start):
        if progress.done >= marks[-1][0] + WINDOW:
            marks.append((progress.done, time.perf_counter() - began, timed.seconds))
            print(f"{workers} workers: {progress.done}/{trials}", file=sys.stderr, flush=True)
    store.lease.release()
    opening = time.perf_counter()
    recorded = TrialStore.open(url, experiment.study).trials()
    return {
        "workers": workers,
        "trials": len(recorded),
        "utilisation": crew.utilisation(),
        "utilisation_with_barrier": with_barrier(workers, trials),
        "own_ms_by_thousand": [
            1e3 * ((b[1] - b[2]) - (a[1] - a[2])) / (b[0] - a[0]) for a, b in pairwise(marks)
        ],
        "storage_ms_a_trial": 1e3 * timed.seconds / trials,
        "opening_seconds": time.perf_counter() - opening,
    }


def with_barrier(workers: int, trials: int) -> float:
    """Busy share when a generation of as many evaluations as workers waits for its slowest."""
    generations = max(1, trials // workers)
    shape = (generations, workers)
    seconds = np.random.default_rng(0).lognormal(np.log(MEAN_SECONDS) - SIGMA**2 / 2, SIGMA, shape)
    return float(seconds.mean() / seconds.max(axis=1).mean())


def real(trials: int, folder: Path) -> dict[str, Any]:
    """One search with Ray: what the evaluator says of its hours against the time that passed."""
    file = experiment_file(folder, "real", mean_seconds=SLEEP_SECONDS, trials=trials)
    command = [sys.executable, "-m", "nas", "search", str(file)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    shared = folder / "runs" / "real" / "shared"
    rows = [np.loadtxt(file, ndmin=2) for file in shared.glob("busy-*.txt")]
    begins, ends = np.concatenate(rows).T
    until = begins.max()
    count = os.cpu_count() or 1
    busy = (np.minimum(ends, until) - begins).sum()
    return {
        "workers": count,
        "trials": len(begins),
        "mean_seconds": float((ends - begins).mean()),
        "utilisation": float(busy / (count * (until - begins.min()))),
    }


def experiment_file(folder: Path, study: str, trials: int, mean_seconds: float = 0.0) -> Path:
    """An experiment on the large problem."""
    problem = HERE / "large_problem.py"
    content = {
        "study": study,
        "space": f"{problem}:space",
        "evaluator": f"{problem}:Formula",
        "proxy": {"mean_seconds": mean_seconds},
        "oracle": f"{problem}:Board",
        "budget": {"board": {"cost": BUDGET}},
        "objectives": ["loss", "cost"],
        "trials": trials,
    }
    file = folder / f"{study}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def main() -> None:
    arguments = _arguments()
    result: dict[str, Any] = {"simulated": [], **_provenance(arguments)}
    with tempfile.TemporaryDirectory() as name:
        for workers, trials in zip(arguments.workers, arguments.trials, strict=True):
            result["simulated"].append(simulated(workers, trials, Path(name)))
            write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
        if arguments.real_trials:
            result["real"] = real(arguments.real_trials, Path(name))
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _provenance(arguments: argparse.Namespace) -> dict[str, Any]:
    workers, trials = (" ".join(map(str, x)) for x in (arguments.workers, arguments.trials))
    return {
        "mean_seconds": MEAN_SECONDS,
        "sigma": SIGMA,
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("pymoo", "optuna", "ray", "scikit-learn", "numpy")},
        "command": "python experiments/benchmarks/worker_utilisation.py"
        f" --workers {workers} --trials {trials} --real-trials {arguments.real_trials}",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 256])
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 10_000], help="of each")
    parser.add_argument("--real-trials", type=int, default=60, help="with Ray; 0 for none")
    out = HERE.parent / "results" / "worker_utilisation.json"
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


if __name__ == "__main__":
    main()
