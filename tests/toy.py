"""A search that knows no codecs: a space of small networks, scored by a formula.

Tests copy this file beside the YAML files that name its evaluator, as a user would. The builder is
named where it stands, so that its blocks are lowered once for all tests.
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evaluators.protocol import Direction, EvaluationError, SetupError, StoppedEarly
from search_spaces.blocks import Design, Network, Shape, Stage, Step
from search_spaces.space import Architecture, Choice, SearchSpace

SIZE = 128
DEVICE = "iphone-17-pro-max"

SPACE = {
    "name": "toy",
    "builder": f"{Path(__file__).resolve()}:build_design",
    "parameters": {
        "depth": {"choices": [1, 2, 3, 4, 5, 6]},
        "width": {"choices": [8, 16, 32]},
        "mixing": {"choices": ["none", "shuffle"]},
        "groups": {"choices": [1, 2, 4], "when": {"mixing": ["shuffle"]}},
    },
    "reference": {"depth": 1, "width": 8, "mixing": "none"},
}

EXPERIMENT = {
    "study": "toy",
    "space": "toy.yaml",
    "evaluator": "./toy.py:ToyEvaluator",
    "budget": {DEVICE: {"decode_ms": 150}},
    "objectives": ["loss", "decode_ms"],
    "searcher": {"population": 6},
    "trials": 16,
    "workers": 1,
    "seed": 3,
}


def write_experiment(folder: Path, **changes: Any) -> Path:
    """Writes the toy's files into a folder; `changes` replace keys of the experiment."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, folder / "toy.py")
    (folder / "toy.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    content = {key: value for key, value in {**EXPERIMENT, **changes}.items() if value is not None}
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def trained(folder: Path, study: str = "toy") -> list[str]:
    """Keys in the order in which evaluations began, from what the evaluator itself wrote."""
    file = folder / "runs" / study / "shared" / "trained.txt"
    return file.read_text().split() if file.exists() else []


def nas(
    folder: Path, *arguments: str, timeout_seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Runs the program in a folder, to its end."""
    command = [sys.executable, "-m", "nas", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout_seconds
    )


def interruptible() -> None:
    """Whoever runs the tests in the background ignores Ctrl-C, and what they start with them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def json_of(folder: Path, *arguments: str) -> Any:
    """What a reading command prints."""
    done = nas(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_until(holds: Callable[[], bool], timeout_seconds: float = 90) -> None:
    """Looks again and again."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def ray_cluster() -> Iterator[str]:
    """The address of a running Ray cluster of two cores, to be joined: starts once for many."""
    with simulated_cluster(2) as cluster:
        yield cluster.address


@contextmanager
def simulated_cluster(cores: int) -> Iterator[Any]:
    """A head with these cores, to which machines can be added."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": 10**8}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


@dataclass(frozen=True)
class Layer:
    """x -> grouped 3 x 3 convolution of x."""

    width: int
    groups: int

    @property
    def signature(self) -> str:
        return f"layer(width={self.width}, groups={self.groups}, size={SIZE})"

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        return ((self.width, SIZE, SIZE),)

    @property
    def macs(self) -> int:
        return 9 * self.width**2 // self.groups * SIZE**2

    @property
    def parameters(self) -> int:
        return 9 * self.width**2 // self.groups

    def build(self) -> Any:
        from torch import nn

        return nn.Conv2d(self.width, self.width, 3, 1, 1, groups=self.groups, bias=False)


def build_design(choices: Mapping[str, Choice]) -> Design:
    """A chain of `depth` layers as the only stage."""
    layer = Layer(int(choices["width"]), int(choices.get("groups", 1)))
    names = ["x", *(f"layer.{i}" for i in range(int(choices["depth"])))]
    steps = tuple(Step(names[i + 1], layer, (names[i],)) for i in range(len(names) - 1))
    stage = Stage(Network(("x",), steps, (names[-1],)))
    return Design(stages={"decode": stage}, tiles_per_image=48, pixels_per_tile=SIZE**2)


@dataclass(frozen=True)
class ToyEvaluator:
    """Deeper and wider is better.

    Attributes:
        seconds: an evaluation takes.
        diverging_depth: loses its numbers.
        failing_depth: says that it collapsed.
        exiting_depth: takes its process with it.
        hoarding_depth: wants more memory than there is.
        steps: of a training; more of them leave less noise.
        noise: that the seed adds to the loss, at one step.
        stops_early: gives up what is less accurate than a candidate as cheap.
        has_fidelities: a share of the evaluation leaves more loss.
    """

    seconds: float = 0.0
    diverging_depth: int = 0
    failing_depth: int = 0
    exiting_depth: int = 0
    hoarding_depth: int = 0
    levels: tuple[int, ...] = (1, 2)
    steps: int = 1
    noise: float = 0.0
    stops_early: bool = False
    has_fidelities: bool = False

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"loss": "minimize", "accuracy": "maximize"}

    @property
    def ablations(self) -> Mapping[str, Mapping[str, Any]]:
        return {"without noise": {"noise": 0.0}} if self.noise else {}

    def seconds_per_trial(self, space: SearchSpace) -> float:
        return 30.0

    def check(self) -> None:
        if missing := os.environ.get("TOY_MISSES"):
            raise SetupError(f"{missing} is not installed")

    def prepare(self, space: SearchSpace, directory: Path) -> None:
        (directory / "prepared").write_text(space.name)

    def suffer(self, depth: int, directory: Path, architecture: Architecture) -> None: ...

    def evaluate(
        self,
        space: SearchSpace,
        architecture: Architecture,
        directory: Path,
        seed: int,
        bar: Mapping[str, float] | None = None,
        fidelities: Sequence[float] = (1.0,),
    ) -> dict[str, Any]:
        assert (directory / "prepared").read_text() == space.name
        with (directory / "trained.txt").open("a") as file:
            share = "" if fidelities[-1] == 1.0 else f"@{fidelities[-1]:g}"
            file.write(f"{architecture.key}{share}\n")
        print(f"evaluating {architecture.key} in {os.getpid()}")
        time.sleep(self.seconds)
        depth, width = architecture.choices["depth"], architecture.choices["width"]
        if depth == self.hoarding_depth:
            import torch

            torch.empty(2**60, dtype=torch.uint8)
        if depth == self.exiting_depth:
            os._exit(9)
        self.suffer(int(depth), directory, architecture)
        if depth == self.failing_depth:
            raise EvaluationError("collapsed: the output is constant")
        loss = 10 / math.sqrt(depth * width) + zlib.crc32(bytes(architecture.code)) % 1000 / 1e4
        drawn = zlib.crc32(f"{architecture.key} {seed}".encode()) % 1000 / 1000
        loss += self.noise * drawn / math.sqrt(self.steps)
        loss += 1 / fidelities[-1] - 1
        if depth == self.diverging_depth:
            loss = float("nan")
        accuracy = 1 / (1 + loss)
        passed = {"milestones": {"accuracy": accuracy}} if self.stops_early else {}
        if accuracy < (bar or {}).get("accuracy", 0):
            raise StoppedEarly("stopped early: less accurate than one as cheap", passed)
        seen = {"seed": seed, "levels": self.levels, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
        return {"loss": loss, "accuracy": accuracy, **seen, **passed}


@dataclass(frozen=True)
class FaultyEvaluator(ToyEvaluator):
    """The same on machines that fail.

    Attributes:
        killed_once_depth: has its process killed the first time that an architecture is tried.
        full_once_depth: finds the disk full the first time.
        hanging_depth: hangs without giving the interpreter back.
        greedy_depth: takes 3 GB.
    """

    killed_once_depth: int = 0
    full_once_depth: int = 0
    hanging_depth: int = 0
    greedy_depth: int = 0

    def suffer(self, depth: int, directory: Path, architecture: Architecture) -> None:
        if depth == self.killed_once_depth and first_time(directory, architecture):
            os.kill(os.getpid(), signal.SIGKILL)
        if depth == self.full_once_depth and first_time(directory, architecture):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if depth == self.hanging_depth:
            ctypes.PyDLL(None).sleep(600)
        if depth == self.greedy_depth:
            np.ones(3 * 2**27)


def first_time(folder: Path, architecture: Architecture) -> bool:
    """Whether an architecture is tried for the first time."""
    try:
        (folder / f"tried-{architecture.key}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
