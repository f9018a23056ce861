"""What learned paths earn over a linear control at equal rate, by kind of block, in a CPU-minute.

    python experiments/benchmarks/awake.py --data PHOTOGRAPHS [--anchor CODEC] [--seconds 60]

A block whose path earns nothing cannot be ranked. For every kind of block of the space `codec`, one
architecture of middle size is trained for as many steps as fit into the stated CPU-seconds, decoder
only and jointly, from scratch or from the anchor that is named; `learned_gain_db` is printed beside
the goals, 0.9 dB decoder-only and 0.7 dB jointly. The linear control of joint training is trained
for as many steps, and so is, for `encoder_gain_db`, the codec without the encoder's learned path
alone. One thread. Held-back photographs of the folder; none of a test set. Writes
`experiments/results/awake.json` as results come.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from evaluators.control import gain_db, without_backbones
from evaluators.proxy import ProxyEvaluator
from search_spaces.blocks import Design
from search_spaces.files import write_atomically
from search_spaces.load import load_space
from search_spaces.space import Architecture, Choice, SearchSpace

GOALS_DB = {"decoder": 0.9, "joint": 0.7}
KINDS = ("convscale311", "inverted", "convnext", "residual")


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    space = load_space(Path("codec"))
    rows: list[dict[str, Any]] = []
    for training in arguments.trainings:
        for kind in arguments.kinds:
            rows.append(_row(space, kind, training, arguments))
            print(json.dumps(rows[-1]), flush=True)
            write_atomically(arguments.out, json.dumps(_result(rows, arguments), indent=1))


def _row(
    space: SearchSpace, kind: str, training: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    architecture = space.architecture(space.encode(choices(space, kind)))
    evaluator = ProxyEvaluator(
        training=training,  # type: ignore[arg-type]
        anchor=arguments.anchor,
        data=arguments.data,
        crops=arguments.crops,
        vgg_crops=0,
        shared_steps=arguments.shared_steps,
        perceptual_weight=0.0,
    )
    steps = _steps_within(evaluator, space, architecture, arguments)
    directory = arguments.folder
    began = time.process_time()
    score = replace(evaluator, steps=steps)._score(space, architecture, directory, 0)
    design = space.design(architecture)
    own = {}
    if training == "joint":
        own["encoder_gain_db"] = _gain_of_encoder(
            replace(evaluator, steps=steps), space, design, score, directory
        )
    return {
        **own,
        "kind": kind,
        "training": training,
        "from": "anchor" if arguments.anchor else "scratch",
        "steps": steps,
        "train_seconds": score["train_seconds"],
        "learned_gain_db": score["learned_gain_db"],
        "goal_db": GOALS_DB[training],
        "psnr": score["psnr"],
        "bpp_coded": score["bpp_coded"],
        "encode_kmacs_per_pixel": design.kmacs_per_pixel("encode"),
        "decode_kmacs_per_pixel": design.kmacs_per_pixel("decode"),
        "cpu_seconds_in_all": time.process_time() - began,
    }


def _gain_of_encoder(
    evaluator: ProxyEvaluator,
    space: SearchSpace,
    design: Design,
    score: Mapping[str, Any],
    directory: Path,
) -> float:
    """What the encoder's learned path earns at equal rate over the same codec without it."""
    data = evaluator.data_in(directory)
    without = evaluator.trained(space, without_backbones(design, ("encoder",)), data, 0)
    points = evaluator._scored(without, data, None)["rd_points"]
    return gain_db(score["rd_points"], points)


def choices(space: SearchSpace, kind: str) -> dict[str, Choice]:
    """One architecture of middle size whose blocks are of one kind."""
    sizes = {
        "encoder.eighth": (64, 1),
        "decoder.quarter": (64, 1),
        "decoder.half": (32, 2),
    }
    found: dict[str, Choice] = dict(space.reference.choices)
    for scale, (width, depth) in sizes.items():
        body: dict[str, Choice] = {"depth": depth, "width": width, "block": kind}
        body |= {"kernel": 3, "expand": 1, "expand_out": 2, "attention": "none"}
        found |= {f"{scale}.{name}": value for name, value in body.items()}
    found |= {"decoder.eighth.depth": 0, "decoder.sixteenth.depth": 0}
    found |= {"encoder.activation": "gelu", "decoder.activation": "gelu"}
    return found


def _steps_within(
    evaluator: ProxyEvaluator,
    space: SearchSpace,
    architecture: Architecture,
    arguments: argparse.Namespace,
) -> int:
    """As many steps as fit, from a few timed ones."""
    data, design = evaluator.data_in(arguments.folder), space.design(architecture)
    replace(evaluator, steps=1).trained(space, design, data, 0)  # what is shared and kept
    taken = []
    for steps in arguments.probes:  # both are watched ten times: their difference is steps alone
        began = time.process_time()
        replace(evaluator, steps=steps).trained(space, design, data, 0)
        taken.append(time.process_time() - began)
    a_step = (taken[1] - taken[0]) / (arguments.probes[1] - arguments.probes[0])
    return max(1, round(arguments.seconds / max(a_step, 1e-3)))


def _result(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "rows": rows,
        "cpu_seconds_a_candidate": arguments.seconds,
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "seed": 0,
        "command": "python experiments/benchmarks/awake.py --data FOLDER [--anchor CODEC]",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="sample", help="a folder of photographs, or sample")
    parser.add_argument("--anchor", help="a codec file to begin from")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--trainings", nargs="+", default=["decoder", "joint"])
    parser.add_argument("--probes", nargs=2, type=int, default=(20, 40), help="timed steps")
    parser.add_argument("--shared-steps", type=int, default=1200)
    parser.add_argument("--crops", type=int, default=24)
    parser.add_argument("--folder", type=Path, default=Path("runs/awake"))
    out = Path(__file__).parents[1] / "results" / "awake.json"
    parser.add_argument("--out", type=Path, default=out)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    main()
