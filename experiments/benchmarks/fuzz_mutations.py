"""Ways to damage bytes, text and documents, for `fuzz.py`: whatever the format."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml

Rng = np.random.Generator
Damage = Callable[[bytes, Rng], bytes]

_TEXTS = [
    "", " ", "x", "\0", "a\nb", "\r", "..", "../../escape", "/escape", "~", ".", "CON", "null",
    "NaN", "1e400", "-0", "0x10", "1_000", "2020-01-01", "12:30:45", "=", "<<", "%s%n", "{}",
    "\u202egnp.exe", "e\u0301", "\U0001f40d", "\ufeffx", "\u2028", "<script>alert(1)</script>",
    "'\"", "__import__('os').system('touch escape')", "os:system", "builtins:exec", "this:Zen",
    "./none.py:Name", "./../../x.py:Name", "x" * 300, "y" * 20_000, "tiny.yaml", "[" * 50,
    "a and b", "not " * 500 + "a", "(" * 2000, "a" + " + a" * 3000,
]  # fmt: skip
_NUMBERS = [
    0, -0.0, 1, -1, 2, 0.5, 255, 256, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64, 10**30, 10**400,
    1e-320, 5e-324, 1e308, -1e308, math.inf, -math.inf, math.nan, 3.0000000001,
]  # fmt: skip
_OTHERS: list[Any] = [None, True, False, [], {}, [[]], [{}], {"": 0}, [None] * 3, {"x": {"y": []}}]


def any_text(rng: Rng) -> str:
    """Text that programs stumble over, at times random."""
    if rng.random() < 0.2:
        return "".join(chr(c) for c in rng.integers(1, 0x2FF, rng.integers(1, 20)))
    return _TEXTS[rng.integers(len(_TEXTS))]


def any_value(rng: Rng) -> Any:
    """A value of any kind, often an extreme one."""
    kind = rng.integers(4)
    if kind == 0:
        return any_text(rng)
    if kind == 1:
        return _NUMBERS[rng.integers(len(_NUMBERS))]
    if kind == 2:
        return copy.deepcopy(_OTHERS[rng.integers(len(_OTHERS))])
    return nested(int(rng.integers(2, 40)), bool(rng.integers(2)))


def nested(depth: int, lists: bool) -> Any:
    """Lists or mappings in each other."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


def mutated(document: Any, rng: Rng) -> Any:
    """A copy of a document of mappings and lists with a place changed, at times two or three."""
    changed = [copy.deepcopy(document)]  # in a list: the root may change too
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = _places(changed)
        holder, key = places[rng.integers(len(places))]
        _change(holder, key, rng, places)
    return changed[0] if changed else None


def _places(root: Any) -> list[tuple[Any, Any]]:
    """Every holder with every key or index of it."""
    found, left = [], [root]
    while left:
        holder = left.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                left.append(holder[key])
    return found or [([None], 0)]


def _change(holder: Any, key: Any, rng: Rng, places: list[tuple[Any, Any]]) -> None:
    kind = rng.integers(8)
    value = holder[key]
    if kind == 0 and holder is not places[0][0]:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[any_text(rng)] = holder.pop(key)
    elif kind == 2 and isinstance(holder, dict):
        holder[any_text(rng)] = any_value(rng)
    elif kind == 3 and isinstance(holder, list):
        holder.extend([copy.deepcopy(value)] * int(rng.choice([1, 2, 100])))
    elif kind == 4 and isinstance(value, (int, float)) and not isinstance(value, bool):
        holder[key] = _near(value, rng)
    elif kind == 5:
        other, place = places[rng.integers(len(places))]
        holder[key] = copy.deepcopy(other[place])
    else:
        holder[key] = any_value(rng)


def _near(value: float, rng: Rng) -> Any:
    """A number made a little, or very, different; or text of it."""
    ways = [-value, value + 1, value - 1, value * 1000, value / 1000, str(value), float(value)]
    return ways[rng.integers(len(ways))]


def _flip(data: bytes, rng: Rng) -> bytes:
    bits = np.unpackbits(np.frombuffer(data or b"\0", np.uint8))
    bits[rng.integers(len(bits), size=rng.integers(1, 9))] ^= 1
    return np.packbits(bits).tobytes()


def _truncate(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def _insert(data: bytes, rng: Rng) -> bytes:
    place = rng.integers(len(data) + 1)
    return data[:place] + rng.bytes(rng.integers(1, 20)) + data[place:]


def _cut(data: bytes, rng: Rng) -> bytes:
    first, last = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:first] + data[last:]


