"""Learned scales and Haar bases that fold into a convolution's weights.

Both are parametrisations of the weight: a convolution always runs as the one convolution of its
size, in training too. `search_spaces.build.fold` writes the weights out and drops what made them.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from search_spaces.codec.transforms import haar_2d

Convolution = TypeVar("Convolution", bound=nn.Conv2d | nn.ConvTranspose2d)


class Scales(nn.Module):
    """A learned scale for every input and output channel of a convolution's weight."""

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.groups = convolution.groups
        self.transposed = isinstance(convolution, nn.ConvTranspose2d)
        self.inputs = nn.Parameter(torch.ones(convolution.in_channels))
        self.outputs = nn.Parameter(torch.ones(convolution.out_channels))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight times the scales of its channels."""
        first, second = self.outputs, self.inputs
        if self.transposed:
            first, second = second, first
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:])
        scaled: Tensor = (grouped * second.view(self.groups, 1, -1, 1, 1)).view_as(weight)
        return scaled * first[:, None, None, None]

    def right_inverse(self, weight: Tensor) -> Tensor:
        """At the start the scales are 1."""
        return weight


class _Haar(nn.Module):
    """Rotates the square taps of a kernel into an orthonormal Haar basis: a tap a sub-band."""

    basis: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.from_numpy(haar_2d(side)).float(), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return (weight.flatten(2) @ self.basis).view_as(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def with_scales(convolution: Convolution, learned: bool = True) -> Convolution:
    """Adds learned input and output scales, both 1 at the start; or does nothing."""
    if learned:
        parametrize.register_parametrization(convolution, "weight", Scales(convolution))
    return convolution


def with_haar(convolution: Convolution) -> Convolution:
    """Reads (or for a transposed convolution writes) Haar sub-bands instead of samples.

    Args:
        convolution: stride and kernel equal, a power of two; its taps come to mean sub-bands.
    """
    side = convolution.kernel_size[0]
    parametrize.register_parametrization(convolution, "weight", _Haar(side))
    return convolution
