"""The part of a codec that a study trains once: transforms and entropy model.

Trained first, then frozen: the quantised latents of every photograph are kept, so that a
candidate's decoder is trained and scored without the encoder ever running again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluators.files import replacing
from evaluators.initialise import LAMBDAS, initialise
from evaluators.photos import Photo, Pixels
from evaluators.protocol import EvaluationError
from search_spaces.blocks import Design
from search_spaces.codec import modules
from search_spaces.codec.blocks import LEVELS
from search_spaces.codec.model import Codec, is_refinement, one_hot

log = logging.getLogger(__name__)

CROP = 128
_BATCH = 6
_LEARNING_RATE = 2e-3
_WARM_UP_STEPS = 50


def train_shared(design: Design, photos: Sequence[Photo], steps: int, seed: int) -> Codec:
    """Trains encoder, entropy model and linear decoder for all levels at once.

    Starts as an orthonormal transform codec with gains and entropy model from the statistics of
    the photographs, fits the entropy model alone, then everything.

    Args:
        design: any architecture of the space; its refinements are neither trained nor kept.
        photos: to train on.
        steps: optimiser steps of the last phase.
        seed: of initialisation, crops and noise.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    codec = Codec(design)
    crops = _random_crops(photos, 96, rng)
    initialise(codec, crops)
    _optimise(codec, _entropy_parameters(codec), 150, 1e-2, lambda: _pick(crops, rng), "entropy")
    _optimise(
        codec,
        _all_parameters(codec),
        steps,
        _LEARNING_RATE,
        lambda: _random_crops(photos, _BATCH, rng),
        "shared codec",
    )
    return codec.eval()


def save_shared(codec: Codec, file: Path) -> None:
    """Writes the shared weights as safetensors."""
    weights = {k: v.contiguous() for k, v in codec.state_dict().items() if not is_refinement(k)}
    save_file(weights, file)


def save_refinements(codec: Codec, file: Path) -> None:
    """Writes what candidates differ in as safetensors, atomically."""
    weights = {k: v.cpu().contiguous() for k, v in codec.state_dict().items() if is_refinement(k)}
    with replacing(file) as unfinished:
        save_file(weights, unfinished)


def load_shared(design: Design, file: Path) -> Codec:
    """A codec of `design` with the shared weights of `file`, refinements freshly initialised."""
    codec = Codec(design)
    missing, unexpected = codec.load_state_dict(load_file(file), strict=False)
    if unexpected or not all(is_refinement(name) for name in missing):
        raise ValueError(f"{file} was trained for another encoder: {[*unexpected, *missing][:3]}")
    return codec.eval()


def to_tensor(pixels: Pixels) -> Tensor:
    """Pixels (H, W, 3) as a batch of one, shape (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def dequantised(codec: Codec, image: Tensor, level: int) -> Tensor:
    """What the decoder receives for an image, symbols + mu, without writing bytes."""
    coded = codec.compress(image, level)
    mu: Tensor = codec.steps["context_decoder"](coded.hyper, one_hot(level))
    return coded.symbols + mu


@torch.no_grad()
def linear_image(codec: Codec, latents: Tensor, level: Tensor) -> Tensor:
    """What the linear decoder alone makes of dequantised latents. Shape (N, 3, H, W)."""
    image: Tensor = codec.steps["synthesis"](latents, torch.zeros_like(latents[:1]), level)
    return image


def _entropy_parameters(codec: Codec) -> list[dict[str, Any]]:
    scale = cast(modules.ScaleDecoder, codec.steps["scale_decoder"])
    hyper = cast(modules.HyperAnalysis, codec.steps["hyper"])
    trained: list[Tensor | None] = [
        scale.level.table,
        scale.linear.weight,
        hyper.bands.bias,
        codec.hyper_log_scale.table,
    ]
    return [{"params": trained, "factor": 1.0}]


def _all_parameters(codec: Codec) -> list[dict[str, Any]]:
    """Transforms learn slowly, tables a value a channel quickly, the rest in between."""
    groups: dict[float, list[nn.Parameter]] = {0.03: [], 1.0: [], 5.0: []}
    for name, parameter in codec.named_parameters():
        if not is_refinement(name):
            factor = 0.03 if ".transform." in name else 5.0 if name.endswith(".table") else 1.0
            groups[factor].append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def _optimise(
    codec: Codec,
    groups: list[dict[str, Any]],
    steps: int,
    rate: float,
    batches: Callable[[], Tensor],
    phase: str,
) -> None:
    """Adam with warm-up and cosine decay on rate + lambda distortion, levels drawn at random."""
    codec.train()
    optimiser = torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99))
    trained = [parameter for group in groups for parameter in group["params"]]
    for step in range(steps):
        decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"] * decay * min(1.0, (step + 1) / _WARM_UP_STEPS)
        loss, bpp = _loss(codec, batches())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if not math.isfinite(loss.item()):
            raise EvaluationError(f"{phase} diverged: loss is {loss.item()} at step {step + 1}")
        if step % 50 == 0 or step == steps - 1:
            log.info("%s: step %d of %d, %.3f bpp", phase, step + 1, steps, bpp)


def _loss(codec: Codec, images: Tensor) -> tuple[Tensor, float]:
    levels = torch.randint(LEVELS, (len(images),))
    level = one_hot(*levels.tolist())
    bits, symbols, mu = codec.noisy_rate(images, level)
    decoded = codec.steps["synthesis"](symbols, mu, level)
    bpp = bits / (images.shape[-2] * images.shape[-1])
    mse = (decoded - images).pow(2).mean((1, 2, 3)) * 255**2
    lambdas = torch.from_numpy(LAMBDAS).float()[levels]
    # Divided by the cost's usual growth with lambda, so that no level drowns the others.
    return ((bpp + lambdas * mse) / lambdas.sqrt()).mean() * 0.1, bpp.mean().item()


def _pick(crops: Tensor, rng: np.random.Generator) -> Tensor:
    return crops[torch.from_numpy(rng.integers(len(crops), size=_BATCH))]


def _random_crops(photos: Sequence[Photo], count: int, rng: np.random.Generator) -> Tensor:
    """Crops, each the most textured of three, half of them mirrored. Shape (count, 3, S, S)."""
    chosen = []
    for _ in range(count):
        crop = max((_random_crop(photos, rng) for _ in range(3)), key=_activity)
        chosen.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2).float() / 255


def _random_crop(photos: Sequence[Photo], rng: np.random.Generator) -> Pixels:
    areas = np.array([photo.pixels.size for photo in photos], dtype=np.float64)
    pixels = photos[rng.choice(len(photos), p=areas / areas.sum())].pixels
    top, left = (rng.integers(side - CROP + 1) for side in pixels.shape[:2])
    return pixels[top : top + CROP, left : left + CROP]


def _activity(pixels: Pixels) -> float:
    return float(np.abs(np.diff(pixels[..., 1].astype(np.float32), axis=1)).mean())
