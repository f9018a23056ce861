"""Trains the anchor of a space: one codec for hours, whose weights candidates begin from.

    python experiments/train_anchor.py --data PHOTOGRAPHS [--steps 6000]

The architecture is of the space `codec`: convscale311 blocks of middle width at every scale. It is
trained jointly (`evaluators/joint.py`), on two thirds of the photographs; the others are coded
after every tenth of the steps. Killed, it goes on from its checkpoint under `runs/anchor/`. The
codec is written beside `experiments/results/anchor.json`, which says what it reached; photographs
are not kept.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from evaluators.devices import torch_device
from evaluators.joint import JointRecipe, train_joint
from evaluators.photos import Pixels, find_photos, load_photos, textured_crops
from evaluators.scoring import code_held_back, score
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import save_codec
from search_spaces.files import write_atomically
from search_spaces.load import load_space
from search_spaces.space import Choice, SearchSpace

LEVELS = (1, 3, 5, 7)
RESULTS = Path(__file__).parent / "results"
FOLDER = Path("runs/anchor")
# Width and depth of each scale, the same on both sides.
SCALES = {"half": (32, 1), "quarter": (64, 2), "eighth": (128, 2), "sixteenth": (256, 2)}

log = logging.getLogger("anchor")


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    space = load_space(Path("codec"))
    files = find_photos(arguments.data)
    crops = textured_crops(load_photos(files.held_back, 192), 192, arguments.crops)
    torch.manual_seed(arguments.seed)
    architecture = space.architecture(space.encode(even_choices(space, SCALES, 256)))
    codec = Codec(space.design(architecture))
    recipe = JointRecipe(steps=arguments.steps, perceptual_from=0.6)
    checkpoint, scores = FOLDER / "checkpoint.safetensors", FOLDER / "scores.jsonl"

    def watch(step: int, current: Codec) -> None:
        line = json.dumps({"step": step, **_scored(current, crops)})
        log.info("%s", line)
        with scores.open("a") as file:
            file.write(line + "\n")

    FOLDER.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    photos = load_photos(files.train, recipe.crop)
    device = torch_device(arguments.device)
    codec = train_joint(codec, photos, recipe, arguments.seed, device, checkpoint, watch=watch)
    file = arguments.out.with_suffix(".safetensors")
    save_codec(codec, space.all_choices(architecture), file, half=True)
    result = {
        "choices": dict(architecture.choices),
        "parameters": codec.design.parameters,
        "recipe": asdict(recipe),
        "photographs": len(photos),
        "seconds_since_the_last_start": time.monotonic() - began,
        "held_back": [json.loads(line) for line in scores.read_text().splitlines()],
        "seed": arguments.seed,
        "machine": f"{platform.machine()} {platform.system()}, {arguments.threads} threads",
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "command": f"python experiments/train_anchor.py --steps {arguments.steps} --data FOLDER",
    }
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")


def even_choices(
    space: SearchSpace, scales: Mapping[str, tuple[int, int]], latent_channels: int
) -> dict[str, Choice]:
    """Choices in the space `codec` with convscale311 blocks everywhere, the same on both sides.

    Args:
        space: `codec`.
        scales: width and depth of each.
        latent_channels: M.
    """
    choices: dict[str, Choice] = dict(space.reference.choices)
    for side in ("encoder", "decoder"):
        for scale, (width, depth) in scales.items():
            body = {"depth": depth, "width": width, "block": "convscale311", "expand": 1}
            body |= {"expand_out": 2, "attention": "none"}
            choices |= {f"{side}.{scale}.{name}": value for name, value in body.items()}
        choices |= {f"{side}.resampling": "haar", f"{side}.activation": "gelu"}
        choices[f"{side}.scaled"] = True
    entropy: dict[str, Choice] = {"latent_channels": latent_channels}
    entropy |= {"hyper_channels": 32, "hyper_width": 96}
    entropy |= {"quantisation": "learned", "context": "checkerboard", "context_width": 64}
    return {**choices, **entropy, "decoder.heads": "every", "coding": "all"}


def _scored(codec: Codec, crops: list[Pixels]) -> dict[str, Any]:
    held_back = code_held_back(codec, crops, LEVELS)
    return score(codec, held_back, LEVELS, torch.device("cpu"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="sample", help="a folder of photographs, or sample")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--crops", type=int, default=24, help="held-back ones that are scored")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "anchor.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
