"""Latency tables on disk: one YAML file a device, that a person can read and diff.

A file is a header, and after the line `rows:` one row a line. Rows are written as JSON, which is
YAML too: thousands of them are read in a moment, and what was measured again is one changed line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from latency.table import LatencyTable, TableError, contradiction
from search_spaces.files import write_atomically
from search_spaces.hints import did_you_mean
from search_spaces.json_text import parse_json
from search_spaces.yaml_files import parse, parse_yaml, read_text

SHIPPED = Path(__file__).parent / "tables"

_LARGEST_BYTES = 10**8
_ROWS = "\nrows:\n"


def shipped_tables() -> list[str]:
    """Names of the devices whose tables come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_table(name_or_path: str | Path) -> LatencyTable:
    """Reads a latency table.

    Args:
        name_or_path: a shipped device (`iphone-17-pro-max`) or a path to a YAML file.

    Raises:
        TableError: there is no such table, or it is not one; names file and key.
    """
    file = find_table(name_or_path)
    table = parse(LatencyTable, _content(file), str(file), TableError)
    if problem := contradiction(table):
        raise TableError(f"{file}: {problem}")
    return table


def save_table(table: LatencyTable, file: Path) -> None:
    """Writes a table in one step, keys in the order of the schema.

    Raises:
        TableError: `load_table` would refuse it; nothing is written.
        OSError: the folder cannot be written.
    """
    if problem := contradiction(table):
        raise TableError(f"{file}: {problem}")
    content = table.model_dump(exclude_defaults=True)
    rows = content.pop("rows", [])
    text = yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)
    lines = "".join(f"- {json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    write_atomically(file, text + (f"rows:\n{lines}" if rows else ""))


def find_table(name_or_path: str | Path) -> Path:
    """The file of a shipped device, or the path itself.

    Raises:
        TableError: there is none.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise TableError(f"no latency table at {path}")
    shipped = shipped_tables()
    if str(name_or_path) in shipped:
        return SHIPPED / f"{name_or_path}.yaml"
    hint = did_you_mean(str(name_or_path), shipped)
    raise TableError(f"no device {str(name_or_path)!r}; shipped: {', '.join(shipped)}{hint}")


def _content(file: Path) -> dict[str, Any]:
    text = read_text(file, TableError, _LARGEST_BYTES)
    header, separator, rest = text.partition(_ROWS)
    lines = rest.splitlines()
    if not separator or not all(line.startswith("- {") for line in lines):
        return parse_yaml(text, file, TableError)  # written by hand: any YAML will do
    content = parse_yaml(header, file, TableError)
    return {**content, "rows": [_row(line, i, file) for i, line in enumerate(lines)]}


def _row(line: str, number: int, file: Path) -> Any:
    try:
        return parse_json(line[2:], object_pairs_hook=_each_once)
    except ValueError as problem:
        raise TableError(f"{file}: rows[{number}] is not JSON: {problem}") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands twice")
    return content
