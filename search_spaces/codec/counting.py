"""How blocks count themselves: from their convolutions and their tables of values by level."""

from __future__ import annotations

from dataclasses import dataclass, fields

from search_spaces.blocks import Shape
from search_spaces.codec.constants import LEVELS, TILE

IMAGE: Shape = (3, TILE, TILE)
LEVEL: Shape = (LEVELS,)


@dataclass(frozen=True)
class Convolution:
    """The size of one convolution.

    Attributes:
        inputs: channels read.
        outputs: channels written.
        kernel: side of the square kernel.
        size: side of the square that the kernel visits: of the output, and for a transposed
            convolution of the input.
        groups: as in torch.
        bias: whether there is one.
    """

    inputs: int
    outputs: int
    kernel: int
    size: int
    groups: int = 1
    bias: bool = True

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self._weights + self.outputs * self.bias

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return self._weights * self.size**2

    @property
    def _weights(self) -> int:
        return self.inputs // self.groups * self.outputs * self.kernel**2


class Counted:
    """A block that is the sum of its convolutions and level tables; signed by its fields."""

    @property
    def signature(self) -> str:
        """The class name and the fields."""
        settings = (f"{field.name}={getattr(self, field.name)}" for field in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__.lower()}({', '.join(settings)})"

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """Every convolution that it runs, learned scales and bases folded away."""
        return ()

    @property
    def level_channels(self) -> int:
        """Channels that have a value a quality level."""
        return 0

    @property
    def other_parameters(self) -> int:
        """Parameters outside convolutions and level tables."""
        return 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(c.macs for c in self.convolutions) + LEVELS * self.level_channels

    @property
    def parameters(self) -> int:
        """Trainable parameters once learned scales are folded away."""
        learned = sum(c.parameters for c in self.convolutions) + LEVELS * self.level_channels
        return learned + self.other_parameters
