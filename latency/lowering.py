"""From blocks to the Core ML operations that a device runs: each block once, kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache as memoised
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency.conversion import LoweringError as LoweringError
from latency.conversion import one_line, program_of, quiet, saved_program
from latency.ops import Op
from search_spaces.blocks import Block, Shape
from search_spaces.files import write_atomically

if TYPE_CHECKING:
    from torch import nn

_FORMAT = 2
_LONGEST_ATTRIBUTE = 16


def default_cache() -> Path:
    """`lowered/` in NAS_CACHE_DIR when that is set, else in the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("NAS_CACHE_DIR") or user_cache_dir("nas-codecs")) / "lowered"


def lower(block: Block, cache: Path | None = None) -> tuple[Op, ...]:
    """The operations of a block in order of execution, from disk when they are there.

    Safe to call from several processes at once. A cached file that cannot be read is made again.

    Args:
        block: what to lower, at batch size 1.
        cache: folder of the lowered blocks; default `default_cache()`.

    Raises:
        LoweringError: Core ML cannot express the block, or the folder cannot be written.
    """
    file = cache_file(block, cache)
    ops = _read(file)
    if ops is None:
        ops = _lower(block)
        _write(file, block.signature, ops)
    return ops


def is_lowered(block: Block, cache: Path | None = None) -> bool:
    """Whether `lower` would find the block on disk."""
    return _read(cache_file(block, cache)) is not None


def cache_file(block: Block, cache: Path | None = None) -> Path:
    """Where a block's operations are kept: named by content, sources and library versions.

    Raises:
        LoweringError: the block's class is defined in no file.
    """
    identity = {
        "block": f"{type(block).__module__}:{type(block).__qualname__}",
        "signature": block.signature,
        "inputs": block.input_shapes,
        "sources": _sources_digest(type(block).__module__),
        "versions": _versions(),
    }
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return (cache or default_cache()) / f"{name}.json"


def lower_module(module: nn.Module, shapes: Sequence[Shape], name: str) -> tuple[Op, ...]:
    """The operations of any torch module, in order of execution.

    Args:
        module: lowered in evaluation mode. Its parameters are overwritten: zeros and ones of a
            fresh network would otherwise be simplified away, which trained values never are.
        shapes: of its inputs, without the batch dimension.
        name: for error messages.

    Raises:
        LoweringError: Core ML cannot express the module.
    """
    try:
        with quiet():
            return _canonical(program_of(module, shapes))
    except Exception as error:
        raise LoweringError(f"{name} cannot be lowered to Core ML: {one_line(error)}") from error


def package_ops(package: Path) -> tuple[Op, ...]:
    """The operations of a package on disk, in order of execution, as `lower_module` gives them.

    Raises:
        LoweringError: coremltools cannot read it.
    """
    try:
        with quiet():
            return _canonical(saved_program(package))
    except Exception as error:
        raise LoweringError(f"{package} cannot be read: {one_line(error)}") from error


def _lower(block: Block) -> tuple[Op, ...]:
    import torch

    from search_spaces.build import fold

    # Building draws from torch's generator; with and without the cache, training must be the same.
    with torch.random.fork_rng(devices=[]):
        module = fold(block.build())
        return lower_module(module, block.input_shapes, block.signature)


def _canonical(function: Any) -> tuple[Op, ...]:
    """Leaves out constants, and casts at the border: inside a network they are not there."""
    ends = {variable.name for variable in (*function.inputs.values(), *function.outputs)}
    return tuple(_op(op) for op in function.operations if not _free(op, ends))


def _free(op: Any, ends: set[str]) -> bool:
    if op.op_type == "cast":
        return op.x.name in ends or op.outputs[0].name in ends
    return bool(op.op_type == "const" or op.op_type.startswith("constexpr"))


def _op(op: Any) -> Op:
    activations: list[Shape] = []
    weights: list[Shape] = []
    attributes: list[tuple[str, str]] = []
    for name, variable in _variables(op):
        if _is_weight(variable):
            weights += [_shape(variable)] if _shape(variable) else []
        elif variable.val is None:
            activations.append(_shape(variable))
        elif name != "pad_type":  # `pad` says what it resolves to
            attributes.append((name, _attribute(variable.val)))
    outputs = tuple(_shape(variable) for variable in op.outputs)
    dtype = _dtype(op.outputs[0])
    settings = tuple(sorted(attributes))
    return Op(op.op_type, tuple(activations), tuple(weights), outputs, settings, dtype)


def _variables(op: Any) -> Iterator[tuple[str, Any]]:
    for name, value in op.inputs.items():
        for variable in value if isinstance(value, (list, tuple)) else (value,):
            if variable is not None:
                yield name, variable


def _is_weight(variable: Any) -> bool:
    """Constants whose values decide no cost: floating point (a scalar has no shape) and tables."""
    if variable.op is not None and variable.op.op_type.startswith("constexpr"):
        return True
    is_table = getattr(variable.val, "size", 1) > _LONGEST_ATTRIBUTE
    return variable.val is not None and (is_table or _dtype(variable).startswith("fp"))


def _shape(variable: Any) -> Shape:
    return tuple(int(size) for size in variable.shape)


def _dtype(variable: Any) -> str:
    from coremltools.converters.mil.mil import types

    scalar = variable.dtype if types.is_scalar(variable.dtype) else types.str
    return str(types.builtin_to_string(scalar))


def _attribute(value: Any) -> str:
    values = value.ravel().tolist() if hasattr(value, "ravel") else [value]
    return "x".join(map(str, values))


@memoised
def _versions() -> list[str]:
    return [f"format {_FORMAT}", version("coremltools"), version("torch")]


@memoised
def _sources_digest(module: str) -> str:
    """Hash of every Python file beside the module: what its blocks may be built from."""
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        raise LoweringError(f"{module} is no file; blocks must come from a module on disk")
    digest = hashlib.sha256()
    for source in sorted(Path(file).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def _read(file: Path) -> tuple[Op, ...] | None:
    """None when the file is missing or damaged."""
    try:
        return tuple(_from_json(op) for op in json.loads(file.read_text(encoding="utf-8"))["ops"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(file: Path, signature: str, ops: tuple[Op, ...]) -> None:
    content = {"block": signature, "ops": [asdict(op) for op in ops]}
    try:
        write_atomically(file, json.dumps(content, indent=1))
    except OSError as error:
        raise LoweringError(
            f"cannot keep lowered blocks in {file.parent}: {error.strerror};"
            " set NAS_CACHE_DIR to a folder that can be written"
        ) from None


def _from_json(op: dict[str, Any]) -> Op:
    shapes = {key: tuple(map(tuple, op[key])) for key in ("inputs", "weights", "outputs")}
    attributes = tuple((str(name), str(value)) for name, value in op["attributes"])
    return Op(type=op["type"], attributes=attributes, dtype=op["dtype"], **shapes)
