"""Files that other processes may read or write at the same moment."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_atomically(file: Path, text: str) -> None:
    """Replaces a file in one step: readers see the old text or the new, never a part.

    Args:
        file: its folder is made when missing.
        text: written as UTF-8.

    Raises:
        OSError: the folder cannot be written; `file` is as it was.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(partial).chmod(0o644)
        os.replace(partial, file)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise
