"""What a long benchmark has found so far, a line of JSON each, to go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from search_spaces.files import write_atomically


def recorded(file: Path, key: str) -> dict[str, Any]:
    """Lines by their `key`; one that was broken off is taken out of the file. Makes its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        return {}
    text = file.read_text()
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    if "".join(whole) != text:
        write_atomically(file, "".join(whole))
    return {content[key]: content for content in map(json.loads, whole)}


def record(file: Path, line: dict[str, Any]) -> None:
    """Adds one."""
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")
