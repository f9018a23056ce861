"""MS-SSIM of a picture of any size in bounded memory: the value that it has in one piece."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pytorch_msssim.ssim import _fspecial_gauss_1d, _ssim
from torch import Tensor

from evaluators.metrics import require_ms_ssim_side

_WINDOW, _SIGMA = 11, 1.5
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, as published
_CONSTANTS = (0.01, 0.03)
_ROWS = 256  # positions that a strip owns


@torch.no_grad()
def ms_ssim_of_image(image: Tensor, original: Tensor) -> float:
    """As `metrics.ms_ssim`, whose maps take a dozen times the picture's memory.

    Every scale's value is a mean over the window's positions. So strips of rows are filtered one
    after the other, each with the rows that the window sees beyond it, and their means are weighed
    by their positions. Up to the rounding of sums this is exact.

    Args:
        image: shape (1, 3, H, W) in [0, 1], H and W above 160.
        original: same shape.

    Raises:
        SetupError: a side is 160 pixels or less.
    """
    height, width = image.shape[-2:]
    require_ms_ssim_side(height, width)
    # Channels last: a quarter of the time on CPUs, the same values.
    pair = [x.contiguous(memory_format=torch.channels_last) for x in (image, original)]
    product = torch.ones(image.shape[:2], dtype=torch.float64)
    for scale, weight in enumerate(_WEIGHTS):
        similarity, contrast = _means(pair[0], pair[1])
        last = scale == len(_WEIGHTS) - 1
        product *= (similarity if last else contrast).relu() ** weight
        if not last:
            padding = [side % 2 for side in pair[0].shape[2:]]
            pair = [F.avg_pool2d(x, 2, padding=padding) for x in pair]
    return float(product.mean())


def _means(image: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity and its contrast term at one scale, shape (1, 3) each."""
    window = _fspecial_gauss_1d(_WINDOW, _SIGMA).repeat(image.shape[1], 1, 1, 1)
    positions = image.shape[2] - _WINDOW + 1
    sums = torch.zeros(2, *image.shape[:2], dtype=torch.float64)
    for first in range(0, positions, _ROWS):
        rows = min(_ROWS, positions - first)
        strip = (..., slice(first, first + rows + _WINDOW - 1), slice(None))
        means = _ssim(image[strip], original[strip], 1.0, window, False, _CONSTANTS)
        sums += rows * torch.stack(means).double().cpu()
    similarity, contrast = sums / positions
    return similarity, contrast
