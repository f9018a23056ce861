"""Photographs that ranges are taken from, others that losses are measured on, and the measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from evaluators.metrics import psnr, to_8_bit
from evaluators.passes import to_tensor
from evaluators.photos import find_photos, load_photos, textured_crops
from search_spaces.codec.deployed_codec import DeployedCodec

LEVELS = (1, 3, 5, 7)
SIDE = 256  # pixels of a crop
CALIBRATED, MEASURED = 8, 6  # crops


@dataclass(frozen=True)
class Photographs:
    """Crops, each of shape (1, 3, SIDE, SIDE) in [0, 1].

    Attributes:
        calibration: of some photographs.
        measured: of others.
        names: of the photographs measured on.
    """

    calibration: tuple[Tensor, ...]
    measured: tuple[Tensor, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """How good a codec is, at each of `LEVELS`.

    Attributes:
        psnr_db: of decoded 8-bit pictures, mean of the crops.
        bytes: of all coded crops together.
    """

    psnr_db: tuple[float, ...]
    bytes: tuple[int, ...]

    def against(self, exact: Measured) -> dict[str, Any]:
        """What rounding costs beside full precision, JSON-ready."""
        lost = [a - b for a, b in zip(exact.psnr_db, self.psnr_db, strict=True)]
        more = [100 * (b / a - 1) for a, b in zip(exact.bytes, self.bytes, strict=True)]
        return {
            "levels": list(LEVELS),
            "psnr_db": [round(value, 3) for value in self.psnr_db],
            "psnr_lost_db": [round(value, 4) for value in lost],
            "most_psnr_lost_db": round(max(lost), 4),
            "bytes_more_percent": [round(value, 3) for value in more],
        }


def photographs(data: str) -> Photographs:
    """Crops for calibrating and measuring, of different photographs.

    Args:
        data: a folder, or `sample` for those that installed packages carry.

    Raises:
        SetupError: too few photographs, or none that can be used.
    """
    files = find_photos(data)
    held_back = load_photos(files.held_back, SIDE)
    given = load_photos(files.train, SIDE)
    return Photographs(
        tuple(to_tensor(crop) for crop in textured_crops(given, SIDE, CALIBRATED)),
        tuple(to_tensor(crop) for crop in textured_crops(held_back, SIDE, MEASURED)),
        tuple(photo.name for photo in held_back),
    )


def measure(
    codec: DeployedCodec, crops: Sequence[Tensor], tick: Callable[[], None] = lambda: None
) -> Measured:
    """Codes and decodes crops at all of `LEVELS`; `tick` is called after each."""
    psnr_db, sizes = [], []
    for level in LEVELS:
        rows = []
        for crop in crops:
            rows.append(_coded(codec, crop, level))
            tick()
        psnr_db.append(float(np.mean([row[0] for row in rows])))
        sizes.append(sum(row[1] for row in rows))
    return Measured(tuple(psnr_db), tuple(sizes))


def _coded(codec: DeployedCodec, crop: Tensor, level: int) -> tuple[float, int]:
    coded = codec.write(*codec.analyse(crop, level), level)
    decoded = to_8_bit(codec.decode(coded.symbols, coded.hyper, level))
    return psnr(decoded, crop).item(), len(coded.data)
