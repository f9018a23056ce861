"""What may stand in a space's YAML file."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    StrictStr,
    Tag,
    model_validator,
)

from search_spaces.parameter import Choice

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_RESERVED = ("and", "or", "not", "in", "implies", "true", "false", "template")
_LARGEST = 2**53


def checked_choice(value: Any) -> Choice:
    """A value that a parameter may take and an expression can speak of.

    Raises:
        ValueError: neither number, text nor truth; a number that float64 does not hold; text that
            an expression cannot quote.
    """
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError("must be a number, text, true or false")
    if isinstance(value, str):
        if not value.isprintable() or ("'" in value and '"' in value):
            raise ValueError("text must be printable, with one kind of quotes at most")
    elif not abs(value) <= _LARGEST:  # not a number is refused too
        raise ValueError("numbers must be finite and end at 2**53")
    return value


def checked_name(name: str) -> str:
    """A name that expressions can read.

    Raises:
        ValueError: other letters, too long, or a word of the language.
    """
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise ValueError(
            "a name is made of at most 100 letters A-Z and a-z, digits and underscores, with dots"
            " between its parts"
        )
    if reserved := [part for part in name.split(".") if part in _RESERVED]:
        raise ValueError(f"{reserved[0]!r} is a word of the language and cannot be a name")
    return name


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable text")
    return text


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "mapping"
    return "list" if isinstance(value, list) else "value"


_Name = Annotated[StrictStr, AfterValidator(checked_name)]
_Line = Annotated[StrictStr, Field(max_length=1000), AfterValidator(_printable)]
_Choice = Annotated[Choice, PlainValidator(checked_choice)]
_Choices = Annotated[list[_Choice], Field(min_length=1)]
# One choice or several; told apart by what stands there, so that errors speak of that alone.
_Setting = Annotated[
    Annotated[_Choice, Tag("value")]
    | Annotated[_Choice, Tag("mapping")]
    | Annotated[_Choices, Tag("list")],
    Discriminator(_kind),
]
_When = Annotated[
    Annotated[StrictStr, Tag("value")]
    | Annotated[StrictStr, Tag("list")]
    | Annotated[dict[_Name, _Setting], Field(min_length=1), Tag("mapping")],
    Discriminator(_kind),
]


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
        if self.default is not None and not _among(self.default, menu):
            raise ValueError(f"its default {self.default!r} is none of its choices")
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

    name: _Line | None = None
    about: StrictStr = ""
    builder: _Line | None = None
    include: list[_Line] = []
    fixed: dict[str, Any] = {}
    paired_encoder: dict[str, Any] = {}
    templates: dict[_Name, TemplateFile] = {}
    stages: dict[_Name, dict[str, _Setting]] = {}
    parameters: dict[_Name, ParameterFile] = {}
    constraints: list[StrictStr] = []
    reference: dict[str, Any] | None = None


def _among(value: Choice, menu: list[Choice]) -> bool:
    """Python holds 1, 1.0 and true for equal."""
    return any(value == choice and type(value) is type(choice) for choice in menu)


def _require_order(menu: list[Choice]) -> None:
    if isinstance(menu[0], bool):
        raise ValueError("true and false have no order; write choices")
    steps = [a < b for a, b in pairwise(menu)]  # type: ignore[operator]
    if not isinstance(menu[0], str) and len(set(steps)) > 1:
        raise ValueError("ordered numbers must rise or fall from one to the next")
