"""Crops a second of joint training, beside CompressAI's `mbt2018_mean` with as many parameters.

    python experiments/benchmarks/proxy_throughput.py --data PHOTOGRAPHS [--peer-python PATH]

Architectures of `codec` are drawn by a fixed seed among those that just meet the phone's budget and
have the peer's parameters within a tenth. They train as the proxy trains them: rate and squared
error, on crops that the proxy draws. The peer, in an interpreter of its own
(`compressai_training.py` says how to make one), takes steps on crops of the same photographs that
were cut before. Both take turns, a few steps each, one thread each, at several batch sizes: the
smaller, the more the optimisers weigh.

Also in turn: what channels-last and bfloat16 change for one of the architectures, and what the
perceptual phase costs. Writes `experiments/results/proxy_throughput.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from in_turn import Task, measured
from near_budget import near_the_budget

from evaluators import joint, losses
from evaluators.photos import Photo, find_photos, load_photos
from evaluators.training import random_crops
from search_spaces.blocks import Design
from search_spaces.codec.model import Codec
from search_spaces.load import load_space

PEER = Path(__file__).with_name("compressai_training.py")
PEER_PARAMETERS = 7_027_619  # of quality 1 without its tables: N = 128, M = 192
STEPS = 1000  # of the schedule; the steps that are timed stand at its ends
CROP = joint.JointRecipe(STEPS).crop


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    photos = load_photos(find_photos(arguments.data).train, CROP)
    designs = of_equal_size(arguments.space, arguments.architectures, arguments.within)
    result = {
        "ours": [{"parameters": d.parameters, **_kmacs(d)} for d in designs],
        "batches": [_beside_peer(designs, photos, batch, arguments) for batch in arguments.batches],
        "crops_per_s_by_way": measured(
            _ways(designs[0], photos, arguments.steps), arguments.repeats
        ),
        "crop": CROP,
        **_provenance(),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _beside_peer(
    designs: Sequence[Design], photos: list[Photo], batch: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Speeds at one batch size, and how many times the peer's each of ours is."""
    recipe = joint.JointRecipe(STEPS, batch=batch)
    tasks = {
        f"ours {i}": _training(design, photos, recipe, arguments.steps)
        for i, design in enumerate(designs)
    }
    with _peer(arguments, photos, batch) as (peer, about):
        speeds = measured({**tasks, **peer}, arguments.repeats)
    ours = [speeds[name]["per_s"] for name in tasks]
    times = [value / speeds["mbt2018_mean"]["per_s"] for value in ours] if peer else None
    return {"batch": batch, "crops_per_s": speeds, "peer": about, "times": times}


def of_equal_size(name: str, count: int, within: float) -> list[Design]:
    """Architectures near the budget whose parameters are the peer's within a share."""
    space = load_space(name)
    found: list[Design] = []
    seed = 0
    while len(found) < count:
        for code in near_the_budget(space, 40, seed):
            design = space.design(space.architecture(code))
            if abs(design.parameters / PEER_PARAMETERS - 1) <= within:
                found.append(design)
        seed += 1
    return found[:count]


def _training(
    design: Design, photos: list[Photo], recipe: joint.JointRecipe, steps: int, at: int = 0
) -> Task:
    """Takes steps at a place of the schedule; gives the crops that went through."""
    torch.manual_seed(0)
    codec = Codec(design).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = joint.joint_run(codec, recipe, 0)

    def task() -> int:
        for _ in range(steps):
            run.step = at
            joint._step(run, photos)
        return steps * recipe.batch

    return task


def _ways(design: Design, photos: list[Photo], steps: int) -> dict[str, Task]:
    """The same training in other forms and precisions, and where perception has joined."""
    recipe = joint.JointRecipe(STEPS)
    plain = _training(design, photos, recipe, steps)
    half = _training(design, photos, recipe, steps)
    rows_first = mock.patch.object(torch, "channels_last", torch.contiguous_format)
    with rows_first:
        contiguous = _training(design, photos, recipe, steps)

    def in_order() -> int:
        with rows_first:
            return contiguous()

    def in_bfloat16() -> int:
        autocast = torch.autocast("cpu", torch.bfloat16)
        with mock.patch.object(losses, "mixed_precision", return_value=autocast):
            return half()

    return {
        "as the proxy": plain,
        "channels first": in_order,
        "bfloat16": in_bfloat16,
        "perceptual phase": _training(design, photos, recipe, steps, at=STEPS - 1),
    }


@contextmanager
def _peer(
    arguments: argparse.Namespace, photos: list[Photo], batch: int
) -> Iterator[tuple[dict[str, Task], Mapping[str, Any]]]:
    """The peer's task, none without an interpreter, and what it says of itself."""
    if arguments.peer_python is None:
        yield {}, {}
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crops.npy"
        crops = random_crops(photos, 256, np.random.default_rng(0), CROP)
        np.save(file, (crops * 255).round().byte().permute(0, 2, 3, 1).numpy())
        command = [arguments.peer_python, str(PEER), str(file), str(batch)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            ask = _asking(process)
            about = json.loads(ask(""))

            def task() -> int:
                ask(f"{arguments.steps}\n")
                return int(arguments.steps * batch)

            yield {"mbt2018_mean": task}, about
            assert process.stdin is not None
            process.stdin.close()


def _asking(process: subprocess.Popen[str]) -> Callable[[str], str]:
    def ask(line: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise SystemExit("the peer has ended; its error is above")
        return answer

    return ask


def _kmacs(design: Design) -> dict[str, float]:
    return {f"{s}_kmacs_per_pixel": design.kmacs_per_pixel(s) for s in ("encode", "decode")}


def _provenance() -> dict[str, Any]:
    return {
        "machine": f"{platform.machine()} {platform.system()}, one thread each",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "seed": 0,
        "command": "python experiments/benchmarks/proxy_throughput.py --data FOLDER"
        " --peer-python PATH",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="sample", help="a folder of photographs, or sample")
    parser.add_argument("--peer-python", help="an interpreter with CompressAI; default: ours alone")
    parser.add_argument("--space", default="codec")
    parser.add_argument("--within", type=float, default=0.1, help="share of the peer's parameters")
    parser.add_argument("--architectures", type=int, default=3)
    parser.add_argument("--batches", nargs="+", type=int, default=[2, 6])
    parser.add_argument("--steps", type=int, default=3, help="taken at a turn")
    parser.add_argument("--repeats", type=int, default=7)
    out = Path(__file__).parents[1] / "results" / "proxy_throughput.json"
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


if __name__ == "__main__":
    main()
