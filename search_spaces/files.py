"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

UMASK = os.umask(0o077)  # cannot be asked for without being set
os.umask(UMASK)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to; it becomes `file` when all went well.

    Readers see the old content or the new, never a part; after an error the old one is still
    there. The folder is made when missing, and the ending is kept.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=file.name)
    os.close(descriptor)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~UMASK)  # as any new file; until then it is its owner's alone
        _synchronise(unfinished)
        unfinished.replace(file)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def write_atomically(file: Path, text: str) -> None:
    """Replaces a file's text in one step.

    Args:
        file: its folder is made when missing.
        text: written as UTF-8.

    Raises:
        OSError: the folder cannot be written; `file` is as it was.
    """
    with replacing(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replaces a safetensors file in one step.

    Args:
        file: its folder is made when missing.
        tensors: contiguous, on the CPU.
        metadata: that the file holds.

    Raises:
        OSError: the disk is full, or the folder cannot be written; `file` is as it was.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(file) as unfinished:
        try:
            save_file(dict(tensors), unfinished, dict(metadata))
        except SafetensorError as problem:
            # The writer says what the system said, but not as the error that it is.
            said = re.search(r"os error (\d+)", str(problem))
            number = int(said[1]) if said else errno.EIO
            raise OSError(number, os.strerror(number), str(file)) from None


def _synchronise(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
