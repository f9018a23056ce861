"""Mutants of real streams through the whole decoder: each is refused, or it is a picture.

    python experiments/benchmarks/fuzz_bitstream.py [--mutants 24000] [--seed 0]

Pictures of several sizes are coded by small untrained codecs of the family. Their streams are
damaged in twelve ways; every second mutant gets a checksum that fits, so that parser and coder are
tried and not the checksum alone. A mutant must give `BitstreamError`, or, under a repaired
checksum, a picture of the size in its header. Anything else is a violation and is kept as
hexadecimal: another exception, a damaged file that decodes under its old checksum, more than ten
seconds, more than a gigabyte. Prints a line a kind and writes
`experiments/results/fuzz_bitstream.json`; ends with 1 after a violation.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import platform
import re
import resource
import sys
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stream_mutations import MUTATIONS, Rng, Subject

from search_spaces.codec import bitstream
from search_spaces.codec.entropy import BitstreamError
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.pictures import decode_picture, encode_picture
from search_spaces.codec.saved import codec_key
from search_spaces.space import Choice

SIZES = [(1, 1), (16, 16), (33, 50), (24, 520), (1020, 9)]
QUALITIES = (0.0, 3.5, 7.0)
SMALL: dict[str, Choice] = {"latent_channels": 32, "hyper_channels": 6, "hyper_width": 6}
CODECS: list[dict[str, Choice]] = [
    SMALL | {"coding": "all", "quantisation": "unit", "context": "none"},
    SMALL | {"coding": "grouped", "quantisation": "learned", "context": "checkerboard"},
    SMALL | {"coding": "grouped", "quantisation": "learned", "context": "channels4"},
]
_SECONDS = 10.0
_HANGING_SECONDS = 120
_MEMORY_BYTES = 1 << 30


@dataclass
class Tally:
    """What became of the mutants."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, Any]] = field(default_factory=list)
    slowest_seconds: float = 0.0


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    subjects = [_subject(choices, rng) for choices in CODECS]
    start_bytes = _peak_bytes()
    _limit_memory()
    tally = _run(subjects, rng, arguments.mutants)
    result = _result(tally, arguments, _peak_bytes() - start_bytes)
    for kind, counts in result["by_kind"].items():
        print(f"{kind:18} " + "  ".join(f"{name} {count}" for name, count in counts.items()))
    print(f"violations: {len(tally.violations)}; slowest {tally.slowest_seconds:.2f} s")
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if tally.violations else 0)


def _run(subjects: list[Subject], rng: Rng, count: int) -> Tally:
    tally, kinds = Tally(), list(MUTATIONS)
    for i in range(count):
        kind, repaired = kinds[i // 2 % len(kinds)], i % 2 == 1
        subject = subjects[rng.integers(len(subjects))]
        original = subject.any_stream(rng)
        mutant = MUTATIONS[kind](original, rng, subject)
        mutant = _repaired(mutant) if repaired else mutant
        name = f"{kind}{', repaired' if repaired else ''}"
        start = time.monotonic()
        outcome = _outcome(subject, mutant, repaired, tally)
        seconds = time.monotonic() - start
        tally.slowest_seconds = max(tally.slowest_seconds, seconds)
        outcome = "too slow" if seconds > _SECONDS else outcome
        tally.outcomes[name, outcome] += 1
        if outcome not in ("refused", "picture", "unchanged"):
            tally.violations.append({"kind": name, "outcome": outcome, "hex": mutant.hex()})
    return tally


def _outcome(subject: Subject, mutant: bytes, repaired: bool, tally: Tally) -> str:
    faulthandler.dump_traceback_later(_HANGING_SECONDS, exit=True)
    try:
        pixels = decode_picture(subject.codec, mutant, key=subject.key)
    except BitstreamError as problem:
        tally.reasons[re.split(r"[:;]| \d", str(problem))[0]] += 1
        return "refused" if "\n" not in str(problem) else "more than one line"
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # the coder's own panics are no Exception
        return f"{type(problem).__name__}: {problem}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    if mutant in subject.streams:
        return "unchanged"
    stream = bitstream.unpack(mutant)
    if pixels.shape != (stream.height, stream.width, 3):
        return f"pixels {pixels.shape} for {stream.height} x {stream.width}"
    return "picture" if repaired else "damage went unnoticed"


def _repaired(data: bytes) -> bytes:
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def _subject(choices: dict[str, Choice], rng: Rng) -> Subject:
    torch.manual_seed(0)
    codec = Codec(build_design(choices)).eval()
    codec.freeze()
    key = codec_key(codec)
    pictures = [_picture(height, width, rng) for height, width in SIZES]
    streams = [encode_picture(codec, p, q, key=key) for p in pictures for q in QUALITIES]
    return Subject(codec, key, streams)


def _picture(height: int, width: int, rng: Rng) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    smooth = 110 + 60 * np.sin(rows / 9) + 60 * np.cos(columns / 7 + np.arange(3))
    return (smooth + rng.integers(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)


def _limit_memory() -> None:
    """A mutant that makes the decoder ask for more ends in `MemoryError`."""
    used = _status_bytes("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (used + _MEMORY_BYTES,) * 2)


def _peak_bytes() -> int:
    return _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(value)


def _result(tally: Tally, arguments: argparse.Namespace, grown_bytes: int) -> dict[str, Any]:
    by_kind: dict[str, dict[str, int]] = {}
    for (kind, outcome), count in sorted(tally.outcomes.items()):
        by_kind.setdefault(kind, {})[outcome] = count
    return {
        "mutants": arguments.mutants,
        "outcomes": dict(Counter(outcome for _, outcome in tally.outcomes.elements())),
        "refused_because": dict(tally.reasons.most_common()),
        "by_kind": by_kind,
        "violations": tally.violations,
        "slowest_seconds": round(tally.slowest_seconds, 3),
        "memory_grown_mb": round(grown_bytes / 1e6, 1),
        "bounds": {"seconds": _SECONDS, "memory_mb": round(_MEMORY_BYTES / 1e6)},
        "pictures": [list(size) for size in SIZES],
        "qualities": list(QUALITIES),
        "codecs": CODECS,
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "versions": {name: version(name) for name in ("torch", "numpy", "constriction")},
        "python": platform.python_version(),
        "seed": arguments.seed,
        "command": "python experiments/benchmarks/fuzz_bitstream.py"
        f" --mutants {arguments.mutants} --seed {arguments.seed}",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=24_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/fuzz_bitstream.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
