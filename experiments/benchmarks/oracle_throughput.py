"""How fast the oracle prices: whole spaces, one architecture, one block.

    python experiments/benchmarks/oracle_throughput.py [--quick]

`score` prices a matrix of codes by tables that are gathered and added. Its peers, on the same codes
in the same run, are what is written first: a dictionary from block to milliseconds that is summed
for every candidate, once with the networks built already (which holds them all in memory), once
with building them; and `LatencyOracle.estimate` of every candidate. All agree to 1e-9 or the run
ends. Also timed: the first estimate of an architecture whose blocks lie lowered on disk, and what
lowering takes a block. One thread; medians. Writes `experiments/results/oracle_throughput.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from in_turn import measured

from latency.lowering import lower
from latency.oracle import LatencyOracle, pipelined_ms
from latency.score import Scorer
from latency.table_files import load_table
from search_spaces.blocks import Design
from search_spaces.files import write_atomically
from search_spaces.load import load_space
from search_spaces.parts import find_parts
from search_spaces.space import Codes, SearchSpace

DEVICE = "iphone-17-pro-max"
FULL = {"codes": 10**6, "few": 300, "repeats": 9, "lowered": 40}
QUICK = {"codes": 2000, "few": 20, "repeats": 1, "lowered": 3}
GOALS = {"score_per_s": 5e6, "first_estimate_ms": 100.0, "lowering_s": 2.0, "pico_decoder_s": 1.0}


def main() -> None:
    arguments = _arguments()
    spaces = {name: _scoring(load_space(name), arguments) for name in arguments.spaces}
    result = {
        "device": DEVICE,
        "spaces": spaces,
        "first_estimate_ms": _first_estimates(load_space(arguments.spaces[-1]), arguments),
        "lowering_s": _lowering(load_space(arguments.spaces[-1]), arguments),
        "goals": GOALS,
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "torch", "coremltools")},
        "seed": arguments.seed,
        "command": "python experiments/benchmarks/oracle_throughput.py",
    }
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _scoring(space: SearchSpace, arguments: argparse.Namespace) -> dict[str, Any]:
    began = perf_counter()
    parts = find_parts(space)
    apart_s = perf_counter() - began
    scorer = Scorer(LatencyOracle(load_table(DEVICE)), parts)
    rng = np.random.default_rng(arguments.seed)
    whole = space.exact and space.size <= 2 * arguments.codes
    codes = space.enumerate() if whole else space.sample(rng, arguments.codes)
    began = perf_counter()
    scorer.score(codes)
    first_s = perf_counter() - began
    few = codes[rng.choice(len(codes), arguments.few, replace=False)]
    peers = _peers(space, scorer, few)
    _agree(scorer, few, peers)
    tasks = {name: lambda price=price: len(price()) for name, price in peers.items()}
    speeds = measured({"score": lambda: len(scorer.score(codes)), **tasks}, arguments.repeats)
    return {
        "codes": len(codes),
        "all_of_the_space": bool(whole),
        "taken_apart_s": apart_s,
        "first_score_s": first_s,
        "score_s": len(codes) / speeds["score"]["per_s"],
        "speeds": speeds,
        "times_faster_than": {n: speeds["score"]["per_s"] / speeds[n]["per_s"] for n in peers},
    }


def _peers(
    space: SearchSpace, scorer: Scorer, codes: Codes
) -> dict[str, Callable[[], list[list[float]]]]:
    oracle = scorer.oracle
    designs = [space.build(space.decode(code)) for code in codes]
    blocks = {block.signature: block for d in designs for block in d.accelerator_blocks}
    known_ms = {signature: oracle.block_ms(block) for signature, block in blocks.items()}

    def summed(design: Design) -> list[float]:
        found = []
        for stage in design.stages.values():
            network_ms = oracle.table.dispatch_ms
            network_ms += sum(known_ms[block.signature] for block in stage.network.blocks)
            macs = sum(block.macs for block in stage.cpu_network.blocks) if stage.cpu_network else 0
            coding_ms = oracle.coding_ms(stage.symbols_encoded, stage.symbols_decoded, macs)
            found.append(float(pipelined_ms(network_ms, coding_ms, design.tiles_per_image)))
        return found

    return {
        "dictionary": lambda: [summed(design) for design in designs],
        "dictionary_and_building": lambda: [
            summed(space.build(space.decode(code))) for code in codes
        ],
        "estimate": lambda: [
            [stage.total_ms for stage in oracle.estimate(design).stages.values()]
            for design in designs
        ],
    }


def _agree(scorer: Scorer, codes: Codes, peers: dict[str, Callable[[], list[list[float]]]]) -> None:
    scored = scorer.score(codes)
    for price in peers.values():
        np.testing.assert_allclose(scored, price(), rtol=1e-9)


def _first_estimates(space: SearchSpace, arguments: argparse.Namespace) -> dict[str, float]:
    """Of architectures that a new oracle has not seen, their blocks on disk."""
    taken_ms = []
    for code in space.sample(np.random.default_rng(arguments.seed), arguments.few // 10 + 2):
        architecture = space.architecture(code)
        LatencyOracle(load_table(DEVICE)).estimate(space.design(architecture))
        fresh = LatencyOracle(load_table(DEVICE))
        began = perf_counter()
        fresh.estimate(space.design(architecture))
        taken_ms.append(1e3 * (perf_counter() - began))
    return _figures(taken_ms)


def _lowering(space: SearchSpace, arguments: argparse.Namespace) -> dict[str, float]:
    """Of blocks that nobody lowered, the libraries loaded."""
    blocks = find_parts(space).accelerator_blocks
    rng = np.random.default_rng(arguments.seed)
    chosen = [blocks[i] for i in rng.choice(len(blocks), arguments.lowered + 1, replace=False)]
    taken_s = []
    with tempfile.TemporaryDirectory() as folder:
        for block in chosen:
            began = perf_counter()
            lower(block, Path(folder))
            taken_s.append(perf_counter() - began)
    return _figures(taken_s[1:])  # the first one imports torch and coremltools


def _figures(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "largest": max(values), "count": len(values)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few codes: shows that it runs")
    parser.add_argument("--spaces", nargs="+", default=["pico_decoder", "codec"])
    parser.add_argument("--seed", type=int, default=0)
    out = Path(__file__).parents[1] / "results" / "oracle_throughput.json"
    parser.add_argument("--out", type=Path, default=out)
    arguments = parser.parse_args()
    for name, value in (QUICK if arguments.quick else FULL).items():
        setattr(arguments, name, value)
    return arguments


if __name__ == "__main__":
    main()
