"""Ways to damage a stream, for `fuzz.py`: of its header, its numbers and its tiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from search_spaces.codec import bitstream
from search_spaces.codec.bitstream import Stream
from search_spaces.codec.model import Codec
from search_spaces.codec.tiles import windows

_VARINT_FIELDS = 14  # where the width and all varints after it begin

Rng = np.random.Generator


@dataclass(frozen=True)
class Subject:
    """A codec, its key, and the streams that it wrote."""

    codec: Codec
    key: bytes
    streams: list[bytes]

    def any_stream(self, rng: Rng) -> bytes:
        return self.streams[rng.integers(len(self.streams))]


def _flip(data: bytes, rng: Rng, _: Subject) -> bytes:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    bits[rng.integers(len(bits), size=rng.integers(1, 9))] ^= 1
    return np.packbits(bits).tobytes()


def _truncate(data: bytes, rng: Rng, _: Subject) -> bytes:
    return data[: rng.integers(len(data))]


def _insert(data: bytes, rng: Rng, _: Subject) -> bytes:
    place = rng.integers(len(data) + 1)
    return data[:place] + rng.bytes(rng.integers(1, 20)) + data[place:]


def _splice(data: bytes, rng: Rng, subject: Subject) -> bytes:
    other = subject.any_stream(rng)
    return data[: rng.integers(len(data))] + other[rng.integers(len(other)) :]


def _header_byte(data: bytes, rng: Rng, _: Subject) -> bytes:
    place = rng.integers(min(24, len(data)))
    return data[:place] + rng.bytes(1) + data[place + 1 :]


def _header_field(data: bytes, rng: Rng, _: Subject) -> bytes:
    """Another quality, width or height, also extreme ones, in a header that is well-formed."""
    stream = bitstream.unpack(data)
    side = int(rng.choice([0, 1, 15, 17, 511, 513, 1009, 1 << 14, 1 << 28, (1 << 35) - 1]))
    name = str(rng.choice(["quality_step", "height", "width"]))
    value = int(rng.integers(256)) if name == "quality_step" else side
    return _packed(replace(stream, **{name: value}))


def _varint(data: bytes, rng: Rng, _: Subject) -> bytes:
    """One varint replaced: longer than need be, endless, huge, or off by a little."""
    end = min(len(data) - 4, _VARINT_FIELDS + 8)
    place = int(rng.integers(_VARINT_FIELDS, max(end, _VARINT_FIELDS + 1)))
    forms = [b"\x80\x00", b"\xff" * 12, b"\xff\xff\xff\xff\x7f", bytes([rng.integers(128)])]
    return data[:place] + forms[rng.integers(len(forms))] + data[place + 1 :]


def _swap_lengths(data: bytes, rng: Rng, _: Subject) -> bytes:
    """The same bytes, cut between two tiles at another place."""
    stream = bitstream.unpack(data)
    content = b"".join(stream.tiles)
    cuts = sorted(rng.integers(len(content) + 1, size=len(stream.tiles) - 1).tolist())
    bounds = [0, *cuts, len(content)]
    pieces = [content[a:b] for a, b in itertools.pairwise(bounds)]
    return _packed(replace(stream, tiles=tuple(pieces)))


def _swap_tiles(data: bytes, rng: Rng, subject: Subject) -> bytes:
    """One tile replaced by one of another stream."""
    stream = bitstream.unpack(data)
    other = bitstream.unpack(subject.any_stream(rng)).tiles
    tiles = list(stream.tiles)
    tiles[rng.integers(len(tiles))] = other[rng.integers(len(other))]
    return _packed(replace(stream, tiles=tuple(tiles)))


def _noise(data: bytes, rng: Rng, _: Subject) -> bytes:
    """Tiles of random bytes, of their old length or another."""
    stream = bitstream.unpack(data)
    lengths = [rng.choice([len(t), rng.integers(2 * len(t) + 9)]) for t in stream.tiles]
    return _packed(replace(stream, tiles=tuple(rng.bytes(length) for length in lengths)))


def _tile_bits(data: bytes, rng: Rng, subject: Subject) -> bytes:
    """Flips within the tiles alone: what only the entropy coder can notice."""
    stream = bitstream.unpack(data)
    tiles = [_flip(tile, rng, subject) if tile else tile for tile in stream.tiles]
    return _packed(replace(stream, tiles=tuple(tiles)))


def _wild(data: bytes, rng: Rng, subject: Subject) -> bytes:
    """Tiles that decode to symbols of any size: those of images far out of range."""
    stream = bitstream.unpack(data)
    tiles = []
    for window in windows(stream.height, stream.width):
        noise = torch.from_numpy(rng.standard_normal((1, 3, window.height, window.width))).float()
        image = noise * float(10.0 ** rng.integers(0, 9))
        tiles.append(subject.codec.compress(image, stream.quality).data)
    return _packed(replace(stream, tiles=tuple(tiles)))


MUTATIONS: dict[str, Callable[[bytes, Rng, Subject], bytes]] = {
    "flipped bits": _flip,
    "truncated": _truncate,
    "inserted": _insert,
    "spliced": _splice,
    "header byte": _header_byte,
    "header field": _header_field,
    "varint": _varint,
    "lengths": _swap_lengths,
    "tiles exchanged": _swap_tiles,
    "tiles of noise": _noise,
    "bits within tiles": _tile_bits,
    "wild symbols": _wild,
}


def _packed(stream: Stream) -> bytes:
    """As `bitstream.pack` would, without its checks, and with a checksum of zeros."""
    head = bitstream.MAGIC + bytes([bitstream.VERSION, stream.quality_step]) + stream.model_key
    sizes = (stream.width, stream.height, *map(len, stream.tiles))
    return head + b"".join(map(_leb128, sizes)) + b"".join(stream.tiles) + bytes(4)


def _leb128(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _leb128(rest) if rest else bytes([low])
