"""What `fuzz.py` damages: each format, its share of the inputs, and the command that reads it."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fuzz_arguments import any_arguments
from fuzz_child import Case
from fuzz_given import EXPERIMENT, MEASURED, SPACE, TABLE, Given
from fuzz_mutations import Rng, any_text, damaged, json_bytes, mutated, yaml_bytes
from fuzz_studies import any_name, named_storage, storage_bytes
from fuzz_tensors import tensor_bytes
from stream_mutations import MUTATIONS

from search_spaces.codec import bitstream

Make = Callable[[Given, Rng, Path], Case]

_NOWHERE = "sqlite:///none.db"
_READ_WHOLE = "there is no such file yet"  # of a storage: all else was read and checked by then


@dataclass(frozen=True)
class Format:
    """One format that the program reads.

    Attributes:
        share: of the inputs; of all formats together whatever they add up to.
        make: an input of it.
    """

    share: float
    make: Make


def _experiment(given: Given, rng: Rng, _: Path) -> Case:
    if rng.random() < 0.3:  # one whose own oracle prices: `check` takes no lowering
        content = yaml.safe_load(given.bytes_of("any_problem/experiment.yaml"))
        kind, data = yaml_bytes(content, rng)
        problem = given.bytes_of("any_problem/problem.py")
        files = {"experiment.yaml": data, "problem.py": problem}
        return Case(kind, ["check", "experiment.yaml"], files)
    kind, data = yaml_bytes(EXPERIMENT, rng)
    files = {"experiment.yaml": data, "space.yaml": given.bytes_of("space.yaml")}
    arguments = ["ablate", "experiment.yaml", "0", "--storage", _NOWHERE]
    return Case(kind, arguments, files, whole=_READ_WHOLE)


def _space(given: Given, rng: Rng, _: Path) -> Case:
    kind, data = yaml_bytes(SPACE, rng)
    if rng.random() < 0.2:
        kind, data = "expression", yaml.safe_dump(_other_expression(rng)).encode()
    options = ["--json"] if rng.random() < 0.5 else []
    return Case(kind, ["space", "space.yaml", *options], {"space.yaml": data})


def _other_expression(rng: Rng) -> dict[str, Any]:
    """A constraint made of the language's own words, in any order."""
    words = ["decoder.half.depth", "decoder.half.width", "and", "or", "not", "in", "implies", "==",
             "<", "<=", "+", "-", "*", "/", "//", "%", "**", "(", ")", "[", "]", ",", "1", "0",
             "2.5", "true", "'a'", "1e300", "-1"]  # fmt: skip
    text = " ".join(words[i] for i in rng.integers(len(words), size=rng.integers(1, 12)))
    return {**SPACE, "constraints": [text]}


def _table(given: Given, rng: Rng, _: Path) -> Case:
    kind, data = yaml_bytes(TABLE, rng)
    if rng.random() < 0.4:
        kind, data = f"rows, {kind}", _rows(rng)
    arguments = ["latency", "devices", "table.yaml", "--json"]
    if rng.random() < 0.3:
        arguments = ["latency", "merge", "table.yaml", given.path("table.yaml"), "-o", "new.yaml"]
    return Case(kind, arguments, {"table.yaml": data})


def _rows(rng: Rng) -> bytes:
    """A table as the program writes it, a row a line, with a line or its JSON damaged."""
    rows = [json.dumps(mutated(row, rng) if rng.random() < 0.3 else row) for row in TABLE["rows"]]
    lines = [f"- {row}\n" for row in rows]
    if rng.random() < 0.3:
        place = rng.integers(len(lines))
        lines[place] = json_bytes(TABLE["rows"][0], rng)[1].decode("utf-8", "replace") + "\n"
    head = {name: value for name, value in TABLE.items() if name != "rows"}
    return (yaml.safe_dump(head) + "rows:\n" + "".join(lines)).encode("utf-8", "replace")


