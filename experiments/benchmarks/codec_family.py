"""A paper-like codec and its ablations: sizes, and quality untrained and after a short training.

The default follows what arXiv 2605.05148 publishes: convscale311 blocks with learned scales, Haar
resampling, a split hyper-decoder, learned quantisation width and a one-shot checkerboard context.
Widths and depths are ours, chosen to come near its sizes. Each ablation takes one piece away. All
train alike: jointly, on rate and squared error, for as many steps; the default also from another
seed, since differences that a seed makes as well mean nothing.

Rates are the sizes of the files written; `bpp_estimated` is what the likelihoods say.

    python experiments/benchmarks/codec_family.py --data TRAIN --photos KODAK
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.metrics import bd_rate, psnr
from evaluators.passes import linear_image, to_tensor
from evaluators.perceptual import load_lpips
from evaluators.photos import Photo, find_photos, load_photos
from evaluators.training import train_codec
from search_spaces.blocks import Design
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec, Coded, level_of
from search_spaces.codec.pictures import decode_picture, encode_picture
from search_spaces.codec.saved import save_codec
from search_spaces.files import write_atomically
from search_spaces.space import Choice

LEVELS = (1, 3, 5, 7)
_KEY = bytes(8)

# Width, depth, E and F of each scale.
_DECODER = {
    "sixteenth": (320, 3, 2, 2),
    "eighth": (128, 1, 1, 2),
    "quarter": (64, 1, 1, 2),
    "half": (32, 2, 1, 2),
}
_ENCODER = {
    "sixteenth": (384, 3, 2, 2),
    "eighth": (192, 1, 2, 2),
    "quarter": (96, 1, 1, 2),
    "half": (32, 2, 1, 2),
}


def paper_like() -> dict[str, Choice]:
    """The default's choices."""
    choices: dict[str, Choice] = {
        "latent_channels": 192,
        "hyper_channels": 32,
        "hyper_width": 64,
        "quantisation": "learned",
        "context": "checkerboard",
        "context_width": 64,
        "coding": "grouped",
        "decoder.heads": "last",
    }
    for side, scales in (("encoder", _ENCODER), ("decoder", _DECODER)):
        choices |= {f"{side}.scaled": True, f"{side}.resampling": "haar"}
        for scale, (width, depth, expand, expand_out) in scales.items():
            choices |= {
                f"{side}.{scale}.block": "convscale311",
                f"{side}.{scale}.width": width,
                f"{side}.{scale}.depth": depth,
                f"{side}.{scale}.expand": expand,
                f"{side}.{scale}.expand_out": expand_out,
            }
    return choices


def small() -> dict[str, Choice]:
    """The same at a size that trains in seconds."""
    sizes = {"width": 16, "depth": 1, "expand": 1, "expand_out": 1}
    choices = {"latent_channels": 48, "hyper_width": 16, "hyper_channels": 12, "context_width": 16}
    scaled = {k: sizes[k.split(".")[-1]] for k in paper_like() if k.split(".")[-1] in sizes}
    return paper_like() | choices | scaled


# What the seed alone changes: ablations that differ by less are not told apart.
ANOTHER_SEED = "default, another seed"
NO_SCALES: dict[str, Choice] = {"encoder.scaled": False, "decoder.scaled": False}
SHUFFLE: dict[str, Choice] = {"encoder.resampling": "shuffle", "decoder.resampling": "shuffle"}
VARIANTS: dict[str, dict[str, Choice]] = {
    "default": {},
    ANOTHER_SEED: {},
    "learned scales off": NO_SCALES,
    "quantisation width off": {"quantisation": "unit"},
    "context off": {"context": "none"},
    "haar replaced by pixel-shuffle": SHUFFLE,
    "all of these off": NO_SCALES | SHUFFLE | {"quantisation": "unit", "context": "none"},
}


