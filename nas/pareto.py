"""Pareto fronts and hypervolume of recorded values, vectorised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.protocol import Direction

Values = NDArray[np.float64]

MARGIN = 0.1


def minimised(entries: Sequence[Mapping[str, Any]], objectives: Mapping[str, Direction]) -> Values:
    """Objective values with every direction turned to minimisation, shape (entries, objectives)."""
    signs = np.array([1.0 if way == "minimize" else -1.0 for way in objectives.values()])
    rows = [[float(entry[name]) for name in objectives] for entry in entries]
    return np.asarray(np.array(rows).reshape(len(rows), len(objectives)) * signs)


def non_dominated(values: Values) -> NDArray[np.bool_]:
    """Rows that no other row beats; equal rows stay together.

    Args:
        values: to be minimised, shape (N, K).

    Returns:
        Shape (N,).
    """
    keep = np.ones(len(values), dtype=bool)
    for i, row in enumerate(values):
        if keep[i]:
            beaten = (row <= values).all(axis=1) & (row < values).any(axis=1)
            keep &= ~beaten
    return keep


def ranks(values: Values, count: int) -> list[NDArray[np.int64]]:
    """Rows by non-dominated rank: the front first, then the front of what is left, and so on.

    Args:
        values: to be minimised, shape (N, K).
        count: rows after which no further rank is looked for.

    Returns:
        Row numbers rank by rank, ascending within one.
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    return [np.sort(rank) for rank in NonDominatedSorting().do(values, n_stop_if_ranked=count)]


def front(
    entries: Sequence[Mapping[str, Any]], objectives: Mapping[str, Direction]
) -> list[Mapping[str, Any]]:
    """The entries that no other entry beats, from the best to the worst in the first objective."""
    values = minimised(entries, objectives)
    keep = np.flatnonzero(non_dominated(values))
    order = sorted(keep, key=lambda i: (*values[i], entries[i]["trial"]))
    return [entries[i] for i in order]


class RunningFront:
    """A front that grows with every result, without looking at all of them again.

    Attributes:
        members: non-dominated rows, minimised, shape (M, K).
        since_growth: results in a row that did not change the front.
    """

    def __init__(self, objectives: Mapping[str, Direction], limits: Mapping[str, float]) -> None:
        """Empty.

        Args:
            objectives: name -> better direction, in the order of the values.
            limits: hard limits of the budget, by objective name.
        """
        self._objectives, self._limits = objectives, limits
        ways = objectives.values()
        self._signs = np.array([1.0 if way == "minimize" else -1.0 for way in ways])
        self.members = np.empty((0, len(objectives)))
        self._extremes = np.empty((0, len(objectives)))
        self.since_growth = 0

    def add(self, values: Values) -> None:
        """Takes in a result, shape (K,), in the objectives' own directions."""
        row = values * self._signs
        self._extremes = np.vstack([self._extremes, row])
        self._extremes = np.array([self._extremes.min(axis=0), self._extremes.max(axis=0)])
        self.since_growth += 1
        if not (self.members <= row).all(axis=1).any():
            kept = self.members[~(row <= self.members).all(axis=1)]
            self.members = np.vstack([kept, row])
            self.since_growth = 0

    @property
    def hypervolume(self) -> float | None:
        """As `hypervolume` of every result, up to `reference_point`; None before the first."""
        if not len(self.members):
            return None
        point = reference_point(self._extremes, self._objectives, self._limits)
        return hypervolume(self.members, point)


def reference_point(
    values: Values, objectives: Mapping[str, Direction], limits: Mapping[str, float]
) -> Values:
    """Where a hypervolume is measured from.

    Args:
        values: every recorded result, to be minimised, shape (N, K) with N > 0.
        objectives: the names of the K columns.
        limits: hard limits of the budget, by objective name.

    Returns:
        Shape (K,), to be minimised: the budget's limit where an objective has one, otherwise the
        worst recorded value and a tenth of the recorded range more.
    """
    worst, best = values.max(axis=0), values.min(axis=0)
    point = worst + MARGIN * np.where(worst > best, worst - best, 1.0)
    for column, (name, way) in enumerate(objectives.items()):
        if name in limits and way == "minimize":
            point[column] = limits[name]
    return np.asarray(point)


def hypervolume(values: Values, reference: Values) -> float:
    """Volume that `values` dominate up to `reference`, in the product of the objectives' units.

    Args:
        values: to be minimised, shape (N, K).
        reference: shape (K,).
    """
    if len(values) == 0:
        return 0.0
    if values.shape[1] == 1:
        return max(0.0, float(reference[0] - values.min()))
    from pymoo.indicators.hv import HV

    return float(HV(ref_point=reference)(values))
