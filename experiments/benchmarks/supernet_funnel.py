"""The paper's funnel with inherited weights as its sieve, beside a search of equal CPU time.

    python experiments/benchmarks/supernet_funnel.py --data PHOTOGRAPHS [--scored 5000] [--kept 20]

Thousands of decoders inside the budget are drawn and scored by the supernet of `supernet.py` alone
(learned gain in squared error on a few crops, at every level; a fraction of a second each). The
best of them, by non-dominated rank in gain and decoding time, are trained from scratch by the
recipe of the table (`trained_table.py`). Their front is measured as `search_efficiency.py` measures
searches of the table: hypervolume as a share of the table's own. Beside it stand what the default
searcher reaches in the table by as many trainings as the same CPU time pays for, and the front of
as many trainings drawn at random: those that the table begins with.

Trainings are recorded as they end; interrupted, the same command goes on. Writes
`experiments/results/supernet_funnel_<space>.json`.
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
from line_records import record, recorded
from search_settings import Table
from search_summary import OURS
from supernet import evaluator_of
from synthetic_problem import first_front
from trained_table import LIMITS, drawn, gate_of

from evaluators import scoring, shared
from evaluators.candidates import SHARED_WEIGHTS
from evaluators.metrics import psnr, to_8_bit
from evaluators.passes import linear_image
from evaluators.supernet_file import load_supernet
from nas.pareto import ranks
from search_spaces.codec.constants import LATENT_STRIDE
from search_spaces.codec.model import one_hot
from search_spaces.files import write_atomically
from search_spaces.space import Architecture

_SIDE = 96  # of the part of a crop that the sieve sees
_METRICS = ("bd_rate_psnr", "learned_gain_db", "psnr")


class Sieve:
    """Learned gain by inherited weights: one pass over all crops and levels."""

    def __init__(self, table: Table, arguments: argparse.Namespace) -> None:
        evaluator = evaluator_of("inherited", table.content, arguments)
        self._supernet = load_supernet(
            evaluator.supernet_file(table.space, arguments.folder), table.space
        )
        data, design = (
            evaluator.data_in(arguments.folder),
            table.space.design(table.space.reference),
        )
        folder = evaluator.from_scratch.shared_folder(design, data)
        codec = shared.load_shared(design, folder / SHARED_WEIGHTS)
        crops = scoring.chosen(scoring.load_held_back(folder), slice(arguments.crops))
        count, levels = crops.latents.shape[:2]
        side = _SIDE // LATENT_STRIDE
        self._latents = crops.latents[..., :side, :side].flatten(0, 1)
        self._level = one_hot(*list(evaluator.levels) * count)
        pixels = crops.pixels[..., :_SIDE, :_SIDE].float() / 255
        self._pixels = pixels.repeat_interleave(levels, 0)
        with torch.no_grad():
            self._linear = linear_image(codec, self._latents, self._level)
        self._floor = psnr(to_8_bit(self._linear), self._pixels).mean().item()
        self._space = table.space

    @torch.no_grad()
    def gain_db(self, architecture: Architecture) -> float:
        path = self._supernet.path(self._space.design(architecture))
        images = path.refine(self._linear, self._latents, self._level)
        return psnr(to_8_bit(images), self._pixels).mean().item() - self._floor


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    table = Table.read(arguments.table)
    gate = gate_of(table.space)
    candidates = drawn(table.space, gate, arguments.scored)
    sieve, began = Sieve(table, arguments), time.process_time()
    gains = np.array([sieve.gain_db(one) for one in candidates])
    scoring_seconds = time.process_time() - began
    latencies = np.array([gate.price(one).as_record()["decode_ms"] for one in candidates])
    kept = _best(np.column_stack([-gains, latencies]), arguments.kept)
    done = recorded(arguments.folder / f"supernet-funnel-{arguments.scored}.jsonl", "key")
    for i in kept:
        if candidates[i].key not in done:
            line = _trained(table, candidates[i], arguments)
            line |= {"inherited_gain_db": gains[i], "decode_ms": latencies[i]}
            done[line["key"]] = line
            record(arguments.folder / f"supernet-funnel-{arguments.scored}.jsonl", line)
            print(line["key"], line["bd_rate_psnr"], flush=True)
    rows = [done[candidates[i].key] for i in kept]
    document = _document(table, rows, gains, scoring_seconds, arguments)
    write_atomically(arguments.out, json.dumps(document, indent=1) + "\n")
    print(json.dumps({k: v for k, v in document.items() if k != "trained"}, indent=1))


def _best(values: Any, count: int) -> list[int]:
    """By non-dominated rank; of the rank that is cut, those spread evenly over its latencies."""
    chosen: list[int] = []
    for rank in ranks(values, count):
        rank = rank[np.argsort(values[rank, 1])]
        left = min(count - len(chosen), len(rank))
        chosen += rank[np.linspace(0, len(rank) - 1, left).round().astype(int)].tolist()
        if len(chosen) >= count:
            break
    return chosen


def _trained(
    table: Table, architecture: Architecture, arguments: argparse.Namespace
) -> dict[str, Any]:
    """In full, from scratch, as the table's were."""
    evaluator = evaluator_of("inherited", table.content, arguments).from_scratch
    began = time.process_time()
    score = evaluator.evaluate(table.space, architecture, arguments.folder, 0)
    for file in arguments.folder.glob(f"*{architecture.key}*"):
        if architecture != table.space.reference:
            file.unlink()
    figures = {name: score[name] for name in _METRICS}
    seconds = time.process_time() - began
    return {
        "key": architecture.key,
        "code": list(architecture.code),
        "cpu_seconds": seconds,
        **figures,
    }


