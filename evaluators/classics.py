"""What a classical codec makes of the crops that candidates are scored on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, features

from evaluators.photos import Pixels
from evaluators.scoring import distortions

_QUALITIES = (5, 12, 20, 30, 42, 55, 70)
_SPEED = 6  # avifenc's and Pillow's own


def avif_name() -> str:
    """What stands beside the curve."""
    return f"AVIF (libavif {features.version('avif')}, speed {_SPEED}, without its container)"


def has_avif() -> bool:
    """Whether this Pillow writes AVIF."""
    return bool(features.check("avif"))


@torch.no_grad()
def avif_points(crops: Sequence[Pixels]) -> list[dict[str, Any]]:
    """AVIF's curve: files are written and read again; means over the crops.

    Args:
        crops: of one size, 8-bit, shape (S, S, 3) each.

    Returns:
        As `scoring.score`: `quality`, `bpp_coded`, `psnr`, `ms_ssim` and `lpips` (alex). The
        container, some 300 bytes however small the picture, is left out of the rate: it would
        count for as much as the picture on a crop, and for nothing on a photograph.
    """
    originals = _batch(crops)
    return [_point(crops, originals, quality) for quality in _QUALITIES]


def _point(crops: Sequence[Pixels], originals: torch.Tensor, quality: int) -> dict[str, Any]:
    files = [_coded(crop, quality) for crop in crops]
    decoded = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    bits = sum(8 * media_bytes(file) for file in files)
    pixels = sum(crop.shape[0] * crop.shape[1] for crop in crops)
    scores = distortions(_batch(decoded), originals)
    return {"quality": quality, "bpp_coded": bits / pixels, **scores}


def _coded(crop: Pixels, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(crop).save(file, "AVIF", quality=quality, speed=_SPEED)
    return file.getvalue()


def media_bytes(file: bytes) -> int:
    """Bytes of a file's media data: the payload of its `mdat` boxes (ISO/IEC 14496-12)."""
    position = total = 0
    while position + 8 <= len(file):
        size = int.from_bytes(file[position : position + 4])
        size = len(file) - position if size == 0 else size
        if size < 8:
            raise ValueError(f"a box of {size} bytes at {position}")
        if file[position + 4 : position + 8] == b"mdat":
            total += size - 8
        position += size
    return total


def _batch(images: Sequence[Pixels]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float() / 255
