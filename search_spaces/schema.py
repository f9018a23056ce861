"""What may stand in a space's YAML file."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from search_spaces.parameter import Choice

_NAME = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*$"
_RESERVED = ("and", "or", "not", "in", "implies", "true", "false", "template")


def _finite(value: Choice) -> Choice:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def _free(name: str) -> str:
    if any(part in _RESERVED for part in name.split(".")):
        raise ValueError(f"{', '.join(_RESERVED)} are words of the language")
    return name


_Name = Annotated[StrictStr, Field(pattern=_NAME, max_length=100), AfterValidator(_free)]
_Choice = Annotated[StrictBool | StrictInt | StrictFloat | StrictStr, AfterValidator(_finite)]
_Choices = Annotated[list[_Choice], Field(min_length=1)]
_When = StrictStr | dict[_Name, _Choice | _Choices]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ParameterFile(_Strict):
    """One parameter as written: a menu, and what goes with it."""

    choices: _Choices | None = None
    ordered: _Choices | None = None
    when: _When | None = None
    default: _Choice | None = None

    @model_validator(mode="after")
    def _one_menu(self) -> ParameterFile:
        if (self.choices is None) == (self.ordered is None):
            raise ValueError("needs either choices or ordered, a list")
        menu = self.menu
        if len({type(choice) for choice in menu}) > 1:
            raise ValueError("its choices are of mixed types")
        if len(set(menu)) < len(menu):
            raise ValueError("its choices repeat a value")
        if self.default is not None and self.default not in menu:
            raise ValueError("its default is none of its choices")
        if self.ordered is not None:
            _require_order(menu)
        return self

    @property
    def menu(self) -> list[Choice]:
        """The choices, ordered or not."""
        return (self.choices if self.ordered is None else self.ordered) or []


class TemplateFile(_Strict):
    """Parameters and constraints that several stages share, under names of their own."""

    parameters: Annotated[dict[_Name, ParameterFile], Field(min_length=1)]
    constraints: list[StrictStr] = []


class SpaceFile(_Strict):
    """A space's file."""

    name: StrictStr | None = None
    about: StrictStr = ""
    builder: StrictStr | None = None
    include: list[StrictStr] = []
    fixed: dict[str, Any] = {}
    paired_encoder: dict[str, Any] = {}
    templates: dict[_Name, TemplateFile] = {}
    stages: dict[_Name, dict[str, _Choice | _Choices]] = {}
    parameters: dict[_Name, ParameterFile] = {}
    constraints: list[StrictStr] = []
    reference: dict[str, Any] | None = None


def _require_order(menu: list[Choice]) -> None:
    if isinstance(menu[0], bool):
        raise ValueError("true and false have no order; write choices")
    steps = [a < b for a, b in pairwise(menu)]  # type: ignore[operator]
    if not isinstance(menu[0], str) and len(set(steps)) > 1:
        raise ValueError("ordered numbers must rise or fall from one to the next")
