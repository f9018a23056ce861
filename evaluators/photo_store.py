"""Photographs decoded once and mapped into memory by every worker of a machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from evaluators.photos import Photo


def stored(folder: Path, photos: Callable[[], Sequence[Photo]]) -> list[Photo]:
    """Photographs from a folder that whoever comes first fills.

    Args:
        folder: made when missing, whole or not at all.
        photos: decodes them.

    Returns:
        Their pixels are read-only maps of the files: a crop reads only what it covers.
    """
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            _write(folder, photos())
    files = sorted(folder.glob("*.npy"))
    return [Photo(file.stem, np.load(file, mmap_mode="r")) for file in files]


def _write(folder: Path, photos: Sequence[Photo]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as name:
        unfinished = Path(name) / "content"
        unfinished.mkdir()
        for i, photo in enumerate(photos):
            np.save(unfinished / f"{i:03d}.npy", photo.pixels)
        unfinished.rename(folder)
