"""Whether the same files decode to the same integers in other processes and versions of torch.

    python experiments/benchmarks/exact_latents.py [--python OTHER/bin/python] [--photos DIR]

Photographs are coded here, and by the other interpreter too where one is given; what was written
is read in processes of their own, with one and with two threads of torch, by both. Each reads the
integers of every tile (hyper-latents, then symbols) and hashes them. The other interpreter needs
torch, numpy, constriction, safetensors, pillow, pyyaml and lark:

    python3 -m venv OTHER
    OTHER/bin/pip install torch==VERSION "numpy<2.4" constriction safetensors pillow pyyaml lark
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments/results"
QUALITIES = (0.0, 2.5, 4.0, 7.0)
THREADS = (1, 2)


def main() -> None:
    """Prints a line a reader and writes all of it as JSON; fails where two disagree."""
    arguments = _arguments()
    if arguments.step:
        _step(arguments)
        return
    pythons = [sys.executable, *([arguments.python] if arguments.python else [])]
    with tempfile.TemporaryDirectory() as name:
        _photographs(arguments, Path(name) / "photos")
        readers = _compared(pythons, arguments, Path(name))
    digests = {reader["digest"] for reader in readers}
    for reader in readers:
        print(f"torch {reader['torch']}, {reader['threads']} threads: {reader['digest'][:16]}")
    document = {
        "equal": len(digests) == 1,
        "files": readers[0]["files"],
        "integers": readers[0]["integers"],
        "qualities": QUALITIES,
        "bytes_equal_between_writers": readers[0]["bytes_equal"],
        "readers": readers,
        "machine": f"{platform.machine()} {platform.system()}",
        "versions": {name: version(name) for name in ("torch", "constriction", "numpy")},
        "command": "python experiments/benchmarks/exact_latents.py --python OTHER --photos DIR",
    }
    arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.exit(None if document["equal"] else "integers differ")


def _compared(
    pythons: list[str], arguments: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    for i, python in enumerate(pythons):
        _run(python, 1, "write", arguments, folder / "photos", folder / f"coded/{i}")
    readers = []
    for python in pythons:
        for threads in THREADS:
            said = _run(python, threads, "read", arguments, folder / "coded")
            readers.append({**json.loads(said), "threads": threads})
    return readers


def _run(
    python: str, threads: int, step: str, arguments: argparse.Namespace, *folders: Path
) -> str:
    command = [python, __file__, "--step", step, "--model", str(arguments.model)]
    command += ["--folders", *map(str, folders)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{python}: {done.stderr}")
    return done.stdout


def _step(arguments: argparse.Namespace) -> None:
    """What a process of its own does."""
    import torch

    from search_spaces.codec.saved import load_codec

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    codec = load_codec(arguments.model)
    if arguments.step == "write":
        _write(codec, *arguments.folders)
    else:
        print(json.dumps({"torch": torch.__version__, **_read(codec, arguments.folders[0])}))


def _write(codec: Any, photos: Path, coded: Path) -> None:
    from search_spaces.codec.pictures import encode_picture

    coded.mkdir(parents=True)
    for file in sorted(photos.iterdir()):
        pixels = np.asarray(Image.open(file))
        for quality in QUALITIES:
            data = encode_picture(codec, pixels, quality)
            (coded / f"{file.stem}-{quality}.nasc").write_bytes(data)


def _read(codec: Any, coded: Path) -> dict[str, Any]:
    digest, integers = hashlib.sha256(), 0
    files = sorted(coded.rglob("*.nasc"))
    for file in files:
        for values in _integers_of(codec, file.read_bytes()):
            digest.update(values.tobytes())
            integers += values.size
    return {
        "digest": digest.hexdigest(),
        "files": len(files),
        "integers": integers,
        "bytes_equal": _equal_bytes(coded),
    }


def _integers_of(codec: Any, data: bytes) -> Iterator[np.ndarray[Any, np.dtype[np.int32]]]:
    from search_spaces.codec import bitstream, tiles

    stream = bitstream.unpack(data)
    for window, tile in zip(tiles.windows(stream.height, stream.width), stream.tiles, strict=True):
        symbols, hyper = codec.read(tile, window.height, window.width, stream.quality)
        yield hyper.numpy().astype(np.int32)
        yield symbols.numpy().astype(np.int32)


def _equal_bytes(coded: Path) -> str:
    """How many files all writers wrote alike."""
    writers = sorted(coded.iterdir())
    names = [file.name for file in sorted(writers[0].iterdir())]
    alike = [n for n in names if len({(w / n).read_bytes() for w in writers}) == 1]
    return f"{len(alike)} of {len(names)}, {len(writers)} writers"


def _photographs(arguments: argparse.Namespace, folder: Path) -> None:
    """Copies as PNG, so that both interpreters see the same pixels."""
    from evaluators.photos import find_photos, load_photos

    folder.mkdir()
    files = find_photos(arguments.photos, 10_000)
    chosen = sorted((*files.train, *files.held_back))[: arguments.limit]
    for i, photo in enumerate(load_photos(chosen, 16)):
        pixels = photo.pixels[: arguments.side, : arguments.side]
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", help="an interpreter with another torch")
    parser.add_argument("--photos", default="sample", help="a folder; default: packaged ones")
    parser.add_argument("--limit", type=int, default=6, help="photographs")
    parser.add_argument("--side", type=int, default=768, help="pixels of their sides at most")
    parser.add_argument("--model", type=Path, default=RESULTS / "anchor.safetensors")
    parser.add_argument("--out", type=Path, default=RESULTS / "exact_latents.json")
    parser.add_argument("--step", choices=["write", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--folders", type=Path, nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
