"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to, with its ending; it becomes `file` when all went well."""
    unfinished = file.with_name(f".{os.getpid()}.{file.name}")
    yield unfinished
    unfinished.replace(file)
