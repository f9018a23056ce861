"""What a record must hold to be read: a storage may be damaged, or somebody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evaluators.protocol import Direction
from nas.record.records import Trial
from nas.record.storage import StudyError

_TEXTS = ("key", "started", "owner")
_WHOLE = ("number", "ask", "told_before")
_NUMBERS = frozenset({int, float})
_SINGLE = frozenset({int, float, str, bool})
_ROWS = frozenset({(str, str, float), (str, str, int)})  # step, block, ms


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Known(_Part):
    kind: str
    held_against: str | None = None
    oracle: str | None = None

    @model_validator(mode="after")
    def _says_what_was_held(self) -> _Known:
        if self.held_against is None and self.oracle is None:
            raise ValueError("says neither held_against nor oracle")
        return self


class _Grown(_Part):
    added: str
    ask: int


class _Warm(_Part):
    study: str
    asks: int


class _About(_Part):
    file: str = ""
    experiment: str = ""
    space_file: str = ""
    tables: dict[str, str] = {}


class _Record(_Part):
    """What readers rely on of a `StudyRecord`."""

    identity: dict[str, Any]
    objectives: Annotated[dict[str, Direction], Field(min_length=1)]
    limits: Annotated[dict[str, dict[str, float]], Field(min_length=1)]
    space: str
    provenance: dict[str, _Known]
    about: _About
    description: dict[str, Any] = {}
    grown: list[_Grown] = []
    warm: _Warm | None = None
    shared: bool = False
    other_limits: dict[str, float] = {}


@contextmanager
def sound(study: str) -> Iterator[None]:
    """Turns what rows of another form make of reading them into one line.

    Raises:
        StudyError: a row is not what this program writes.
    """
    try:
        yield
    except StudyError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as problem:
        said = " ".join(str(problem).split())[:100]
        raise damaged(study, f"{type(problem).__name__}: {said}") from None


def require_sound_record(study: str, attributes: Mapping[str, Any]) -> None:
    """Fails unless a study's attributes are of the kinds that a `StudyRecord` says.

    Raises:
        StudyError: something is missing, or is of another kind.
    """
    try:
        _Record.model_validate_json(json.dumps(dict(attributes), allow_nan=False))
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise damaged(study, f"{where}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise damaged(study, "numbers that are none, or too deep") from None


def require_sound(study: str, trial: Trial) -> Trial:
    """The trial, if all of it is of the kinds that it says.

    By hand: there may be tens of thousands.

    Raises:
        StudyError: something is not.
    """
    if wrong := _wrong(trial):
        raise damaged(study, f"trial {str(trial.number)[:20]}: {wrong}")
    return trial


def require_number(study: str, trial: int, values: Mapping[str, Any], name: str) -> None:
    """Fails unless a trial has a number under a name.

    Raises:
        StudyError: it has something else there, or nothing.
    """
    if not _is_number(values.get(name)):
        raise damaged(study, f"trial {trial} has no number under {name[:40]!r}")


def damaged(study: str, what: str) -> StudyError:
    """The error about a record that cannot be read."""
    return StudyError(f"study {study!r} is damaged in its storage: {what}; restore a copy of it")


def _wrong(trial: Trial) -> str | None:
    checks = {
        "numbers": all(type(getattr(trial, name)) is int for name in _WHOLE),
        "texts": all(isinstance(getattr(trial, name), str) for name in _TEXTS),
        "told": trial.told is None or type(trial.told) is int,
        "error": trial.error is None or isinstance(trial.error, str),
        "seconds": trial.seconds is None or _is_number(trial.seconds),
        "fidelity": _is_number(trial.fidelity),
        "code": {int}.issuperset(map(type, trial.code)),
        "choices": _is_flat(trial.choices),
        "values": _NUMBERS.issuperset(map(type, trial.values or ())),
        "price": _is_price(trial.price),
        "blocks": _are_blocks(trial.blocks),
        "metrics": _are_metrics(trial.metrics),
    }
    return next((name for name, sound in checks.items() if not sound), None)


def _is_number(value: Any) -> bool:
    """Finite ones: what is not was refused as JSON."""
    return type(value) in _NUMBERS


def _is_flat(values: Any) -> bool:
    """Of texts, truths and numbers."""
    return isinstance(values, dict) and _SINGLE.issuperset(map(type, values.values()))


def _are_numbers(values: Any) -> bool:
    return isinstance(values, dict) and _NUMBERS.issuperset(map(type, values.values()))


def _is_price(price: Any) -> bool:
    if not isinstance(price, dict):
        return False
    latency = price.get("latency", {})
    by_device = isinstance(latency, dict) and all(map(_are_numbers, latency.values()))
    return by_device and all(_is_number(x) for n, x in price.items() if n != "latency")


def _are_blocks(blocks: Any) -> bool:
    return isinstance(blocks, dict) and all(
        isinstance(stages, dict) and all(map(_are_rows, stages.values()))
        for stages in blocks.values()
    )


def _are_rows(rows: Any) -> bool:
    return isinstance(rows, list) and _ROWS.issuperset(tuple(map(type, row)) for row in rows)


def _are_metrics(metrics: Any) -> bool:
    """Whatever an evaluator returns that is JSON; what the program shows of it is of its kind."""
    if not isinstance(metrics, dict):
        return False
    points = metrics.get("rd_points") or []
    sound = isinstance(points, list) and all(isinstance(point, dict) for point in points)
    files = (metrics.get(name, "") for name in ("codec", "reconstruction", "weights"))
    return sound and all(file is None or isinstance(file, str) for file in files)
