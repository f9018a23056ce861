"""Every photograph through every codec; what was done is kept and not done again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from evaluators.classics import ClassicError
from evaluators.comparison import Point
from evaluators.protocol import EvaluationError, SetupError
from nas.comparison.coders import Coder, measured
from nas.comparison.kept import Kept, fingerprint
from nas.comparison.layout import ComparisonError
from nas.picture_files import PictureFileError, picture_suffixes, read_picture
from search_spaces.codec.entropy import BitstreamError
from search_spaces.codec.pictures import PictureError

# What ends one photograph and not the comparison.
PHOTO_ERRORS = (
    PictureFileError,
    PictureError,
    BitstreamError,
    ClassicError,
    SetupError,
    EvaluationError,
)


@dataclass(frozen=True)
class Photo:
    """A file to be compared on, and its name within the folder."""

    name: str
    file: Path


@dataclass(frozen=True)
class Item:
    """One photograph through one codec, and where its points are kept."""

    photo: Photo
    coder: Coder
    kept: Kept

    def points(self, metrics: Sequence[str]) -> list[Point] | None:
        """What is known of it with all the metrics, or None."""
        found: list[Point] | None = self.kept.read()
        return found if found and all(name in found[0] for name in metrics) else None


@dataclass(frozen=True)
class Results:
    """What came out.

    Attributes:
        by_coder: coder's key -> photograph -> points; the same photographs for all.
        failed: photographs that are in none of them, and why.
    """

    by_coder: Mapping[str, Mapping[str, Sequence[Point]]]
    failed: Mapping[str, str]


def photographs(folder: Path, limit: int | None, but: Path | None = None) -> list[Photo]:
    """A folder's photographs by name, subfolders included.

    Args:
        folder: of any files that Pillow opens.
        limit: at most so many, the first by name.
        but: a folder within it whose files are none.

    Raises:
        ComparisonError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise ComparisonError(f"{folder} {what}; give a folder of photographs")
    suffixes = picture_suffixes()
    found = [
        Photo(file.relative_to(folder).as_posix(), file)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith(".")
        if but is None or but.resolve() not in file.resolve().parents
    ]
    if not found:
        raise ComparisonError(f"{folder} and its subfolders hold no photograph that Pillow reads")
    return found[:limit]


def items(
    photos: Sequence[Photo], coders: Sequence[Coder], lpips: Mapping[str, str], folder: Path
) -> list[Item]:
    """All the work, photograph by photograph.

    Args:
        photos: to be compared on.
        coders: to be compared.
        lpips: which one it is, by backbone.
        folder: of the comparison.

    Raises:
        ComparisonError: a photograph cannot be read.
    """
    found = []
    for photo in photos:
        content = file_content(photo.file)
        for coder in coders:
            of = fingerprint(content, coder.description, coder.qualities, sorted(lpips.items()))
            found.append(Item(photo, coder, Kept(_file(folder, coder.key, photo), of)))
    return found


def work(
    pending: Iterable[Item], metrics: Sequence[str], failed: dict[str, str]
) -> Iterator[tuple[int, int]]:
    """Codes, decodes and scores; says after each item how much is done and left.

    Args:
        pending: whose points are not known.
        metrics: to score by.
        failed: photographs that cannot be compared and why; filled here.
    """
    todo = list(pending)
    done = 0
    for photo, group in groupby(todo, key=lambda item: item.photo):
        batch = list(group)
        try:
            original = read_picture(photo.file).pixels
            for item in batch:
                item.kept.write(measured(item.coder, original, metrics))
                done += 1
                yield done, len(todo) - done
        except PHOTO_ERRORS as problem:
            failed[photo.name] = reason(photo.file, problem)
            done = todo.index(batch[-1]) + 1
            yield done, len(todo) - done


def collected(all_items: Sequence[Item], metrics: Sequence[str], failed: dict[str, str]) -> Results:
    """What is known of every photograph that did not fail.

    Raises:
        ComparisonError: of none.
    """
    by_coder: dict[str, dict[str, Sequence[Point]]] = {}
    for item in all_items:
        points = item.points(metrics)
        if item.photo.name not in failed and points is not None:
            by_coder.setdefault(item.coder.key, {})[item.photo.name] = points
    if not by_coder:
        raise ComparisonError(next(iter(failed.values())))
    return Results(by_coder, failed)


def reason(file: Path, problem: Exception) -> str:
    """An error in one line that names the photograph."""
    text = " ".join(str(problem).split())
    return text if str(file) in text else f"{file}: {text}"


def file_content(file: Path) -> bytes:
    """A file's bytes.

    Raises:
        ComparisonError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as problem:
        raise ComparisonError(f"cannot read {file}: {problem.strerror}") from None


def _file(folder: Path, key: str, photo: Photo) -> Path:
    return folder / "points" / key / f"{photo.name}.json"
