"""Entropy coding of integer symbols under Laplace distributions of tabulated scale.

Both sides hold the same integer tables, made by exact arithmetic, and turn log-scales into the
same table indices: what one side writes, the other reads back exactly, on any machine. Symbols of
equal index are coded together, in one call into the coder each. With grouped coding the groups of
negligible scale are not coded at all: their symbols are 0 by agreement.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal, localcontext
from functools import cache
from itertools import accumulate, pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.int32]
Indices = NDArray[np.uint8]

TABLES = 64
TOTAL = 1 << 20  # what the frequencies of a table sum to
SMALLEST, LARGEST = Decimal("0.02"), Decimal(256)

# The first live table of grouped coding: its scale is the nearest to 0.1. Under the tables below
# it fewer than 1 symbol in 250 differs from 0, worth less than the time to code the others.
DEAD_BELOW = 11

_TAIL = Decimal("1e-5")  # probability beyond a table's largest magnitude, each side, at most
LARGEST_SYMBOL = (1 << 15) - 1
_ESCAPE_LIMIT = LARGEST_SYMBOL + 1
_ESCAPES = 2 * _ESCAPE_LIMIT
_CODER_TOTAL = 1 << 24  # what the coder's own frequencies sum to
_MARK_VALUES = 1 << 8
# Decimal arithmetic rounds alike on every machine, which floats and their exp do not.
_EXACT = Context(prec=50)
_FRACTION = 96  # binary places of masses


@cache
def _decimal_log_scales() -> list[Decimal]:
    """Evenly spaced: at most 8 % from any scale, which costs 0.1 % in rate."""
    with localcontext(_EXACT):
        low, high = SMALLEST.ln(), LARGEST.ln()
        return [low + (high - low) * index / (TABLES - 1) for index in range(TABLES)]


LOG_SCALES = np.array([float(log_scale) for log_scale in _decimal_log_scales()])


class BitstreamError(ValueError):
    """Bytes that no encoder of this format wrote."""


def scale_indices(log_scale: NDArray[np.floating[Any]]) -> Indices:
    """Nearest table entry of each log-scale, any shape.

    Raises:
        ValueError: a log-scale is not a number.
    """
    step = LOG_SCALES[1] - LOG_SCALES[0]
    nearest = np.rint((np.asarray(log_scale, dtype=np.float64) - LOG_SCALES[0]) / step)
    if np.isnan(nearest).any():
        raise ValueError("a log-scale is not a number")
    indices: Indices = np.clip(nearest, 0, TABLES - 1).astype(np.uint8)
    return indices


def silence(symbols: Symbols, indices: Indices) -> Symbols:
    """The symbols with those set to 0 that grouped coding leaves out. Same shape."""
    return np.where(indices < DEAD_BELOW, np.int32(0), symbols)


def ideal_bits(symbols: Symbols, indices: Indices, grouped: bool = False) -> float:
    """Code length of symbols under the tables of their indices in bits, escapes included.

    Of equal shape, any. With `grouped`, symbols of negligible scale cost nothing.
    """
    starts, costs = _costs()
    magnitudes = np.minimum(np.abs(symbols), limits()[indices] + 1)
    bits = costs[starts[indices] + magnitudes]
    return float(bits[indices >= DEAD_BELOW].sum() if grouped else bits.sum())


class Writer:
    """Codes arrays of symbols one after the other into one string of bytes.

    Args:
        grouped: symbols of table indices below `DEAD_BELOW` are 0 and not coded.
    """

    def __init__(self, grouped: bool = False) -> None:
        import constriction

        self._coder = constriction.stream.queue.RangeEncoder()
        self._first = DEAD_BELOW if grouped else 0

    def write(self, symbols: Symbols, indices: Indices) -> None:
        """Appends symbols under the distributions of their indices.

        Args:
            symbols: integers of magnitude below 2**15, any shape.
            indices: table index of each symbol, same shape.

        Raises:
            ValueError: other shapes or indices; a symbol too large, or left out and not 0.
        """
        if symbols.shape != indices.shape:
            raise ValueError(f"{symbols.shape} symbols, but {indices.shape} table indices")
        flat = symbols.ravel()
        if flat.size and (flat.min() <= -_ESCAPE_LIMIT or flat.max() >= _ESCAPE_LIMIT):
            raise ValueError(f"a symbol exceeds {_ESCAPE_LIMIT - 1} in magnitude")
        order, runs = _runs(indices, self._first)
        values = flat[order]
        if np.count_nonzero(values) != np.count_nonzero(flat):
            raise ValueError("a symbol that grouped coding leaves out is not 0: silence it first")
        for index, run in runs:
            self._write_run(values[run], index)

    def to_bytes(self) -> bytes:
        """All that was written and an end mark, as short as it can be; nothing gives b''."""
        coder = self._coder.clone()
        coder.encode(0, _uniform(_MARK_VALUES))
        return _shortest(coder)

    def _write_run(self, values: Symbols, index: int) -> None:
        limit = int(limits()[index])
        # Seen as unsigned, what lies below -limit is large too: one comparison finds both sides.
        codes = (values + limit).view(np.uint32)
        escaped = codes > 2 * limit
        codes[escaped] = 2 * limit + 1
        self._coder.encode(codes.view(np.int32), _model(index))
        if escaped.any():
            self._coder.encode(values[escaped] + np.int32(_ESCAPE_LIMIT), _uniform(_ESCAPES))


class Reader:
    """Reads back, in the same order, the arrays that a `Writer` coded.

    Args:
        data: what `Writer.to_bytes` gave.
        grouped: as it was for the `Writer`.

    Raises:
        BitstreamError: bytes that end in zeros, which a `Writer` leaves out.
    """

    def __init__(self, data: bytes, grouped: bool = False) -> None:
        import constriction

        if data.endswith(b"\0"):
            raise BitstreamError(f"the last of {len(data)} coded bytes is zero: none was expected")
        # The coder reads zeros past its end, so that only the last word is to be filled up.
        words = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)
        self._first = DEAD_BELOW if grouped else 0

    def read(self, indices: Indices) -> Symbols:
        """The next symbols, as many as there are indices and in their shape.

        Raises:
            BitstreamError: the bytes cannot come from a `Writer`.
            ValueError: no such table.
        """
        order, runs = _runs(indices, self._first)
        values = np.empty(order.size, dtype=np.int32)
        for index, run in runs:
            values[run] = self._read_run(index, run.stop - run.start)
        flat = np.zeros(indices.size, dtype=np.int32)
        flat[order] = values
        return flat.reshape(indices.shape)

    def finish(self) -> None:
        """Checks that all was read, and rightly.

        Damage that changed symbols passes one time in 256; a few bytes too many, which change
        none, can pass.

        Raises:
            BitstreamError: the end mark is not here, or words are left over.
        """
        if self._decode(_uniform(_MARK_VALUES), 1)[0]:
            raise BitstreamError("the coded symbols do not end in their mark: damaged")
        # Whether words are left shows once the coder's range is small: halve it till then. What is
        # halved was never encoded, and need not be decodable.
        for _ in range(32):
            if self._coder.maybe_exhausted():
                return
            try:
                self._decode(_uniform(2), 1)
            except BitstreamError:
                return
        raise BitstreamError("words are left over after the last coded symbol: damaged")

    def _read_run(self, index: int, count: int) -> Symbols:
        limit = int(limits()[index])
        values: Symbols = self._decode(_model(index), count) - limit
        escaped = np.flatnonzero(values == limit + 1)
        if escaped.size:
            large = self._decode(_uniform(_ESCAPES), escaped.size) - np.int32(_ESCAPE_LIMIT)
            if np.abs(large).min() <= limit or large.min() == -_ESCAPE_LIMIT:
                raise BitstreamError("an escape that no encoder writes: damaged")
            values[escaped] = large
        return values

    def _decode(self, model: Any, count: int) -> Symbols:
        try:
            return np.asarray(self._coder.decode(model, count), dtype=np.int32)
        except (AssertionError, ValueError) as problem:
            raise BitstreamError(f"undecodable: {problem}") from None


def _runs(indices: Indices, first: int) -> tuple[NDArray[np.intp], list[tuple[int, slice]]]:
    """Positions, shape (n,), of the symbols whose table is `first` or a later one, sorted by table.

    With each table in use and its part of them. Symbols of equal table keep their order.
    """
    flat = indices.ravel()
    if flat.size and int(flat.max()) >= TABLES:
        raise ValueError(f"table {int(flat.max())} was asked for; the last is {TABLES - 1}")
    order = _sorted(flat, first)
    bounds = np.searchsorted(flat[order], np.arange(TABLES + 1)).tolist()
    runs = enumerate(pairwise(bounds))
    return order, [(index, slice(*run)) for index, run in runs if run[0] < run[1]]


def _sorted(flat: Indices, first: int) -> NDArray[np.intp]:
    if not first:
        return flat.argsort(kind="stable")  # a radix sort, of 8-bit integers
    live = np.flatnonzero(flat >= first)
    return live.take(flat[live].argsort(kind="stable"))


def _shortest(coder: Any) -> bytes:
    """The shortest bytes that an encoder's symbols can be read from.

    Every number in the encoder's last interval stands for its symbols. The encoder chooses one of
    whole words; of all of them the one that ends in the most zero bytes is taken.
    """
    position, (lower, size) = coder.pos()  # words written; the interval, in units of 2**-64 words
    words = coder.get_compressed().astype(">u4").tobytes()
    length = 4 * position + 8
    chosen = int.from_bytes(words.ljust(length, b"\0"), "big")
    low = chosen - (chosen - lower) % (1 << 64)
    candidates = (-(-low >> shift) << shift for shift in range(64, 24, -8))
    shortest = next(number for number in candidates if number < low + size)
    return bytes(shortest.to_bytes(length, "big").rstrip(b"\0"))


@cache
def limits() -> Symbols:
    """Largest magnitude that each table holds without an escape, shape (TABLES,)."""
    with localcontext(_EXACT):
        edges = [Decimal("0.5") - scale.exp() * (2 * _TAIL).ln() for scale in _decimal_log_scales()]
        return np.array([int(edge.to_integral_value(ROUND_CEILING)) for edge in edges], np.int32)


@cache
def frequencies(index: int) -> NDArray[np.int64]:
    """Frequencies of -limit .. limit and the escape, shape (2 limit + 2,), all positive.

    They sum to `TOTAL`. The Laplace mass from a magnitude on is the one before's times a constant,
    so that two exponentials and a recurrence in integers give them all.
    """
    limit = int(limits()[index])
    spare = (TOTAL - 2 * limit - 2) << _FRACTION
    with localcontext(_EXACT):
        rate = 1 / _decimal_log_scales()[index].exp()
        first, ratio = (int(mass * 2**_FRACTION) for mass in ((-rate / 2).exp() / 2, (-rate).exp()))
    masses = accumulate(repeat(ratio, limit), lambda m, r: m * r >> _FRACTION, initial=first)
    beyond = np.array([mass * spare >> 2 * _FRACTION for mass in masses], dtype=np.int64)
    side, escape = 1 + beyond[:-1] - beyond[1:], 1 + 2 * beyond[-1]
    centre = TOTAL - 2 * side.sum() - escape
    return np.concatenate([side[::-1], [centre], side, [escape]])


@cache
def _model(index: int) -> Any:
    """The coder's model of a table. Its intervals are 16 times the frequencies, exactly.

    The coder gives every code 1 of its 2**24 and shares out the rest in proportion to floats: with
    integers that sum to the rest, it shares without rounding.
    """
    import constriction

    shares = (frequencies(index) * (_CODER_TOTAL // TOTAL) - 1).astype(np.float64)
    return constriction.stream.model.Categorical(shares, perfect=False)


@cache
def _uniform(values: int) -> Any:
    import constriction

    return constriction.stream.model.Uniform(values)


@cache
def _costs() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where each table's bits start, shape (TABLES,); they are by magnitude, then the escape's."""
    tables = [frequencies(index)[limit:] for index, limit in enumerate(limits().tolist())]
    bits = [np.log2(TOTAL / table) for table in tables]
    for cost in bits:
        cost[-1] += np.log2(_ESCAPES)
    return np.cumsum([0, *(len(cost) for cost in bits[:-1])]), np.concatenate(bits)
