"""The entropy coder's speed both ways and its size, beside CompressAI's coder on the same latents.

    python experiments/benchmarks/entropy_coder.py [--peer-python PATH]

The latents are those of a photograph that scikit-image carries, as an untrained codec of the family
codes it at three quality levels. Given an interpreter that has CompressAI (`compressai_coder.py`
says how to make one), its rANS coder codes the same symbols under the same distributions, in turn
with ours, one repeat after the other, one thread each. Its interface takes Python lists: it is
timed from arrays to arrays, as ours is, and between lists alone. Grouped coding is compared with
its coder on the same live symbols.

Symbols that grouped coding leaves out count in its symbols a second: they are read back too.
Medians are printed and written to `experiments/results/entropy_coder.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from evaluators.passes import to_tensor
from evaluators.photos import find_photos, load_photos
from search_spaces.codec import entropy
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec

PEER = Path(__file__).with_name("compressai_coder.py")
PIXELS = 16 * 16  # of the image that one position of the latents stands for
SHAPES = ("192x8x8", "128x32x32", "192x32x32", "320x32x32")
_SEED = 0
QUALITIES = {"low": 1.0, "middle": 4.0, "high": 7.0}
WAYS = ("encode", "decode")
KINDS = {"all": False, "live": True}  # what is coded: grouped coding or not

Latents = tuple[entropy.Symbols, entropy.Indices]
Peer = Callable[[str, str], Mapping[str, float]]


def main() -> None:
    arguments = _arguments()
    cases = {
        f"{shape}-{name}": _latents(shape, quality)
        for shape in arguments.shapes.split(",")
        for name, quality in QUALITIES.items()
    }
    with _peer(arguments.peer_python, cases) as (peer, peer_versions):
        results = [_case(name, case, peer, arguments.repeats) for name, case in cases.items()]
    for result in results:
        print(_line(result))
    document = {"cases": results, **_provenance(arguments, peer_versions)}
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


def _latents(shape: str, quality: float) -> Latents:
    """Symbols and table indices of a shape (channels, height, width), of a photograph's corner."""
    channels, height, width = (int(side) for side in shape.split("x"))
    torch.manual_seed(_SEED)
    codec = Codec(build_design({"latent_channels": channels})).eval()
    (photo, *_) = load_photos(find_photos("sample").held_back, 16 * max(height, width))
    image = to_tensor(photo.pixels)[..., : 16 * height, : 16 * width]
    coded = codec.compress(image, quality)
    hyper = coded.hyper.numpy().astype(np.int32)
    indices = codec.symbol_indices(hyper, (height, width), quality)
    return coded.symbols[0].numpy().astype(np.int32), np.ascontiguousarray(indices[0])


def _case(name: str, latents: Latents, peer: Peer | None, repeats: int) -> dict[str, Any]:
    """Medians over repeats of both coders, coding all symbols and the live ones alone."""
    symbols, indices = latents
    result: dict[str, Any] = {
        "case": name,
        "symbols": symbols.size,
        "live": float((indices >= entropy.DEAD_BELOW).mean()),
        "zeros": float((symbols == 0).mean()),
        "bpp": entropy.ideal_bits(symbols, indices) / (PIXELS * symbols[0].size),
    }
    rounds: dict[str, list[Mapping[str, float]]] = {}
    for _ in range(repeats + 1):
        for kind, grouped in KINDS.items():
            rounds.setdefault(f"ours_{kind}", []).append(_round(symbols, indices, grouped))
            if peer:
                rounds.setdefault(f"compressai_{kind}", []).append(peer(name, kind))
    # The first round fills caches.
    medians = {coder: _median(measured[1:], symbols.size) for coder, measured in rounds.items()}
    return {**result, **medians, **_ratios(medians)}


