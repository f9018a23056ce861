"""The entropy coder: what is written is read back, at the ideal size, on any machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from search_spaces.codec import entropy

SHAPES = hnp.array_shapes(max_dims=3, max_side=12)
ARRAYS = hnp.arrays(np.int32, SHAPES, elements=st.integers(-3, 3) | st.integers(-32767, 32767))
# A change of one of these three hashes is a change of the file format.
TABLES = "13a4414f98d4316620b05c6b37ad169bf78838e1d6aade061bcb1f24693f8089"
WRITTEN = "a5f693ae5a4b9bea87efdcbf41fe56afa1a38f3e9b6990222624c4d21c9d782d"
WRITTEN_GROUPED = "4ebbe142987615a997ebd6bb6d514a08645c701427a6103dc5d96875f265bf88"
GROUPED = pytest.mark.parametrize("grouped", [False, True])


def some_indices(seed: int, shape: tuple[int, ...]) -> entropy.Indices:
    return np.random.default_rng(seed).integers(0, entropy.TABLES, size=shape, dtype=np.uint8)


def one_table(index: int, symbols: entropy.Symbols) -> entropy.Indices:
    return np.full(symbols.shape, index, dtype=np.uint8)


def write(*arrays: tuple[entropy.Symbols, entropy.Indices], grouped: bool = False) -> bytes:
    writer = entropy.Writer(grouped)
    for symbols, indices in arrays:
        writer.write(symbols, indices)
    return writer.to_bytes()


def read(data: bytes, indices: entropy.Indices, grouped: bool = False) -> entropy.Symbols:
    reader = entropy.Reader(data, grouped)
    symbols = reader.read(indices)
    reader.finish()
    return symbols


def latent(seed: int, shape: tuple[int, ...]) -> tuple[entropy.Symbols, entropy.Indices]:
    """Laplace symbols under indices of all scales."""
    indices = some_indices(seed, shape)
    noise = np.random.default_rng(seed).laplace(size=shape)
    return np.rint(noise * np.exp(entropy.LOG_SCALES)[indices]).astype(np.int32), indices


@GROUPED
@given(symbols=ARRAYS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_any_symbols_are_read_back_under_any_scales(
    grouped: bool, symbols: entropy.Symbols, seed: int
) -> None:
    indices = some_indices(seed, symbols.shape)
    symbols = entropy.silence(symbols, indices) if grouped else symbols
    data = write((symbols, indices), grouped=grouped)
    assert not data.endswith(b"\0")
    assert read(data, indices, grouped).tolist() == symbols.tolist()


@given(index=st.integers(0, 63), symbols=ARRAYS)
@settings(max_examples=80, deadline=None)
def test_symbols_of_one_table_are_read_back(index: int, symbols: entropy.Symbols) -> None:
    indices = one_table(index, symbols)
    assert read(write((symbols, indices)), indices).tolist() == symbols.tolist()


@GROUPED
def test_what_follows_the_end_mark_need_not_be_decodable(grouped: bool) -> None:
    for seed in range(2000):
        symbols, indices = latent(seed, (8, 5, 5))
        symbols = entropy.silence(symbols, indices) if grouped else symbols
        data = write((symbols, indices), grouped=grouped)
        assert read(data, indices, grouped).tolist() == symbols.tolist()


def test_arrays_are_read_in_the_order_they_were_written() -> None:
    first = np.array([[1, -2], [3, 700]], dtype=np.int32), np.array([[9, 30], [40, 0]], np.uint8)
    second = latent(0, (5, 6, 7))
    reader = entropy.Reader(write(first, second))
    assert reader.read(first[1]).tolist() == first[0].tolist()
    assert reader.read(second[1]).tolist() == second[0].tolist()
    reader.finish()


@GROUPED
@pytest.mark.parametrize("shape", [(0,), (1,), (40,), (24, 16, 16)])
def test_size_is_the_ideal_one_and_two_bytes_at_most(grouped: bool, shape: tuple[int]) -> None:
    symbols, indices = latent(1, shape)
    symbols = entropy.silence(symbols, indices) if grouped else symbols
    ideal_bytes = entropy.ideal_bits(symbols, indices, grouped) / 8
    size = len(write((symbols, indices), grouped=grouped))
    assert ideal_bytes - 1 <= size <= 1.0001 * ideal_bytes + 2.01


@pytest.mark.parametrize("scale", [0.03, 0.3, 3.0, 30.0, 200.0])
def test_ideal_size_is_within_a_thousandth_of_the_entropy(scale: float) -> None:
    symbols = np.rint(np.random.default_rng(0).laplace(scale=scale, size=200_000)).astype(np.int32)
    indices = entropy.scale_indices(np.full(symbols.shape, np.log(scale)))
    lower = np.exp(-np.maximum(np.abs(symbols) - 0.5, 0) / scale)
    mass = np.where(symbols == 0, 2 * (1 - np.exp(-0.5 / scale)), lower * (1 - np.exp(-1 / scale)))
    entropy_bits = -np.log2(mass / 2).sum()
    assert entropy.ideal_bits(symbols, indices) <= 1.001 * entropy_bits + 2


def test_an_escape_costs_its_code_and_sixteen_bits() -> None:
    symbol, index = np.array([-3000], np.int32), np.array([40], np.uint8)
    escape = entropy.frequencies(40)[-1]
    assert entropy.ideal_bits(symbol, index) == 16 + 20 - np.log2(escape)


def test_nothing_and_what_is_all_left_out_take_no_bytes() -> None:
    dead = np.full((8, 9), entropy.DEAD_BELOW - 1, np.uint8)
    zeros = np.zeros((8, 9), np.int32)
    assert entropy.Writer().to_bytes() == b""
    assert write((zeros, dead), grouped=True) == b""
    assert read(b"", dead, grouped=True).tolist() == zeros.tolist()


def test_a_writer_goes_on_after_its_bytes_were_taken() -> None:
    symbols, indices = latent(2, (300,))
    writer = entropy.Writer()
    writer.write(symbols[:100], indices[:100])
    assert writer.to_bytes() == writer.to_bytes()
    writer.write(symbols[100:], indices[100:])
    assert writer.to_bytes() == write(
        (symbols[:100], indices[:100]), (symbols[100:], indices[100:])
    )


def test_tables_are_the_same_on_every_machine() -> None:
    tables = np.concatenate([entropy.frequencies(index) for index in range(entropy.TABLES)])
    digest = hashlib.sha256(tables.astype("<i4").tobytes())
    digest.update(entropy.LOG_SCALES.astype("<f8").tobytes())
    assert digest.hexdigest() == TABLES


@pytest.mark.parametrize(("grouped", "expected"), [(False, WRITTEN), (True, WRITTEN_GROUPED)])
def test_bytes_are_the_same_on_every_machine(grouped: bool, expected: str) -> None:
    count = np.arange(20_000)
    indices = (count * 31 % entropy.TABLES).astype(np.uint8)
    symbols = (count * 7919 % 41 - 20 + 20_000 * (count % 997 == 0)).astype(np.int32)
    symbols = entropy.silence(symbols, indices) if grouped else symbols
    data = write((symbols, indices), grouped=grouped)
    assert hashlib.sha256(data).hexdigest() == expected


@pytest.mark.parametrize("index", range(entropy.TABLES))
def test_frequencies_are_positive_symmetric_and_sum_to_their_total(index: int) -> None:
    table = entropy.frequencies(index)
    assert table.min() > 0
    assert table.sum() == entropy.TOTAL
    assert (table[:-1] == table[-2::-1]).all()
    assert (np.diff(table[len(table) // 2 - 1 : -1]) <= 1).all()


@pytest.mark.parametrize("index", [0, 11, 25, 40, 63])
def test_the_coder_uses_the_tables_to_the_last_unit(index: int) -> None:
    """The first symbol of a string is known from which interval of a table the string lies in."""
    table = entropy.frequencies(index)
    limit = len(table) // 2 - 1
    unit = (2**64 - 1 >> 24) * 16  # of the whole coding interval, one part in `TOTAL`
    edges = np.cumsum(table)[:-1]
    for code in {0, 1, limit, *range(0, 2 * limit, 97), 2 * limit - 1}:
        edge = int(edges[code]) * unit
        below, above = ((edge + step).to_bytes(8, "big").rstrip(b"\0") for step in (-1, 0))
        assert entropy.Reader(below).read(np.array([index], np.uint8)) == code - limit
        assert entropy.Reader(above).read(np.array([index], np.uint8)) == code + 1 - limit


def test_scales_take_the_nearest_table_and_beyond_them_the_ends() -> None:
    indices = entropy.scale_indices(np.array([-99.0, 99.0]))
    assert indices.dtype == np.uint8
    assert indices.tolist() == [0, 63]
    assert entropy.scale_indices(entropy.LOG_SCALES + 0.07).tolist() == list(range(64))
    assert np.exp(entropy.LOG_SCALES[[0, -1]]) == pytest.approx([0.02, 256], rel=1e-12)


def test_a_scale_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        entropy.scale_indices(np.array([0.0, np.nan], dtype=np.float32))


def test_the_first_live_table_is_the_nearest_to_a_tenth() -> None:
    assert np.argmin(np.abs(np.exp(entropy.LOG_SCALES) - 0.1)) == entropy.DEAD_BELOW


@pytest.mark.parametrize("symbol", [32768, -32768, 2**31 - 1, -(2**31)])
def test_a_symbol_that_cannot_be_coded_is_refused(symbol: int) -> None:
    with pytest.raises(ValueError, match="32767"):
        write((np.array([symbol], dtype=np.int32), np.array([3], np.uint8)))


def test_a_symbol_left_out_that_is_not_zero_is_refused() -> None:
    dead = np.array([entropy.DEAD_BELOW - 1, entropy.DEAD_BELOW], np.uint8)
    with pytest.raises(ValueError, match="silence"):
        write((np.array([1, 1], dtype=np.int32), dead), grouped=True)


@GROUPED
def test_a_table_that_there_is_not_is_refused(grouped: bool) -> None:
    indices = np.array([3, entropy.TABLES], np.uint8)
    with pytest.raises(ValueError, match="table 64"):
        entropy.Writer(grouped).write(np.zeros(2, np.int32), indices)
    with pytest.raises(ValueError, match="table 64"):
        entropy.Reader(b"abcd", grouped).read(indices)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="table indices"):
        entropy.Writer().write(np.zeros((2, 3), np.int32), np.zeros((3, 2), np.uint8))


def test_zero_bytes_at_the_end_are_refused() -> None:
    with pytest.raises(entropy.BitstreamError, match="zero"):
        entropy.Reader(b"abc\0")


def test_words_left_over_are_noticed() -> None:
    symbols, indices = latent(3, (500,))
    with pytest.raises(entropy.BitstreamError, match="left over"):
        read(write((symbols, indices)) + b"left over", indices)


def test_unread_symbols_are_noticed() -> None:
    symbols, indices = latent(4, (500,))
    with pytest.raises(entropy.BitstreamError):
        read(write((symbols, indices)), indices[:400])


def test_flipped_bits_and_cut_strings_are_noticed_nearly_always() -> None:
    symbols, indices = latent(5, (200,))
    data = write((symbols, indices))
    flipped = [flip(data, bit) for bit in range(8 * len(data))]
    damaged = flipped + [data[:length] for length in range(len(data))]
    silent = sum(is_silently_wrong(other, indices, symbols) for other in damaged)
    assert silent <= 0.02 * len(damaged)


def flip(data: bytes, bit: int) -> bytes:
    return bytes(byte ^ (bit // 8 == i) << bit % 8 for i, byte in enumerate(data))


def is_silently_wrong(data: bytes, indices: entropy.Indices, expected: entropy.Symbols) -> bool:
    try:
        return read(data, indices).tolist() != expected.tolist()
    except entropy.BitstreamError:
        return False


@GROUPED
@given(data=st.binary(max_size=64), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_foreign_bytes_give_an_error_or_integers_never_a_crash(
    grouped: bool, data: bytes, seed: int
) -> None:
    indices = some_indices(seed, (40,))
    try:
        symbols = read(data, indices, grouped)
    except entropy.BitstreamError:
        return
    assert symbols.shape == indices.shape
    assert np.abs(symbols).max() < 2**15