def _bitstream(given: Given, rng: Rng, _: Path) -> Case:
    number = int(rng.integers(len(given.subjects)))
    subject = given.subjects[number]
    kind = list(MUTATIONS)[rng.integers(len(MUTATIONS))]
    data = MUTATIONS[kind](subject.any_stream(rng), rng, subject)
    repaired = rng.random() < 0.5
    data = _repaired(data) if repaired else data
    known = data in subject.streams

    def check(work: Path) -> str | None:
        return _wrong_picture(work / "out.ppm", data, repaired or known)

    arguments = ["decompress", given.path(f"codec-{number}.safetensors"), "in.nasc", "out.ppm"]
    name = f"{kind}{', repaired' if repaired else ''}"
    return Case(name, arguments, {"in.nasc": data}, check=check)


def _repaired(data: bytes) -> bytes:
    """With a checksum that fits, so that parser and coder are tried and not the checksum alone."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def _wrong_picture(file: Path, data: bytes, intact: bool) -> str | None:
    if not intact:
        return "damage went unnoticed"
    stream = bitstream.unpack(data)
    size = re.match(rb"P6\s+(\d+)\s+(\d+)", file.read_bytes())
    if size is None or (int(size[1]), int(size[2])) != (stream.width, stream.height):
        return "the picture is of another size than its file says"
    return None


def _codec(given: Given, rng: Rng, _: Path) -> Case:
    kind, data = tensor_bytes(given.bytes_of("codec-1.safetensors"), rng)
    arguments = ["compress", "codec.safetensors", given.path("photos/photo.png"), "out.nasc"]
    return Case(kind, [*arguments, "--threads", "1"], {"codec.safetensors": data})


def _checkpoint(given: Given, rng: Rng, _: Path) -> Case:
    kind, data = tensor_bytes(given.bytes_of("checkpoint.safetensors"), rng)
    return Case(kind, ["fuzz-checkpoint", "checkpoint"], {"checkpoint": data})


def _supernet(given: Given, rng: Rng, _: Path) -> Case:
    kind, data = tensor_bytes(given.bytes_of("supernet.safetensors"), rng)
    if rng.random() < 0.4:  # its tensors, which only workers read
        return Case(kind, ["fuzz-supernet", given.path("space.yaml"), "net"], {"net": data})
    files = {n: given.bytes_of(n) for n in ("space.yaml", "experiment.yaml")}
    name = (given.folder / "supernet.name").read_text()
    files[f"runs/small/shared/{name}"] = data
    return Case(kind, ["supernet", "experiment.yaml", "--out", "copy.safetensors"], files)


def _photograph(given: Given, rng: Rng, _: Path) -> Case:
    files = sorted((given.folder / "photos").iterdir())
    file = files[rng.integers(len(files))]
    kind, data = damaged(file.read_bytes(), rng)
    if rng.random() < 0.3:
        kind, data = damaged(data, rng)
    options = ["--flatten", "white"] if rng.random() < 0.5 else []
    arguments = ["compress", given.path("codec-0.safetensors"), f"in{file.suffix}", "out.nasc"]
    name = f"{file.suffix[1:]}, {kind}"
    return Case(name, [*arguments, *options], {f"in{file.suffix}": data})


def _measured(given: Given, rng: Rng, _: Path) -> Case:
    kind, data = json_bytes(MEASURED, rng)
    files = {"measured.json": data}
    arguments = ["compare", given.path("codec-0.safetensors")]
    if rng.random() < 0.85:
        ended = "none does not exist"
        return Case(kind, [*arguments, "none", "--measured", "measured.json"], files, whole=ended)
    files["photos/a.png"] = given.bytes_of("photos/photo.png")
    options = ["--metrics", "psnr", "--peers", "none", "--levels", "1,4,6", "-o", "out"]
    return Case(kind, [*arguments, "photos", "--measured", "measured.json", *options], files)


def _rates(given: Given, rng: Rng, _: Path) -> Case:
    names = ["a.png", "b.png"]
    if rng.random() < 0.5:
        kind, data = json_bytes(dict.fromkeys(names, 0.25), rng)
        file = "rates.json"
    else:
        kind, data = damaged(b"file,bpp\na.png,0.25\nb.png,0.5\n", rng)
        file = "rates.csv"
    photo = given.bytes_of("photos/photo.png")
    files = {f"{folder}/{name}": photo for folder in ("old", "new") for name in names}
    arguments = ["compare", "--images", "old", "new", "--bpp", file, "--metrics", "psnr"]
    return Case(f"{file}, {kind}", arguments, {**files, file: data})


def _manifest(given: Given, rng: Rng, _: Path) -> Case:
    names = ["codec.safetensors", *(f"onnx/{n}.onnx" for n in _networks())]
    files = {f"export/{name}": given.bytes_of(f"export/{name}") for name in names}
    manifest = json.loads(given.bytes_of("export/manifest.json"))
    kind, data = json_bytes(manifest, rng)
    onnx = rng.random() < 0.3
    if onnx and rng.random() < 0.7:
        name = names[rng.integers(1, len(names))]
        kind, data = f"network, {kind}", _with_network(files, manifest, name, rng)
    options = ["--runtime", "onnx"] if onnx else []
    photo = given.path("photos/photo.png")
    arguments = ["compress", "export", photo, "out.nasc", "--threads", "1", *options]
    return Case(kind, arguments, {**files, "export/manifest.json": data})


def _with_network(files: dict[str, bytes], manifest: dict[str, Any], name: str, rng: Rng) -> bytes:
    """A damaged network whose digest fits, as whoever forges one would have it."""
    import hashlib

    content = damaged(files[f"export/{name}"], rng)[1]
    files[f"export/{name}"] = content
    digest = hashlib.sha256(content).hexdigest()
    stated = {**manifest["files"], name: {"bytes": len(content), "sha256": digest}}
    return json.dumps({**manifest, "files": stated}).encode()


def _networks() -> tuple[str, ...]:
    from search_spaces.codec.deployed import NETWORKS

    return tuple(NETWORKS)


def _storage(given: Given, rng: Rng, work: Path) -> Case:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    kind, data = storage_bytes(given, rng, work)
    commands = [["studies"], ["front", "small"], ["front", "small", "--csv"],
                ["show", "small", str(rng.integers(7))], ["report", "small", "-o", "page.html"],
                ["retarget", "small", "--decode-ms", "120"],
                ["retarget", "small", "--sweep-decode", "60:240:60"]]  # fmt: skip
    chosen = commands[rng.integers(len(commands))]
    options = ["--storage", "sqlite:///nas.db"]
    options += ["--json"] if chosen[0] != "report" and rng.random() < 0.3 else []
    return Case(f"{chosen[0]}, {kind}", [*chosen, *options], {"nas.db": data})


def _study_name(given: Given, rng: Rng, work: Path) -> Case:
    name = any_name(given, rng)
    files = {n: given.bytes_of(n) for n in ("space.yaml", "experiment.yaml")}
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    recorded = rng.random() < 0.6
    files["nas.db"] = named_storage(given, name, work) if recorded else given.bytes_of("nas.db")
    name = name.replace("\0", "?")  # no argument can hold one
    commands = [["studies"], ["front", name], ["show", name, "0"], ["report", name],
                ["retarget", name, "--decode-ms", "120"], ["export", name, "0"],
                ["ablate", "experiment.yaml", "0", "--study", name]]  # fmt: skip
    chosen = commands[rng.integers(len(commands))]
    kind = f"{chosen[0]}, {'recorded' if recorded else 'asked for'}"
    if chosen[0] == "ablate":  # of a recorded study it would begin to train
        return Case(kind, [*chosen, "--storage", _NOWHERE], files, whole=_READ_WHOLE)
    return Case(kind, [*chosen, "--storage", "sqlite:///nas.db"], files)


def _arguments(given: Given, rng: Rng, _: Path) -> Case:
    kind, arguments = any_arguments(given, rng)
    return Case(kind, arguments, {"text.txt": any_text(rng).encode("utf-8", "replace")})


FORMATS: Mapping[str, Format] = {
    "experiment": Format(3, _experiment),
    "space": Format(3, _space),
    "latency table": Format(2, _table),
    "bitstream": Format(4, _bitstream),
    "codec file": Format(2, _codec),
    "training checkpoint": Format(1, _checkpoint),
    "supernet file": Format(1, _supernet),
    "photograph": Format(3, _photograph),
    "measured codec": Format(1, _measured),
    "stated rates": Format(1, _rates),
    "export": Format(1, _manifest),
    "storage": Format(2, _storage),
    "study name": Format(1, _study_name),
    "arguments": Format(2, _arguments),
}
