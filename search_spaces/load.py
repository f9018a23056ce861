"""Search spaces from YAML files: safe-loaded, schema-checked, one-line errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from search_spaces.space import Choice, Parameter, SearchSpace, SpaceError
from search_spaces.yaml_files import import_object, parse, read_yaml

SHIPPED = Path(__file__).parent

_Choice = StrictBool | StrictInt | StrictFloat | StrictStr
_Choices = Annotated[list[_Choice], Field(min_length=1)]


class _ParameterFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    choices: _Choices
    when: dict[str, _Choices] | None = Field(default=None, max_length=1)


class _SpaceFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: StrictStr
    about: StrictStr = ""
    builder: StrictStr
    fixed: dict[str, _Choice] = {}
    parameters: Annotated[dict[str, _ParameterFile], Field(min_length=1)]
    reference: dict[str, _Choice]


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
    raise SpaceError(f"no search space {name!r}; shipped: {', '.join(shipped_spaces())}")


def load_space(path: Path | str) -> SearchSpace:
    """Reads a search space.

    Args:
        path: a YAML file, or the name of a shipped space.

    Raises:
        SpaceError: unreadable, not the schema, or contradictory; the message names file and key.
    """
    file = find_space(str(path))
    document = parse(_SpaceFile, read_yaml(file, SpaceError), str(file), SpaceError)
    try:
        return _space(document, file)
    except SpaceError as error:
        raise SpaceError(f"{file}: {error}") from None


def _space(document: _SpaceFile, file: Path) -> SearchSpace:
    parameters: list[Parameter] = []
    for name, declared in document.parameters.items():
        parameters.append(_parameter(name, declared, parameters, document.fixed))
    space = SearchSpace(
        name=document.name,
        parameters=tuple(parameters),
        builder=import_object(document.builder, file.parent, "builder", SpaceError),
        builder_name=document.builder,
        fixed=document.fixed,
        reference_choices=document.reference,
    )
    _ = space.reference
    return space


def _parameter(
    name: str, declared: _ParameterFile, earlier: list[Parameter], fixed: dict[str, Any]
) -> Parameter:
    choices = tuple(declared.choices)
    if len({(type(c), c) for c in choices}) < len(choices):
        raise SpaceError(f"parameters.{name}.choices repeats a value")
    if len({type(c) for c in choices}) > 1:
        raise SpaceError(f"parameters.{name}.choices mixes types")
    if name in fixed:
        raise SpaceError(f"parameters.{name} is also under fixed")
    return Parameter(name, choices, _condition(name, declared.when, earlier))


def _condition(
    name: str, when: dict[str, list[Choice]] | None, earlier: list[Parameter]
) -> tuple[str, tuple[Choice, ...]] | None:
    if when is None:
        return None
    ((parent, values),) = when.items()
    known = {parameter.name: parameter for parameter in earlier}
    if parent not in known:
        raise SpaceError(
            f"parameters.{name}.when names {parent!r}, which is not a parameter above it"
            f" ({', '.join(known) or 'there is none'})"
        )
    for value in values:
        if value not in known[parent].choices:
            raise SpaceError(f"parameters.{name}.when: {parent} is never {value!r}")
    return parent, tuple(values)
