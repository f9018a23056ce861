"""Learning curves continued."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.extrapolation import extrapolate

STEPS = [50, 100, 150, 200, 250, 300]


def curve(step: float, end: float, drop: float, rate: float) -> float:
    return end - drop * step**-rate


@given(st.floats(-5, 40), st.floats(0.5, 20), st.floats(0.3, 1.5))
@settings(max_examples=40, deadline=None)
def test_a_power_law_is_continued_exactly(end: float, drop: float, rate: float) -> None:
    values = [curve(step, end, drop, rate) for step in STEPS]
    found = extrapolate(STEPS, values, 2400)
    still_to_come = curve(2400, end, drop, rate) - values[-1]
    assert found.value - values[-1] == pytest.approx(still_to_come, abs=0.02 * drop + 1e-3)


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_the_uncertainty_is_about_as_large_as_the_error(noise: float) -> None:
    rng = np.random.default_rng(0)
    within = []
    for _ in range(60):
        values = [curve(s, 1.0, 5.0, 0.7) + noise * rng.standard_normal() for s in STEPS]
        found = extrapolate(STEPS, values, 600)
        within.append(abs(found.value - curve(600, 1.0, 5.0, 0.7)) < 2 * found.deviation)
    assert np.mean(within) > 0.8


def test_further_away_is_less_sure() -> None:
    rng = np.random.default_rng(1)
    values = [curve(s, 1.0, 5.0, 0.7) + 0.02 * rng.standard_normal() for s in STEPS]
    near, far = (extrapolate(STEPS, values, at).deviation for at in (350, 5000))
    assert near < far


def test_falling_scores_are_continued_too() -> None:
    values = [-curve(s, 1.0, 5.0, 0.7) for s in STEPS]
    assert extrapolate(STEPS, values, 1200).value < values[-1]


@pytest.mark.parametrize(
    ("steps", "values", "at"),
    [
        ([1, 2, 3], [1.0, 2.0, 3.0], 5),
        ([1, 2, 3, 4], [1.0, 2.0, 3.0], 5),
        ([1, 2, 2, 4], [1.0, 2.0, 3.0, 4.0], 5),
        ([0, 1, 2, 4], [1.0, 2.0, 3.0, 4.0], 5),
        ([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0], 3),
        ([1, 2, 3, 4], [1.0, math.nan, 3.0, 4.0], 5),
    ],
)
def test_what_cannot_be_continued_is_refused(
    steps: list[int], values: list[float], at: int
) -> None:
    with pytest.raises(ValueError, match=r"needed|rise|finite"):
        extrapolate(steps, values, at)
