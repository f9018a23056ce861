"""What tiles cost: a picture's file beside the same picture coded as one piece.

Cores of 504 pixels do not lie on the grid of 16 that latents lie on, so that tiles cannot share
latents: 768 pixels are 49 columns of latents in two tiles (508 and 268 pixels seen, rounded up to
512 and 272), and 48 in one piece. No smaller number is possible with 4 pixels of context: two
multiples of 16 that cover 768 + 8. An axis of at most 512 pixels costs nothing. The codec is
untrained.

    python experiments/benchmarks/tiling.py --photos DIR
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from evaluators.passes import to_tensor
from evaluators.photos import find_photos, load_photos
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.pictures import encode_picture
from search_spaces.files import write_atomically

LEVELS = (1, 3, 5, 7)


def main() -> None:
    """Prints a line a level and writes them as JSON."""
    arguments = _arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codec = Codec(build_design({})).eval()
    files = find_photos(arguments.photos, max_photos=10_000)
    photos = load_photos(sorted((*files.train, *files.held_back)), 16)[: arguments.limit]
    rows = []
    for level in LEVELS:
        tiled = sum(len(encode_picture(codec, photo.pixels, level)) for photo in photos)
        whole = sum(len(codec.compress(to_tensor(p.pixels), level).data) for p in photos)
        rows.append({"level": level, "tiled_bytes": tiled, "one_piece_bytes": whole})
        print(f"level {level}: {100 * (tiled / whole - 1):+.2f} %, header and checksum included")
    document = {
        "levels": rows,
        "photographs": len(photos),
        "latent_columns_of_768_pixels": {"tiled": 49, "one_piece": 48},
        "seed": 0,
        "machine": f"{platform.machine()} {platform.system()}",
        "versions": {name: version(name) for name in ("torch", "constriction")},
        "command": "python experiments/benchmarks/tiling.py --photos DIR",
    }
    write_atomically(arguments.out, json.dumps(document, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", default="sample", help="a folder; default: packaged ones")
    parser.add_argument("--limit", type=int, default=10_000, help="photographs at most")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/tiling.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
