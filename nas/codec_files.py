"""A codec on files: which become which, and each one's way through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nas import picture_files
from nas.exporting.folder import MANIFEST, read_manifest, require_intact
from nas.picture_files import Colour, PictureFileError, Pixels, write_whole
from search_spaces.codec import bitstream, pictures
from search_spaces.codec.bitstream import MAX_PIXELS, Stream
from search_spaces.codec.deployed import NETWORKS
from search_spaces.codec.deployed_codec import DeployedCodec
from search_spaces.codec.entropy import BitstreamError
from search_spaces.codec.model import Codec
from search_spaces.codec.pictures import PictureError, Progress, TileCodec
from search_spaces.codec.saved import CODEC_FILE, CodecFileError, codec_key, load_codec

SUFFIX = ".nasc"
# No file of this format is longer than its picture is as 8-bit pixels, by far.
_MAX_BYTES = 3 * MAX_PIXELS

Entry = dict[str, Any]
Runtime = Literal["torch", "onnx"]


@dataclass(frozen=True)
class Model:
    """A codec ready to run, its file, and the key that its streams carry.

    Attributes:
        file: of the codec.
        codec: with its networks in torch.
        key: 8 bytes.
        coder: what codes windows: the codec itself, or with its networks in another runtime.
    """

    file: Path
    codec: Codec
    key: bytes
    coder: TileCodec


@dataclass(frozen=True)
class Job:
    """One file to make of another."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Goal:
    """What a compressed picture is to be: of a quality, or as good as a size allows.

    Attributes:
        quality: 0 to 7 in steps of 1/16.
        bpp: bits per pixel at most, in place of a quality.
        max_bytes: of the file at most, in place of a quality.
    """

    quality: float
    bpp: float | None = None
    max_bytes: int | None = None

    def limit_bytes(self, pixels: Pixels) -> int | None:
        """Bytes that a picture, shape (H, W, 3), may take; None when quality decides."""
        if self.bpp is None:
            return self.max_bytes
        return int(self.bpp * pixels.shape[0] * pixels.shape[1] / 8)


def load_model(model: Path, runtime: Runtime = "torch") -> Model:
    """Loads a codec.

    Args:
        model: a codec file, a folder that `nas train` made, or one that `nas export` made.
        runtime: of its networks; `onnx` takes the files of an export, checked by its manifest.

    Raises:
        CodecFileError: it holds no codec, or not for this runtime.
    """
    file = model / CODEC_FILE if model.is_dir() else model
    if model.is_dir() and not any((model / name).is_file() for name in (CODEC_FILE, MANIFEST)):
        raise CodecFileError(
            f"{model}: no {CODEC_FILE} in it; expected a codec file, or a folder that `nas train`"
            " or `nas export` made"
        )
    if runtime == "onnx" or (model / MANIFEST).is_file():
        return _exported(model, file, runtime)
    codec = load_codec(file)
    return Model(file, codec, codec_key(codec), codec)


def _exported(folder: Path, file: Path, runtime: Runtime) -> Model:
    """The codec of an export, whose manifest every file that is used has to fit."""
    if not folder.is_dir():
        raise CodecFileError(
            f"{folder}: --runtime onnx takes a folder that `nas export` made, not a codec file"
        )
    manifest = read_manifest(folder)
    networks = [f"onnx/{name}.onnx" for name in NETWORKS] if runtime == "onnx" else []
    require_intact(folder, manifest, [CODEC_FILE, *networks])
    codec = load_codec(file)
    key = codec_key(codec)
    if manifest.get("codec_key") != key.hex():
        raise CodecFileError(
            f"{folder / MANIFEST}: of codec {manifest.get('codec_key')}, but {CODEC_FILE} is"
            f" {key.hex()}"
        )
    if runtime == "torch":
        return Model(file, codec, key, codec)
    from nas.exporting.onnx_networks import onnx_runner

    return Model(file, codec, key, DeployedCodec(codec, onnx_runner(folder / "onnx")))


def compress_jobs(source: Path, target: Path) -> list[Job]:
    """The picture, or every picture in a folder and its subfolders.

    Raises:
        PictureFileError: nothing to compress, or OUT does not fit IN.
    """
    with _reachable(source):
        return _jobs(source, target, picture_files.picture_suffixes(), SUFFIX)


def decompress_jobs(source: Path, target: Path) -> list[Job]:
    """The compressed picture, or every one in a folder and its subfolders.

    Raises:
        PictureFileError: nothing to decompress, OUT does not fit IN, or has an unknown ending.
    """
    with _reachable(source):
        if not source.is_dir() and target.suffix.lower() not in ("", *picture_files.FORMATS):
            known = ", ".join(picture_files.FORMATS)
            raise PictureFileError(f"{target}: cannot write {target.suffix}; it can be {known}")
        return _jobs(source, target, frozenset([SUFFIX]), ".png")