class Recorded:
    """A codec that adds up what its tiles are expected to cost."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.estimated_bits = 0.0
        self.analyse, self.read, self.decode = codec.analyse, codec.read, codec.decode

    def write(self, symbols: Tensor, hyper: Tensor, quality: float) -> Coded:
        coded = self.codec.write(symbols, hyper, quality)
        self.estimated_bits += self.codec.estimated_bits(coded, quality)
        return coded


class LinearPart:
    """The decoder without its learned path."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.analyse, self.write, self.read = codec.analyse, codec.write, codec.read

    @torch.no_grad()
    def decode(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        latents = self.codec.latents(symbols, hyper, quality)
        return linear_image(self.codec, latents, level_of(quality))


def main() -> None:
    """Runs every variant, two at once, and writes a JSON document that grows as they end."""
    arguments = _arguments()
    results: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        jobs = {pool.submit(_variant, name, arguments): name for name in arguments.variants}
        for job in as_completed(jobs):
            results[jobs[job]] = job.result()
            print(f"{jobs[job]}: {_line(results[jobs[job]])}", flush=True)
            write_atomically(arguments.out, json.dumps(_document(results, arguments), indent=1))


def _variant(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    choices = (small() if arguments.small else paper_like()) | VARIANTS[name]
    design = build_design(choices)
    photos = _kodak(arguments)
    seed = arguments.seed + (name == ANOTHER_SEED)
    torch.manual_seed(seed)
    codec = Codec(design).eval()
    untrained = _curve(codec, photos)
    began = time.monotonic()
    train_codec(codec, _training_photos(arguments), arguments.steps, seed)
    seconds = time.monotonic() - began
    if arguments.keep:
        save_codec(codec, choices, arguments.keep / f"{name.replace(' ', '-')}.safetensors")
    return {
        "changed": dict(VARIANTS[name]),
        **_sizes(design),
        "untrained": untrained,
        "trained": _curve(codec, photos),
        "train_seconds": seconds,
    }


def _sizes(design: Design) -> dict[str, Any]:
    return {
        "parameters": design.parameters,
        "encoder_parameters": _parameters(design, "encode"),
        "decoder_parameters": _parameters(design, "decode"),
        "encode_kmacs_per_pixel": design.kmacs_per_pixel("encode"),
        "decode_kmacs_per_pixel": design.kmacs_per_pixel("decode"),
    }


def _parameters(design: Design, stage: str) -> int:
    steps = design.stages[stage].network.steps
    return sum({step.name: step.block.parameters for step in steps}.values())


def _curve(codec: Codec, photos: list[Photo]) -> list[dict[str, float]]:
    """A point a level: means over the photographs."""
    points = []
    for level in LEVELS:
        rows = [_row(codec, photo, level) for photo in photos]
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        points.append({"level": level, **means})
    return points


@torch.no_grad()
def _row(codec: Codec, photo: Photo, level: int) -> dict[str, float]:
    recorded = Recorded(codec)
    data = encode_picture(recorded, photo.pixels, level, key=_KEY)
    decoded = to_tensor(decode_picture(recorded, data, key=_KEY))
    linear = to_tensor(decode_picture(LinearPart(codec), data, key=_KEY))
    original = to_tensor(photo.pixels)
    pixels = photo.pixels.shape[0] * photo.pixels.shape[1]
    return {
        "bpp_coded": 8 * len(data) / pixels,
        "bpp_estimated": recorded.estimated_bits / pixels,
        "psnr": psnr(decoded, original).item(),
        "lpips": load_lpips("alex")(decoded, original).item(),
        "linear_psnr": psnr(linear, original).item(),
    }


def _training_photos(arguments: argparse.Namespace) -> list[Photo]:
    return load_photos(find_photos(arguments.data).train, 192)


def _kodak(arguments: argparse.Namespace) -> list[Photo]:
    files = find_photos(arguments.photos or arguments.data, max_photos=10_000)
    chosen = files.held_back if arguments.photos is None else (*files.train, *files.held_back)
    return load_photos(sorted(chosen), 192)[: arguments.limit]


def _document(results: Mapping[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    ordered = {name: dict(results[name]) for name in VARIANTS if name in results}
    for result in ordered.values():
        if "default" in ordered:
            reference = ordered["default"]["trained"]
            for metric in ("psnr", "lpips"):
                result[f"bd_rate_{metric}"] = bd_rate(result["trained"], reference, metric)
    return {
        "variants": ordered,
        "choices": small() if arguments.small else paper_like(),
        "steps": arguments.steps,
        "trained_on": f"{len(_training_photos(arguments))} photographs",
        "scored_on": f"{len(_kodak(arguments))} photographs of {arguments.photos_name}",
        "seed": arguments.seed,
        "machine": f"{platform.machine()} {platform.system()}, one thread a variant",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "lpips", "constriction", "numpy")},
        "lpips_backbone": "alex, LPIPS 0.1, inputs in [-1, 1]",
        "command": "python experiments/benchmarks/codec_family.py --data TRAIN --photos KODAK"
        f" --steps {arguments.steps}",
    }


def _line(result: Mapping[str, Any]) -> str:
    point = result["trained"][1]
    return (
        f"{result['decoder_parameters'] / 1e6:.1f} M, {result['decode_kmacs_per_pixel']:.1f} kMACs/"
        f"pixel; level {point['level']}: {point['bpp_coded']:.3f} bpp, {point['psnr']:.2f} dB"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="a folder of photographs to train on")
    parser.add_argument("--photos", help="a folder to score on; default: held back from --data")
    parser.add_argument("--photos-name", default="Kodak", help="what to call them in the result")
    parser.add_argument("--limit", type=int, default=10_000, help="photographs scored, at most")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME"
    )
    parser.add_argument("--workers", type=int, default=2, help="variants at once")
    parser.add_argument("--small", action="store_true", help="a small codec, to try the script")
    parser.add_argument("--keep", type=Path, help="a folder for the trained codecs")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/codec_family.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
