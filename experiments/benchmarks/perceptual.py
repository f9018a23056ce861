"""A codec trained for half an hour of one core against AVIF at equal bytes, picture by picture.

    python experiments/benchmarks/perceptual.py --data PHOTOGRAPHS --photos DIR [--steps 6000]
        [--codec FILE]

One codec of the space `codec`, small and within the phone's budget, is trained from scratch on
PHOTOGRAPHS by the proxy's joint recipe with more crops a step, which half an hour rewards and a
minute does not; the processor's seconds are counted. Then every photograph of DIR is coded at every
scored level: bytes are written, read again and decoded. AVIF's picture is that of the lowest
quality whose file is no smaller than ours: it never has fewer bytes. Both are scored by PSNR,
MS-SSIM and LPIPS with alex, which was in the loss, and vgg, which was not. With `--codec`, a codec
file that was trained so before is compared, nothing is trained. The page shows pictures of another
folder (`--pictures`), by default the packaged ones: they may be passed on.

Writes `experiments/results/perceptual.json` and beside it a page of pictures, `perceptual.html`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from perceptual_page import Shown, page

from evaluators import classics
from evaluators.classics import CLASSICS, decoded, encoded
from evaluators.comparison import METRICS, rate_saved, scores
from evaluators.joint import JointRecipe, train_joint
from evaluators.metrics import to_8_bit
from evaluators.passes import to_tensor
from evaluators.perceptual import described
from evaluators.photos import Photo, Pixels, find_photos, load_photos
from evaluators.training import fit_entropy_model
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import load_codec, save_codec
from search_spaces.files import write_atomically
from search_spaces.load import load_space

sys.path.insert(0, str(Path(__file__).parents[1]))
from train_anchor import even_choices

LEVELS = (1, 3, 5, 7)
AVIF = CLASSICS["avif"]
# Width and depth of each scale, the same on both sides.
SCALES = {"half": (16, 1), "quarter": (32, 1), "eighth": (64, 2), "sixteenth": (128, 2)}

Scores = dict[str, dict[str, float]]  # who -> metric -> value

log = logging.getLogger("perceptual")


@dataclass(frozen=True)
class Pair:
    """One photograph at one level: both codecs' pictures and what they are worth."""

    photo: str
    level: int
    ours: Pixels
    avif: Pixels
    scores: Scores


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    file = arguments.codec or arguments.out.with_suffix(".safetensors")
    if not arguments.codec:
        write_atomically(_about(file), json.dumps(train(arguments, file), indent=1) + "\n")
    codec = load_codec(file)
    photos = _all_photos(arguments.photos)[: arguments.limit]
    rows = []
    for i, photo in enumerate(photos):
        pairs = [compared(codec, photo, level) for level in LEVELS]
        rows.append([pair.scores for pair in pairs])
        log.info("%d/%d %s %s", i + 1, len(photos), photo.name, _line(pairs))
    result = concluded(rows) | {
        "photographs": [photo.name for photo in photos],
        "pictures": arguments.pictures,
        "training": json.loads(_about(file).read_text()),
        **_provenance(arguments),
    }
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    shown = [
        _shown(photo, compared(codec, photo, arguments.level))
        for photo in _all_photos(arguments.pictures)[: arguments.limit]
    ]
    write_atomically(arguments.out.with_suffix(".html"), page(shown, result))
    print(json.dumps({k: result[k] for k in ("levels", "bd_rate_against_avif")}, indent=1))


def _about(codec: Path) -> Path:
    """Where it stands how a codec was trained: beside it."""
    return codec.with_name(f"{codec.stem}-training.json")


def train(arguments: argparse.Namespace, file: Path) -> dict[str, Any]:
    """Trains from scratch and saves the codec; what it took, in seconds of the processor."""
    space = load_space(Path("codec"))
    recipe = JointRecipe(steps=arguments.steps, batch=arguments.batch)
    began = time.process_time()
    photos = load_photos(find_photos(arguments.data).train, recipe.crop)
    torch.manual_seed(arguments.seed)
    architecture = space.architecture(space.encode(even_choices(space, SCALES, 192)))
    codec = Codec(space.design(architecture))
    fit_entropy_model(codec, photos, np.random.default_rng(arguments.seed))
    codec = train_joint(codec, photos, recipe, arguments.seed, torch.device("cpu"))
    seconds = time.process_time() - began
    save_codec(codec, space.all_choices(architecture), file, half=True)
    return {
        "cpu_seconds": seconds,
        "from": "scratch",
        "photographs": len(photos),
        "recipe": asdict(recipe),
        "seed": arguments.seed,
        "choices": dict(architecture.choices),
        "parameters": codec.design.parameters,
        "kmacs_per_pixel": {s: codec.design.kmacs_per_pixel(s) for s in ("encode", "decode")},
    }