def _repeat(data: bytes, rng: Rng) -> bytes:
    first, last = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:last] + data[first:]


def _head(data: bytes, rng: Rng) -> bytes:
    """One of the first bytes exchanged, where formats keep lengths and kinds."""
    place = rng.integers(max(1, min(64, len(data))))
    return data[:place] + rng.bytes(1) + data[place + 1 :]


def _noise(data: bytes, rng: Rng) -> bytes:
    return rng.bytes(rng.integers(0, 400))


def _zeros(data: bytes, rng: Rng) -> bytes:
    first, last = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:first] + bytes(last - first) + data[last:]


BYTES: dict[str, Damage] = {
    "flipped bits": _flip,
    "truncated": _truncate,
    "inserted": _insert,
    "cut": _cut,
    "repeated": _repeat,
    "head": _head,
    "noise": _noise,
    "zeros": _zeros,
}


def damaged(data: bytes, rng: Rng) -> tuple[str, bytes]:
    """Bytes damaged in one of the ways; the way's name first."""
    kind = list(BYTES)[rng.integers(len(BYTES))]
    return kind, BYTES[kind](data, rng)


def _encoded(text: str, rng: Rng) -> bytes:
    kinds = ["utf-16", "utf-8-sig", "latin-1", "utf-32", "utf-7", "cp037"]
    return text.encode(kinds[rng.integers(len(kinds))], "replace")


def yaml_bytes(document: Any, rng: Rng) -> tuple[str, bytes]:
    """A document damaged as YAML: its values, its text, its aliases and tags, or its bytes."""
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    kind = rng.integers(10)
    if kind < 5:
        changed = yaml.safe_dump(mutated(document, rng), sort_keys=False, allow_unicode=True)
        return "values", changed.encode("utf-8", "surrogatepass")
    if kind < 7:
        return "YAML", _yaml_text(text, rng).encode()
    if kind == 7:
        return "encoding", _encoded(text, rng)
    return damaged(text.encode(), rng)


def _yaml_text(text: str, rng: Rng) -> str:
    """Constructs that a dump of values never has."""
    lines = text.splitlines()
    place = int(rng.integers(len(lines)))
    key = lines[place].partition(":")[0]
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    ways = [
        lambda: bomb + text,
        lambda: text + lines[place] + "\n",
        lambda: text.replace(lines[place], f"{key}: &self [*self]", 1),
        lambda: text.replace(lines[place], f"{key}: !!python/object/apply:os.system ['x']", 1),
        lambda: text.replace(lines[place], f"{key}: !!python/name:os.system", 1),
        lambda: text.replace(lines[place], f"{key}: !!binary aGk=", 1),
        lambda: text.replace(lines[place], f"{key}: " + "[" * 3000, 1),
        lambda: text.replace(lines[place], f"{key}: " + "{a: " * 900 + "}" * 900, 1),
        lambda: text.replace(lines[place], f"{key}: " + "9" * 5000, 1),
        lambda: text.replace(lines[place], "\t" + lines[place], 1),
        lambda: text.replace(lines[place], f"<<: {{{key}: 1}}", 1),
        lambda: text.replace(lines[place], "? [a, b]\n: 1", 1),
        lambda: text + "---\n" + text,
        lambda: "%YAML 9.9\n---\n" + text,
        lambda: text.replace(lines[place], "- " * 500 + "x", 1),
        lambda: text.replace(lines[place], f"{key}: *none", 1),
        lambda: text.replace(lines[place], f"{key}: >\n  " + "z\n  " * 500, 1),
    ]
    return ways[rng.integers(len(ways))]()


def json_bytes(document: Any, rng: Rng) -> tuple[str, bytes]:
    """A document damaged as JSON: its values, its text, or its bytes."""
    kind = rng.integers(10)
    if kind < 6:
        return "values", json.dumps(mutated(document, rng)).encode()
    text = json.dumps(document)
    if kind == 6:
        return "JSON", _json_text(text, rng).encode("utf-8", "surrogatepass")
    if kind == 7:
        return "encoding", _encoded(text, rng)
    return damaged(text.encode(), rng)


def _json_text(text: str, rng: Rng) -> str:
    ways = [
        "[" * 100_000,
        '{"a":' * 100_000,
        text.replace(":", ": " + "9" * 5000 + ", ", 1),
        text + text,
        text.replace("{", '{"x": 1, "x": 2, ', 1),
        text.replace('"', '"\\ud800', 1),
        text.replace(":", ": -Infinity, ", 1),
        "/* */" + text,
        "null",
        "\ufeff" + text,
    ]
    return ways[rng.integers(len(ways))]
