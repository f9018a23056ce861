"""A trained candidate against JPEG and others, at equal bytes, on whole photographs.

    python experiments/benchmarks/against_classics.py experiments/quickstart.yaml [--photos DIR]

Takes the front member of a finished study that is best in the first objective, as the search left
it. Every photograph is coded at every scored level: the bytes are written, read again and decoded.
The peers' curves are interpolated at those bytes. Without `--photos`, the photographs that the
study held back are used; with a folder, all of its photographs. Prints means and writes
`experiments/results/against_classics.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from evaluators.classics import CLASSICS, Classic, decoded, encoded
from evaluators.metrics import psnr, to_8_bit
from evaluators.passes import linear_image, refine, to_tensor
from evaluators.perceptual import load_lpips
from evaluators.photos import Photo, Pixels, find_photos, load_photos
from evaluators.proxy import ProxyEvaluator
from nas.experiment import ExperimentError, load_experiment
from nas.folders import study_folder
from nas.record.entries import study_document
from nas.record.store import TrialStore
from search_spaces.codec.model import Codec, one_hot

PEERS = {"JPEG": range(2, 90, 4), "WebP": range(0, 95, 5), "AVIF": range(5, 80, 5)}
METRICS = ("psnr", "lpips")


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    experiment = load_experiment(arguments.experiment)
    evaluator = cast(ProxyEvaluator, experiment.evaluator.build(ExperimentError))
    best = study_document(TrialStore.open(arguments.storage, experiment.study))["front"][0]
    architecture = experiment.space.architecture(experiment.space.encode(best["choices"]))
    folder = study_folder(experiment.study) / "shared"
    codec = evaluator.load(experiment.space, architecture, folder, experiment.seed)
    photos = _photos(arguments.photos, evaluator.data)[: arguments.limit]
    peers = {name: PEERS[name] for name in arguments.peers.split(",")}
    rows = [_row(codec, photo, evaluator.levels, peers) for photo in photos]
    means = [_mean([row[i] for row in rows]) for i in range(len(evaluator.levels))]
    for level, mean in zip(evaluator.levels, means, strict=True):
        print(f"level {level}  {mean['bpp']:.3f} bpp  " + _line(mean, peers))
    result = {
        "codec": {"study": experiment.study, "key": best["key"], "choices": best["choices"]},
        "photographs": [photo.name for photo in photos],
        "levels": [{"level": n} | m for n, m in zip(evaluator.levels, means, strict=True)],
        **_provenance(experiment.seed, arguments),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def _row(
    codec: Codec, photo: Photo, levels: Sequence[int], peers: dict[str, Any]
) -> list[dict[str, Any]]:
    """Ours and the peers' quality on one photograph, a mapping a level."""
    curves = {
        name: _curve(photo.pixels, CLASSICS[name.lower()], qualities)
        for name, qualities in peers.items()
    }
    return [_level(codec, photo.pixels, level, curves) for level in levels]


@torch.no_grad()
def _level(codec: Codec, pixels: Pixels, level: int, curves: dict[str, Any]) -> dict[str, Any]:
    image, condition = to_tensor(pixels), one_hot(level)
    height, width = pixels.shape[:2]
    data = codec.compress(image, level).data
    symbols, hyper = codec.read(data, height, width, level)
    latents = codec.latents(symbols, hyper, level)
    linear = linear_image(codec, latents, condition)
    bpp = 8 * len(data) / (height * width)
    scores = {
        "linear": _quality(linear, image),
        "ours": _quality(refine(codec, linear, latents, condition), image),
    }
    for name, (rates, qualities) in curves.items():
        at_rate = [float(np.interp(bpp, rates, column)) for column in qualities.T]
        scores[name] = dict(zip(METRICS, at_rate, strict=True))
    return {"bpp": bpp, **scores}


def _curve(pixels: Pixels, peer: Classic, qualities: Sequence[int]) -> tuple[Any, Any]:
    """Rates, shape (Q,), rising, and PSNR and LPIPS at them, shape (Q, 2)."""
    points = []
    for quality in qualities:
        file = encoded(peer, pixels, quality)
        scored = _quality(to_tensor(decoded(peer, file)), to_tensor(pixels))
        bpp = 8 * len(file) / (pixels.shape[0] * pixels.shape[1])
        points.append((bpp, *(scored[name] for name in METRICS)))
    table = np.array(sorted(points))
    return table[:, 0], table[:, 1:]


@torch.no_grad()
def _quality(image: torch.Tensor, original: torch.Tensor) -> dict[str, float]:
    shown = to_8_bit(image)
    return {
        "psnr": psnr(shown, original).item(),
        "lpips": load_lpips("alex")(shown, original).item(),
    }


def _photos(folder: str | None, data: str) -> list[Photo]:
    if folder is None:
        return load_photos(find_photos(data).held_back, 192)
    files = find_photos(folder, max_photos=10_000)
    return load_photos(sorted((*files.train, *files.held_back)), 192)


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    mean: dict[str, Any] = {"bpp": float(np.mean([row["bpp"] for row in rows]))}
    for name in rows[0].keys() - {"bpp"}:
        mean[name] = {m: float(np.mean([row[name][m] for row in rows])) for m in METRICS}
    return mean


def _line(mean: dict[str, Any], peers: dict[str, Any]) -> str:
    names = ("ours", "linear", *peers)
    return "  ".join(f"{n} {mean[n]['psnr']:.2f} dB {mean[n]['lpips']:.3f}" for n in names)


def _provenance(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    photos = " --photos DIR" if arguments.photos else ""
    return {
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "versions": {name: version(name) for name in ("torch", "lpips", "pillow", "constriction")},
        "python": platform.python_version(),
        "seed": seed,
        "command": f"python experiments/benchmarks/against_classics.py EXPERIMENT{photos}",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--photos", help="a folder; default: what the study held back")
    parser.add_argument("--storage", default="sqlite:///runs/nas.db")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--limit", type=int, default=10_000, help="photographs at most")
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/results/against_classics.json")
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
