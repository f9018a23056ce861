"""Damaged and forged inputs of every format through the program: each is one line, or it is taken.

    python experiments/benchmarks/fuzz.py [--inputs 20000] [--seed 0] [--formats NAME,...]

Intact files of each format are damaged (`fuzz_formats.py` says how and which command reads them)
and given to the program's own `main`, in forked children in a folder of their own. Faults are: an
exception that `main` lets through, an exit code other than 0, 1 or 2, an error of more than one
line, a process that dies, five seconds of the processor twice over, three minutes by the clock, a
gigabyte beyond what the libraries take, a file changed outside the working directory, and of
bitstreams damage that goes unnoticed. Written as it goes to `experiments/results/fuzz.json`; a run
that was stopped goes on there. Files of faulty inputs are kept beside it. Ends with 1 after a
fault. Needs Linux.

    python experiments/benchmarks/fuzz.py --formats storage --first 117 --inputs 1 --out one.json

runs one input again: it depends on the seed, the format and its number alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_child import MEMORY_BYTES, Case, Outcome, Place, outcomes
from fuzz_formats import FORMATS, Format
from fuzz_given import Given, make_given

from search_spaces.files import write_atomically

_BATCH = 50  # inputs a child
_SELF_CHECK = "self-check"
_LIBRARIES = ("nas-codecs", "torch", "optuna", "pydantic", "pyyaml", "safetensors", "pillow",
              "onnxruntime", "click", "numpy")  # fmt: skip


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="nas-fuzz-") as name:
        place = _place(Path(name).resolve(), arguments.seconds)
        formats = _formats(arguments)
        given = _given(place)
        result = _begun(arguments, formats)
        for name in formats:
            _campaign(name, formats[name], given, place, result, arguments)
    done, faults = (sum(f[n] for f in result["formats"].values()) for n in ("done", "faults"))
    print(f"{done:,} inputs, {faults} faults")
    sys.exit(1 if faults else 0)


def _campaign(
    name: str, kind: Format, given: Given, place: Place, result: Any, arguments: Any
) -> None:
    """All inputs of a format that are not done yet, a batch at a time."""

    def make(number: int) -> Case:
        rng = np.random.default_rng([arguments.seed, zlib.crc32(name.encode()), number])
        # Of this process alone: a child makes its next input while this one keeps a faulty one.
        return kind.make(given, rng, place.cache / f"making-{os.getpid()}")

    mine = result["formats"][name]
    while mine["done"] < mine["inputs"]:
        first = arguments.first + mine["done"]
        count = min(_BATCH, mine["inputs"] - mine["done"])
        for outcome in outcomes(make, range(first, first + count), place):
            _note(mine, outcome)
            if outcome.faulty:
                _keep(result, name, outcome, make(outcome.number), arguments.out)
        _write(result, arguments.out)
    counts = "".join(f"{mine[v]:7} {v}" for v in ("accepted", "refused", "faults"))
    print(f"{name:20}{counts}, slowest {mine['slowest_seconds']:.2f} s", flush=True)


def _note(mine: dict[str, Any], outcome: Outcome) -> None:
    mine["done"] += 1
    verdict = "faults" if outcome.faulty else outcome.verdict
    mine[verdict] += 1
    mine["slowest_seconds"] = max(mine["slowest_seconds"], outcome.seconds)
    by_kind = mine["by_kind"].setdefault(outcome.kind, {})
    by_kind[verdict] = by_kind.get(verdict, 0) + 1


def _keep(result: Any, name: str, outcome: Outcome, case: Case, out: Path) -> None:
    """Notes a fault, and writes its files beside the result."""
    folder = out.with_suffix(".faults") / f"{name}-{outcome.number}"
    shutil.rmtree(folder, ignore_errors=True)
    for file, content in case.files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    fault = {"format": name, "number": outcome.number, "kind": outcome.kind}
    fault |= {"verdict": outcome.verdict, "seconds": outcome.seconds}
    shown = [os.fsencode(a).decode("utf-8", "backslashreplace") for a in case.arguments]
    result["faults"].append({**fault, "arguments": shown, "printed": outcome.printed})
    print(f"{name} {outcome.number} ({outcome.kind}): {outcome.verdict}", flush=True)


def _begun(arguments: argparse.Namespace, formats: Mapping[str, Format]) -> dict[str, Any]:
    """The result as it stands: of the same campaign that was stopped, or new."""
    known = {"seed": arguments.seed, "first": arguments.first, "inputs": arguments.inputs}
    known |= {"command": _command(arguments), "versions": {n: version(n) for n in _LIBRARIES}}
    if arguments.out.is_file():
        before = json.loads(arguments.out.read_text())
        same = all(before.get(key) == value for key, value in known.items())
        if same and any(f["done"] < f["inputs"] for f in before["formats"].values()):
            return dict(before)
    whole = sum(each.share for each in formats.values())
    counts = {n: math.ceil(arguments.inputs * f.share / whole) for n, f in formats.items()}
    return {
        **known,
        "bounds": {"processor_seconds": arguments.seconds, "memory_mb": round(MEMORY_BYTES / 1e6)},
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "python": platform.python_version(),
        "formats": {name: _nothing(count) for name, count in counts.items()},
        "faults": [],
    }


def _nothing(inputs: int) -> dict[str, Any]:
    counts = {"inputs": inputs, "done": 0, "accepted": 0, "refused": 0, "faults": 0}
    return {**counts, "slowest_seconds": 0.0, "by_kind": {}}


def _write(result: dict[str, Any], out: Path) -> None:
    write_atomically(out, json.dumps(result, indent=1) + "\n")


def _command(arguments: argparse.Namespace) -> str:
    formats = "" if arguments.formats is None else f" --formats {arguments.formats}"
    options = f" --inputs {arguments.inputs} --seed {arguments.seed}{formats}"
    return f"python experiments/benchmarks/fuzz.py{options}"


def _formats(arguments: argparse.Namespace) -> dict[str, Format]:
    from fuzz_readers import broken_case

    known = {**FORMATS, _SELF_CHECK: Format(1, broken_case)}
    if arguments.formats is None:
        return dict(FORMATS)
    return {name: known[name] for name in arguments.formats.split(",")}


def _place(root: Path, seconds: float) -> Place:
    """The folders, and an environment that knows no others."""
    for name in ("home", "temporary", "cache", "one"):
        (root / name).mkdir()
    os.environ |= {
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "temporary"),
        "NAS_CACHE_DIR": str(root / "cache"),
        "NAS_STATE_DIR": str(root / "cache/state"),
        "MPLCONFIGDIR": str(root / "cache/matplotlib"),
        "XDG_CACHE_HOME": str(root / "cache/xdg"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
    }
    return Place(root, root / "one/two/work", root / "cache", seconds)


def _given(place: Place) -> Given:
    """The intact files; and everything is imported by then, so that children begin at once."""
    import torch
    from fuzz_readers import COMMANDS, write_export, write_trained
    from fuzz_studies import record_study

    from nas.cli import cli

    torch.set_num_threads(1)
    for command in COMMANDS:
        cli.add_command(command)
    given = make_given(place.root / "given", place.root / "outside/x")
    problem = Path(__file__).parent.parent / "any_problem"
    shutil.copytree(problem, given.folder / "any_problem", ignore=shutil.ignore_patterns("__*"))
    for step in (record_study, write_trained, write_export, _warm):
        _quietly(lambda step=step: step(given), place)
    gc.collect()
    gc.freeze()
    return given


def _quietly(step: Callable[[], Any], place: Place) -> None:
    os.chdir(place.root)
    step()
    tempfile.tempdir = None


def _warm(_: Given) -> None:
    """Imports what the commands import."""
    import nas.comparison.run
    import nas.display.comparison_tables
    import nas.display.plot
    import nas.export
    import nas.frames
    import nas.report.page
    import nas.report.study
    import nas.retarget
    import nas.train  # noqa: F401
    from nas.cli import _exit_code

    _exit_code(ValueError())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of the processor, an input")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--formats", help=f"some of {', '.join(FORMATS)}, or {_SELF_CHECK}")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/fuzz.json"))
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    return arguments


if __name__ == "__main__":
    main()
