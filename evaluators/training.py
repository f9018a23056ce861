"""Training a codec for all quality levels at once on rate and squared error.

With its decoder's learned path, or without: then what decoders share is trained, for candidates to
start from.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from evaluators import losses
from evaluators.devices import fused_adam, mixed_precision
from evaluators.passes import linear_image, refine
from evaluators.photos import Photo, Pixels
from evaluators.protocol import EvaluationError
from search_spaces.codec.coding_modules import HyperAnalysis
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.model import Codec, is_of_decoder, one_hot
from search_spaces.codec.scale_decoder import ScaleDecoder

log = logging.getLogger(__name__)

CROP = 128
_BATCH = 6
_LEARNING_RATE = 2e-3
_WARM_UP_STEPS = 50
_BACKBONES = ("steps.decoder_", "steps.encoder_")
_LARGEST_MOVE = 3e-3 * 32 * 9  # 32 channels of 3 x 3 train well at 3e-3


def train_codec(
    codec: Codec, photos: Sequence[Photo], steps: int, seed: int, whole: bool = True
) -> Codec:
    """Fits the entropy model alone, then everything; freezes the entropy model's integers.

    Args:
        codec: as built, or trained before.
        photos: to train on.
        steps: optimiser steps of the second phase.
        seed: of crops and noise.
        whole: False leaves out the decoder's learned path, and trains what decoders share.

    Returns:
        The same codec, in evaluation mode.

    Raises:
        EvaluationError: the loss is no longer finite.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)

    def draw() -> Tensor:
        return random_crops(photos, _BATCH, rng)

    fit_entropy_model(codec, photos, rng)
    name = "codec" if whole else "shared codec"
    groups = parameter_groups(codec, _LEARNING_RATE, whole)
    _optimise(codec, groups, steps, _LEARNING_RATE, draw, whole, name)
    codec.freeze()
    return codec.eval()


def fit_entropy_model(codec: Codec, photos: Sequence[Photo], rng: np.random.Generator) -> None:
    """Fits the few values that say how likely symbols are; all else stays. Seconds.

    Args:
        codec: as built; draws from torch's generator.
        photos: to train on.
        rng: of crops.
    """
    crops = random_crops(photos, 96, rng)

    def pick() -> Tensor:
        return crops[torch.from_numpy(rng.integers(len(crops), size=_BATCH))]

    _optimise(codec, _entropy_parameters(codec), 150, 1e-2, pick, False, "entropy model")


def random_crops(
    photos: Sequence[Photo], count: int, rng: np.random.Generator, side: int = CROP
) -> Tensor:
    """Crops, each the most textured of three, half of them mirrored. Shape (count, 3, S, S)."""
    return as_images([textured_crop(photos, rng, side, side) for _ in range(count)])


def textured_crop(
    photos: Sequence[Photo], rng: np.random.Generator, height: int, width: int
) -> Pixels:
    """The most textured of three crops, half of them mirrored. Shape (height, width, 3)."""
    crop = max((_random_crop(photos, rng, height, width) for _ in range(3)), key=_activity)
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def as_images(crops: Sequence[Pixels]) -> Tensor:
    """Crops of one size as a batch, shape (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


def _entropy_parameters(codec: Codec) -> list[dict[str, Any]]:
    scale = cast(ScaleDecoder, codec.steps["scale_decoder"])
    hyper = cast(HyperAnalysis, codec.steps["hyper"])
    trained: list[Tensor | None] = [
        scale.level.table,
        scale.linear.weight,
        hyper.bands.bias,
        codec.hyper_prior.log_scale.table,
    ]
    return [{"params": trained, "factor": 1.0}]


def parameter_groups(codec: Codec, rate: float, whole: bool = True) -> list[dict[str, Any]]:
    """Transforms learn slowly, tables a value a channel quickly, the rest in between.

    Args:
        codec: whose parameters they are.
        rate: learning rate that the factors multiply.
        whole: False leaves out the decoder's learned path.
    """
    kept = {n: p for n, p in codec.named_parameters() if whole or not is_of_decoder(n)}
    return grouped(kept, rate, rate_factor)


def grouped(
    parameters: Mapping[str, nn.Parameter], rate: float, factor_of: Callable[[str], float]
) -> list[dict[str, Any]]:
    """Parameters by the factor of their learning rate; wide convolutions of backbones slower.

    Adam moves every weight by about its rate. So an output moves with the number of its inputs:
    wide and deep backbones without norms would grow their features by orders of magnitude, and one
    rate for all widths would rank widths by that. No step may move an output by more than
    `_LARGEST_MOVE` times its inputs' size (the scaling of Yang et al. 2021, arXiv 2203.03466).

    Args:
        parameters: by their names in the codec.
        rate: learning rate that the factors multiply.
        factor_of: the factor of a name, before that.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        factor = factor_of(name)
        if parameter.dim() == 4 and name.startswith(_BACKBONES):
            factor = min(factor, _LARGEST_MOVE / (rate * parameter[0].numel()))
        groups.setdefault(factor, []).append(parameter)
    return [{"params": members, "factor": factor} for factor, members in groups.items()]


def rate_factor(name: str) -> float:
    """Factor of the learning rate by a parameter's name: see `parameter_groups`."""
    if ".transform." in name:
        return 0.03
    if name.endswith(".table"):
        return 5.0
    return 1.0


def _optimise(
    codec: Codec,
    groups: list[dict[str, Any]],
    steps: int,
    rate: float,
    batches: Callable[[], Tensor],
    whole: bool,
    phase: str,
) -> None:
    """Adam with warm-up and cosine decay on rate + lambda distortion, levels drawn at random."""
    codec.train()
    optimiser = fused_adam(groups, rate)
    trained = [parameter for group in groups for parameter in group["params"]]
    for step in range(steps):
        decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"] * decay * min(1.0, (step + 1) / _WARM_UP_STEPS)
        loss, bpp = _loss(codec, batches(), whole)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if not math.isfinite(loss.item()):
            raise EvaluationError(f"{phase} diverged: loss is {loss.item()} at step {step + 1}")
        if step % 50 == 0 or step == steps - 1:
            log.info("%s: step %d of %d, %.3f bpp", phase, step + 1, steps, bpp)


def _loss(codec: Codec, images: Tensor, whole: bool) -> tuple[Tensor, float]:
    levels = torch.randint(LEVELS, (len(images),))
    level = one_hot(*levels.tolist())
    bits, latents = codec.noisy_rate(images, level)
    decoded = linear_image(codec, latents, level)
    if whole:
        with mixed_precision(images.device):
            decoded = refine(codec, decoded, latents, level)
    bpp = bits / (images.shape[-2] * images.shape[-1])
    squared = losses.squared_error(decoded, images)
    cost = losses.distortion_cost(bpp, squared, levels, 1.0)
    return cost.mean() * losses.SCALE, bpp.mean().item()


def _random_crop(
    photos: Sequence[Photo], rng: np.random.Generator, height: int, width: int
) -> Pixels:
    areas = np.array([photo.pixels.size for photo in photos], dtype=np.float64)
    pixels = photos[rng.choice(len(photos), p=areas / areas.sum())].pixels
    sides = zip(pixels.shape, (height, width), strict=False)
    top, left = (rng.integers(side - cut + 1) for side, cut in sides)
    return pixels[top : top + height, left : left + width]


def _activity(pixels: Pixels) -> float:
    return float(np.abs(np.diff(pixels[..., 1].astype(np.float32), axis=1)).mean())
