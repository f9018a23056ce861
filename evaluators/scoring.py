"""Scores on photographs that nothing was trained on: rates written, distortions measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from evaluators.metrics import ms_ssim, psnr, to_8_bit
from evaluators.passes import linear_image, refine, to_tensor
from evaluators.perceptual import Originals, described
from evaluators.photos import Pixels
from evaluators.protocol import EvaluationError
from search_spaces.codec.model import Codec, one_hot
from search_spaces.files import replacing

# A decoder this far below the linear one that it starts from has collapsed.
COLLAPSE_DB = -1.0
_BATCH = 4  # crops at once: more would only need more memory


@dataclass(frozen=True)
class HeldBack:
    """Crops of held-back photographs, coded once at every scored level.

    Attributes:
        pixels: shape (N, 3, S, S), 8-bit.
        latents: dequantised, shape (N, L, M, S/16, S/16).
        bpp_coded: bytes written, in bits a pixel, shape (N, L).
        bpp_estimated: from likelihoods, shape (N, L).
    """

    pixels: Tensor
    latents: Tensor
    bpp_coded: Tensor
    bpp_estimated: Tensor


@torch.no_grad()
def code_held_back(codec: Codec, crops: Sequence[Pixels], levels: Sequence[int]) -> HeldBack:
    """Codes crops at every level: bytes are written, read again and compared.

    Raises:
        RuntimeError: what was read is not what was written.
    """
    latents, coded_bpp, estimated_bpp = [], [], []
    for crop in crops:
        rows = [_code(codec, to_tensor(crop), level) for level in levels]
        latents.append(torch.cat([row[0] for row in rows]))
        coded_bpp.append([row[1] for row in rows])
        estimated_bpp.append([row[2] for row in rows])
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
    return HeldBack(
        pixels, torch.stack(latents), torch.tensor(coded_bpp), torch.tensor(estimated_bpp)
    )


def _code(codec: Codec, image: Tensor, level: int) -> tuple[Tensor, float, float]:
    coded = codec.compress(image.to(next(codec.parameters()).device), level)
    height, width = image.shape[-2:]
    symbols, hyper = codec.read(coded.data, height, width, level)
    if not torch.equal(symbols, coded.symbols) or not torch.equal(hyper, coded.hyper):
        raise RuntimeError(f"level {level}: the decoder read other symbols than were written")
    estimated = codec.estimated_bits(coded, level)
    pixels, bits = height * width, 8 * len(coded.data)
    return codec.latents(symbols, hyper, level).cpu(), bits / pixels, estimated / pixels


def chosen(held_back: HeldBack, crops: slice | Sequence[int] | NDArray[np.int_]) -> HeldBack:
    """Some of the crops, by place."""
    places = crops if isinstance(crops, slice) else torch.as_tensor(crops)
    return HeldBack(**{name: values[places] for name, values in vars(held_back).items()})


def save_held_back(held_back: HeldBack, folder: Path) -> None:
    """Writes `held-back.safetensors` into a folder."""
    save_file(vars(held_back), folder / "held-back.safetensors")


def load_held_back(folder: Path) -> HeldBack:
    """Reads what `save_held_back` wrote."""
    return HeldBack(**load_file(folder / "held-back.safetensors"))


@torch.no_grad()
def score(
    codec: Codec,
    held_back: HeldBack,
    levels: Sequence[int],
    device: torch.device,
    least_gain_db: float = COLLAPSE_DB,
) -> dict[str, Any]:
    """Rate and quality at every level, means over the crops.

    Args:
        codec: trained, on `device`, in evaluation mode.
        held_back: coded at exactly these levels.
        levels: in the order of `held_back`.
        device: where the codec and LPIPS run.
        least_gain_db: over the linear decoder; below it the decoder has collapsed.

    Returns:
        `rd_points`, one mapping a level with `level`, `bpp_coded`, `bpp_estimated`, `psnr`,
        `ms_ssim` and `lpips` (alex); `learned_gain_db`, the mean gain in PSNR over the linear
        decoder at equal bytes.

    Raises:
        EvaluationError: an image or a metric is not finite, or the decoder is worse than it
            started.
        SetupError: the crops are too small for MS-SSIM.
    """
    originals = Originals(held_back.pixels.to(device).float() / 255)
    points, gains = [], []
    for i, level in enumerate(levels):
        linear, decoded = _decode(codec, held_back, i, level, device)
        points.append({"level": level, **_rates(held_back, i), **distortions(decoded, originals)})
        before = psnr(to_8_bit(linear), originals.images).mean().item()
        gains.append(points[-1]["psnr"] - before)
    gain = float(np.mean(gains))
    if gain < least_gain_db:
        raise EvaluationError(
            f"collapsed: {gain:.2f} dB against the linear decoder it started from"
        )
    return {"rd_points": points, "learned_gain_db": gain}


@torch.no_grad()
def check_by_vgg(
    codec: Codec, held_back: HeldBack, index: int, level: int, crops: int
) -> dict[str, Any]:
    """LPIPS of a second backbone, for whether a gain is more than alex was taught to see.

    It costs some 15 times as much as alex, hence one level and few crops.

    Args:
        codec: trained, in evaluation mode.
        held_back: the crops.
        index: of the level in `held_back`.
        level: the quality level itself.
        crops: this many, spread evenly over all; 0 for no check.

    Returns:
        `lpips_vgg`, the mean over `lpips_vgg_crops`, and `lpips_vgg_backbone`; nothing without
        crops.

    Raises:
        EvaluationError: an image or the metric is not finite.
    """
    if crops == 0:
        return {}
    device = next(codec.parameters()).device
    some = _spread(held_back, crops)
    _, decoded = _decode(codec, some, index, level, device)
    originals = Originals(some.pixels.to(device).float() / 255, "vgg")
    return {
        **_finite({"lpips_vgg": originals.lpips(to_8_bit(decoded)).mean().item()}),
        "lpips_vgg_crops": len(some.pixels),
        "lpips_vgg_backbone": described("vgg"),
    }


@torch.no_grad()
def save_picture(codec: Codec, held_back: HeldBack, index: int, level: int, file: Path) -> None:
    """Writes the first held-back crop and, to its right, what the codec makes of it, atomically.

    Args:
        codec: trained, in evaluation mode.
        held_back: the crops.
        index: of the level in `held_back`.
        level: the quality level itself.
        file: a PNG.
    """
    device = next(codec.parameters()).device
    _, decoded = _decode(codec, chosen(held_back, [0]), index, level, device)
    shown = (to_8_bit(decoded)[0] * 255).round().byte().cpu()
    pair = torch.cat([held_back.pixels[0], shown], dim=2)
    with replacing(file) as unfinished:
        Image.fromarray(pair.permute(1, 2, 0).numpy()).save(unfinished)


def decoded(
    codec: Codec, held_back: HeldBack, index: int, level: int, device: torch.device
) -> Tensor:
    """What a codec makes of every crop at a level, shape (N, 3, S, S), not clipped.

    Args:
        codec: in evaluation mode.
        held_back: the crops.
        index: of the level in `held_back`.
        level: the quality level itself.
        device: where the codec is.

    Raises:
        EvaluationError: an image is not finite.
    """
    return _decode(codec, held_back, index, level, device)[1]


def _decode(
    codec: Codec, held_back: HeldBack, index: int, level: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What the linear decoder makes of every crop and what the whole one does."""
    conditions = one_hot(level).expand(len(held_back.latents), -1).to(device)
    latents = held_back.latents[:, index].to(device)
    linear = linear_image(codec, latents, conditions)
    linear = linear.contiguous(memory_format=torch.channels_last)  # convolutions are quicker so
    batches = zip(*(torch.split(v, _BATCH) for v in (linear, latents, conditions)), strict=True)
    decoded = torch.cat([refine(codec, *batch) for batch in batches])
    if not torch.isfinite(decoded).all():
        raise EvaluationError("diverged: the decoded images are not finite")
    return linear, decoded


