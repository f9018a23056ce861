"""A table of really trained codecs, to compare searchers on: every architecture at every fidelity.

    python experiments/benchmarks/trained_table.py --data PHOTOGRAPHS [--architectures 210]

Architectures of a space are drawn uniformly by a fixed seed, those over the budget left out, and
each is trained by the proxy, its decoder alone and for squared error alone (perception needs longer
than hundreds of architectures can be given), at a short fidelity and, going on from it, in full.
Results are recorded in `--record` as they come, one line of JSON each, and never repeated:
interrupted, the same command goes on.

Writes `experiments/results/trained_<space>.json`: `space`, `objectives`, what it was trained under,
and `trained`, a mapping an architecture: `code`, `choices`, every metric at full fidelity, `rungs`
(fidelity -> metrics), `prices`. Nothing in it was searched for: it is fair to any searcher.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from line_records import record, recorded

from evaluators.protocol import EvaluationError
from evaluators.proxy import ProxyEvaluator
from latency.oracle import LatencyOracle
from latency.table_files import load_table
from nas.pricing.budget import Gate
from nas.pricing.devices import DevicePricer
from search_spaces.files import write_atomically
from search_spaces.load import load_space
from search_spaces.space import Architecture, SearchSpace

DEVICE = "iphone-17-pro-max"
LIMITS = {DEVICE: {"encode_ms": 230.0, "decode_ms": 150.0}}
METRICS = (
    "bd_rate_psnr", "bd_rate_ms_ssim", "bd_rate_lpips", "psnr", "ms_ssim", "lpips", "bpp_coded",
    "learned_gain_db", "train_seconds",
)  # fmt: skip
PRICES = ("decode_ms", "encode_ms", "kmacs_per_pixel", "parameters", "package_bytes", "peak_bytes")


def main() -> None:
    arguments = _arguments()
    space = load_space(arguments.space)
    gate = gate_of(space)
    folder, shares = arguments.record.parent, (arguments.short, 1.0)
    done = recorded(arguments.record, "key")
    wanted = drawn(space, gate, arguments.architectures)
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        futures = {
            pool.submit(trained, space, one, _evaluator(arguments), folder, shares): one
            for one in wanted
            if one.key not in done
        }
        for future in as_completed(futures):
            line = described(futures[future], gate) | future.result()
            done[line["key"]] = line
            record(arguments.record, line)
            print(f"{len(done)}/{len(wanted)} {line['key']}", flush=True)
    rows = [done[one.key] for one in wanted]
    write_atomically(arguments.out, json.dumps(table(rows, arguments)) + "\n")


def _evaluator(arguments: argparse.Namespace) -> ProxyEvaluator:
    return ProxyEvaluator(
        data=arguments.data, steps=arguments.steps, crops=arguments.crops, batch=arguments.batch,
        perceptual_weight=0.0, vgg_crops=0, shared_steps=arguments.shared_steps,
    )  # fmt: skip


def gate_of(space: SearchSpace) -> Gate:
    """The budget that holds."""
    return Gate(DevicePricer(space, {DEVICE: LatencyOracle(load_table(DEVICE))}), LIMITS)


def drawn(space: SearchSpace, gate: Gate, count: int) -> list[Architecture]:
    """The first `count` different ones inside the budget, of one long draw."""
    codes = space.sample(np.random.default_rng(0), 40 * count)
    _, first = np.unique(codes, axis=0, return_index=True)
    codes = codes[np.sort(first)]
    inside = codes[gate.feasible(codes)][:count]
    if len(inside) < count:
        raise SystemExit(f"{space.name} has {len(inside)} of {count} inside the budget")
    return [space.architecture(code) for code in inside]


def trained(
    space: SearchSpace,
    architecture: Architecture,
    evaluator: ProxyEvaluator,
    folder: Path,
    shares: tuple[float, ...],
) -> dict[str, Any]:
    """Metrics by fidelity, and those at full fidelity; runs in a process of its own."""
    torch.set_num_threads(1)
    rungs: dict[str, Any] = {}
    for i, share in enumerate(shares):
        try:
            score = evaluator.evaluate(
                space, architecture, folder, evaluator.seed, fidelities=shares[: i + 1]
            )
            rungs[f"{share:g}"] = {name: score[name] for name in METRICS}
        except EvaluationError as problem:
            rungs[f"{share:g}"] = {"error": str(problem)}
    for file in folder.glob(f"*{architecture.key}*"):
        if architecture != space.reference:
            file.unlink()  # weights, pictures and checkpoints: the table keeps figures alone
    return {**rungs[f"{1.0:g}"], "rungs": rungs}


def described(architecture: Architecture, gate: Gate) -> dict[str, Any]:
    """What is known of an architecture without training."""
    price = gate.price(architecture).as_record()
    return {
        "key": architecture.key,
        "code": list(architecture.code),
        "choices": dict(architecture.choices),
        "prices": {name: price[name] for name in PRICES},
    }


def table(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """The published document; failed trainings are counted and left out."""
    whole = [row for row in rows if all("error" not in rung for rung in row["rungs"].values())]
    return {
        "space": Path(arguments.space).stem,
        "objectives": ["bd_rate_psnr", "decode_ms"],
        "fidelities": [arguments.short, 1.0],
        "training": "decoder, squared error alone",
        "steps": arguments.steps,
        "batch": arguments.batch,
        "crops": arguments.crops,
        "failed": len(rows) - len(whole),
        "seed": 0,
        "latency": f"{DEVICE}, analytic",
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "versions": {name: version(name) for name in ("torch", "lpips", "nas-codecs")},
        "command": "python experiments/benchmarks/trained_table.py --data FOLDER",
        "trained": whole,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="sample", help="a folder of photographs, or sample")
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--architectures", type=int, default=210)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8, help="crops a step")
    parser.add_argument("--short", type=float, default=0.4, help="share of the steps")
    parser.add_argument("--shared-steps", type=int, default=1200)
    parser.add_argument("--crops", type=int, default=12)
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time")
    parser.add_argument("--record", type=Path, default=Path("runs/trained-table/trained.jsonl"))
    out = Path(__file__).parents[1] / "results" / "trained_tiny.json"
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


if __name__ == "__main__":
    main()
