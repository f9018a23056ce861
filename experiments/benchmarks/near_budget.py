"""Architectures that just meet the phone's budget, for benchmarks: drawn, never picked by hand."""

from __future__ import annotations

import numpy as np

from latency.oracle import LatencyOracle
from latency.score import Scorer
from latency.table_files import load_table
from search_spaces.parts import find_parts
from search_spaces.space import SearchSpace

DEVICE, LIMITS_MS = "iphone-17-pro-max", {"encode": 230.0, "decode": 150.0}
NEAR = 0.9  # of the decoding budget


def near_the_budget(space: SearchSpace, count: int, seed: int) -> list[tuple[int, ...]]:
    """Codes of architectures that just meet the budget, drawn uniformly among all that do."""
    scorer = Scorer(LatencyOracle(load_table(DEVICE)), find_parts(space))
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        codes = space.sample(rng, 2000)
        held = dict(zip(scorer.stages, scorer.score(codes).T, strict=True))
        inside = (held["encode"] <= LIMITS_MS["encode"]) & (held["decode"] <= LIMITS_MS["decode"])
        near = held["decode"] >= NEAR * LIMITS_MS["decode"]
        found.update(dict.fromkeys(map(tuple, codes[inside & near].tolist())))
    return list(found)[:count]
