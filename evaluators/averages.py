"""Exponential moving averages of weights: what a training ends with, and is shown at meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averages:
    """Averages of some parameters.

    Attributes:
        values: one tensor a parameter.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        """Begins with the parameters as they are.

        Args:
            parameters: of a training.
            decay: share that the average keeps at each step, less in the first steps.
        """
        self.parameters, self.decay = list(parameters), decay
        self.values: list[Tensor] = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the parameters after a step."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.data for p in self.parameters], weight)

    def take(self) -> None:
        """Makes the averages the parameters."""
        for parameter, mean in zip(self.parameters, self.values, strict=True):
            parameter.data.copy_(mean)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters are the averages inside, and as they were afterwards."""
        kept = [parameter.detach().clone() for parameter in self.parameters]
        self.take()
        try:
            yield
        finally:
            for parameter, value in zip(self.parameters, kept, strict=True):
                parameter.data.copy_(value)
