"""The entropy coder: what is written is read back, at the ideal size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from search_spaces.codec import entropy

ARRAYS = hnp.arrays(
    np.int32,
    hnp.array_shapes(max_dims=3, max_side=12),
    elements=st.integers(-3, 3) | st.integers(-32767, 32767),
)


def write(*arrays: tuple[entropy.Symbols, entropy.Indices]) -> bytes:
    writer = entropy.Writer()
    for symbols, indices in arrays:
        writer.write(symbols, indices)
    return writer.to_bytes()


@given(ARRAYS, st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_any_symbols_are_read_back_under_any_scales(symbols: entropy.Symbols, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, 64, size=symbols.shape)
    data = write((symbols, indices))
    assert entropy.Reader(data).read(indices).tolist() == symbols.tolist()


def test_arrays_are_read_in_the_order_they_were_written() -> None:
    first = np.array([1, -2, 3], dtype=np.int32), np.array([9, 30, 40])
    second = np.arange(-50, 50, dtype=np.int32), np.full(100, 50)
    reader = entropy.Reader(write(first, second))
    assert reader.read(first[1]).tolist() == first[0].tolist()
    assert reader.read(second[1]).tolist() == second[0].tolist()


@pytest.mark.parametrize("scale", [0.03, 0.3, 3.0, 30.0])
def test_size_is_within_one_per_cent_of_the_entropy(scale: float) -> None:
    rng = np.random.default_rng(0)
    symbols = np.rint(rng.laplace(scale=scale, size=200_000)).astype(np.int32)
    indices = entropy.scale_indices(np.full(symbols.shape, np.log(scale)))
    values, counts = np.unique(symbols, return_counts=True)
    ideal_bits = -(counts * np.log2(counts / counts.sum())).sum()
    # 64 bits: the coder's last words, which count when nearly every symbol is 0.
    assert len(write((symbols, indices))) * 8 <= 1.01 * ideal_bits + 64
    assert len(values) > 0


def test_scales_beyond_the_table_take_its_ends() -> None:
    assert entropy.scale_indices(np.array([-99.0, 99.0])).tolist() == [0, 63]


def test_a_symbol_that_cannot_be_coded_is_refused() -> None:
    with pytest.raises(ValueError, match="32767"):
        write((np.array([40_000], dtype=np.int32), np.array([3])))


@given(st.binary(max_size=64), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_foreign_bytes_give_an_error_or_integers_never_a_crash(data: bytes, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, 64, size=40)
    try:
        symbols = entropy.Reader(data).read(indices)
    except entropy.BitstreamError:
        return
    assert symbols.shape == indices.shape
