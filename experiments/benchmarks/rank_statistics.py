"""What `rank_fidelity.py` concludes: resolved or void, and tau with an interval."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from evaluators.metrics import bd_rate

Floats = NDArray[np.float64]

REFERENCE = -1
_RESAMPLED = 2000


def analysed(
    done: Mapping[str, Any],
    count: int,
    arguments: argparse.Namespace,
    sizes: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """Everything that is published, JSON-ready."""
    lengths = (arguments.steps, arguments.longer * arguments.steps)
    failed = {name: line["error"] for name, line in done.items() if "error" in line}
    kept = survivors(done, count)
    known = {name: [values[number] for number in kept] for name, values in sizes.items()}
    metrics = {}
    for metric in ("psnr", "lpips"):
        untrained = bd_rates(done, kept, 1, 0, metric).mean((1, 2))
        seeds = (arguments.short_seeds or arguments.seeds, arguments.seeds)
        short, long = (
            bd_rates(done, kept, count, steps, metric)
            for count, steps in zip(seeds, lengths, strict=True)
        )
        # Smaller BD-rates are better, as for the long runs; more of a size is taken as better.
        guesses = {"untrained": untrained, **{n: -np.asarray(v) for n, v in known.items()}}
        metrics[metric] = concluded(short, long, guesses)
    seconds = {
        str(steps): float(
            np.median(
                [
                    line["seconds"]
                    for name, line in done.items()
                    if name.endswith(f"/{steps}") and "seconds" in line
                ]
            )
        )
        for steps in lengths
    }
    return {
        "space": arguments.space,
        "training": arguments.training,
        "from": "anchor" if arguments.anchor else "scratch",
        "architectures": len(kept),
        "drawn": count,
        "failed": failed,
        "seeds": arguments.seeds,
        "steps": list(lengths),
        "median_seconds": seconds,
        "bd_rate": metrics,
        "machine": f"{platform.machine()} {platform.system()}, one thread a training",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy")},
        "command": "python experiments/benchmarks/rank_fidelity.py --data FOLDER"
        f" --space {arguments.space} --training {arguments.training} --steps {arguments.steps}"
        f" --longer {arguments.longer} --architectures {count} --seeds {arguments.seeds}"
        f" --draw {arguments.draw} --crops {arguments.crops}"
        f" --shared-steps {arguments.shared_steps}"
        + (f" --short-seeds {arguments.short_seeds}" if arguments.short_seeds else "")
        + (f" --batch {arguments.batch}" if arguments.batch else "")
        + (" --anchor experiments/results/anchor.safetensors" if arguments.anchor else ""),
        "runs": dict(done),
    }


def survivors(done: Mapping[str, Any], count: int) -> list[int]:
    """Numbers of the architectures of which no training failed."""
    lost = {int(name.split("/")[0]) for name, line in done.items() if "error" in line}
    return [number for number in range(count) if number not in lost]


def concluded(short: Floats, long: Floats, guesses: Mapping[str, Floats]) -> dict[str, Any]:
    """Whether the long runs are resolved, and how well the short ones foretell them.

    Args:
        short: BD-rates, shape (architectures, seeds, sets), per cent.
        long: likewise, of the long runs; at least as many seeds, two or more.
        guesses: what is known without training, a figure an architecture, smaller ones better.
    """
    spreads = _spreads(long)
    resolved = spreads["architectures"] > max(spreads["seeds"], spreads["sets"])
    foretold, again = (
        [
            (runs[:, i].mean(-1), np.delete(long, i, axis=1).mean((1, 2)))
            for i in range(runs.shape[1])
        ]
        for runs in (short, long)
    )
    truth = long.mean((1, 2))
    return {
        "spread_percent": spreads,
        "resolved": bool(resolved),
        "void": not resolved,
        "tau": with_interval(foretold),
        "tau_of_one_long_run": with_interval(again),
        "tau_between_long_seeds": _between_seeds(long),
        **{f"tau_of_{name}": with_interval([(values, truth)]) for name, values in guesses.items()},
    }


def bd_rates(
    done: Mapping[str, Any], numbers: Sequence[int], seeds: int, steps: int | str, metric: str
) -> Floats:
    """Against the reference of the same seed and steps, shape (architectures, seeds, sets)."""

    def sets(number: int, seed: int) -> Any:
        return done[f"{number}/{seed}/{steps}"]["sets"]

    rates = [
        [
            [
                bd_rate(own, other, metric)
                for own, other in zip(sets(n, s), sets(REFERENCE, s), strict=True)
            ]
            for s in range(seeds)
        ]
        for n in numbers
    ]
    return np.array(rates)


def _spreads(rates: Floats) -> dict[str, float]:
    """Standard deviations: between architectures, of one architecture between seeds and sets.

    A shift that all architectures share between seeds or sets changes no rank: it is left out.
    """
    seeds, sets = rates.mean(2), rates.mean(1)
    return {
        "architectures": float(rates.mean((1, 2)).std(ddof=1)),
        "seeds": _within(seeds),
        "sets": _within(sets),
    }


def _within(values: Floats) -> float:
    """What is left once architectures and columns have had their means, shape (N, K)."""
    if values.shape[1] < 2:
        return 0.0
    left = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    freedom = (values.shape[0] - 1) * (values.shape[1] - 1)
    return float(np.sqrt((left**2).sum() / freedom))


def with_interval(pairs: Sequence[tuple[Floats, Floats]]) -> dict[str, float] | None:
    """Mean tau over pairs of rankings, and a 95 % interval over architectures drawn anew.

    None where a ranking knows no difference at all.
    """
    if any(np.ptp(side) == 0 for pair in pairs for side in pair):
        return None
    rng, count = np.random.default_rng(0), len(pairs[0][0])
    drawn = []
    for _ in range(_RESAMPLED):
        picks = rng.integers(count, size=count)
        drawn.append(_mean_tau([(a[picks], b[picks]) for a, b in pairs]))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {"tau": _mean_tau(pairs), "low": float(low), "high": float(high)}


def _mean_tau(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    return float(np.mean([kendalltau(a, b).statistic for a, b in pairs]))


def _between_seeds(rates: Floats) -> float | None:
    """The tau that the long runs themselves allow."""
    seeds = rates.mean(2).T
    pairs = [(a, b) for i, a in enumerate(seeds) for b in seeds[i + 1 :]]
    return _mean_tau(pairs) if pairs else None
