"""How learning rates and weights of a loss move over a training."""

from __future__ import annotations

import math

_WARM_UP_STEPS = 50
_LEAST_RATE = 0.05


def warmed_up_cosine(step: int, steps: int) -> float:
    """Share of the learning rate: up within 50 steps, then by a cosine to a twentieth."""
    decay = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * (_LEAST_RATE + (1 - _LEAST_RATE) * decay)


def risen(step: int, start: float, length: float) -> float:
    """How far a weight has risen, 0 to 1: in a straight line, from `start` within `length` steps.

    One that rises within no step at all rises within one.
    """
    return min(1.0, max(0.0, (step - start) / max(1.0, length)))
