"""Where a score that is still rising will end: a power law through what was seen of it.

value(step) = end - drop * step^-rate, fitted by least squares; the rate is held between 0.2 and 2,
where learning curves of short trainings lie. The uncertainty is that of the fit, by the curvature
of its error at the optimum, and never below the scatter of the points about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Floats = NDArray[np.float64]

FEWEST = 4
_RATES = (0.2, 2.0)


@dataclass(frozen=True)
class Extrapolation:
    """What a score is expected to be.

    Attributes:
        value: at the step asked for.
        deviation: one standard deviation.
    """

    value: float
    deviation: float


def extrapolate(steps: Sequence[int], values: Sequence[float], at: int) -> Extrapolation:
    """The score at a later step.

    Args:
        steps: at which it was seen, at least four, rising, above 0.
        values: the scores.
        at: the step asked for, not before the last one.

    Raises:
        ValueError: too few points, steps that do not rise, or values that are not finite.
    """
    seen, scores = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    _check(seen, scores, at)
    unit = seen[-1]

    def residuals(parameters: Floats) -> Floats:
        return _curve(parameters, seen / unit) - scores

    start = np.array([scores[-1], max(scores[-1] - scores[0], 1e-6), 0.7])
    bounds = ([-np.inf, -np.inf, _RATES[0]], [np.inf, np.inf, _RATES[1]])
    fit = least_squares(residuals, start, bounds=bounds)
    scatter = float(np.sqrt(np.mean(fit.fun**2) * len(seen) / max(1, len(seen) - 3)))
    value = float(_curve(fit.x, np.array([at / unit]))[0])
    return Extrapolation(value, max(scatter, _deviation(fit, at / unit, scatter)))


def _curve(parameters: Floats, steps: Floats) -> Floats:
    end, drop, rate = parameters
    return np.asarray(end - drop * (steps**-rate - 1))


def _deviation(fit: object, at: float, scatter: float) -> float:
    """The fit's uncertainty at one step, from its Jacobian."""
    jacobian, parameters = np.asarray(fit.jac), np.asarray(fit.x)  # type: ignore[attr-defined]
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * scatter**2
    small = 1e-4 * np.maximum(np.abs(parameters), 1e-3)
    gradient = np.array(
        [
            (_curve(parameters + step, np.array([at])) - _curve(parameters, np.array([at])))[0]
            / size
            for step, size in zip(np.diag(small), small, strict=True)
        ]
    )
    return float(np.sqrt(gradient @ covariance @ gradient))


def _check(steps: Floats, values: Floats, at: int) -> None:
    if len(steps) != len(values) or len(steps) < FEWEST:
        raise ValueError(
            f"{len(values)} values at {len(steps)} steps; at least {FEWEST} are needed"
        )
    if steps[0] <= 0 or (np.diff(steps) <= 0).any() or at < steps[-1]:
        raise ValueError("steps must rise from above 0 to what is asked for")
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