def compress_file(
    job: Job,
    progress: Progress,
    model: Model,
    goal: Goal,
    flatten: Colour | None,
    threads: int,
) -> Entry:
    """Compresses one file.

    Raises:
        PictureFileError: no usable picture, or not to be had in so few bytes.
        OutputError: the result could not be written.
    """
    picture = picture_files.read_picture(job.source, flatten)
    with _named(job.source):
        data = _encode(model, picture.pixels, goal, threads, progress)
    write_whole(job.target, data)
    return _entry(job, data, picture.remarks)


def decompress_file(job: Job, progress: Progress, model: Model, threads: int) -> Entry:
    """Decompresses one file.

    Raises:
        PictureFileError: no codec of this key wrote the file, or it is damaged.
        OutputError: the result could not be written.
    """
    data = _read(job.source)
    with _named(job.source):
        pixels = pictures.decode_picture(model.coder, data, threads, progress, model.key)
    write_whole(job.target, picture_files.picture_bytes(pixels, job.target.suffix))
    return _entry(job, data, ())


def require_free(job: Job, model: Model, force: bool) -> None:
    """Fails before work is spent on what must not be overwritten.

    Raises:
        PictureFileError: the target exists and `force` is False, is an input, or is no file.
    """
    with _reachable(job.target):
        if not job.target.exists():
            return
        if not job.target.is_file():
            raise PictureFileError(f"{job.target} is no regular file; give the name of a new file")
        if any(job.target.samefile(file) for file in (job.source, model.file)):
            raise PictureFileError(f"{job.target} is an input; give OUT another name")
        if not force:
            raise PictureFileError(f"{job.target} exists; overwrite it with --force")


def _jobs(source: Path, target: Path, suffixes: frozenset[str], ending: str) -> list[Job]:
    if not source.is_dir():
        _require_file(source, target, ending)
        return [Job(source, target)]
    if target.exists() and not target.is_dir():
        raise PictureFileError(f"{source} is a folder, but {target} is a file; give a folder")
    files = [f for f in sorted(source.rglob("*")) if f.suffix.lower() in suffixes and f.is_file()]
    found = [file for file in files if not file.name.startswith(".")]
    if not found:
        raise PictureFileError(f"{source} and its subfolders hold no file to work on")
    names = _target_names([file.relative_to(source) for file in found], ending)
    return [Job(file, target / name) for file, name in zip(found, names, strict=True)]


def _require_file(source: Path, target: Path, ending: str) -> None:
    if not source.exists():
        raise PictureFileError(f"there is no file or folder {source}")
    if target.is_dir():
        example = target / source.with_suffix(ending).name
        raise PictureFileError(f"{target} is a folder; give a file, for example {example}")


def _target_names(files: Iterable[Path], ending: str) -> list[Path]:
    """Names with another ending; those that would be equal keep their own and get it too."""
    files = list(files)
    uses = Counter(file.with_suffix(ending) for file in files)
    names = [f if uses[f.with_suffix(ending)] > 1 else f.with_suffix("") for f in files]
    if len(set(names)) < len(names):
        names = files
    return [name.with_name(name.name + ending) for name in names]


def _encode(model: Model, pixels: Pixels, goal: Goal, threads: int, progress: Progress) -> bytes:
    limit, key = goal.limit_bytes(pixels), model.key
    if limit is not None:
        return pictures.encode_to_size(model.coder, pixels, limit, threads, progress, key)
    return pictures.encode_picture(model.coder, pixels, goal.quality, threads, progress, key)


def _read(file: Path) -> bytes:
    """A compressed picture's bytes; a file too large to be one is not read whole."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as problem:
        raise PictureFileError(f"cannot read {file}: {problem.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise PictureFileError(f"{file} is larger than any compressed picture")
    return data


@contextmanager
def _reachable(file: Path) -> Iterator[None]:
    """Errors of merely asking for a path: too long a name, or a folder that may not be entered."""
    try:
        yield
    except OSError as problem:
        raise PictureFileError(f"{problem.filename or file}: {problem.strerror}") from None


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Errors of a codec with the name of the file that they are about."""
    try:
        yield
    except (BitstreamError, PictureError) as problem:
        raise PictureFileError(f"{file}: {problem}") from None
    except MemoryError:
        raise PictureFileError(f"{file}: not enough memory for a picture of its size") from None


def _entry(job: Job, data: bytes, remarks: tuple[str, ...]) -> Entry:
    stream: Stream = bitstream.unpack(data)
    return {
        "file": str(job.source),
        "output": str(job.target),
        "width": stream.width,
        "height": stream.height,
        "bytes": len(data),
        "bpp": 8 * len(data) / (stream.width * stream.height),
        "quality": stream.quality,
        "remarks": list(remarks),
    }
