"""An export's folder: made beside its place and renamed, tied together by its manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.picture_files import OutputError
from search_spaces.codec.saved import CodecFileError
from search_spaces.files import UMASK
from search_spaces.json_text import parse_json

MANIFEST = "manifest.json"
FORMAT = "nas-export 1"


@contextmanager
def whole_folder(target: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `target` that takes its place when all went well.

    Args:
        target: of the export.
        force: whether an export that is there is replaced. Nothing else ever is.

    Raises:
        OutputError: the disk is full, or the folder may not be written; `target` is as it was.
        CodecFileError: `target` is there.
    """
    require_free(target, force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as problem:
        raise OutputError(f"cannot write {target}: {problem.strerror}") from None
    try:
        yield unfinished
        unfinished.chmod(0o777 & ~UMASK)
        _take_place(unfinished, target)
    except OSError as problem:
        raise OutputError(f"cannot write {target}: {problem.strerror or problem}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_free(target: Path, force: bool) -> None:
    """Fails before work is spent.

    Raises:
        CodecFileError: something is there that is no export, or is not to be replaced.
    """
    if not target.exists():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    if not (target / MANIFEST).is_file():
        raise CodecFileError(f"{target} is there and no export; choose another folder with --out")
    if not force:
        raise CodecFileError(f"{target} exists; replace it with --force, or choose another --out")


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `facts` with the size and SHA-256 of every file of the folder; returns all of it."""
    document = {"format": FORMAT, **facts, "files": digests(folder)}
    text = json.dumps(document, indent=1, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return document


def read_manifest(folder: Path) -> dict[str, Any]:
    """What an export says about itself.

    Raises:
        CodecFileError: `folder` is no export of this version.
    """
    file = folder / MANIFEST
    try:
        document = parse_json(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise CodecFileError(
            f"{file}: {problem.strerror}; expected a folder that `nas export` made"
        ) from None
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CodecFileError(f"{file}: no manifest of this version (expected {FORMAT!r})")
    return document


def require_intact(folder: Path, manifest: Mapping[str, Any], names: list[str]) -> None:
    """Checks some of an export's files against its manifest.

    Raises:
        CodecFileError: one is missing, was not exported, or is another file.
    """
    for name in names:
        try:
            stated = manifest["files"][name]["sha256"]
        except (KeyError, TypeError):
            raise CodecFileError(
                f"{folder} was exported without {name}; export it again with --onnx"
            ) from None
        try:
            found = sha256(folder / name)
        except OSError as problem:
            raise CodecFileError(f"{folder / name}: {problem.strerror}; export it again") from None
        if found != stated:
            raise CodecFileError(
                f"{folder / name}: damaged or exchanged (its SHA-256 is not the manifest's);"
                " export it again"
            )


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of every file under a folder, by relative path."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in files
    }


def sha256(file: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _take_place(unfinished: Path, target: Path) -> None:
    """Renames; what was there is put aside first, and back if that fails."""
    if not target.exists():
        unfinished.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)) / "before"
    target.rename(aside)
    try:
        unfinished.rename(target)
    except OSError:
        aside.rename(target)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)
