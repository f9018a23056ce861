"""A large photograph through a codec: what networks take, what coding takes, and both at once.

Coding is the entropy coder and the scale decoder; of both, CPU time is stated, which a busy
neighbour leaves nearly alone, and their ratio. Totals are by the clock on the wall. How much the
pipeline hides is measured on a part of the picture, in turn with going from stage to stage.

    python experiments/benchmarks/pipeline.py --photo FILE [--anchor CODEC]

Two codecs: the anchor, trained; and one of the space `pico_decoder` whose decoder takes about the
arithmetic of a 12 megapixel decoder at a phone's budget, untrained, which costs the same time.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from search_spaces.codec.model import Codec, Coded
from search_spaces.codec.pictures import decode_picture, encode_picture
from search_spaces.codec.saved import codec_key, load_codec
from search_spaces.codec.tiles import Pixels, Window, count_windows, cut, windows
from search_spaces.files import write_atomically
from search_spaces.load import load_space

KMACS = 40.0  # a pixel: the middle of what the paper found to take about 100 ms on a phone
RESULTS = Path(__file__).parent.parent / "results"


@dataclass
class Timed:
    """A codec that adds up the CPU time of its stages, over all threads."""

    codec: Codec
    network_s: float = 0.0
    coding_s: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def analyse(self, image: Tensor, quality: float) -> tuple[Tensor, Tensor]:
        with self._clock("network_s"):
            return self.codec.analyse(image, quality)

    def write(self, symbols: Tensor, hyper: Tensor, quality: float) -> Coded:
        with self._clock("coding_s"):
            return self.codec.write(symbols, hyper, quality)

    def read(self, data: bytes, height: int, width: int, quality: float) -> tuple[Tensor, Tensor]:
        with self._clock("coding_s"):
            return self.codec.read(data, height, width, quality)

    def decode(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        with self._clock("network_s"):
            return self.codec.decode(symbols, hyper, quality)

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        began = time.thread_time()
        yield
        with self._lock:
            setattr(self, name, getattr(self, name) + time.thread_time() - began)


def main() -> None:
    """Prints a line a pass and writes all of it as JSON."""
    arguments = _arguments()
    torch.set_num_threads(1)
    pixels = _pixels(arguments)
    codecs = {"anchor": load_codec(arguments.anchor), "pico_decoder": _pico(arguments.seed)}
    document: dict[str, Any] = {
        "picture": f"{pixels.shape[1]} x {pixels.shape[0]}",
        "tiles": count_windows(*pixels.shape[:2]),
        "quality": arguments.quality,
        "seed": arguments.seed,
        "codecs": {
            name: _measured(name, codec, pixels, arguments) for name, codec in codecs.items()
        },
        "machine": f"{platform.machine()} {platform.system()}, {_model()}",
        "versions": {name: version(name) for name in ("torch", "constriction", "numpy")},
        "command": "python experiments/benchmarks/pipeline.py --photo FILE",
    }
    write_atomically(arguments.out, json.dumps(document, indent=1))


def _measured(
    name: str, codec: Codec, pixels: Pixels, arguments: argparse.Namespace
) -> dict[str, Any]:
    key, quality = codec_key(codec), arguments.quality
    data = b""
    found: dict[str, Any] = {
        f"{stage}_kmacs_per_pixel": codec.design.kmacs_per_pixel(stage)
        for stage in ("encode", "decode")
    }
    for threads in arguments.threads:
        timed = Timed(codec)
        coded, wall = _wall(encode_picture, timed, pixels, quality, threads, key=key)
        assert data in (b"", coded), "bytes depend on the number of threads"
        data = coded
        found[f"encode, {threads} threads"] = _row(timed, wall, f"{name} encode {threads}")
        timed = Timed(codec)
        _, wall = _wall(decode_picture, timed, data, threads, key=key)
        found[f"decode, {threads} threads"] = _row(timed, wall, f"{name} decode {threads}")
    found["bpp"] = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
    found["overlap"] = _overlap(codec, pixels, arguments)
    print(f"{name}: in turn over pipelined, {found['overlap']}", flush=True)
    return found


def _row(timed: Timed, wall_s: float, name: str) -> dict[str, float]:
    share = timed.coding_s / timed.network_s
    print(
        f"{name}: network {timed.network_s:.1f} s, coding {timed.coding_s:.2f} s"
        f" ({share:.3f} of it), {wall_s:.1f} s in all",
        flush=True,
    )
    return {
        "network_cpu_s": timed.network_s,
        "coding_cpu_s": timed.coding_s,
        "coding_over_network": share,
        "total_s": wall_s,
    }


def _overlap(codec: Codec, pixels: Pixels, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time of one stage after the other over time pipelined, one thread a stage, of four tiles."""
    part, key, quality = pixels[:1008, :1008], codec_key(codec), arguments.quality
    ratios: dict[str, list[float]] = {"encode": [], "decode": []}
    for _ in range(arguments.rounds):
        coded, apart_s = _wall(_coded, codec, part, quality)
        data, at_once_s = _wall(encode_picture, codec, part, quality, key=key)
        ratios["encode"].append(apart_s / at_once_s)
        _, apart_s = _wall(_decoded, codec, coded, quality)
        _, at_once_s = _wall(decode_picture, codec, data, key=key)
        ratios["decode"].append(apart_s / at_once_s)
    return {name: float(np.median(values)) for name, values in ratios.items()}


def _coded(codec: Codec, pixels: Pixels, quality: float) -> list[tuple[Window, bytes]]:
    tiles = []
    for window in windows(*pixels.shape[:2]):
        tile = torch.from_numpy(cut(pixels, window)).permute(2, 0, 1)[None].float() / 255
        tiles.append((window, codec.write(*codec.analyse(tile, quality), quality).data))
    return tiles


def _decoded(codec: Codec, tiles: list[tuple[Window, bytes]], quality: float) -> None:
    for window, data in tiles:
        image = codec.decompress(data, window.height, window.width, quality)
        (image.clamp(0, 1) * 255).round().byte()


def _wall(work: Callable[..., Any], *given: Any, **named: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    result = work(*given, **named)
    return result, time.perf_counter() - began


def _pico(seed: int) -> Codec:
    """The nearest of some drawn architectures to `KMACS` in its decoder."""
    space = load_space(Path("pico_decoder"))
    codes = space.sample(np.random.default_rng(seed), 200)
    designs = [space.design(space.architecture(code)) for code in codes]
    nearest = min(designs, key=lambda design: abs(design.kmacs_per_pixel("decode") - KMACS))
    torch.manual_seed(seed)
    return Codec(nearest).eval()


def _pixels(arguments: argparse.Namespace) -> Pixels:
    Image.MAX_IMAGE_PIXELS = None
    pixels = np.asarray(Image.open(arguments.photo).convert("RGB"))
    return pixels[: arguments.side, : arguments.side] if arguments.side else pixels


def _model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--side", type=int, help="only the upper left corner, pixels")
    parser.add_argument("--anchor", type=Path, default=RESULTS / "anchor.safetensors")
    parser.add_argument("--quality", type=float, default=4.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "pipeline.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
