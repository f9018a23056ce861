"""Whether inherited weights rank the architectures that the rank-fidelity benchmark trained.

    python experiments/benchmarks/supernet_rank_fidelity.py --data PHOTOGRAPHS
        [--runs experiments/results/rank_fidelity_decoder.json] [--supernet-steps 4000]

One supernet is trained for the whole space of those runs, from the same anchor: blocks of every
kind, which share weights only with their like. The benchmark's own architectures are then scored
by inherited weights on the benchmark's own two sets of crops, and ranked against its long runs,
beside its short runs, kMACs and parameters. What was recorded of the untrained architectures must
come out again, or the runs are of other architectures or crops and nothing is concluded.

Writes `experiments/results/supernet_<runs>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from near_budget import near_the_budget
from rank_fidelity import halves
from rank_statistics import REFERENCE, bd_rates, concluded, survivors

from evaluators import scoring
from evaluators.inherited import SupernetEvaluator, heir_of
from evaluators.precision import at_precision
from evaluators.proxy import ProxyEvaluator
from evaluators.supernet_file import supernet_about
from search_spaces.files import write_atomically
from search_spaces.load import load_space

_KEPT = ("tau", "tau_of_kmacs", "tau_of_parameters", "tau_of_untrained", "tau_between_long_seeds")


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    known = json.loads(arguments.runs.read_text())
    space = load_space(known["space"])
    codes = near_the_budget(space, known["drawn"], 0)
    recipe = _recipe(known, arguments)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    evaluator = SupernetEvaluator(**recipe, supernet_steps=arguments.supernet_steps)
    untrained = ProxyEvaluator(**{**recipe, "steps": 0})
    numbered = [(REFERENCE, space.reference.code), *enumerate(codes)]
    for number, code in numbered[:3]:
        _require_same(known["runs"][f"{number}/0/0"], _scored(untrained, space, code, arguments))
    file = evaluator.supernet_file(space, arguments.folder)
    inherited = {}
    for number, code in numbered:
        line = _scored(heir_of(evaluator, file, 0), space, code, arguments)
        inherited[f"{number}/0/inherited"] = line
        print(number, f"{line['seconds']:.1f} s", flush=True)
    document = {
        **_concluded(known, inherited),
        "runs_of": arguments.runs.name,
        "supernet": _without_data(supernet_about(file)),
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy", "nas-codecs")},
        "seed": 0,
        "command": "python experiments/benchmarks/supernet_rank_fidelity.py --data FOLDER"
        f" --runs experiments/results/{arguments.runs.name}"
        f" --supernet-steps {arguments.supernet_steps}",
        "runs": inherited,
    }
    write_atomically(arguments.out, json.dumps(document, indent=1) + "\n")
    print(json.dumps({k: v for k, v in document.items() if k != "runs"}, indent=1))


def _recipe(known: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Of the benchmark's long runs."""
    stated = known["command"].split()
    crops, shared = (int(stated[stated.index(name) + 1]) for name in ("--crops", "--shared-steps"))
    return {
        "training": known["training"], "data": arguments.data,
        "anchor": str(arguments.anchor) if known["from"] == "anchor" else None,
        "steps": known["steps"][1], "crops": crops, "shared_steps": shared, "vgg_crops": 0,
    }  # fmt: skip


def _scored(
    evaluator: ProxyEvaluator, space: Any, code: Any, arguments: argparse.Namespace
) -> dict[str, Any]:
    """On both sets, as the benchmark does."""
    began = time.process_time()
    data = evaluator.data_in(arguments.folder)
    design = evaluator.design_of(space, space.architecture(code))
    trained = evaluator.trained(space, design, data, 0)
    codec = at_precision(trained.codec, "fp16", trained.latents, trained.conditions)
    points = [
        scoring.score(codec, part, evaluator.levels, data.device)["rd_points"]
        for part in halves(trained.held_back)
    ]
    return {"seconds": time.process_time() - began, "sets": points}


def _require_same(recorded: dict[str, Any], again: dict[str, Any]) -> None:
    for before, now in zip(recorded["sets"], again["sets"], strict=True):
        figures = [[(p["psnr"], p["bpp_coded"]) for p in points] for points in (before, now)]
        if not np.allclose(*figures, rtol=1e-3):
            raise SystemExit(f"the runs are of other architectures or crops: {figures}")


def _concluded(known: dict[str, Any], inherited: dict[str, Any]) -> dict[str, Any]:
    """Kendall's tau with the long runs, by metric; the benchmark's own beside it."""
    kept = survivors(known["runs"], known["drawn"])
    done: dict[str, Any] = {**known["runs"], **inherited}
    found: dict[str, Any] = {}
    for metric in ("psnr", "lpips"):
        long = bd_rates(done, kept, known["seeds"], known["steps"][1], metric)
        mine = bd_rates(done, kept, 1, "inherited", metric)
        result = concluded(mine, long, {})
        found[metric] = {
            "tau_of_inherited": result["tau"],
            "inherited_bd_rate": mine.mean((1, 2)).round(2).tolist(),
            "long_bd_rate": long.mean((1, 2)).round(2).tolist(),
            "benchmark": {name: known["bd_rate"][metric][name] for name in _KEPT},
        }
    return {"space": known["space"], "training": known["training"], "bd_rate": found}


def _without_data(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name != "data"}  # a folder of ours


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    results = Path(__file__).parents[1] / "results"
    parser.add_argument("--data", default="sample", help="the benchmark's photographs")
    parser.add_argument("--runs", type=Path, default=results / "rank_fidelity_decoder.json")
    parser.add_argument("--anchor", type=Path, default=results / "anchor.safetensors")
    parser.add_argument("--supernet-steps", type=int, default=4000)
    parser.add_argument("--folder", type=Path, default=Path("runs/supernet-rank-fidelity"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.out is None:
        name = arguments.runs.stem.removeprefix("rank_fidelity_")
        arguments.out = results / f"supernet_rank_fidelity_{name}.json"
    return arguments


if __name__ == "__main__":
    main()