def _round(symbols: entropy.Symbols, indices: entropy.Indices, grouped: bool) -> dict[str, float]:
    started = perf_counter()
    kept = entropy.silence(symbols, indices) if grouped else symbols
    writer = entropy.Writer(grouped)
    writer.write(kept, indices)
    data = writer.to_bytes()
    written = perf_counter()
    reader = entropy.Reader(data, grouped)
    decoded = reader.read(indices)
    reader.finish()
    read = perf_counter()
    assert (decoded == kept).all(), "other symbols came back"
    return {
        "encode_ms": 1000 * (written - started),
        "decode_ms": 1000 * (read - written),
        "bytes": len(data),
        "ideal_bytes": entropy.ideal_bits(kept, indices, grouped) / 8,
    }


def _median(rounds: list[Mapping[str, float]], count: int) -> dict[str, float]:
    medians = {name: float(np.median([one[name] for one in rounds])) for name in rounds[0]}
    speeds = {f"{way}_symbols_per_s": 1000 * count / medians[f"{way}_ms"] for way in WAYS}
    return {**speeds, **medians}


def _ratios(medians: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """How many times faster ours is, and its size over the peer's."""
    if "compressai_all" not in medians:
        return {}
    ratios = {}
    for kind in KINDS:
        ours, theirs = medians[f"ours_{kind}"], medians[f"compressai_{kind}"]
        ratios[kind] = {
            "encode": theirs["encode_ms"] / ours["encode_ms"],
            "decode": theirs["decode_ms"] / ours["decode_ms"],
            "encode_lists": theirs["encode_lists_ms"] / ours["encode_ms"],
            "decode_lists": theirs["decode_lists_ms"] / ours["decode_ms"],
            "bytes": ours["bytes"] / theirs["bytes"],
        }
    return {"ratios": ratios}


@contextmanager
def _peer(
    python: str | None, cases: Mapping[str, Latents]
) -> Iterator[tuple[Peer | None, dict[str, str]]]:
    """Asks the peer's process for one round of a case; its versions."""
    if python is None:
        yield None, {}
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "latents.npz"
        np.savez(file, **_handed_over(cases))
        with subprocess.Popen(
            [python, str(PEER), str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield lambda case, kind: _ask(process, f"{case} {kind}\n"), _ask(process, "")
            process.communicate()


def _handed_over(cases: Mapping[str, Latents]) -> dict[str, Any]:
    tables = [entropy.frequencies(index) for index in range(entropy.TABLES)]
    return {
        "limits": entropy.limits(),
        "frequencies": np.concatenate(tables),
        "dead_below": np.array(entropy.DEAD_BELOW),
        **{f"symbols_{name}": symbols for name, (symbols, _) in cases.items()},
        **{f"indices_{name}": indices for name, (_, indices) in cases.items()},
    }


def _ask(process: subprocess.Popen[str], request: str) -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(request)
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit("the peer's process ended early: see its message above")
    return dict(json.loads(answer))


def _line(result: Mapping[str, Any]) -> str:
    speeds = [f"{kind} {_speeds(result[f'ours_{kind}'])}" for kind in KINDS]
    compared = [
        f"{kind} x {r['encode']:.1f} / {r['decode']:.1f}"
        f" (lists x {r['encode_lists']:.1f} / {r['decode_lists']:.1f}), size x {r['bytes']:.3f}"
        for kind, r in result.get("ratios", {}).items()
    ]
    return "  ".join([f"{result['case']}  {result['bpp']:.2f} bpp", *speeds, *compared])


def _speeds(medians: Mapping[str, float]) -> str:
    encode, decode = (medians[f"{way}_symbols_per_s"] / 1e6 for way in WAYS)
    return f"{encode:.0f} / {decode:.0f} M symbols/s {medians['bytes']:.0f} B"


def _provenance(arguments: argparse.Namespace, peer: Mapping[str, str]) -> dict[str, Any]:
    option = " --peer-python PATH" if peer else ""
    return {
        "repeats": arguments.repeats,
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "versions": {name: version(name) for name in ("constriction", "numpy")},
        "peer_versions": peer,
        "python": platform.python_version(),
        "seed": _SEED,
        "command": f"python experiments/benchmarks/entropy_coder.py{option}",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="an interpreter with CompressAI; default: ours alone")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="channels x height x width, ...")
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/entropy_coder.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
