"""Entropy coding of integer symbols under Laplace distributions of tabulated scale.

Both sides turn log-scales into the same table indices, and the table holds integer frequencies:
what one side writes, the other reads back exactly. Symbols are coded in groups of equal index, so
that each group is one call into the coder.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.int32]
Indices = NDArray[np.int64]

# 64 scales, spaced evenly in their logarithm: at most 8 % from any scale, 0.1 % in rate.
LOG_SCALES = np.linspace(np.log(0.02), np.log(256.0), 64)
_PRECISION = 1 << 20
_TAIL_PROBABILITY = 1e-5
_ESCAPE_LIMIT = 1 << 16


class BitstreamError(ValueError):
    """Bytes that no encoder of this format wrote."""


def scale_indices(log_scale: NDArray[np.floating[Any]]) -> Indices:
    """Nearest table entry of each log-scale, any shape."""
    step = LOG_SCALES[1] - LOG_SCALES[0]
    nearest = np.rint((np.asarray(log_scale, dtype=np.float64) - LOG_SCALES[0]) / step)
    indices: Indices = np.clip(nearest, 0, len(LOG_SCALES) - 1).astype(np.int64)
    return indices


class Writer:
    """Codes arrays of symbols one after the other into one string of bytes."""

    def __init__(self) -> None:
        import constriction

        self._coder = constriction.stream.queue.RangeEncoder()

    def write(self, symbols: Symbols, indices: Indices) -> None:
        """Appends symbols under the distributions of their indices.

        Args:
            symbols: integers of magnitude below 2**15, any shape.
            indices: table index of each symbol, same shape.

        Raises:
            ValueError: a symbol is too large to be coded.
        """
        flat, table = symbols.ravel(), indices.ravel()
        if flat.size and int(np.abs(flat.astype(np.int64)).max()) >= _ESCAPE_LIMIT // 2:
            raise ValueError(f"a symbol exceeds {_ESCAPE_LIMIT // 2 - 1} in magnitude")
        for index in np.unique(table):
            self._write_group(flat[table == index], int(index))

    def to_bytes(self) -> bytes:
        """All that was written, a whole number of 32-bit words."""
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())

    def _write_group(self, group: Symbols, index: int) -> None:
        limit, model = _model(index)
        escaped = np.abs(group) > limit
        self._coder.encode(np.where(escaped, 2 * limit + 1, group + limit).astype(np.int32), model)
        if escaped.any():
            self._coder.encode(group[escaped] + np.int32(_ESCAPE_LIMIT // 2), _escape_model())


class Reader:
    """Reads back, in the same order, the arrays that a `Writer` coded."""

    def __init__(self, data: bytes) -> None:
        """Starts at the front.

        Raises:
            BitstreamError: not a whole number of 32-bit words.
        """
        import constriction

        if len(data) % 4:
            raise BitstreamError(f"{len(data)} bytes are not a whole number of 32-bit words")
        words = np.frombuffer(data, "<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def read(self, indices: Indices) -> Symbols:
        """The next symbols, as many as there are indices and in their shape.

        Raises:
            BitstreamError: the bytes cannot come from a `Writer`.
        """
        table = indices.ravel()
        flat = np.zeros(table.shape, dtype=np.int32)
        try:
            for index in np.unique(table):
                members = table == index
                flat[members] = self._read_group(int(index), int(members.sum()))
        except (AssertionError, ValueError) as problem:
            raise BitstreamError(f"undecodable: {problem}") from None
        return flat.reshape(indices.shape)

    def _read_group(self, index: int, count: int) -> Symbols:
        limit, model = _model(index)
        group = np.asarray(self._coder.decode(model, count), dtype=np.int32) - np.int32(limit)
        escaped = group == limit + 1
        if escaped.any():
            values = np.asarray(self._coder.decode(_escape_model(), int(escaped.sum())), np.int32)
            group[escaped] = values - np.int32(_ESCAPE_LIMIT // 2)
        return group


@cache
def _model(index: int) -> tuple[int, Any]:
    """Largest coded magnitude and frequencies over -limit .. limit and the escape."""
    import constriction

    scale = float(np.exp(LOG_SCALES[index]))
    limit = int(np.ceil(0.5 - scale * np.log(2 * _TAIL_PROBABILITY)))
    values = np.arange(-limit, limit + 1)
    mass = np.diff(_laplace_cdf(np.append(values - 0.5, limit + 0.5) / scale))
    frequencies = 1 + np.floor(
        np.append(mass, 1 - mass.sum()).clip(0) * (_PRECISION - 2 * limit - 2)
    )
    frequencies[limit] += _PRECISION - frequencies.sum()
    model = constriction.stream.model.Categorical(frequencies / _PRECISION, perfect=False)
    return limit, model


@cache
def _escape_model() -> Any:
    import constriction

    return constriction.stream.model.Uniform(_ESCAPE_LIMIT)


def _laplace_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    half = 0.5 * np.exp(-np.abs(x))
    return np.where(x < 0, half, 1 - half)
