"""A user's evaluator by import path: what is passed to the workers instead of pickled classes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from evaluators.protocol import Evaluator
from search_spaces.hints import did_you_mean
from search_spaces.yaml_files import import_object


@dataclass(frozen=True)
class EvaluatorSpec:
    """How to make an evaluator in any process that sees the same files.

    Attributes:
        path: `package.module:Name`, or `./file.py:Name` relative to `folder`.
        folder: absolute folder that file paths start from.
        settings: keyword arguments of the constructor, JSON-ready.
    """

    path: str
    folder: str
    settings: Mapping[str, Any]

    def build(self, error: type[ValueError]) -> Evaluator:
        """Imports, checks the settings and constructs.

        Raises:
            error: no such class, or settings that its constructor does not take.
        """
        made = construct(self.path, Path(self.folder), self.settings, ("evaluator", "proxy"), error)
        return cast(Evaluator, made)


def construct(
    path: str,
    folder: Path,
    settings: Mapping[str, Any],
    keys: tuple[str, str],
    error: type[ValueError],
) -> Any:
    """Imports a user's class, checks the settings and constructs it.

    Args:
        path: `package.module:Name`, or `./file.py:Name` relative to `folder`.
        folder: absolute.
        settings: keyword arguments, JSON-ready.
        keys: where path and settings stand in the experiment.
        error: what is raised.

    Raises:
        error: no such class, or settings that its constructor does not take.
    """
    made = import_object(path, folder, keys[0], error)
    if not callable(made):
        raise error(f"{keys[0]}: {path} is not a class")
    known = accepted(made)
    values = {
        n: _checked(f"{keys[1]}.{n}", n, value, known, error) for n, value in settings.items()
    }
    try:
        return made(**values)
    except (TypeError, ValueError, OSError) as problem:
        raise error(f"{keys[1]}: {path}: {problem}") from None


def all_settings(made: Any, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor is called with, its defaults included, JSON-ready.

    A study is recorded under these, so that another version's defaults do not slip into it.
    """
    arguments = inspect.signature(made).parameters.values()
    defaults = {a.name: a.default for a in arguments if a.default is not inspect.Parameter.empty}
    settings: dict[str, Any] = json.loads(json.dumps({**defaults, **stated}, default=str))
    return settings


def accepted(made: Any) -> dict[str, Any]:
    """Names of a constructor's arguments with their types; `Any` where it states none."""
    try:
        hints = get_type_hints(getattr(made, "__init__", made) if isinstance(made, type) else made)
    except NameError:
        hints = {}
    return {name: hints.get(name, Any) for name in inspect.signature(made).parameters}


def _checked(
    key: str, name: str, value: Any, known: Mapping[str, Any], error: type[ValueError]
) -> Any:
    if name not in known:
        nothing = f"; it has {', '.join(known)}" if known else "; it has none"
        raise error(f"{key}: unknown key{did_you_mean(name, known) or nothing}")
    try:
        # JSON rules: strict, and a list may stand for a tuple.
        return TypeAdapter(known[name]).validate_json(json.dumps(value), strict=True)
    except ValidationError as problem:
        first = problem.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        where = ".".join(str(part) for part in (key, *first["loc"]))
        raise error(f"{where}: {message[0].lower()}{message[1:]} (got {value!r})") from None
