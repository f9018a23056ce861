"""Search spaces from YAML files or by import path: found, read, checked whole; one-line errors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from search_spaces.document import Declared, Written, read_declared
from search_spaces.elimination import eliminate
from search_spaces.expressions import ExpressionError, parse_expression
from search_spaces.hints import did_you_mean
from search_spaces.parameter import SpaceError
from search_spaces.rules import RuleError, Rules
from search_spaces.schema import ParameterFile, checked_name
from search_spaces.space import SearchSpace
from search_spaces.yaml_files import import_object, parse

SHIPPED = Path(__file__).parent

_IMPORT_PATH = re.compile(r"(?P<module>.+\.py|\w+(\.\w+)*):(?P<name>\w+)")


def shipped_spaces() -> list[str]:
    """Names of the spaces that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find_space(name: str, relative_to: Path | None = None) -> Path:
    """Path of a space given by shipped name or by path.

    Args:
        name: `tiny`, or a path to a YAML file.
        relative_to: folder that relative paths start from; default the working directory.

    Raises:
        SpaceError: there is no such space.
    """
    path = (relative_to or Path()) / name
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise SpaceError(f"no search space at {path}")
    if name in shipped_spaces():
        return SHIPPED / f"{name}.yaml"
    shipped = ", ".join(shipped_spaces())
    hint = did_you_mean(name, shipped_spaces()) or "; your own is a path that ends in .yaml"
    raise SpaceError(f"no search space {name!r}; shipped: {shipped}{hint}")


def space_source(name: str, relative_to: Path) -> str:
    """What `load_space` finds a space by, whatever the working directory.

    Args:
        name: as for `load_space`.
        relative_to: folder that relative paths start from.

    Raises:
        SpaceError: there is no such file or shipped space.
    """
    if not (imported := _IMPORT_PATH.fullmatch(name)):
        return str(find_space(name, relative_to).resolve())
    if not imported["module"].endswith(".py"):
        return name
    return f"{(relative_to / imported['module']).resolve()}:{imported['name']}"


def load_space(path: Path | str) -> SearchSpace:
    """Reads a search space.

    Args:
        path: a YAML file, the name of a shipped space, or `package.module:Name` or `./file.py:Name`
            of a `SearchSpace` or a function without arguments that returns one.

    Raises:
        SpaceError: unreadable, not the schema, or contradictory; the message names file and key.
    """
    if _IMPORT_PATH.fullmatch(str(path)):
        where, space = str(path), _imported(str(path))
    else:
        file = find_space(str(path))
        where, space = str(file), _space(read_declared(file), file)
    try:
        _require_members(space.rules)
        _ = space.reference
    except (RuleError, ExpressionError) as error:
        raise SpaceError(f"{where}: {error}") from None
    except SpaceError as error:
        raise SpaceError(f"{where}: reference: {error}") from None
    return space


def _imported(path: str) -> SearchSpace:
    made = import_object(path, Path(), "space", SpaceError)
    if callable(made):
        made = _called(made, path)
    if not isinstance(made, SearchSpace):
        raise SpaceError(f"space: {path} gives no SearchSpace but a {type(made).__name__}")
    for parameter in made.parameters:
        where = f"{path}: parameters.{parameter.name}"
        kind = "ordered" if parameter.ordered else "choices"
        menu = {kind: list(parameter.choices), "default": parameter.default}
        parse(ParameterFile, menu, where, SpaceError)
        try:
            checked_name(parameter.name)
        except ValueError as problem:
            raise SpaceError(f"{where}: {problem}") from None
    if len(set(made.names)) < len(made.names):
        raise SpaceError(f"{path}: parameters: two have the same name")
    return made


def _called(function: Any, path: str) -> Any:
    try:
        return function()
    except Exception as problem:  # a user's own file may raise anything
        what = " ".join(f"{type(problem).__name__}: {problem}".split())
        raise SpaceError(f"space: {path}: {what}") from problem


def _space(declared: Declared, file: Path) -> SearchSpace:
    for key in ("name", "builder", "parameters", "reference"):
        if not getattr(declared, key) and getattr(declared, key) != {}:
            raise SpaceError(f"{file}: {key}: is missing")
    if not declared.parameters:
        raise SpaceError(f"{file}: parameters: is missing; state it, or stages")
    _require_paired(declared, file)
    assert declared.name is not None
    assert declared.builder is not None
    path, folder = declared.builder
    parameters = tuple(
        replace(parameter, when=_condition(name, declared))
        for name, parameter in declared.parameters.items()
    )
    builder = import_object(path, folder, f"{file}: builder", SpaceError)
    if not callable(builder):
        raise SpaceError(f"{file}: builder: {path} is no function")
    return SearchSpace(
        name=declared.name,
        parameters=parameters,
        builder=builder,
        builder_name=path,
        fixed=declared.fixed,
        reference_choices=declared.reference or {},
        constraints=tuple(_absolute(written, declared) for written in declared.constraints),
        paired_encoder=tuple(declared.paired_encoder),
    )


def _condition(name: str, declared: Declared) -> str | None:
    written = declared.conditions.get(name)
    return None if written is None else _absolute(written, declared)


def _absolute(written: Written, declared: Declared) -> str:
    """An expression under full names."""
    scope = {name: parameter.choices for name, parameter in declared.parameters.items()}
    try:
        return parse_expression(written.text, scope, declared.fixed, written.prefix).text
    except ExpressionError as error:
        raise SpaceError(f"{written.where}: {error}") from None


def _require_paired(declared: Declared, file: Path) -> None:
    searched = [name for name in declared.parameters if name.startswith("encoder.")]
    if declared.paired_encoder and searched:
        raise SpaceError(
            f"{file}: paired_encoder: the space searches {searched[0]} itself; fix what it shares"
        )


def _require_members(rules: Rules) -> None:
    """Fails where the constraints leave nothing, naming a smallest set of them that does.

    Raises:
        RuleError: the space is empty.
    """
    if eliminate(rules).count:
        return
    needed = list(rules.constraints)
    for constraint in rules.constraints:
        others = [other for other in needed if other is not constraint]
        if not eliminate(replace(rules, constraints=tuple(others))).count:
            needed = others
    named = " and ".join(repr(constraint.text) for constraint in needed)
    raise RuleError(f"constraints: no architecture satisfies {named}")
