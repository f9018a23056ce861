"""Command lines for `fuzz.py`: every command, any of its options, and whatever as their values."""

from __future__ import annotations

from typing import Any

import click
from fuzz_given import Given
from fuzz_mutations import Rng, any_text

# What would train, measure, serve or convert for long is never given what it could do so with.
_HEAVY = {
    "search", "check", "supernet", "confirm", "ablate", "train", "export", "dashboard", "measure",
    "validate",
}  # fmt: skip
_LEFT_OUT = {"--serve", "--search", "--ray-address"}
_VALUES = [
    "0", "1", "-1", "7", "1e9", "nan", "inf", "0.5", "99999999999999999999", "0x1", "1,2,3", ",",
    "1:2:3", "60:240:20", "a=1", "decode_ms=100", "=", "1x3x8x8", "iphone-12", "fp16",
    "none", "psnr", "white", "#12", "torch", "--", "-", "\udcff", "sqlite://", "x://y", "sqlite:",
    "sqlite:////none/none.db", "postgresql://127.0.0.1:1/x", "sqlite:///file:x?uri=true",
]  # fmt: skip


def any_arguments(given: Given, rng: Rng) -> tuple[str, list[str]]:
    """A command line; the command's name first."""
    from nas.cli import cli

    command, words = _command(cli, rng)
    positional = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option)]
    heavy = words[-1] in _HEAVY
    arguments = [_value(given, rng, heavy) for p in positional if rng.random() < 0.95]
    for option in rng.permutation(len(options))[: rng.integers(4)]:
        arguments += _option(options[option], given, rng, heavy)
    if rng.random() < 0.1:
        arguments.insert(int(rng.integers(len(arguments) + 1)), _plain(any_text(rng)))
    return " ".join(words), [*words, *arguments]


def _command(group: Any, rng: Rng) -> tuple[click.Command, list[str]]:
    names = sorted(name for name in group.commands if not name.startswith("fuzz-"))
    name = names[rng.integers(len(names))]
    command = group.commands[name]
    if isinstance(command, click.Group):
        inner, words = _command(command, rng)
        return inner, [name, *words]
    return command, [name]


def _option(option: click.Option, given: Given, rng: Rng, heavy: bool) -> list[str]:
    name = option.opts[-1]
    if name in _LEFT_OUT:
        return []
    if option.is_flag and rng.random() < 0.95:
        return [name]
    return [name, _value(given, rng, heavy)]


def _value(given: Given, rng: Rng, heavy: bool) -> str:
    intact = ["codec-0.safetensors", "photos", "photos/photo.png", "space.yaml", "table.yaml"]
    kind = rng.integers(5)
    if kind == 0 and not heavy:
        return given.path(intact[rng.integers(len(intact))])
    if kind == 1 and not heavy:
        return ["small", f"sqlite:///{given.path('nas.db')}", "0"][rng.integers(3)]
    if kind == 2:
        return ["none", "text.txt", ".", "none/none", "none.yaml", "none.safetensors"][
            rng.integers(6)
        ]
    return _VALUES[rng.integers(len(_VALUES))] if kind == 3 else _plain(any_text(rng))


def _plain(text: str) -> str:
    """Without what no argument of a process can hold."""
    return text.replace("\0", "?")
