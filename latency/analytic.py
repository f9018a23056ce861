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
from search_spaces.blocks import Precision, Shape

FP16_BYTES = 2
FREE = frozenset({"cast", "expand_dims", "identity", "reshape", "squeeze"})
FUSED = frozenset(
    {"clamped_relu", "clip", "elu", "gelu", "leaky_relu", "prelu"}
    | {"relu", "relu6", "sigmoid", "sigmoid_hard", "silu", "tanh"}
)
ARITHMETIC = frozenset({"conv", "conv_transpose", "linear", "matmul"})

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Bytes = Annotated[int, Field(ge=1, le=4)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Width(_Strict):
    """What a precision changes: the size of its numbers, and how fast they are multiplied.

    Attributes:
        weight_bytes: of one weight in memory.
        activation_bytes: of one value between two operations.
        mac_speed_up: multiply-accumulates a second over those of fp16.
    """

    weight_bytes: _Bytes
    activation_bytes: _Bytes
    mac_speed_up: _Positive = 1.0


class AnalyticModel(_Strict):
    """Coefficients that price one operation, and the precisions they hold for.

    Attributes:
        ms_per_megabyte: of 10^6 bytes that an operation reads or writes.
        ms_per_gmac: of 10^9 multiply-accumulates in fp16.
        precisions: that are priced, and what each changes.
    """

    ms_per_megabyte: _Positive
    ms_per_gmac: _Positive
    precisions: Annotated[dict[Precision, Width], Field(min_length=1)]

    def price_ms(self, ops: Sequence[Op], precision: Precision = "fp16") -> float:
        """Milliseconds of one run of the operations, in their order, without the dispatch.

        Raises:
            ValueError: the model does not price this precision.
        """
        return sum(self.op_ms(ops, precision))

    def op_ms(self, ops: Sequence[Op], precision: Precision = "fp16") -> list[float]:
        """Milliseconds of each operation, 0.0 for free ones; they add up to `price_ms`.

        Args:
            ops: in order of execution, of the fp16 program, whatever the precision.
            precision: that they run in.

        Raises:
            ValueError: the model does not price this precision.
        """
        if precision not in self.precisions:
            raise ValueError(f"prices {', '.join(sorted(self.precisions))}, not {precision}")
        width = self.precisions[precision]
        befores = [None, *ops][: len(ops)]
        return [self._op_ms(op, before, width) for op, before in zip(ops, befores, strict=True)]

    def _op_ms(self, op: Op, before: Op | None, width: Width) -> float:
        if is_free(op, before):
            return 0.0
        megabytes = moved_bytes(op, width.weight_bytes, width.activation_bytes) / 1e6
        gmacs = op.macs / 1e9 / width.mac_speed_up
        return megabytes * self.ms_per_megabyte + gmacs * self.ms_per_gmac


def is_free(op: Op, before: Op | None) -> bool:
    """Whether an operation costs nothing: no data moves, or it fuses with the one before it."""
    if op.type in FREE:
        return True
    fuses = before is not None and before.type in ARITHMETIC and before.outputs == op.inputs
    return op.type in FUSED and fuses


def moved_bytes(op: Op, weight_bytes: int = FP16_BYTES, activation_bytes: int = FP16_BYTES) -> int:
    """Bytes read and written by an operation: activations in and out, and weights.

    Args:
        op: of the fp16 program.
        weight_bytes: of one weight.
        activation_bytes: of one value of an activation.
    """
    activations = sum(map(_values, (*op.inputs, *op.outputs)))
    return activation_bytes * activations + weight_bytes * sum(map(_values, op.weights))


def _values(shape: Shape) -> int:
    return math.prod(shape)
