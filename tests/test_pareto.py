"""Fronts and hypervolumes against their definitions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas import pareto

OBJECTIVES = {"loss": "minimize", "accuracy": "maximize"}

rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=20)


def entries(pairs: list[tuple[int, int]]) -> list[dict[str, float]]:
    return [{"trial": i, "loss": a, "accuracy": b} for i, (a, b) in enumerate(pairs)]


@given(rows)
def test_front_is_exactly_what_no_other_entry_beats(pairs: list[tuple[int, int]]) -> None:
    kept = {entry["trial"] for entry in pareto.front(entries(pairs), OBJECTIVES)}
    for i, (loss, accuracy) in enumerate(pairs):
        beaten = any(a <= loss and b >= accuracy and (a, b) != (loss, accuracy) for a, b in pairs)
        assert (i in kept) == (not beaten)


@given(rows)
def test_front_is_sorted_by_the_first_objective(pairs: list[tuple[int, int]]) -> None:
    losses = [entry["loss"] for entry in pareto.front(entries(pairs), OBJECTIVES)]
    assert losses == sorted(losses)


@given(rows)
def test_hypervolume_counts_the_dominated_cells(pairs: list[tuple[int, int]]) -> None:
    values = np.array(pairs, dtype=float)
    cells = [(x, y) for x in range(8) for y in range(8)]
    dominated = sum(any(a <= x and b <= y for a, b in pairs) for x, y in cells)
    assert pareto.hypervolume(values, np.array([8.0, 8.0])) == dominated


def test_hypervolume_of_one_objective_is_the_distance_to_the_reference() -> None:
    assert pareto.hypervolume(np.array([[3.0], [2.0]]), np.array([5.0])) == 3.0


def test_hypervolume_of_nothing_is_zero() -> None:
    assert pareto.hypervolume(np.zeros((0, 2)), np.array([1.0, 1.0])) == 0.0


def test_reference_point_is_the_budget_where_there_is_one() -> None:
    objectives = {"bd_rate": "minimize", "decode_ms": "minimize", "psnr": "maximize"}
    found = [
        {"bd_rate": -30.0, "decode_ms": 90.0, "psnr": 31.0},
        {"bd_rate": -10.0, "decode_ms": 40.0, "psnr": 33.0},
    ]
    values = pareto.minimised(found, objectives)
    point = pareto.reference_point(values, objectives, {"decode_ms": 150.0})
    np.testing.assert_allclose(point, [-8.0, 150.0, -30.8])


def test_no_entries_have_no_front() -> None:
    assert pareto.front([], OBJECTIVES) == []
