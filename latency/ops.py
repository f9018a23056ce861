"""What a lowered program consists of: operations reduced to what decides their cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search_spaces.blocks import Shape


@dataclass(frozen=True)
class Op:
    """One operation of a lowered program, reduced to what decides its cost.

    Attributes:
        type: Core ML's name (`conv`, `leaky_relu`, ...).
        inputs: shapes of the activations it reads, batch dimension included.
        weights: shapes of the constant tensors it reads.
        outputs: shapes of what it writes.
        attributes: (name, value) of constants that change the work: strides, groups, pad, ...
        dtype: of the first output (`fp16`).
    """

    type: str
    inputs: tuple[Shape, ...]
    weights: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    attributes: tuple[tuple[str, str], ...]
    dtype: str

    @property
    def text(self) -> str:
        """One canonical line; equal lines cost the same. Keys the rows of a table."""
        weights = [f"w{_size(shape)}" for shape in self.weights]
        reads = " ".join([*map(_size, self.inputs), *weights])
        settings = " ".join(f"{name}={value}" for name, value in self.attributes)
        writes = " ".join(map(_size, self.outputs))
        return f"{self.type} {reads} -> {writes} {settings} {self.dtype}".replace("  ", " ")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products; 0 for all else."""
        if self.type in ("conv", "conv_transpose"):
            # A transposed convolution visits its weights once an input value.
            at = self.outputs[0] if self.type == "conv" else self.inputs[0]
            return math.prod(self.weights[0][1:]) * math.prod(at)
        if self.type == "linear":
            return self.weights[0][1] * math.prod(self.outputs[0])
        if self.type == "matmul":
            columns = -2 if ("transpose_x", "True") in self.attributes else -1
            return self.inputs[0][columns] * math.prod(self.outputs[0])
        return 0


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
