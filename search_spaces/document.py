"""What a space's YAML file holds, with includes joined and templates written out.

Nothing is judged here that needs the whole space: `search_spaces.load` does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.expression_grammar import shown
from search_spaces.hints import did_you_mean
from search_spaces.parameter import Choice, Parameter, SpaceError
from search_spaces.schema import (
    ParameterFile,
    SpaceFile,
    TemplateFile,
    checked_choice,
    checked_name,
)
from search_spaces.yaml_files import parse, read_yaml


@dataclass(frozen=True)
class Written:
    """An expression as it stands in a file.

    Attributes:
        text: as written, on one line.
        prefix: of the stage whose names it may use without it; empty outside stages.
        where: file and key, for errors.
    """

    text: str
    prefix: str
    where: str


@dataclass
class Declared:
    """Everything that a file and the files that it includes declare, under full names.

    Attributes:
        where: parameter -> file and key.
        conditions: parameter -> its condition.
        builder: import path, and the folder that it is relative to.
    """

    name: str | None = None
    builder: tuple[str, Path] | None = None
    fixed: dict[str, Choice] = field(default_factory=dict)
    paired_encoder: dict[str, Choice] = field(default_factory=dict)
    templates: dict[str, TemplateFile] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, Written] = field(default_factory=dict)
    constraints: list[Written] = field(default_factory=list)
    reference: dict[str, Choice] | None = None


def read_declared(file: Path, including: tuple[Path, ...] = ()) -> Declared:
    """Reads a file and what it includes.

    Args:
        file: YAML, of a space or of an experiment that holds one under `space`.
        including: the files that led to this one.

    Raises:
        SpaceError: unreadable, not the schema, a name that stands twice, files that include each
            other.
    """
    content = read_yaml(file, SpaceError)
    inline = content.get("space")
    if isinstance(inline, dict):  # an experiment that holds its space
        content = inline
    document = parse(SpaceFile, content, str(file), SpaceError)
    chain = (*including, file.resolve())
    declared = Declared()
    for name in document.include:
        _join(declared, read_declared(_included(name, file, chain), chain), f"{file}: include")
    _own(declared, document, file)
    return declared


def flatten(values: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Choice]:
    """Nested mappings as one, their names joined by dots.

    Raises:
        SpaceError: something that is no choice, or two ways to the same name.
    """
    flat: dict[str, Choice] = {}
    for name, value in _leaves(values, prefix):
        if name in flat:
            raise SpaceError(f"{where}.{name}: stands twice")
        try:
            flat[checked_name(name)] = checked_choice(value)
        except ValueError as problem:
            raise SpaceError(f"{where}.{name[:100]}: {problem}") from None
    return flat


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _included(name: str, file: Path, chain: tuple[Path, ...]) -> Path:
    from search_spaces.load import find_space

    try:
        found = find_space(name, file.parent)
    except (SpaceError, OSError) as problem:  # OSError: too long a name
        raise SpaceError(f"{file}: include: {problem}") from None
    if found.resolve() in chain:
        names = " includes ".join(str(path) for path in (*chain, found.resolve()))
        raise SpaceError(f"{file}: include: files in a circle: {names}")
    return found


def _join(declared: Declared, included: Declared, where: str) -> None:
    """Adds what an included file declares."""
    for name, first in included.where.items():
        _require_new(declared, name, first)
    for name in included.templates:
        if name in declared.templates:
            raise SpaceError(f"{where}: template {name!r} stands in two of the files")
    for one, other in ((declared, included), (included, declared)):
        for name, value in one.fixed.items():
            if name in other.parameters or other.fixed.get(name, value) != value:
                raise SpaceError(f"{where}: {name} stands in two of the files, under fixed in one")
    declared.name = included.name or declared.name
    declared.builder = included.builder or declared.builder
    for kind in ("fixed", "paired_encoder", "templates", "parameters", "where", "conditions"):
        getattr(declared, kind).update(getattr(included, kind))
    declared.constraints += included.constraints
    if included.reference is not None:
        declared.reference = {**(declared.reference or {}), **included.reference}


def _own(declared: Declared, document: SpaceFile, file: Path) -> None:
    """Adds what a file declares itself; its fixed values take the place of included parameters."""
    declared.name = document.name or declared.name
    if document.builder:
        declared.builder = document.builder, file.parent
    paired = flatten(document.paired_encoder, f"{file}: paired_encoder", "encoder.")
    declared.paired_encoder |= paired
    fixed = flatten(document.fixed, f"{file}: fixed")
    for name in paired.keys() & fixed.keys():
        raise SpaceError(f"{file}: paired_encoder: {name} is also under fixed")
    for name, value in {**fixed, **paired}.items():
        _fix(declared, name, value)
    for name in document.templates.keys() & declared.templates.keys():
        raise SpaceError(f"{file}: templates.{name}: stands in an included file too")
    declared.templates |= document.templates
    for name, parameter in document.parameters.items():
        _add(declared, name, parameter, "", f"{file}: parameters.{name}")
    for stage, settings in document.stages.items():
        _write_out(declared, stage, settings, f"{file}: stages.{stage}")
    for i, text in enumerate(document.constraints):
        declared.constraints.append(Written(_line(text), "", f"{file}: constraints[{i}]"))
    if document.reference is not None:
        own = flatten(document.reference, f"{file}: reference")
        declared.reference = {**(declared.reference or {}), **own}


def _fix(declared: Declared, name: str, value: Choice) -> None:
    declared.fixed[name] = value
    for kind in (declared.parameters, declared.where, declared.conditions, declared.reference):
        if kind is not None:
            kind.pop(name, None)


def _write_out(
    declared: Declared, stage: str, settings: Mapping[str, Choice | list[Choice]], where: str
) -> None:
    """A template's parameters under a stage's name, with the stage's own menus."""
    given = dict(settings)
    name = given.pop("template", None)
    if name is None:
        raise SpaceError(f"{where}: template: is missing")
    if not isinstance(name, str) or name not in declared.templates:
        hint = did_you_mean(str(name), declared.templates)
        raise SpaceError(f"{where}: no template {name!r}{hint}")
    template = declared.templates[name]
    for key in given:
        if key not in template.parameters:
            hint = did_you_mean(key, template.parameters)
            raise SpaceError(f"{where}.{key}: template {name!r} has no such parameter{hint}")
    for key, parameter in template.parameters.items():
        value = given.get(key, parameter.menu)
        if isinstance(value, list):
            own = _with_menu(parameter, value, f"{where}.{key}")
            _add(declared, f"{stage}.{key}", own, f"{stage}.", f"{where}.{key}")
        else:
            _require_new(declared, f"{stage}.{key}", f"{where}.{key}")
            if f"{stage}.{key}" in declared.fixed:
                raise SpaceError(f"{where}.{key}: is also under fixed")
            declared.fixed[f"{stage}.{key}"] = value
            declared.where[f"{stage}.{key}"] = f"{where}.{key}"
    for i, text in enumerate(template.constraints):
        place = f"{where}: templates.{name}.constraints[{i}]"
        declared.constraints.append(Written(_line(text), f"{stage}.", place))


