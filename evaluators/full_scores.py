"""What a full training is shown by, meanwhile and at its end: scores and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from evaluators import scoring
from evaluators.candidates import SCORED_CROP
from evaluators.metrics import RdPoint, to_8_bit
from evaluators.passes import to_tensor
from evaluators.photos import Photo, Pixels, textured_crops
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.model import Codec
from search_spaces.files import replacing

_WATCHED_CROPS = 6
WATCHED_LEVELS = (1, 3, 5, 7)
_SHOWN_SIDE = 384
_SHOWN_LEVELS = (1, 4)
_SHOWN_PHOTOS = 2


@dataclass(frozen=True)
class HeldBackPhotos:
    """Photographs that nothing is trained on.

    Attributes:
        photos: at least 192 pixels each way.
        device: where codec and LPIPS run.
        crops: of 192 x 192 that are scored at the end, at most.
        vgg_crops: of them, that LPIPS-vgg sees too; 0 leaves it out.
    """

    photos: Sequence[Photo]
    device: torch.device
    crops: int = 24
    vgg_crops: int = 8

    @property
    def work(self) -> float:
        """How many times as long as `meanwhile` the final scores take, roughly."""
        levels = LEVELS / len(WATCHED_LEVELS)
        return levels * (self.crops + 15 * self.vgg_crops) / _WATCHED_CROPS  # vgg: 15 times alex

    def meanwhile(self, codec: Codec) -> list[RdPoint]:
        """Scores on a few crops at some levels."""
        crops = textured_crops(self.photos, SCORED_CROP, self.crops)
        few = crops[:: -(-len(crops) // _WATCHED_CROPS)]
        held_back = scoring.code_held_back(codec, few, WATCHED_LEVELS)
        return self._points(codec, held_back, WATCHED_LEVELS)

    def finally_(self, codec: Codec) -> list[RdPoint]:
        """Scores at every level, on a few crops by LPIPS-vgg too."""
        crops = textured_crops(self.photos, SCORED_CROP, self.crops)
        levels = range(LEVELS)
        held_back = scoring.code_held_back(codec, crops, levels)
        points = self._points(codec, held_back, levels)
        by_vgg = (scoring.check_by_vgg(codec, held_back, i, i, self.vgg_crops) for i in levels)
        return [{**point, **vgg} for point, vgg in zip(points, by_vgg, strict=True)]

    def pictures(self, codec: Codec, folder: Path, name: str) -> None:
        """Writes originals beside reconstructions, a PNG a photograph and level.

        Args:
            codec: in evaluation mode.
            folder: made when missing.
            name: that the files' names begin with; level and rate follow.
        """
        for number, photo in enumerate(self.photos[:_SHOWN_PHOTOS], 1):
            original = _middle(photo.pixels)
            for level in _SHOWN_LEVELS:
                decoded, bpp = _decoded(codec, original, level, self.device)
                file = folder / f"{name}-photo-{number}-level-{level}-{bpp:.3f}bpp.png"
                with replacing(file) as unfinished:
                    Image.fromarray(np.concatenate([original, decoded], 1)).save(unfinished)

    def _points(
        self, codec: Codec, held_back: scoring.HeldBack, levels: Sequence[int]
    ) -> list[RdPoint]:
        # What no one compares with a linear decoder may be below it: perception costs PSNR.
        points: list[RdPoint] = scoring.score(codec, held_back, levels, self.device, -math.inf)[
            "rd_points"
        ]
        return points


def _middle(pixels: Pixels) -> Pixels:
    """The middle of a photograph, at most 384 pixels each way."""
    height, width = (min(side, _SHOWN_SIDE) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


@torch.no_grad()
def _decoded(
    codec: Codec, original: Pixels, level: int, device: torch.device
) -> tuple[Pixels, float]:
    coded = codec.compress(to_tensor(original).to(device), level)
    decoded = to_8_bit(codec.decode(coded.symbols, coded.hyper, level))[0]
    pixels = (decoded * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels, 8 * len(coded.data) / (original.shape[0] * original.shape[1])
