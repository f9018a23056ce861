"""Parts of a codec's way, for training and scoring: pixels in, latents, images out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evaluators.photos import Pixels
from search_spaces.blocks import Network
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
    return refined(codec.design.stages["decode"].network, codec.steps, image, latents, level)


def refined(
    network: Network, steps: nn.ModuleDict, image: Tensor, latents: Tensor, level: Tensor
) -> Tensor:
    """As `refine`, by a decoder's network and modules that hold at least its learned path."""
    given = {"synthesis": image - 0.5, "latents": latents, "level": level}
    return run(network, steps, given)[network.outputs[0]] + 0.5
