"""Whether a search loses, doubles or makes up anything while everything around it fails.

    python experiments/benchmarks/faults.py [--trials 1200] [--faults 110] [--seed 0]

A Ray cluster of three nodes on this machine, two drivers on one study in SQLite, and an evaluator
that trains small networks (`faults_problem.py`) and waits, as if it took longer. Faults follow each
other, each once the search has recovered from the one before it: when all that it hit is in
the record; where it hit no evaluation, when the next result is:

- `worker_killed`: SIGKILL to the process of a running evaluation
- `out_of_memory`: an evaluation wants 8 GB where 2 are allowed
- `hung`: an evaluation that never gives the interpreter back, beyond its time limit
- `disk_full`: an evaluation's disk is full (`/dev/full`)
- `node_lost`: a node's processes are killed; another node takes its place
- `driver_killed`: SIGKILL to a driver, which is started again
- `database_gone`: the database is locked by someone else for 12 s, longer than its time limit
- `clock_jump`: one driver's clock jumps by up to an hour, forwards or back

In the end every architecture that was asked for is evaluated once more without any of this, and
held against the record. Writes `experiments/results/faults.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shlex
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faults_problem
import yaml
from faults_record import OBJECTIVES, SEED, STUDY, verified

from nas.processes import runs
from nas.record.records import Trial
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from search_spaces.files import write_atomically

HERE = Path(__file__).parent
KINDS = (
    "worker_killed", "out_of_memory", "hung", "disk_full",
    "node_lost", "driver_killed", "database_gone", "clock_jump",
)  # fmt: skip
NODES, CORES = 3, 2
LIMIT_SECONDS, LOCKED_SECONDS, JUMP_SECONDS = 30.0, 12.0, 3600.0
STUCK_SECONDS = 600.0  # without any result: the campaign has failed

# Python runs it at its start: the clock of this process alone is off by what a file says.
CLOCK = """
import os, time
_real = time.time
def _jumped():
    try:
        return _real() + float(open(os.environ["FAULTS_CLOCK"]).read())
    except (KeyError, OSError, ValueError):
        return _real()
