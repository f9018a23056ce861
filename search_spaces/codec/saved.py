"""A codec as one file: weights, the integers of its entropy model, and the choices behind it.

A safetensors file. Nothing in it names code: the choices are those of the codec family, checked
before anything is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from search_spaces.blocks import Design
from search_spaces.codec import entropy
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.scale_decoder import LARGEST_SHIFT
from search_spaces.files import write_tensors
from search_spaces.json_text import parse_json
from search_spaces.space import Choice

CODEC_FILE = "codec.safetensors"  # in the folders of trainings and exports
_FORMAT = "nas-codec 1"


class CodecFileError(ValueError):
    """A file that holds no codec of this family."""


def save_codec(codec: Codec, choices: Mapping[str, Choice], file: Path, half: bool = False) -> None:
    """Writes a codec atomically.

    Args:
        codec: frozen (`Codec.freeze`) after its last training.
        choices: what `build_design` makes its design of.
        file: by custom `.safetensors`.
        half: keeps weights in 16 bits: half the size, to begin other trainings from. The entropy
            model's integers stay, so that pictures are still decoded to the same symbols.

    Raises:
        ValueError: the choices make another design.
        OSError: the disk is full, or the folder cannot be written.
    """
    if build_design(choices) != codec.design:
        raise ValueError("the choices do not make the codec's design")
    metadata = {"format": _FORMAT, "choices": json.dumps(dict(choices), sort_keys=True)}
    tensors = _tensors(codec)
    if half:
        tensors |= {n: t.half() for n, t in tensors.items() if t.dtype == torch.float32}
    write_tensors(file, tensors, metadata)


def load_codec(file: Path) -> Codec:
    """Reads what `save_codec` wrote, ready to run on the CPU.

    Raises:
        CodecFileError: it is no such file, or damaged.
    """
    try:
        with safe_open(file, "pt") as content:
            choices = _choices(content.metadata(), file)
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else _what_it_is(file)
        raise CodecFileError(f"{file}: {reason or problem}; expected a codec file") from None
    try:
        return _built(build_design(choices), tensors)
    except ValueError as problem:
        raise CodecFileError(f"{file}: {problem}") from None


def _what_it_is(file: Path) -> str:
    """Of a file that holds no safetensors."""
    with file.open("rb") as content:
        begin = content.read(4)
    if begin.startswith((b"PK\x03\x04", b"\x80")):  # what torch.save and pickle write
        return "a pickle, which could run any code and is never opened"
    return "not a safetensors file"


def codec_key(codec: Codec) -> bytes:
    """Names a codec's networks and weights: 8 bytes, equal only for codecs that code alike."""
    digest = hashlib.sha256()
    for name, block in sorted(codec.design.blocks.items()):
        digest.update(f"{name} {block.signature}\n".encode())
    for name, tensor in sorted(_tensors(codec).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.digest()[:8]


def load_choices(file: Path) -> dict[str, Choice]:
    """The choices behind a codec file that `load_codec` reads.

    Raises:
        CodecFileError: they are missing or damaged.
    """
    with safe_open(file, "pt") as content:
        return _choices(content.metadata(), file)


def _tensors(codec: Codec) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in codec.state_dict().items()}


def _choices(metadata: Mapping[str, str] | None, file: Path) -> dict[str, Choice]:
    if (metadata or {}).get("format") != _FORMAT:
        raise CodecFileError(f"{file}: no codec file of this version (expected {_FORMAT!r})")
    try:
        choices: Any = parse_json((metadata or {})["choices"])
    except (KeyError, ValueError):
        choices = None
    if not isinstance(choices, dict):
        raise CodecFileError(f"{file}: its choices are missing or damaged")
    return choices


def _built(design: Design, tensors: dict[str, Tensor]) -> Codec:
    """A codec with these tensors.

    Raises:
        ValueError: a tensor is missing, unknown, of another shape or of impossible values.
    """
    held = sum(tensor.numel() for tensor in tensors.values())
    if held < design.parameters:  # before memory is taken for what the choices claim
        raise ValueError(f"{held} values for a codec of {design.parameters} parameters")
    codec = Codec(design)
    expected = codec.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise ValueError(f"tensor {name!r} is {'missing' if name in expected else 'unknown'}")
    for name, tensor in tensors.items():
        wanted = expected[name]
        halved = tensor.dtype == torch.float16 and wanted.dtype == torch.float32
        if tensor.shape != wanted.shape or not (halved or tensor.dtype == wanted.dtype):
            raise ValueError(f"tensor {name!r} has another shape or type")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {name!r} is not finite")
    _check_integers(tensors)
    codec.load_state_dict(tensors)
    return codec.eval()


def _check_integers(tensors: Mapping[str, Tensor]) -> None:
    limits = {"shift": LARGEST_SHIFT, "table_indices": entropy.TABLES - 1}
    for name, tensor in tensors.items():
        for ending, limit in limits.items():
            if name.endswith(ending) and int(tensor.max()) > limit:
                raise ValueError(f"tensor {name!r} has a value above {limit}")
