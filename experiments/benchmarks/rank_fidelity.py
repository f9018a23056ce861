"""Whether short trainings rank architectures as long ones do, which must be resolved first.

    python experiments/benchmarks/rank_fidelity.py --data PHOTOGRAPHS [--space pico_decoder]
        [--training decoder] [--steps 250] [--longer 8] [--architectures 12] [--seeds 3]

Architectures are drawn by a fixed seed within 10 % of the decoding budget. Each is trained with
every seed for `--steps` and, independently, for `--longer` times as many; so is the space's
reference, that BD-rates are measured against. Held-back crops are scored as two sets of different
photographs. Trainings are recorded in `--record` as they end, one line of JSON each, and never
repeated: interrupted, the same command goes on.

Before any tau is worth printing the long runs must be resolved: the spread between architectures
exceeds that between seeds and that between the two sets; otherwise the run is void. Kendall's tau
is between a short run and the mean of the long runs with other seeds, with a 95 % interval from
drawing architectures anew; beside it those of kMACs and of parameters, which it must beat.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from line_records import record, recorded
from near_budget import near_the_budget
from rank_statistics import analysed

from evaluators import scoring
from evaluators.precision import at_precision
from evaluators.protocol import EvaluationError
from evaluators.proxy import ProxyEvaluator
from evaluators.scoring import HeldBack
from search_spaces.files import write_atomically
from search_spaces.load import load_space
from search_spaces.space import SearchSpace

REFERENCE = -1  # its number among the architectures


@dataclass(frozen=True)
class Job:
    """One training: architecture (by its number), seed and steps."""

    number: int
    code: tuple[int, ...]
    seed: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.number}/{self.seed}/{self.steps}"


def main() -> None:
    arguments = _arguments()
    space = load_space(Path(arguments.space))
    codes = near_the_budget(space, arguments.architectures, arguments.draw)
    jobs = _jobs(space, codes, arguments)
    done = recorded(arguments.record, "job")
    missing = [job for job in jobs if job.name not in done]
    pool = ProcessPoolExecutor(arguments.workers, get_context("spawn"))
    try:
        running = {pool.submit(_outcome, job, arguments): job for job in missing}
        for finished in as_completed(running):
            line = {"job": running[finished].name, **finished.result()}
            done[line["job"]] = line
            record(arguments.record, line)
            print(f"{len(done)}/{len(jobs)} {line['job']} {line.get('error', '')}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    designs = [space.design(space.architecture(code)) for code in codes]
    sizes = {
        "kmacs": [design.kmacs_per_pixel("decode") for design in designs],
        "parameters": [float(design.parameters) for design in designs],
    }
    result = analysed(done, len(codes), arguments, sizes)
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "runs"}, indent=1))


def _jobs(
    space: SearchSpace, codes: Sequence[tuple[int, ...]], arguments: argparse.Namespace
) -> list[Job]:
    """Short ones first, the reference before all."""
    numbered = [(REFERENCE, space.reference.code), *enumerate(codes)]
    seeds = {
        arguments.steps: arguments.short_seeds or arguments.seeds,
        arguments.longer * arguments.steps: arguments.seeds,
    }
    untrained = [Job(number, code, 0, 0) for number, code in numbered]
    return untrained + [
        Job(number, code, seed, steps)
        for steps, count in seeds.items()
        for seed in range(count)
        for number, code in numbered
    ]


def _outcome(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """What `_trained` gives, or why it cannot; runs in a process of its own."""
    torch.set_num_threads(1)
    try:
        return _trained(job, arguments)
    except EvaluationError as problem:
        return {"error": str(problem)}


def _trained(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains and scores on both sets."""
    space = load_space(Path(arguments.space))
    evaluator = ProxyEvaluator(
        training=arguments.training, anchor=arguments.anchor, data=arguments.data,
        steps=job.steps, crops=arguments.crops, shared_steps=arguments.shared_steps, vgg_crops=0,
        batch=arguments.batch,
    )  # fmt: skip
    data = evaluator.data_in(arguments.record.parent)
    design = evaluator.design_of(space, space.architecture(job.code))
    trained = evaluator.trained(space, design, data, job.seed)
    codec = at_precision(trained.codec, "fp16", trained.latents, trained.conditions)
    scored = [
        scoring.score(codec, part, evaluator.levels, data.device)
        for part in halves(trained.held_back)
    ]
    seconds = trained.curve[-1]["seconds"] if trained.curve else 0.0
    points = [score["rd_points"] for score in scored]
    return {"seconds": seconds, "sets": points, "curve": trained.curve}


def halves(held_back: HeldBack) -> list[HeldBack]:
    """First and second half: crops of one photograph stand together."""
    middle = len(held_back.pixels) // 2
    return [scoring.chosen(held_back, part) for part in (slice(middle), slice(middle, None))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="sample", help="a folder of photographs, or sample")
    parser.add_argument("--space", default="pico_decoder")
    parser.add_argument("--training", default="decoder", choices=("decoder", "joint"))
    parser.add_argument("--anchor", help="a codec file to begin from")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch", type=int, help="crops a step; default: the proxy's")
    parser.add_argument("--longer", type=int, default=8)
    parser.add_argument("--architectures", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--short-seeds", type=int, help="of the short runs; default: as many")
    parser.add_argument("--draw", type=int, default=0, help="seed of the architectures")
    parser.add_argument("--crops", type=int, default=24)
    parser.add_argument("--shared-steps", type=int, default=1200)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--record", type=Path, default=Path("runs/rank-fidelity/trainings.jsonl"))
    out = Path(__file__).parents[1] / "results" / "rank_fidelity.json"
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


if __name__ == "__main__":
    main()
