"""Ways to damage safetensors files, for `fuzz.py`: lengths, headers, metadata and tensors."""

from __future__ import annotations

import json
from typing import Any

from fuzz_mutations import Rng, any_value, damaged, mutated

_DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "X", ""]


def tensor_bytes(data: bytes, rng: Rng) -> tuple[str, bytes]:
    """A safetensors file damaged in one of several ways; the way's name first."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    kind = rng.integers(10)
    if kind == 0:
        return "length", _length(data, rng)
    if kind == 1:
        return "bomb", _bomb(body, rng)
    if kind == 2:
        return "header", _file(mutated(header, rng), body)
    if kind <= 5:
        return "metadata", _file({**header, "__metadata__": _metadata(header, rng)}, body)
    if kind == 6:
        return "tensors", _file(_tensors(header, rng), body)
    if kind == 7:
        return "weights", data[: 8 + length] + damaged(body, rng)[1][: len(body)].ljust(len(body))
    return damaged(data, rng)


def _file(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + body


def _length(data: bytes, rng: Rng) -> bytes:
    true = int.from_bytes(data[:8], "little")
    stated = [0, 1, true - 1, true + 1, len(data), 10**8, 2**31, 2**40, 2**63, 2**64 - 1]
    return int(stated[rng.integers(len(stated))]).to_bytes(8, "little") + data[8:]


def _bomb(body: bytes, rng: Rng) -> bytes:
    """Headers that are long, deep, or announce what is not there."""
    side = int(rng.choice([2**20, 2**31, 2**62]))
    ways = [
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"[" * 200_000,
        json.dumps({f"t{i}": {} for i in range(30_000)}).encode(),
        _header_of([side, side], 4 * side),
        _header_of([1] * 5000, 4),
        _header_of([0, side], 0),
        json.dumps({"__metadata__": {"format": "x" * 10**6}}).encode(),
    ]
    text = ways[rng.integers(len(ways))]
    return len(text).to_bytes(8, "little") + text + body


def _header_of(shape: list[int], size: int) -> bytes:
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    return json.dumps({"a": tensor}).encode()


def _metadata(header: dict[str, Any], rng: Rng) -> dict[str, str]:
    """Texts exchanged; those that hold JSON damaged within, too."""
    metadata = dict(header.get("__metadata__", {}))
    names = list(metadata) or ["format"]
    name = names[rng.integers(len(names))]
    try:
        document = json.loads(metadata[name])
    except (KeyError, ValueError):
        document = None
    if isinstance(document, (dict, list)) and rng.random() < 0.8:
        metadata[name] = json.dumps(mutated(document, rng))
    elif rng.random() < 0.3:
        del metadata[name]
    else:
        metadata[name] = str(any_value(rng))
    return {name: value.encode("utf-8", "replace").decode() for name, value in metadata.items()}


def _tensors(header: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """A tensor renamed, of another type or shape, or lying somewhere else."""
    changed: dict[str, Any] = json.loads(json.dumps(header))
    names = [name for name in changed if name != "__metadata__"]
    name = names[rng.integers(len(names))]
    one = changed[name]
    kind = rng.integers(5)
    if kind == 0:
        changed[f"{name}x"] = changed.pop(name)
    elif kind == 1:
        one["dtype"] = _DTYPES[rng.integers(len(_DTYPES))]
    elif kind == 2:
        one["shape"] = [*one["shape"][::-1], 1][: rng.integers(len(one["shape"]) + 2)]
    elif kind == 3:
        one["data_offsets"] = [int(x) for x in rng.integers(0, 2**40, 2)]
    else:
        changed[name] = changed[names[rng.integers(len(names))]]
    return changed
