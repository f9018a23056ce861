"""What inherited weights are worth: ranks, quality and cost beside training each candidate alone.

    python experiments/benchmarks/supernet.py --data PHOTOGRAPHS [--table TABLE.json]

Architectures are those of a table of trained codecs (`trained_table.py`), under its recipe. One
supernet is trained for the table's space. Then

- every architecture of the table is scored by inherited weights;
- the first `--long` of them are trained alone for `--longer` times the table's steps: these are the
  truth that inherited scores, the table's own trainings and kMACs are ranked against;
- the same are trained from inherited weights for a tenth of the table's steps, and for half;
- the same are trained for as long as the table's short trainings, one after the other, each from
  the weights of the nearest one before it (`proxy: {parents: true}`).

Kendall's tau with 95 % intervals from drawing architectures anew; learned gain over the linear
decoder, since weights that say nothing rank by chance; CPU-seconds of everything, and after how
many candidates the supernet has paid for itself. Results are recorded in `--folder` as they come,
one line of JSON each, and never repeated: interrupted, the same command goes on.

Writes `experiments/results/supernet_<space>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from line_records import record, recorded
from supernet_summary import (
    FINE_TUNED,
    INHERITED,
    LONG,
    PARENTS,
    TUNED_LONGER,
    printed,
    summary,
)

from evaluators.inherited import SupernetEvaluator
from evaluators.protocol import EvaluationError
from evaluators.proxy import ProxyEvaluator
from evaluators.supernet_file import supernet_about
from search_spaces.files import write_atomically
from search_spaces.load import load_space

METRICS = (
    "bd_rate_psnr", "bd_rate_ms_ssim", "bd_rate_lpips", "psnr", "ms_ssim", "lpips", "bpp_coded",
    "learned_gain_db",
)  # fmt: skip
_SHARES = {INHERITED: 0.001, FINE_TUNED: 0.1, TUNED_LONGER: 0.5, LONG: 1.0, PARENTS: 1.0}


def main() -> None:
    arguments = _arguments()
    table = json.loads(arguments.table.read_text())
    lines = arguments.folder / f"supernet-{table['space']}.jsonl"
    done = recorded(lines, "name")
    about = supernet_about(_supernet(table, arguments)) if INHERITED in arguments.stages else {}
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        futures = [
            pool.submit(scored, stage, row["code"], table, arguments)
            for stage in arguments.stages
            for row in _rows(stage, table, arguments)
            if _name(stage, row["code"]) not in done
        ]
        for future in as_completed(futures):
            line = future.result()
            done[line["name"]] = line
            record(lines, line)
            print(line["name"], f"{line['cpu_seconds']:.1f} s", flush=True)
    if set(arguments.stages) == set(_SHARES):
        document = _document(table, done, about, arguments)
        write_atomically(arguments.out, json.dumps(document, indent=1) + "\n")
        print("\n".join(printed(document)))


def scored(
    stage: str, code: list[int], table: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """One architecture at one stage; runs in a process of its own."""
    torch.set_num_threads(1)
    space, evaluator = load_space(table["space"]), evaluator_of(stage, table, arguments)
    began = time.process_time()
    try:
        score = evaluator.evaluate(
            space, space.architecture(code), arguments.folder, 0, fidelities=(_SHARES[stage],)
        )
        figures = {name: score[name] for name in METRICS}
    except EvaluationError as problem:
        figures = {"error": str(problem)}
    name, seconds = _name(stage, code), time.process_time() - began
    return {"name": name, "stage": stage, "code": code, "cpu_seconds": seconds, **figures}


def evaluator_of(stage: str, table: dict[str, Any], arguments: argparse.Namespace) -> Any:
    recipe = {
        "data": arguments.data, "crops": table["crops"], "batch": table["batch"],
        "perceptual_weight": 0.0, "vgg_crops": 0, "shared_steps": arguments.shared_steps,
    }  # fmt: skip
    if stage == PARENTS:
        short = round(table["steps"] * table["fidelities"][0])
        return ProxyEvaluator(**recipe, steps=short, parents=True)
    steps = table["steps"] * (arguments.longer if stage == LONG else 1)
    supernet = {"supernet_steps": arguments.supernet_steps, "inherited": 0.01, "fine_tuned": 0.5}
    return SupernetEvaluator(**recipe, **supernet, steps=steps)


def _supernet(table: dict[str, Any], arguments: argparse.Namespace) -> Path:
    torch.set_num_threads(1)
    evaluator: SupernetEvaluator = evaluator_of(INHERITED, table, arguments)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return evaluator.supernet_file(load_space(table["space"]), arguments.folder)


def _rows(stage: str, table: dict[str, Any], arguments: argparse.Namespace) -> list[Any]:
    rows: list[Any] = table["trained"][: arguments.architectures]
    return rows if stage == INHERITED else rows[: arguments.long]


def _name(stage: str, code: list[int]) -> str:
    return f"{stage} {' '.join(map(str, code))}"


def _document(
    table: dict[str, Any],
    done: dict[str, Any],
    about: dict[str, Any],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    names = {s: [_name(s, r["code"]) for r in _rows(s, table, arguments)] for s in _SHARES}
    lines = {stage: [done[name] for name in wanted] for stage, wanted in names.items()}
    return {
        "space": table["space"],
        "table": arguments.table.name,
        "steps": {
            "table": table["steps"],
            "long": table["steps"] * arguments.longer,
            **{n: round(table["steps"] * _SHARES[n]) for n in (FINE_TUNED, TUNED_LONGER)},
            "supernet": arguments.supernet_steps,
        },
        "supernet": {name: x for name, x in about.items() if name != "data"},  # a folder of ours
        **summary(table["trained"], lines, about["seconds"]),
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy", "nas-codecs")},
        "seed": 0,
        "command": "python experiments/benchmarks/supernet.py --data FOLDER"
        f" --long {arguments.long}",
        "runs": [line for stage in lines.values() for line in stage],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    results = Path(__file__).parents[1] / "results"
    parser.add_argument("--data", default="sample", help="a folder of photographs, or sample")
    parser.add_argument("--table", type=Path, default=results / "trained_tiny.json")
    parser.add_argument("--architectures", type=int, default=210, help="of the table, at most")
    parser.add_argument("--long", type=int, default=20, help="of them that are trained for long")
    parser.add_argument("--longer", type=int, default=5, help="times the table's steps")
    parser.add_argument("--supernet-steps", type=int, default=8000)
    parser.add_argument("--shared-steps", type=int, default=1200)
    parser.add_argument("--stages", nargs="+", choices=list(_SHARES), default=list(_SHARES))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/trained-table"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.out is None:
        space = json.loads(arguments.table.read_text())["space"]
        arguments.out = results / f"supernet_{space}.json"
    return arguments


if __name__ == "__main__":
    main()
