"""Small parts that modules of the family share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.codec.constants import LEVELS
from search_spaces.codec.statistics import log_rms_in_steps
from search_spaces.codec.transforms import patch_basis

SLOPE = 0.1  # of leaky ReLUs


def zeroed(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution with all its parameters 0."""
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


def basis(size: int) -> Tensor:
    """`patch_basis` as a tensor, shape (3 size², 3 size²)."""
    return torch.from_numpy(patch_basis(size)).float()


class LevelTable(nn.Module):
    """One value a channel and quality level."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(values.float().clone())

    @classmethod
    def constant(cls, channels: int, value: float) -> LevelTable:
        """The same value everywhere."""
        return cls(torch.full((LEVELS, channels), value))

    @classmethod
    def log_rms(cls, channels: int) -> LevelTable:
        """The usual log-magnitude of each latent channel, in steps of the quantiser."""
        return cls(torch.from_numpy(log_rms_in_steps(channels)))

    def forward(self, level: Tensor) -> Tensor:
        """Levels, shape (N, LEVELS) -> (N, channels, 1, 1)."""
        return (level @ self.table)[:, :, None, None]
