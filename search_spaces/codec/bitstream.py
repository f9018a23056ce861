"""The container of one compressed picture; BITSTREAM.md beside this file is its specification.

    magic  version  quality  model key  width  height  tile lengths  tiles  CRC-32
      4       1        1         8      varint varint     varints             4     bytes

What is read is trusted only after its checksum, and not even then: whoever forges a file can repair
the checksum. Nothing is allocated by what a header says before the bytes behind it were counted.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from search_spaces.codec.constants import LEVELS, QUALITY_STEPS
from search_spaces.codec.entropy import BitstreamError
from search_spaces.codec.tiles import count_windows

MAGIC = b"NASC"
VERSION = 1
KEY_BYTES = 8
MAX_QUALITY_STEP = QUALITY_STEPS * (LEVELS - 1)
MAX_PIXELS = 1 << 28
_CRC_BYTES = 4
_MAX_VARINT_BYTES = 5


class _EndsEarlyError(BitstreamError):
    """Fewer bytes than what came before them announces."""


@dataclass(frozen=True)
class Stream:
    """Everything that a file says.

    Attributes:
        quality_step: quality in sixteenths of a level, 0 to 112.
        model_key: of the codec that wrote it, 8 bytes.
        height: of the picture in pixels.
        width: of the picture in pixels.
        tiles: coded windows in the order of `tiles.windows(height, width)`.
    """

    quality_step: int
    model_key: bytes
    height: int
    width: int
    tiles: tuple[bytes, ...]

    @property
    def quality(self) -> float:
        """Quality level, 0 to 7."""
        return self.quality_step / QUALITY_STEPS


def pack(stream: Stream) -> bytes:
    """The file's bytes.

    Raises:
        ValueError: a field is outside what the format can hold.
    """
    _require_packable(stream)
    head = MAGIC + bytes([VERSION, stream.quality_step]) + stream.model_key
    sizes = (stream.width, stream.height, *map(len, stream.tiles))
    content = head + b"".join(map(_varint, sizes)) + b"".join(stream.tiles)
    return content + _checksum(content)


def unpack(data: bytes) -> Stream:
    """Reads what `pack` wrote.

    Raises:
        BitstreamError: one line saying whether the bytes are foreign, of another version, cut
            short, damaged, or malformed under a valid checksum.
    """
    _require_ours(data)
    intact = _checksum(data[:-_CRC_BYTES]) == data[-_CRC_BYTES:]
    try:
        stream = _parsed(_Cursor(data[:-_CRC_BYTES]))
    except BitstreamError as problem:
        early = isinstance(problem, _EndsEarlyError)
        kind = "malformed" if intact else "cut short or damaged" if early else "damaged"
        raise BitstreamError(f"{kind}: {problem}") from None
    if not intact:
        raise BitstreamError("damaged: its checksum does not fit its content")
    return stream


def _require_packable(stream: Stream) -> None:
    _require_quality(stream.quality_step)
    _require_size(stream.height, stream.width)
    if len(stream.model_key) != KEY_BYTES:
        raise ValueError(f"a model key of {len(stream.model_key)} bytes; expected {KEY_BYTES}")
    tiles = count_windows(stream.height, stream.width)
    if len(stream.tiles) != tiles:
        raise ValueError(f"{len(stream.tiles)} tiles; a picture of this size has {tiles}")


def _require_ours(data: bytes) -> None:
    if not data:
        raise BitstreamError("empty: no byte in it")
    if not data.startswith(MAGIC[: len(data)]):
        raise BitstreamError(f"foreign: it starts with {data[:4]!r} where {MAGIC!r} is expected")
    if len(data) <= len(MAGIC) + _CRC_BYTES:
        raise BitstreamError(f"cut short: {len(data)} bytes are less than a header")
    if data[len(MAGIC)] != VERSION:
        raise BitstreamError(f"format version {data[len(MAGIC)]}; this program reads {VERSION}")


def _require_quality(step: int) -> None:
    if not 0 <= step <= MAX_QUALITY_STEP:
        raise BitstreamError(f"quality {step}/16; expected 0 to {MAX_QUALITY_STEP}/16")


def _require_size(height: int, width: int) -> None:
    if not (height >= 1 and width >= 1 and height * width <= MAX_PIXELS):
        raise BitstreamError(f"a picture of {width} x {height}; expected 1 to {MAX_PIXELS} pixels")


class _Cursor:
    """Takes fields from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _EndsEarlyError(f"{count} more bytes announced, {self.left} there")
        start, self._position = self._position, self._position + count
        return self._data[start : self._position]

    def varint(self) -> int:
        """Seven bits a byte, lowest first; only the shortest form of a number counts."""
        value = 0
        for place in range(_MAX_VARINT_BYTES):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << (7 * place)
            if byte == 0 and place:
                raise BitstreamError("a number is not in its shortest form")
            if byte < 0x80:
                return value
        raise BitstreamError(f"a number is longer than {_MAX_VARINT_BYTES} bytes")


def _parsed(cursor: _Cursor) -> Stream:
    cursor.take(len(MAGIC) + 1)
    (quality_step,) = cursor.take(1)
    _require_quality(quality_step)
    model_key = cursor.take(KEY_BYTES)
    width, height = cursor.varint(), cursor.varint()
    _require_size(height, width)
    return Stream(quality_step, model_key, height, width, _tiles(cursor, height, width))


def _tiles(cursor: _Cursor, height: int, width: int) -> tuple[bytes, ...]:
    count = count_windows(height, width)
    if count > cursor.left:
        raise _EndsEarlyError(f"{count} tiles announced, {cursor.left} bytes there")
    lengths = [cursor.varint() for _ in range(count)]
    if sum(lengths) > cursor.left:
        raise _EndsEarlyError(f"{sum(lengths)} bytes of tiles announced, {cursor.left} there")
    if sum(lengths) < cursor.left:
        raise BitstreamError(f"{cursor.left - sum(lengths)} bytes too many after the last tile")
    return tuple(cursor.take(length) for length in lengths)


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CRC_BYTES, "little")
