"""One-shot contexts: which latents are known when others are refined.

Scales are decoded once, for all latents; mu and the quantisation width are refined in as many
passes as there are groups, on the accelerator alone (arXiv 2605.05148).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Groups of latents by kind of context; those of a later group see those of all before it.
CONTEXTS = {"none": 1, "checkerboard": 2, "2x2": 4, "channels2": 2, "channels4": 4}


@dataclass(frozen=True)
class Context:
    """A kind of context over latents of any size."""

    kind: str

    @property
    def groups(self) -> int:
        """Number of groups."""
        return CONTEXTS[self.kind]

    def group_of(self, channels: int, height: int, width: int) -> NDArray[np.int64]:
        """Group of every latent, broadcastable to (channels, height, width)."""
        rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None]
        if self.kind == "2x2":  # the second group is diagonal to the first
            group = np.array([[0, 2], [3, 1]])[rows % 2, columns % 2]
        elif self.kind == "checkerboard":
            group = (rows + columns) % 2
        else:
            group = np.arange(channels)[:, None, None] * self.groups // channels
        return np.asarray(group, dtype=np.int64)