@torch.no_grad()
def compared(codec: Codec, photo: Photo, level: int) -> Pair:
    """Codes a photograph with both codecs and scores them."""
    image = to_tensor(photo.pixels)
    height, width = photo.pixels.shape[:2]
    data = codec.compress(image, level).data
    symbols, hyper = codec.read(data, height, width, level)
    ours = _pixels(codec.decode(symbols, hyper, level))
    file = no_smaller(photo.pixels, len(data))
    avif = decoded(AVIF, file)
    sizes: dict[str, tuple[Pixels, int]] = {"ours": (ours, len(data)), "avif": (avif, len(file))}
    scores = {
        name: {"bpp": 8 * size / (height * width), **quality(pixels, photo.pixels)}
        for name, (pixels, size) in sizes.items()
    }
    return Pair(photo.name, level, ours, avif, scores)


def no_smaller(pixels: Pixels, size: int) -> bytes:
    """AVIF's file of the lowest quality whose file has `size` bytes or more."""
    low, high, best = 0, 100, encoded(AVIF, pixels, 100)
    while low < high:
        middle = (low + high) // 2
        data = encoded(AVIF, pixels, middle)
        if len(data) >= size:
            high, best = middle, data
        else:
            low = middle + 1
    return best


def quality(image: Pixels, original: Pixels) -> dict[str, float]:
    """Every metric of one picture."""
    return scores([image], original, METRICS)[0]


def concluded(rows: Sequence[Sequence[Scores]]) -> dict[str, Any]:
    """Means over the photographs, how often ours is better, and BD-rates of the mean curves."""
    means: list[Scores] = [
        {who: _mean([row[i][who] for row in rows]) for who in ("ours", "avif")}
        for i in range(len(LEVELS))
    ]
    levels = [
        {"level": level, **mean, "photographs_better": _better([row[i] for row in rows])}
        for i, (level, mean) in enumerate(zip(LEVELS, means, strict=True))
    ]
    rates = {metric: _bd_rate(means, metric) for metric in METRICS}
    return {"levels": levels, "bd_rate_against_avif": rates, "by_photograph": rows}


def _mean(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}


def _better(scores: Sequence[Scores]) -> dict[str, int]:
    """Photographs on which ours is nearer to the original."""
    return {m: sum(s["ours"][m] < s["avif"][m] for s in scores) for m in ("lpips", "lpips_vgg")}


def _bd_rate(means: Sequence[Scores], metric: str) -> float | str:
    """Of the mean curves; curves far apart share no quality, then the reason stands there."""
    ours, avif = ([mean[who] for mean in means] for who in ("ours", "avif"))
    found = rate_saved(ours, avif, metric, ("ours", "AVIF"))
    return found["why"] if found["percent"] is None else found["percent"]


def _all_photos(folder: str) -> list[Photo]:
    """All of a folder's photographs, by name."""
    files = find_photos(folder, max_photos=10_000)
    return load_photos(sorted((*files.train, *files.held_back)), 192)


def _pixels(image: torch.Tensor) -> Pixels:
    shown: Pixels = (to_8_bit(image)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return shown


def _shown(photo: Photo, pair: Pair) -> Shown:
    """The middle of the photograph, 256 pixels square, three times."""
    height, width = photo.pixels.shape[:2]
    top, left = (height - 256) // 2, (width - 256) // 2
    cut = (slice(top, top + 256), slice(left, left + 256))
    pictures = {"original": photo.pixels[cut], "ours": pair.ours[cut], "avif": pair.avif[cut]}
    return Shown(photo.name, pictures, pair.scores)


def _line(pairs: Sequence[Pair]) -> str:
    """LPIPS of both at every rate."""
    shown = []
    for pair in pairs:
        ours, avif = pair.scores["ours"], pair.scores["avif"]
        figures = (f"{ours[m]:.3f}/{avif[m]:.3f}" for m in ("lpips", "lpips_vgg"))
        shown.append(f"{ours['bpp']:.3f} bpp {' '.join(figures)}")
    return "  ".join(shown)


def _provenance(arguments: argparse.Namespace) -> dict[str, Any]:
    steps = "" if arguments.codec else f" --steps {arguments.steps}"
    return {
        "lpips": {name: described(name) for name in ("alex", "vgg")},
        "avif": classics.described(AVIF),
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "lpips", "pillow", "constriction")},
        "command": f"python experiments/benchmarks/perceptual.py --data FOLDER --photos DIR{steps}",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="sample", help="trained on: a folder, or sample")
    parser.add_argument("--photos", required=True, help="compared on: a folder")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=6, help="crops a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--codec", type=Path, help="a codec file to compare without training")
    parser.add_argument("--level", type=int, default=3, choices=LEVELS, help="of the page")
    parser.add_argument(
        "--pictures", default="sample", help="shown on the page: a folder, or sample"
    )
    parser.add_argument("--limit", type=int, default=10_000, help="photographs at most")
    out = Path(__file__).parents[1] / "results" / "perceptual.json"
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


if __name__ == "__main__":
    main()