time.time = _jumped
"""


@dataclass(frozen=True)
class Load:
    """What is searched while faults happen.

    Attributes:
        trials: of the study.
        drivers: that search it at once.
        pause_seconds: that an evaluation takes beside its training.
    """

    trials: int
    drivers: int
    pause_seconds: float


class Campaign:
    """A study under way: its cluster, its drivers and its record."""

    def __init__(self, folder: Path, cluster: Any, load: Load) -> None:
        self.folder, self.cluster = folder, cluster
        self.nodes = [_node(cluster) for _ in range(NODES)]
        self.shared = folder / f"runs/{STUDY}/shared"
        self.clocks = [folder / f"clock-{i}" for i in range(load.drivers)]
        _write_experiment(folder, load.trials, load.pause_seconds)
        self.drivers = [self._start(i) for i in range(load.drivers)]
        self.restarts = 0
        self._store: TrialStore | None = None

    def revive(self) -> None:
        """Starts drivers again that were killed or that gave up."""
        for i, driver in enumerate(self.drivers):
            if driver.poll() not in (None, 0):
                self.drivers[i] = self._start(i)
                self.restarts += 1

    @property
    def ended(self) -> bool:
        """Whether every driver has found the study complete."""
        return all(driver.poll() == 0 for driver in self.drivers)

    def results(self) -> int:
        """Evaluations in the record; -1 while it cannot be read."""
        with suppress(sqlite3.Error), closing(sqlite3.connect(self.database, timeout=1)) as record:
            query = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"
            return int(record.execute(query).fetchone()[0])
        return -1

    @property
    def database(self) -> Path:
        """Of the record."""
        return self.folder / "runs/nas.db"

    def trials(self) -> list[Trial]:
        """Of the record, once it can be read."""
        found: list[list[Trial]] = []

        def read() -> bool:
            with suppress(StudyError):
                if self._store is None:
                    self._store = TrialStore.open(f"sqlite:///{self.database}", STUDY)
                found.append(self._store.trials())
            return bool(found)

        _wait_until(read, "the record cannot be read")
        return found[0]

    def inject(self, kind: str, number: int, rng: random.Random) -> set[str]:
        """Makes a fault happen; returns the architectures whose evaluation it hit."""
        if kind in ("out_of_memory", "hung", "disk_full"):
            return self._lay_out(kind, number)
        return {
            "worker_killed": self._kill_worker,
            "node_lost": self._lose_node,
            "driver_killed": self._kill_driver,
            "database_gone": self._lock_database,
            "clock_jump": self._jump,
        }[kind](rng)

    def _start(self, i: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "nas", "search", "faults.yaml"]
        paths = [str(self.folder / "clock"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "FAULTS_CLOCK": str(self.clocks[i]),
        }
        with (self.folder / f"driver-{i}.log").open("a") as log:
            return subprocess.Popen(
                [*command, "--ray-address", self.cluster.address],
                cwd=self.folder, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def _lay_out(self, kind: str, number: int) -> set[str]:
        """For the next evaluation that begins."""
        name = f"{number:04d}-{kind}"
        (self.shared / faults_problem.FAULTS / name).touch()
        suffered = self.shared / faults_problem.SUFFERED

        def hit() -> set[str]:
            return {file.name.removeprefix(f"{name}-") for file in suffered.glob(f"{name}-*")}

        _wait_until(lambda: self.ended or bool(hit()), f"none took {kind}", self.revive)
        return hit()

    def _running(self) -> dict[int, str]:
        """Process -> architecture that it evaluates."""
        marks = {}
        for file in (self.shared / faults_problem.RUNNING).iterdir():
            with suppress(FileNotFoundError):
                marks[int(file.name)] = file.read_text()
        return {pid: key for pid, key in marks.items() if key and runs(pid)}

    def _kill_worker(self, rng: random.Random) -> set[str]:
        _wait_until(lambda: self.ended or bool(self._running()), "none runs", self.revive)
        for pid, key in rng.sample(sorted(self._running().items()), len(self._running())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return {key}
        return set()

    def _lose_node(self, rng: random.Random) -> set[str]:
        before = self._running()
        lost = self.nodes.pop(rng.randrange(len(self.nodes)))
        self.cluster.remove_node(lost, allow_graceful=False)
        hit = {key for pid, key in before.items() if not runs(pid)}
        self.nodes.append(_node(self.cluster))
        return hit

    def _kill_driver(self, rng: random.Random) -> set[str]:
        living = [driver for driver in self.drivers if driver.poll() is None]
        if not living:
            return set()
        driver = rng.choice(living)
        driver.kill()
        driver.wait()
        of = f":{driver.pid}:"
        return {t.key for t in self.trials() if t.state == "running" and of in t.owner}

    def _lock_database(self, rng: random.Random) -> set[str]:
        with closing(sqlite3.connect(self.database, timeout=60, isolation_level=None)) as record:
            record.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCKED_SECONDS)
            record.execute("ROLLBACK")
        return set()

    def _jump(self, rng: random.Random) -> set[str]:
        rng.choice(self.clocks).write_text(f"{rng.uniform(-JUMP_SECONDS, JUMP_SECONDS):.0f}")
        return set()


def run(folder: Path, load: Load, faults: int, seed: int) -> dict[str, Any]:
    """A whole campaign.

    Args:
        folder: empty, for the study.
        load: what is searched meanwhile.
        faults: to be injected; fewer if the study ends before.
        seed: of what fails when.

    Returns:
        What was injected and what became of the study.
    """
    rng = random.Random(seed)
    plan = [KINDS[i % len(KINDS)] for i in range(faults)]
    rng.shuffle(plan)
    recovered: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with _cluster() as cluster:
        campaign = Campaign(folder, cluster, load)
        try:
            _wait_until(lambda: campaign.results() > 0, "the search did not begin", campaign.revive)
            for number, kind in enumerate(plan):
                seconds = _suffered(campaign, kind, number, rng)
                recovered[kind].append(seconds)
                left = f"{campaign.results()} results"
                print(f"{number + 1}/{len(plan)} {kind}: {seconds:.1f} s, {left}", flush=True)
                if campaign.ended:
                    break
            _wait_until(lambda: campaign.ended, "the search did not end", campaign.revive, 10)
        finally:
            for driver in campaign.drivers:
                driver.kill()
    found = verified(campaign.trials(), folder)
    injected = {kind: len(times) for kind, times in recovered.items()}
    return {
        "faults": sum(injected.values()),
        "injected": injected,
        "driver_restarts": campaign.restarts,
        "seconds_to_recover": {kind: _summary(times) for kind, times in recovered.items() if times},
        **found,
    }


def _suffered(campaign: Campaign, kind: str, number: int, rng: random.Random) -> float:
    """Injects a fault; returns the seconds until what it hit is in the record.

    Where it hit no evaluation, until the next result is.
    """
    known, start = campaign.results(), time.monotonic()
    hit = campaign.inject(kind, number, rng)

    def over() -> bool:
        if campaign.results() < known + len(hit or {kind}):
            return campaign.ended
        return not hit or hit <= {t.key for t in campaign.trials() if t.ended}

    _wait_until(over, f"no result since {kind}", campaign.revive)
    return time.monotonic() - start


def _write_experiment(folder: Path, trials: int, pause_seconds: float) -> None:
    shutil.copy(HERE / "faults_problem.py", folder)
    (folder / "clock").mkdir()
    (folder / "clock/sitecustomize.py").write_text(CLOCK)
    experiment = {
        "study": STUDY,
        "space": "./faults_problem.py:space",
        "evaluator": "./faults_problem.py:Digits",
        "proxy": {"pause_seconds": pause_seconds},
        "oracle": "./faults_problem.py:Weights",
        "budget": {"size": {"weights": 6000}},
        "objectives": list(OBJECTIVES),
        "memory_gb": 2,
        "trial_minutes": LIMIT_SECONDS / 60,
        "retries": 10,
        "trials": trials,
        "seed": SEED,
    }
    (folder / "faults.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))


def _node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=CORES, memory=16 * 2**30, object_store_memory=10**8)


@contextmanager
def _cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 10**8}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def _wait_until(
    holds: Callable[[], bool], why: str, between: Callable[[], None] = lambda: None, times: int = 1
) -> None:
    deadline = time.monotonic() + times * STUCK_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"{why} within {times * STUCK_SECONDS:.0f} s")
        between()
        time.sleep(0.2)


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 1), "most": round(max(seconds), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1200)
    parser.add_argument("--faults", type=int, default=110)
    parser.add_argument("--drivers", type=int, default=2)
    parser.add_argument("--pause-seconds", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results/faults.json")
    options = parser.parse_args()
    # Ended like Ctrl-C: the cluster and the drivers go too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start, load = time.monotonic(), Load(options.trials, options.drivers, options.pause_seconds)
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        found = run(Path(name), load, options.faults, options.seed)
    document: Mapping[str, Any] = {
        **found,
        "nodes": NODES,
        "drivers": options.drivers,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "seed": options.seed,
        "command": shlex.join(["python", "experiments/benchmarks/faults.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} hardware threads",
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("nas-codecs", "ray", "optuna", "scikit-learn")},
    }
    write_atomically(options.out, json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
