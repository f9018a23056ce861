"""What was measured before and need not be again: a JSON file a codec and photograph."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.picture_files import OutputError
from search_spaces.files import write_atomically
from search_spaces.json_text import parse_json


@dataclass(frozen=True)
class Kept:
    """A place for one result.

    Attributes:
        file: where it is kept.
        of: fingerprint of all that it depends on; a result of anything else is made again.
    """

    file: Path
    of: str

    def read(self) -> Any:
        """The result, or None where there is none, or one of something else."""
        try:
            content = parse_json(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(content, dict) and content.get("of") == self.of
        return content.get("result") if same else None

    def write(self, result: Any) -> None:
        """Keeps a result.

        Raises:
            OutputError: it cannot be written.
        """
        write_text(self.file, json.dumps({"of": self.of, "result": result}, allow_nan=False))


def fingerprint(*parts: object) -> str:
    """Names what a result depends on; pictures count by their pixels."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(data).to_bytes(8) + data)
    return digest.hexdigest()


def write_text(file: Path, text: str) -> None:
    """Writes a file in one step.

    Raises:
        OutputError: the disk is full, or the folder may not be written.
    """
    try:
        write_atomically(file, text)
    except OSError as problem:
        raise OutputError(f"cannot write {file}: {problem.strerror or problem}") from None
