"""Coefficients of least relative error, and how far they are off on networks held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from latency.analytic import is_free, moved_bytes
from latency.ops import Op

SEED, SPLITS = 0, 50

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Form = Callable[[Floats, Floats], float]  # coefficients, (megabytes, GMACs) by op -> ms

# Name -> (start of the fit in ms, what the coefficients predict).
FORMS: dict[str, tuple[tuple[float, ...], Form]] = {
    "macs_linear": ((0.2, 0.2), lambda c, ops: c[0] + c[1] * ops[:, 1].sum()),
    "bytes_linear": ((0.2, 0.02), lambda c, ops: c[0] + c[1] * ops[:, 0].sum()),
    "sum": ((0.2, 0.02, 0.2), lambda c, ops: c[0] + (ops @ c[1:]).sum()),
    "roofline": ((0.2, 0.02, 0.2), lambda c, ops: c[0] + (ops * c[1:]).max(axis=1).sum()),
    "sum_and_dispatch_per_op": (
        (0.2, 0.02, 0.2, 0.001),
        lambda c, ops: c[0] + (ops @ c[1:3]).sum() + c[3] * len(ops),
    ),
}


def costs(ops: Sequence[Op]) -> Floats:
    """(megabytes in fp16, GMACs) of every operation that is not free, shape (ops, 2)."""
    pairs = zip(ops, [None, *ops[:-1]], strict=True)
    rows = [
        (moved_bytes(op) / 1e6, op.macs / 1e9) for op, before in pairs if not is_free(op, before)
    ]
    return np.array(rows)


def predict_ms(name: str, coefficients: Floats, networks: Sequence[Floats]) -> Floats:
    """Milliseconds of each network by one form."""
    return np.array([FORMS[name][1](coefficients, ops) for ops in networks])


def fit(name: str, networks: Sequence[Floats], measured_ms: Floats) -> Floats:
    """Coefficients, all positive, of least relative error (robust: published rows disagree)."""

    def residuals(logarithms: Floats) -> Floats:
        return np.log(predict_ms(name, np.exp(logarithms), networks) / measured_ms)

    start = np.log(FORMS[name][0])
    best: Floats = np.exp(least_squares(residuals, start, loss="soft_l1", f_scale=0.1).x)
    return best


def halves(count: int) -> list[Mask]:
    """Masks of the networks that are held out, by random halves."""
    rng = np.random.default_rng(SEED)
    return [rng.permutation(count) >= count // 2 for _ in range(SPLITS)]


def one_family(networks: Sequence[str]) -> list[Mask]:
    """Masks of the networks that are held out, one family after the other."""
    families = np.array([network.split("-")[0] for network in networks])
    return [families == family for family in np.unique(families)]


def held_out(
    name: str, networks: Sequence[Floats], measured_ms: Floats, splits: Sequence[Mask]
) -> dict[str, float]:
    """Errors on the networks that were held out of the fit."""
    predicted, truth = [], []
    for held in splits:
        train = [ops for ops, out in zip(networks, held, strict=True) if not out]
        test = [ops for ops, out in zip(networks, held, strict=True) if out]
        predicted.append(predict_ms(name, fit(name, train, measured_ms[~held]), test))
        truth.append(measured_ms[held])
    ranks = [spearmanr(p, t).statistic for p, t in zip(predicted, truth, strict=True)]
    found = errors(np.concatenate(predicted), np.concatenate(truth))
    return {**found, "rank_correlation": float(np.mean(ranks))}


def errors(predicted_ms: Floats, measured_ms: Floats) -> dict[str, float]:
    """How far predictions are off, and by how much networks took longer (the shortfall)."""
    off = np.abs(predicted_ms / measured_ms - 1)
    longer = measured_ms / predicted_ms - 1
    return {
        "mean_absolute_percent": 100 * float(off.mean()),
        "p95_percent": 100 * float(np.quantile(off, 0.95)),
        "within_10_percent": 100 * float((off <= 0.1).mean()),
        "p95_shortfall_percent": 100 * float(np.quantile(longer, 0.95)),
        "largest_shortfall_percent": 100 * float(longer.max()),
    }
