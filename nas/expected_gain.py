"""Hypervolume that uncertain values are expected to add to a front (Emmerich et al., 2006)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from nas.searchers.problem import Values


def cells(front: Values, reference: Values) -> tuple[Values, Values]:
    """Disjoint boxes that fill what no member of a front dominates below the reference.

    Args:
        front: to be minimised, shape (N, K).
        reference: shape (K,).

    Returns:
        Lower and upper corners, shape (C, K) each; lower ones may be minus infinity.
    """
    front = front[(front < reference).all(axis=1)]
    if len(reference) == 1:
        return np.full((1, 1), -np.inf), np.array([[min([reference[0], *front[:, 0]])]])
    levels = np.unique(front[:, -1])
    lows, highs = np.append(-np.inf, levels), np.append(levels, reference[-1])
    if len(reference) == 2:
        ordered = front[np.argsort(front[:, 1])]
        best = np.append(reference[0], np.minimum.accumulate(ordered[:, 0]))
        until = np.searchsorted(ordered[:, 1], lows, side="right")
        upper = np.column_stack([best[until], highs])
        return np.column_stack([np.full(len(lows), -np.inf), lows]), upper
    slices = [cells(front[front[:, -1] <= low][:, :-1], reference[:-1]) for low in lows]
    column = len(reference) - 1
    pairs = list(zip(slices, zip(lows, highs, strict=True), strict=True))
    return (
        np.concatenate([np.insert(s[0], column, low, axis=1) for s, (low, _) in pairs]),
        np.concatenate([np.insert(s[1], column, high, axis=1) for s, (_, high) in pairs]),
    )


def expected_gain(lower: Values, upper: Values, means: Values, spread: Values) -> Values:
    """Hypervolume that independent normal values are expected to add.

    Args:
        lower: of `cells`, shape (C, K).
        upper: the same.
        means: shape (N, K).
        spread: standard deviations, the same.

    Returns:
        Shape (N,).
    """
    gain = np.ones((len(means), len(lower)))
    for k in range(means.shape[1]):
        edges, index = np.unique(np.concatenate([lower[:, k], upper[:, k]]), return_inverse=True)
        below = _expected_excess(edges, means[:, k, None], spread[:, k, None])
        gain *= below[:, index[len(lower) :]] - below[:, index[: len(lower)]]
    return np.asarray(gain.sum(axis=1))


def _expected_excess(edges: Values, means: Values, spread: Values) -> Values:
    """Of edges over normal values, as far as positive. Shapes (E,), (N, 1), (N, 1) -> (N, E)."""
    far = np.isinf(edges)
    room = np.where(far, 0.0, edges) - means
    certain = spread < 1e-12
    z = room / np.where(certain, 1.0, spread)
    excess = room * ndtr(z) + spread * np.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5
    return np.where(far, 0.0, np.where(certain, np.maximum(room, 0.0), excess))


def spread_members(front: Values, reference: Values, count: int) -> list[int]:
    """Members that hold most of a front's hypervolume, one after the other."""
    kept: list[int] = []
    for _ in range(count):
        gains = expected_gain(*cells(front[kept], reference), front, np.zeros_like(front))
        kept.append(int(gains.argmax()))
    return sorted(set(kept))