def _with_menu(parameter: ParameterFile, menu: list[Choice], where: str) -> ParameterFile:
    kind = "choices" if parameter.ordered is None else "ordered"
    content = parameter.model_dump(exclude={"choices", "ordered"}) | {kind: menu}
    return parse(ParameterFile, content, where, SpaceError)


def _add(declared: Declared, name: str, file: ParameterFile, prefix: str, where: str) -> None:
    _require_new(declared, name, where)
    if name in declared.fixed:
        raise SpaceError(f"{where}: is also under fixed")
    declared.where[name] = where
    declared.parameters[name] = Parameter(
        name, tuple(file.menu), file.ordered is not None, None, file.default
    )
    if file.when is not None:
        text = _line(file.when) if isinstance(file.when, str) else _as_expression(file.when)
        declared.conditions[name] = Written(text, prefix, f"{where}.when")


def _require_new(declared: Declared, name: str, where: str) -> None:
    if name in declared.where:
        raise SpaceError(f"{where}: {name} stands twice, first at {declared.where[name]}")


def _as_expression(when: Mapping[str, Choice | list[Choice]]) -> str:
    """The shorthand `{name: value or values, ...}`, all of which must hold."""
    return " and ".join(
        f"{name} in [{', '.join(map(shown, value if isinstance(value, list) else [value]))}]"
        for name, value in when.items()
    )


def _line(text: str) -> str:
    """YAML's folded and literal blocks end in a line break."""
    return " ".join(text.split())
