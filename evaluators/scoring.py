"""Scores on photographs that nothing was trained on: rates written, distortions measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from evaluators.metrics import RdPoint, psnr, to_8_bit
from evaluators.passes import linear_image, refine, to_tensor
from evaluators.perceptual import load_lpips
from evaluators.photos import Pixels
from evaluators.protocol import EvaluationError
from search_spaces.codec.model import Codec, one_hot
from search_spaces.files import replacing

# A decoder this far below the linear one that it starts from has collapsed.
_COLLAPSE_DB = -1.0


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
    coded = codec.compress(image, level)
    height, width = image.shape[-2:]
    symbols, hyper = codec.read(coded.data, height, width, level)
    if not torch.equal(symbols, coded.symbols) or not torch.equal(hyper, coded.hyper):
        raise RuntimeError(f"level {level}: the decoder read other symbols than were written")
    estimated = codec.estimated_bits(coded, level)
    pixels, bits = height * width, 8 * len(coded.data)
    return codec.latents(symbols, hyper, level), bits / pixels, estimated / pixels


def save_held_back(held_back: HeldBack, folder: Path) -> None:
    """Writes `held-back.safetensors` into a folder."""
    save_file(vars(held_back), folder / "held-back.safetensors")


def load_held_back(folder: Path) -> HeldBack:
    """Reads what `save_held_back` wrote."""
    return HeldBack(**load_file(folder / "held-back.safetensors"))


@torch.no_grad()
def score(
    codec: Codec, held_back: HeldBack, levels: Sequence[int], device: torch.device
) -> dict[str, Any]:
    """Rate and quality at every level, means over the crops.

    Args:
        codec: trained, on `device`, in evaluation mode.
        held_back: coded at exactly these levels.
        levels: in the order of `held_back`.
        device: where the codec and LPIPS run.

    Returns:
        `rd_points`, one mapping a level with `level`, `bpp_coded`, `bpp_estimated`, `psnr` and
        `lpips`; `learned_gain_db`, the mean gain in PSNR over the linear decoder at equal bytes.

    Raises:
        EvaluationError: an image is not finite, or the decoder is worse than it started.
    """
    originals = held_back.pixels.to(device).float() / 255
    points, gains = [], []
    for i, level in enumerate(levels):
        conditions = one_hot(level).expand(len(originals), -1).to(device)
        latents = held_back.latents[:, i].to(device)
        linear = linear_image(codec, latents, conditions)
        decoded = torch.cat(
            [
                refine(codec, *batch)
                for batch in zip(
                    *(torch.split(v, 4) for v in (linear, latents, conditions)), strict=True
                )
            ]
        )
        point = _point(decoded, originals)
        gains.append(point["psnr"] - psnr(to_8_bit(linear), originals).mean().item())
        coded, estimated = held_back.bpp_coded[:, i], held_back.bpp_estimated[:, i]
        rate = {"bpp_coded": coded.mean().item(), "bpp_estimated": estimated.mean().item()}
        points.append({"level": level, **rate, **point})
    gain = float(np.mean(gains))
    if gain < _COLLAPSE_DB:
        raise EvaluationError(
            f"collapsed: {gain:.2f} dB against the linear decoder it started from"
        )
    return {"rd_points": points, "learned_gain_db": gain}


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
    condition, latents = one_hot(level).to(device), held_back.latents[:1, index].to(device)
    decoded = to_8_bit(refine(codec, linear_image(codec, latents, condition), latents, condition))[
        0
    ]
    pair = torch.cat([held_back.pixels[0], (decoded * 255).round().byte().cpu()], dim=2)
    with replacing(file) as unfinished:
        Image.fromarray(pair.permute(1, 2, 0).numpy()).save(unfinished)


def _point(decoded: Tensor, originals: Tensor) -> RdPoint:
    if not torch.isfinite(decoded).all():
        raise EvaluationError("diverged: the decoded images are not finite")
    images = to_8_bit(decoded)
    lpips = load_lpips("alex").to(originals.device)
    pairs = zip(torch.split(images, 4), torch.split(originals, 4), strict=True)
    distances = torch.cat([lpips(a, b) for a, b in pairs])
    return {"psnr": psnr(images, originals).mean().item(), "lpips": distances.mean().item()}
