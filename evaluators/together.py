"""Several processes that train one model, each on its share of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from evaluators.protocol import SetupError

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Place:
    """One of the processes; torch's process group is there when they are more than one.

    Attributes:
        rank: from 0 on; the first one writes files.
        count: of the processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def shared(self, module: nn.Module) -> nn.Module:
        """A module whose gradients are the means over the processes, its weights the first's."""
        if self.count == 1:
            return module
        device = next(module.parameters()).device
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, ids, broadcast_buffers=False)

    def agreed(self, value: _Value) -> _Value:
        """The first process's value, for all of them."""
        if self.count == 1:
            return value
        values: list[Any] = [value]
        torch.distributed.broadcast_object_list(values)
        agreed: _Value = values[0]
        return agreed

    def of_batch(self, batch: int) -> list[int]:
        """Which crops of a batch are this process's.

        Raises:
            SetupError: the batch cannot be shared evenly, so that means of gradients would weigh
                crops unevenly.
        """
        if batch % self.count:
            raise SetupError(f"batch: {batch} crops for {self.count} workers; give a multiple")
        return list(range(batch))[self.rank :: self.count]


ALONE = Place()
