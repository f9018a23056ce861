"""What `nas latency estimate` prices: any torch module, or an architecture of a space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.torchvision_operators import declare_missing_operators
from latency.lowering import lower_module
from latency.oracle import LatencyOracle
from latency.table import LatencyTable
from latency.table_files import load_table
from nas.commands.options import warn
from nas.display import latency_tables
from nas.experiment import ExperimentError
from search_spaces.blocks import Precision, Shape
from search_spaces.hints import did_you_mean
from search_spaces.load import load_space
from search_spaces.space import SearchSpace
from search_spaces.yaml_files import import_object

if TYPE_CHECKING:
    from torch import nn

_SHAPE = re.compile(r"\d+(x\d+)+")


def of_module(
    device: str, path: str, inputs: Sequence[str], precision: str | None
) -> dict[str, Any]:
    """One run of a module.

    Args:
        device: a shipped name or a table's path.
        path: `file.py:factory` or `package.module:factory`, relative to the working directory.
        inputs: a shape each, as `1x3x224x224`.
        precision: default fp16 where the table has it.

    Raises:
        ExperimentError: no such module, or shapes that it does not take.
        TableError, MissingRowError: the table cannot be used, or prices no single operations.
        LoweringError: Core ML cannot express the module.
    """
    table = load_table(device)
    warn(table.stale)
    chosen = precision_of(table, precision)
    shapes = [_shape(text) for text in inputs]
    if not shapes:
        raise ExperimentError("--input: is missing; a shape such as 1x3x224x224 for each input")
    table.op_ms((), chosen)  # before the module is made
    return latency_tables.module_document(table, chosen, lower_module(_made(path), shapes, path))


def of_architecture(
    device: str, space_name: Path, stated: Sequence[str], precision: str | None
) -> dict[str, Any]:
    """Every stage of an architecture for a whole image.

    Args:
        device: a shipped name or a table's path.
        space_name: a YAML file or a shipped name.
        stated: `name=choice`, differing from the reference architecture.
        precision: default fp16 where the table has it.

    Raises:
        ExperimentError: no such parameter or choice.
        SpaceError, TableError, MissingRowError, LoweringError: as everywhere.
    """
    table, space = load_table(device), load_space(space_name)
    warn(table.stale)
    oracle = LatencyOracle(table, precision_of(table, precision))
    choices = {**space.reference.choices, **dict(_choice(space, text) for text in stated)}
    architecture = space.architecture(space.encode(choices))
    estimate = oracle.estimate(space.design(architecture))
    return latency_tables.architecture_document(oracle, estimate, architecture.choices)


def precision_of(table: LatencyTable, stated: str | None) -> Precision:
    """The stated precision, else fp16, else the first that the table has.

    Raises:
        ExperimentError: the table does not have the stated one.
    """
    known = table.precisions
    chosen = stated or ("fp16" if "fp16" in known else known[0])
    if chosen not in known:
        raise ExperimentError(
            f"--precision: {table.device} has no latencies in {chosen}; it has {', '.join(known)}"
        )
    return chosen  # type: ignore[return-value]


def _made(path: str) -> nn.Module:
    from torch import nn

    declare_missing_operators()  # zoos of networks import torchvision
    factory = import_object(path, Path.cwd(), "--module", ExperimentError)
    try:
        made = factory if isinstance(factory, nn.Module) else factory()
    except Exception as problem:
        first = (str(problem).strip().splitlines() or ["no reason given"])[0]
        raise ExperimentError(f"--module: {path}: {type(problem).__name__}: {first}") from problem
    if not isinstance(made, nn.Module):
        raise ExperimentError(f"--module: {path} gives a {type(made).__name__}, no torch module")
    return made


def _shape(text: str) -> Shape:
    """Without the batch dimension, which is 1."""
    if not _SHAPE.fullmatch(text):
        raise ExperimentError(f"--input: {text!r} is no shape such as 1x3x224x224")
    batch, *shape = map(int, text.split("x"))
    if batch != 1 or 0 in shape:
        raise ExperimentError(f"--input: {text!r}: a phone runs batches of 1, sizes above 0")
    return tuple(shape)


def _choice(space: SearchSpace, text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    known = [parameter.name for parameter in space.parameters]
    if not separator:
        raise ExperimentError(f"--set: {text!r} is not NAME=CHOICE")
    if name not in known:
        raise ExperimentError(f"--set: {space.name} has no {name!r}{did_you_mean(name, known)}")
    choices = next(p.choices for p in space.parameters if p.name == name)
    found = next((c for c in choices if str(c).lower() == value.lower()), None)
    if found is None:
        listed = ", ".join(map(str, choices))
        raise ExperimentError(f"--set: {name} has no choice {value!r}; it has {listed}")
    return name, found
