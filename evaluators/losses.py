"""What trainings of whole codecs follow: rate, squared error, perception, seams between tiles.

A cost is in bits a pixel. That of rate and squared error is divided by its usual growth with
lambda, so that no level drowns the others; what does not know levels is divided by that of the
middle one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evaluators.devices import mixed_precision
from evaluators.passes import linear_image, refine
from evaluators.perceptual import load_lpips
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.model import Codec
from search_spaces.codec.statistics import LAMBDAS

MIDDLE = float(LAMBDAS[LEVELS // 2 - 1] ** 0.5)
SCALE = 0.1  # of every loss, so that gradients are of the size that clipping expects

_MS_SSIM_WINDOW = 7  # its usual 11 pixels at five scales would need crops of more than 160
_SEAM_REACH = 32  # pixels on either side of a seam
_SEAM_CELLS = (1, 2, 4, 8)


def passed_through(codec: Codec, images: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiable coding and decoding.

    Args:
        codec: in training mode.
        images: shape (N, 3, H, W) in [0, 1].
        level: shape (N, LEVELS).

    Returns:
        Bits a pixel, shape (N,), and the decoded images, shape (N, 3, H, W), not clipped.
    """
    bits, latents = codec.noisy_rate(images, level, mixed_precision(images.device))
    linear = linear_image(codec, latents, level)
    with mixed_precision(images.device):
        decoded = refine(codec, linear, latents, level).float()
    return bits / (images.shape[-2] * images.shape[-1]), decoded


def squared_error(decoded: Tensor, images: Tensor) -> Tensor:
    """Mean squared error of each image on the scale of 0 to 255, shape (N,)."""
    return (decoded - images).pow(2).mean((1, 2, 3)) * 255**2


def distortion_cost(bpp: Tensor, squared: Tensor, levels: Any, share: float) -> Tensor:
    """Rate and squared error, shape (N,).

    Args:
        bpp: bits a pixel, shape (N,).
        squared: of `squared_error`, shape (N,).
        levels: of each image, an integer array (N,).
        share: of the squared error that counts.
    """
    lambdas = torch.from_numpy(LAMBDAS).float()[levels].to(bpp.device)
    return (bpp + lambdas * squared * share) / lambdas.sqrt()


def perceptual_distances(
    decoded: Tensor, images: Tensor, anew: bool = False
) -> tuple[Tensor, Tensor]:
    """1 - MS-SSIM and LPIPS (alex) of each image, shapes (N,).

    Args:
        decoded: shape (N, 3, H, W), not clipped.
        images: likewise, the originals in [0, 1].
        anew: whether LPIPS sees them moved, mirrored or turned, in another way at each call.
    """
    from pytorch_msssim import ms_ssim

    similarity = ms_ssim(
        decoded.clamp(0, 1), images, data_range=1.0, size_average=False, win_size=_MS_SSIM_WINDOW
    )
    lpips = load_lpips("alex").to(images.device)
    with mixed_precision(images.device):
        shown = _seen_anew(decoded, images) if anew else (decoded, images)
        distance = lpips(*shown).float()
    return 1 - similarity, distance


def _seen_anew(decoded: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Both as LPIPS is to see them in this step: moved by some pixels, mirrored, turned.

    The backbone looks at every fourth pixel, and tiles put every block at the same one: a decoder
    would learn to hide its errors between them, and from its filters' directions.
    """
    top, left, mirrored, turned = torch.randint(0, 8, (4,)).tolist()
    both = torch.stack((decoded, images))[..., top:, left:]
    if mirrored % 2:
        both = both.flip(-1)
    if turned % 2:
        both = both.mT
    first, second = both
    return first, second


def seam_cost(decoded: Tensor, images: Tensor) -> Tensor:
    """Absolute error about a seam at several resolutions, shape (N,).

    Coarse cells end at the seam: where one side is brighter than the original and the other one
    darker, which the eye sees as an edge, no cell averages the two away.

    Args:
        decoded: two windows put together; the seam is in the middle of the width. Shape
            (N, 3, H, W), H a multiple of 8 and W at least 64.
        images: likewise, the originals.
    """
    middle = decoded.shape[-1] // 2
    strip = slice(middle - _SEAM_REACH, middle + _SEAM_REACH)
    error = (decoded - images)[..., strip]
    means = [functional.avg_pool2d(error, size).abs().mean((1, 2, 3)) for size in _SEAM_CELLS]
    return torch.stack(means).sum(0)
