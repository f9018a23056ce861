"""Container and tiling: exact both ways, small, and closed to whatever no encoder wrote."""

from __future__ import annotations

import tracemalloc
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from search_spaces.codec import bitstream, entropy, pictures, tiles
from search_spaces.codec.bitstream import MAGIC, Stream
from search_spaces.codec.entropy import BitstreamError
from search_spaces.codec.pictures import Integers
from search_spaces.codec.tiles import Pixels

ROOT = Path(__file__).parent.parent
KEY = bytes(range(8))
SIDES = st.integers(1, 40) | st.integers(500, 520) | st.just(1010)


@dataclass(frozen=True)
class Packed:
    data: bytes


class Deflated:
    """A codec that loses nothing at quality 7 and the lower bits of every pixel below it."""

    def analyse(self, image: Tensor, quality: float) -> Integers:
        pixels = (image * 255).round().byte()
        step = 2 ** (7 - int(quality))
        return pixels // step * step, torch.empty(0)

    def write(self, symbols: Tensor, hyper: Tensor, quality: float) -> Packed:
        return Packed(zlib.compress(symbols.numpy().tobytes(), 1))

    def read(self, data: bytes, height: int, width: int, quality: float) -> Integers:
        try:
            content = zlib.decompress(data, bufsize=3 * height * width)
            pixels = np.frombuffer(content, np.uint8).reshape(1, 3, height, width)
        except (zlib.error, ValueError) as problem:
            raise BitstreamError(f"not deflated: {problem}") from None
        return torch.from_numpy(pixels.copy()), torch.empty(0)

    def decode(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        return symbols.float() / 255


class Overflowing(Deflated):
    def decode(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        return super().decode(symbols, hyper, quality) + float("inf")


class Diverged(Deflated):
    def write(self, symbols: Tensor, hyper: Tensor, quality: float) -> Packed:
        writer = entropy.Writer()
        writer.write(np.full((1, 3), 40_000, np.int32), np.full((1, 3), 63, np.uint8))
        return Packed(writer.to_bytes())


class Defective(Deflated):
    def decode(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        raise RuntimeError("shapes do not match")


def texture(height: int, width: int, seed: int = 0) -> Pixels:
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    smooth = 96 + 60 * np.sin(rows / 31) + 60 * np.cos(columns / 17 + np.arange(3))
    grain = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    return (smooth + grain).clip(0, 255).astype(np.uint8)


def encode(pixels: Pixels, quality: float = 7, threads: int = 1) -> bytes:
    return pictures.encode_picture(Deflated(), pixels, quality, threads, key=KEY)


def decode(data: bytes, threads: int = 1) -> Pixels:
    return pictures.decode_picture(Deflated(), data, threads, key=KEY)


def repaired(data: bytes) -> bytes:
    """The same with a checksum that fits."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def header(quality: int = 64, sizes: bytes = b"\x01\x01\x00", tail: bytes = b"") -> bytes:
    return repaired(MAGIC + bytes([1, quality]) + KEY + sizes + tail + b"CRC4")


@given(SIDES, SIDES)
@settings(max_examples=30, deadline=None)
def test_pictures_of_any_size_come_back_exactly(height: int, width: int) -> None:
    pixels = texture(height, width)
    assert (decode(encode(pixels)) == pixels).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (300, 20_000), (1009, 513)])
def test_thread_count_changes_nothing(height: int, width: int) -> None:
    pixels = texture(height, width)
    data = encode(pixels, threads=1)
    assert encode(pixels, threads=3) == data
    assert (decode(data, threads=3) == pixels).all()


@given(
    quality=st.integers(0, 112),
    key=st.binary(min_size=8, max_size=8),
    height=st.integers(1, 1100),
    width=st.integers(1, 1100),
    draw=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_every_field_is_read_back(
    quality: int, key: bytes, height: int, width: int, draw: st.DataObject
) -> None:
    count = tiles.count_windows(height, width)
    content = draw.draw(st.lists(st.binary(max_size=300), min_size=count, max_size=count))
    stream = Stream(quality, key, height, width, tuple(content))
    assert bitstream.unpack(bitstream.pack(stream)) == stream


def test_header_and_checksum_of_a_small_picture_take_less_than_32_bytes() -> None:
    stream = Stream(64, KEY, 512, 768, (bytes(2600), bytes(1300)))
    assert len(bitstream.pack(stream)) - 3900 < 32


@pytest.mark.parametrize(
    "field",
    [{"quality_step": 113}, {"model_key": b"short"}, {"height": 0}, {"tiles": (b"", b"")}],
)
def test_what_the_format_cannot_hold_is_not_written(field: dict[str, object]) -> None:
    stream = Stream(64, KEY, 16, 16, (b"",))
    with pytest.raises(ValueError, match=r"expected|has 1"):
        bitstream.pack(replace(stream, **field))  # type: ignore[arg-type]


def test_cut_short_at_every_length_is_said_so() -> None:
    data = encode(texture(20, 530))
    with pytest.raises(BitstreamError, match=r"^empty"):
        decode(b"")
    for length in range(1, len(data)):
        with pytest.raises(BitstreamError, match="cut short"):
            decode(data[:length])


def test_no_flipped_bit_goes_unnoticed() -> None:
    data = encode(texture(20, 30))
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError, match=r"damaged|^foreign|^format version"):
            decode(bytes(flipped))


def test_foreign_files_other_versions_and_other_models_are_told_apart() -> None:
    data = encode(texture(20, 30))
    with pytest.raises(BitstreamError, match=r"^foreign: it starts with b'\\x89PNG'"):
        decode(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(BitstreamError, match=r"^format version 2; this program reads 1$"):
        decode(repaired(data[:4] + b"\x02" + data[5:]))
    with pytest.raises(BitstreamError, match="0001020304050607, this one is 2a2a2a2a2a2a2a2a"):
        pictures.decode_picture(Deflated(), data, key=b"*" * 8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header(quality=113), "quality 113/16; expected 0 to 112/16"),
        (header(sizes=b"\x00\x01\x00"), "0 x 1; expected 1 to 268435456 pixels"),
        (header(sizes=b"\xff\xff\x03" * 2), "65535 x 65535; expected"),
        (header(sizes=b"\x80\x80\x01" * 2), "1089 tiles announced, 0 bytes there"),
        (header(sizes=b"\x81\x00\x01\x00"), "not in its shortest form"),
        (header(sizes=b"\xff" * 9), "longer than 5 bytes"),
        (header(sizes=b"\x01\x01"), "1 tiles announced, 0 bytes there"),
        (header(sizes=b"\x01"), "1 more bytes announced, 0 there"),
        (header(sizes=b"\x01\x01\xff\xff\xff\xff\x7f"), "34359738367 bytes of tiles announced"),
        (header(tail=b"?"), "1 bytes too many after the last tile"),
    ],
)
def test_a_forged_header_is_refused_before_anything_is_allocated(data: bytes, reason: str) -> None:
    tracemalloc.start()
    with pytest.raises(BitstreamError, match=f"^malformed: .*{reason}"):
        decode(data)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 200_000


@given(sizes=st.binary(max_size=40), tail=st.binary(max_size=40), quality=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_forged_bytes_give_an_error_or_a_picture(sizes: bytes, tail: bytes, quality: int) -> None:
    data = header(quality, sizes, tail)
    try:
        stream = bitstream.unpack(data)
    except BitstreamError:
        return
    assert bitstream.pack(stream) == data  # one file for one content


def test_a_picture_needs_no_memory_beyond_its_pixels_and_a_few_windows() -> None:
    pixels = texture(504 * 40, 500)
    window_bytes = 3 * 512**2
    tracemalloc.start()
    data = encode(pixels, quality=0, threads=1)
    encoding_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    decode(data, threads=1)
    decoding_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert encoding_bytes < len(data) * 3 + 4 * window_bytes
    assert decoding_bytes < len(data) * 3 + pixels.nbytes + 4 * window_bytes


@pytest.mark.parametrize("codec", [Deflated(), Defective()])
def test_torchs_thread_count_is_put_back(codec: Deflated) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pictures.decode_picture(codec, encode(texture(20, 30)), key=KEY)
    except RuntimeError:
        assert isinstance(codec, Defective)
    finally:
        after = torch.get_num_threads()
        torch.set_num_threads(before)
    assert after == 2


def test_latents_that_cannot_be_coded_are_said_to_be_the_codecs_fault() -> None:
    with pytest.raises(pictures.PictureError, match="the codec cannot code it: a symbol exceeds"):
        pictures.encode_picture(Diverged(), texture(20, 30), 4, key=KEY)


def test_overflow_is_an_error_of_the_file_and_a_defect_is_not() -> None:
    data = encode(texture(20, 30))
    with pytest.raises(BitstreamError, match="not finite"):
        pictures.decode_picture(Overflowing(), data, key=KEY)
    with pytest.raises(RuntimeError, match="shapes"):
        pictures.decode_picture(Defective(), data, key=KEY)


@given(st.integers(0, 60_000))
@settings(max_examples=25, deadline=None)
def test_a_size_is_met_from_below_by_the_best_quality_that_fits(max_bytes: int) -> None:
    pixels, codec = texture(60, 200), Deflated()
    smallest = len(encode(pixels, 0))
    if max_bytes < smallest:
        with pytest.raises(pictures.PictureError, match=f"it takes {smallest} bytes at quality 0"):
            pictures.encode_to_size(codec, pixels, max_bytes, key=KEY)
        return
    data = pictures.encode_to_size(codec, pixels, max_bytes, key=KEY)
    assert len(data) <= max_bytes
    step = bitstream.unpack(data).quality_step
    assert step == 112 or len(encode(pixels, (step + 1) / 16)) > max_bytes


@pytest.mark.parametrize("quality", [-0.0625, 7.0625, 3.03, float("nan")])
def test_qualities_between_steps_are_refused(quality: float) -> None:
    with pytest.raises(ValueError, match="no multiple of 1/16 from 0 to 7"):
        encode(texture(20, 30), quality)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 4), (0, 30, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(pictures.PictureError, match="expected"):
        encode(np.zeros(shape, dtype=np.uint8))


def test_progress_counts_windows() -> None:
    told: list[tuple[int, int]] = []
    pictures.encode_picture(
        Deflated(), texture(600, 600), 4, progress=lambda *done: told.append(done), key=KEY
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
