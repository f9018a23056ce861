"""Parts of a codec's way, for training and scoring: pixels in, latents, images out."""

from __future__ import annotations

import torch
from torch import Tensor

from evaluators.photos import Pixels
from search_spaces.build import run
from search_spaces.codec.model import Codec


def to_tensor(pixels: Pixels) -> Tensor:
    """Pixels (H, W, 3) as a batch of one, shape (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def dequantised(codec: Codec, image: Tensor, level: int) -> Tensor:
    """What the decoder's transform receives for an image.

    Args:
        codec: frozen.
        image: shape (1, 3, H, W), sides multiples of 16.
        level: quality level.

    Returns:
        Shape (1, M, H/16, W/16).
    """
    coded = codec.compress(image, level)
    return codec.latents(coded.symbols, coded.hyper, level)


def linear_image(codec: Codec, latents: Tensor, level: Tensor) -> Tensor:
    """What the linear decoder alone makes of latents. Shape (N, 3, H, W), about [0, 1]."""
    image: Tensor = codec.steps["synthesis"](latents, level)
    return image + 0.5


def refine(codec: Codec, image: Tensor, latents: Tensor, level: Tensor) -> Tensor:
    """The decoder's learned path applied to the linear decoder's image, same shape."""
    network = codec.design.stages["decode"].network
    given = {"synthesis": image - 0.5, "latents": latents, "level": level}
    return run(network, codec.steps, given)[network.outputs[0]] + 0.5
