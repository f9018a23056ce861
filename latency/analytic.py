"""What an operation costs on a device that nobody could measure: a stated model.

Each operation takes a time for the bytes it moves and a time for its arithmetic, added up;
activations ride along with the convolution before them, and reshapes are free. On published phone
latencies the sum was no worse than a roofline (experiments/benchmarks/fit_analytic_table.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from latency.ops import Op
from search_spaces.blocks import Shape

FP16_BYTES = 2
FREE = frozenset({"cast", "expand_dims", "identity", "reshape", "squeeze"})
FUSED = frozenset(
    {"clamped_relu", "clip", "elu", "gelu", "leaky_relu", "prelu"}
    | {"relu", "relu6", "sigmoid", "sigmoid_hard", "silu", "tanh"}
)
ARITHMETIC = frozenset({"conv", "conv_transpose", "linear", "matmul"})

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AnalyticModel(BaseModel):
    """Coefficients that price one operation in fp16."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    ms_per_megabyte: _Positive
    ms_per_gmac: _Positive

    def price_ms(self, ops: Sequence[Op]) -> float:
        """Milliseconds of one run of the operations, in their order, without the dispatch."""
        befores = [None, *ops][: len(ops)]
        return sum(self._op_ms(op, before) for op, before in zip(ops, befores, strict=True))

    def _op_ms(self, op: Op, before: Op | None) -> float:
        if is_free(op, before):
            return 0.0
        return moved_bytes(op) / 1e6 * self.ms_per_megabyte + op.macs / 1e9 * self.ms_per_gmac


def is_free(op: Op, before: Op | None) -> bool:
    """Whether an operation costs nothing: no data moves, or it fuses with the one before it."""
    if op.type in FREE:
        return True
    fuses = before is not None and before.type in ARITHMETIC and before.outputs == op.inputs
    return op.type in FUSED and fuses


def moved_bytes(op: Op) -> int:
    """Bytes read and written by an operation: activations in and out, and weights, in fp16."""
    return FP16_BYTES * sum(map(_values, (*op.inputs, *op.weights, *op.outputs)))


def _values(shape: Shape) -> int:
    return math.prod(shape)