def _document(
    table: Table,
    rows: list[dict[str, Any]],
    gains: Any,
    scoring_seconds: float,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    cost = table.supernet["cost"]
    training = sum(row["cpu_seconds"] for row in rows)
    whole = cost["supernet_seconds"] + scoring_seconds + training
    paid = {
        "with_supernet": int(whole / cost["alone_seconds"]),
        "once_it_is_there": int((scoring_seconds + training) / cost["alone_seconds"]),
    }
    objectives = table.content["objectives"]
    values = np.array([[row[name] for name in objectives] for row in rows])
    return {
        "space": table.content["space"],
        "scored": arguments.scored,
        "kept": arguments.kept,
        "crops": arguments.crops,
        "limits": LIMITS,
        "cpu_seconds": {
            "supernet": cost["supernet_seconds"], "scores": scoring_seconds,
            "a_score": scoring_seconds / arguments.scored, "trainings": training,
        },
        "trainings_paid_for": paid,
        "share_of_tables_hypervolume": {
            "funnel": table.reached(np.array([row["code"] for row in rows]), values),
            **{f"{OURS}, {n}": _searched(k) for n, k in paid.items()},
            **{f"random, {n}": _random(table, k) for n, k in paid.items()},
        },
        "best_bd_rate_psnr": {
            "funnel": float(values[:, 0].min()), "table": float(table.values[:, 0].min())
        },
        "inherited_gain_db": {
            "median": float(np.median(gains)),
            "kept": float(np.median([row["inherited_gain_db"] for row in rows])),
        },
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("torch", "numpy", "pymoo", "nas-codecs")},
        "seed": 0,
        "command": "python experiments/benchmarks/supernet_funnel.py --data FOLDER"
        f" --scored {arguments.scored} --kept {arguments.kept} --crops {arguments.crops}",
        "trained": rows,
    }  # fmt: skip


def _searched(trainings: int) -> dict[str, float] | None:
    """Median share of the default searcher on the table, by the published runs."""
    file = Path(__file__).parents[1] / "results" / "search_efficiency.json"
    for line in json.loads(file.read_text())["summary"]:
        if line["setting"] == "trained_tiny" and line["searcher"] == OURS:
            counts = [int(n) for n in line["share"] if int(n) <= trainings]
            if counts:
                return {"trainings": max(counts), **line["share"][str(max(counts))]}
    return None


def _random(table: Table, trainings: int) -> dict[str, float] | None:
    """The table's rows were drawn at random: its first ones are a random search."""
    if trainings == 0:
        return None
    values = table.values[:trainings]
    codes = np.array(list(table.rows))[:trainings]
    front = first_front(values)
    return {"trainings": len(values), "share": table.reached(codes, front)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    results = Path(__file__).parents[1] / "results"
    parser.add_argument("--data", default="sample", help="the table's photographs")
    parser.add_argument("--table", type=Path, default=results / "trained_tiny.json")
    parser.add_argument("--scored", type=int, default=5000)
    parser.add_argument("--kept", type=int, default=20)
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--supernet-steps", type=int, default=8000)
    parser.add_argument("--shared-steps", type=int, default=1200)
    parser.add_argument("--longer", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path("runs/trained-table"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.out is None:
        space = json.loads(arguments.table.read_text())["space"]
        arguments.out = results / f"supernet_funnel_{space}.json"
    return arguments


if __name__ == "__main__":
    main()
