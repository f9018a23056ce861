"""Samples as they come, one line of JSON each: a campaign that breaks off keeps what it has."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latency.measure.backend import MeasureError
from search_spaces.json_text import parse_json


class _Visit(BaseModel):
    """A line of the journal."""

    model_config = ConfigDict(extra="forbid", strict=True)
    package: str
    round: Annotated[int, Field(ge=0)]
    runs_ms: Annotated[
        list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)
    ]


class Journal:
    """The samples of one campaign, on disk.

    The first line says what was measured on what; samples of another device, system or precision
    never mix with them.
    """

    def __init__(self, file: Path, header: Mapping[str, Any]) -> None:
        """Opens a journal, or begins it.

        Args:
            file: its folder is made when missing.
            header: what every sample depends on, JSON-ready.

        Raises:
            MeasureError: the file holds samples taken under another header, or is no journal.
        """
        self.file = file
        self._visits: dict[str, dict[int, list[float]]] = {}
        lines = _lines(file)
        if lines:
            self._resume(lines, json.loads(json.dumps(header)))
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._append(dict(header))

    def add(self, package: str, round_number: int, runs_ms: Sequence[float]) -> None:
        """Records one visit: every run in milliseconds."""
        self._append({"package": package, "round": round_number, "runs_ms": list(runs_ms)})
        self._visits.setdefault(package, {})[round_number] = list(runs_ms)

    def has(self, package: str, round_number: int) -> bool:
        """Whether a package was visited in a round."""
        return round_number in self._visits.get(package, {})

    def rounds_ms(self, package: str) -> dict[int, float]:
        """Round -> median of its runs, in the order of rounds."""
        visits = sorted(self._visits.get(package, {}).items())
        return {number: statistics.median(runs_ms) for number, runs_ms in visits}

    def _resume(self, lines: list[dict[str, Any]], header: dict[str, Any]) -> None:
        first, visits = lines[0], [_visit(line, self.file) for line in lines[1:]]
        differing = [key for key in header if first.get(key) != header[key]]
        if differing:
            key = differing[0]
            raise MeasureError(
                f"{self.file}: begun with {key} {first.get(key)!r}, now {header[key]!r};"
                " go on there, or move that file away"
            )
        for visit in visits:
            self._visits.setdefault(visit.package, {})[visit.round] = visit.runs_ms

    def _append(self, content: dict[str, Any]) -> None:
        # One write a line, so that a line broken off can only be the last.
        line = json.dumps(content) + "\n"
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def _lines(file: Path) -> list[dict[str, Any]]:
    """The journal's content; a last line that was broken off is cut away."""
    if not file.is_file():
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        lines = [parse_json(line) for line in whole.splitlines()]
    except ValueError:
        raise _foreign(file) from None
    if not all(isinstance(line, dict) for line in lines):
        raise _foreign(file)
    if not lines and content and not content.startswith(b"{"):
        raise _foreign(file)
    if len(whole) < len(content):
        os.truncate(file, len(whole))
    return lines


def _visit(line: dict[str, Any], file: Path) -> _Visit:
    try:
        return _Visit.model_validate(line)
    except ValidationError:
        raise _foreign(file) from None


def _foreign(file: Path) -> MeasureError:
    return MeasureError(f"{file}: is no journal of samples; move it away")