def _rates(held_back: HeldBack, index: int) -> dict[str, float]:
    return {
        "bpp_coded": held_back.bpp_coded[:, index].mean().item(),
        "bpp_estimated": held_back.bpp_estimated[:, index].mean().item(),
    }


def distortions(decoded: Tensor, originals: Originals) -> dict[str, float]:
    """PSNR, MS-SSIM and LPIPS (alex): means over images as a screen would show them.

    Args:
        decoded: shape (N, 3, S, S); clipped and rounded here.
        originals: of the same shape.

    Raises:
        EvaluationError: a mean is not finite.
    """
    images = to_8_bit(decoded)
    pairs = zip(torch.split(images, _BATCH), torch.split(originals.images, _BATCH), strict=True)
    similarities = torch.cat([ms_ssim(a, b) for a, b in pairs])
    metrics = {
        "psnr": psnr(images, originals.images).mean().item(),
        "ms_ssim": similarities.mean().item(),
        "lpips": originals.lpips(images).mean().item(),
    }
    return _finite(metrics)


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise EvaluationError(f"{name} is {value}, not a finite number")
    return metrics


def _spread(held_back: HeldBack, count: int) -> HeldBack:
    """So many crops at most, evenly over all: crops of one photograph lie beside each other."""
    total = len(held_back.pixels)
    return chosen(held_back, np.linspace(0, total - 1, min(count, total)).round().astype(int))
