"""A training under way: everything that changes, and so what a checkpoint holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from evaluators.averages import Averages
from evaluators.devices import fused_adam
from evaluators.protocol import EvaluationError

log = logging.getLogger(__name__)


class Recipe(Protocol):
    """What a run has to know of its recipe, which is a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        ...

    @property
    def learning_rate(self) -> float:
        """Of Adam."""
        ...

    def rate_factor(self, step: int) -> float:
        """Share of the learning rate at a step."""
        ...

    @property
    def branch_step(self) -> int:
        """Steps that longer trainings take over; see `evaluators.branches`."""
        ...


class Run:
    """A codec, or a supernet, in training.

    Attributes:
        codec: in training mode.
        recipe: of the training.
        seed: of its random choices.
        step: optimiser steps done.
        rng: of crops and levels.
        noise: torch's generator's state is part of the run; set on entering a step.
        trained: parameters, in the optimiser's order.
        averages: of `trained`.
    """

    def __init__(
        self,
        codec: nn.Module,
        recipe: Recipe,
        seed: int,
        groups: Sequence[dict[str, Any]],
        average: float,
    ) -> None:
        """At step 0.

        Args:
            codec: on its device.
            recipe: of the training.
            seed: of its random choices.
            groups: of parameters, each with its `factor` of the learning rate.
            average: decay of the averages.
        """
        self.codec, self.recipe, self.seed = codec, recipe, seed
        self.step = 0
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed).get_state()
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.averages = Averages(self.trained, average)
        self.optimiser = fused_adam(list(groups), recipe.learning_rate)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The codec has averaged weights inside, in evaluation mode."""
        with self.averages.applied():
            self.codec.eval()
            yield
        self.codec.train()

    def take_step(self, loss: torch.Tensor, shown: str) -> None:
        """Follows a loss downwards; gradients beyond norm 1 are clipped.

        Args:
            loss: of this step.
            shown: format of the step, all steps and the loss, for the log.

        Raises:
            EvaluationError: the loss is no longer finite.
        """
        factor = self.recipe.learning_rate * self.recipe.rate_factor(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = factor * group["factor"]
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.averages.update(self.step)
        self.step += 1
        if not math.isfinite(loss.item()):
            raise EvaluationError(f"diverged: loss is {loss.item()} at step {self.step}")
        if self.step % 50 == 1 or self.step == self.recipe.steps:
            log.info(shown, self.step, self.recipe.steps, loss.item())
