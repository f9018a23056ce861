"""`nas compress` and `nas decompress` as a person or a script meets them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.cli import main
from nas.picture_files import Pixels
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import codec_key, load_codec, save_codec

CHOICES = {
    "latent_channels": 48,
    "hyper_channels": 8,
    "hyper_width": 8,
    "quantisation": "learned",
    "context": "checkerboard",
    "coding": "grouped",
    "decoder.half.depth": 1,
    "decoder.half.width": 8,
}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def nas(*arguments: object) -> Done:
    """Runs the program within this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def nas_elsewhere(*arguments: object, threads: int = 1, file_bytes: int | None = None) -> Done:
    """Runs the program in a process of its own that may write files up to a size."""

    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    command = [sys.executable, "-m", "nas", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, preexec_fn=limit
    )
    return Done(done.returncode, done.stdout, done.stderr)


def texture(height: int, width: int) -> Pixels:
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    smooth = 110 + 60 * np.sin(rows / 31) + 60 * np.cos(columns / 17 + np.arange(3))
    grain = np.random.default_rng(0).integers(0, 20, (height, width, 3))
    return (smooth + grain).clip(0, 255).astype(np.uint8)


def psnr(left: Pixels, right: Pixels) -> float:
    error = np.mean((left.astype(float) - right) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def pixels_of(file: Path) -> Pixels:
    return np.asarray(Image.open(file))


def write_model(file: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    codec = Codec(build_design(CHOICES)).eval()
    codec.freeze()
    save_codec(codec, CHOICES, file)
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "codec.safetensors", 0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(texture(100, 150)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def refused(done: Done, expected: str, code: int = 2) -> None:
    assert (done.code, done.out) == (code, ""), done
    assert done.err.startswith("nas: ")
    assert done.err.count("\n") == 1, done.err
    assert expected in done.err


def test_a_picture_goes_there_and_back(model: Path, photo: Path, tmp_path: Path) -> None:
    coded, decoded = tmp_path / "photo.nasc", tmp_path / "decoded.png"
    there = nas("compress", model, photo, coded)
    size = coded.stat().st_size
    bpp = 8 * size / (100 * 150)
    line = f"{photo} -> {coded}: 150 x 100, {size:,} bytes, {bpp:.3f} bpp, quality 4\n"
    assert (there.code, there.out, there.err) == (0, line, "")
    back = nas("decompress", model, coded, decoded)
    assert (back.code, back.err) == (0, "")
    assert pixels_of(decoded).shape == (100, 150, 3)
    assert psnr(pixels_of(decoded), pixels_of(photo)) > 25
    assert size < photo.stat().st_size / 4


def test_json_is_one_document(model: Path, photo: Path, tmp_path: Path) -> None:
    done = nas("compress", model, photo, tmp_path / "a.nasc", "--quality", "2.5", "--json")
    document = json.loads(done.out)
    (entry,) = document["files"]
    assert document["model"] == codec_key(load_codec(model)).hex()
    assert document["failed"] == []
    assert (entry["width"], entry["height"], entry["quality"]) == (150, 100, 2.5)
    assert entry["bytes"] == (tmp_path / "a.nasc").stat().st_size
    assert entry["bpp"] == 8 * entry["bytes"] / (100 * 150)
    back = nas("decompress", model, tmp_path / "a.nasc", tmp_path / "a.png", "--json")
    assert json.loads(back.out)["files"][0]["bytes"] == entry["bytes"]


def test_better_quality_takes_more_bytes_and_is_nearer(model: Path, photo: Path) -> None:
    coded, decoded = photo.with_suffix(".nasc"), photo.with_name("decoded.png")
    sizes, nearness = [], []
    for quality in (0, 2, 4.0625, 7):
        nas("compress", model, photo, coded, "--quality", quality, "--force")
        nas("decompress", model, coded, decoded, "--force")
        sizes.append(coded.stat().st_size)
        nearness.append(psnr(pixels_of(decoded), pixels_of(photo)))
    assert sizes == sorted(set(sizes))
    assert nearness == sorted(nearness)


def test_threads_and_processes_change_no_byte(model: Path, tmp_path: Path) -> None:
    photo, here, there = tmp_path / "a.png", tmp_path / "here.nasc", tmp_path / "there.nasc"
    Image.fromarray(texture(530, 1100)).save(photo)
    nas("compress", model, photo, here, "--threads", 1)
    nas_elsewhere("compress", model, photo, there, "--threads", 3, threads=2)
    assert here.read_bytes() == there.read_bytes()
    nas("decompress", model, here, tmp_path / "here.ppm", "--threads", 2)
    nas_elsewhere("decompress", model, there, tmp_path / "there.ppm", "--threads", 1, threads=2)
    assert (tmp_path / "here.ppm").read_bytes() == (tmp_path / "there.ppm").read_bytes()
    assert psnr(pixels_of(tmp_path / "here.ppm"), texture(530, 1100)) > 25


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20_000, 300), (3, 700), (512, 513)])
def test_any_size_comes_back(model: Path, tmp_path: Path, width: int, height: int) -> None:
    Image.fromarray(texture(height, width)).save(tmp_path / "a.png")
    assert nas("compress", model, tmp_path / "a.png", tmp_path / "a.nasc").code == 0
    assert nas("decompress", model, tmp_path / "a.nasc", tmp_path / "b.png").code == 0
    assert psnr(pixels_of(tmp_path / "b.png"), texture(height, width)) > 20


@pytest.mark.parametrize("option", ["--bpp", "--max-bytes"])
def test_a_rate_is_met_from_below(model: Path, photo: Path, tmp_path: Path, option: str) -> None:
    def size(quality: float) -> int:
        assert (
            nas("compress", model, photo, tmp_path / "q", "--quality", quality, "--force").code == 0
        )
        return (tmp_path / "q").stat().st_size

    limit = (size(0) + size(7)) // 2
    asked = limit if option == "--max-bytes" else 8 * (limit + 0.5) / (100 * 150)
    done = nas("compress", model, photo, tmp_path / "a.nasc", option, asked, "--json")
    (entry,) = json.loads(done.out)["files"]
    assert (tmp_path / "a.nasc").stat().st_size == entry["bytes"] <= limit
    assert size(entry["quality"] + 1 / 16) > limit


def test_a_rate_that_cannot_be_met_says_what_can(model: Path, photo: Path, tmp_path: Path) -> None:
    nas("compress", model, photo, tmp_path / "smallest.nasc", "--quality", 0)
    size = (tmp_path / "smallest.nasc").stat().st_size
    done = nas("compress", model, photo, tmp_path / "a.nasc", "--max-bytes", 40)
    refused(done, f"photo.png: it takes {size} bytes at quality 0, and 40 are allowed")
    assert not (tmp_path / "a.nasc").exists()


def write_album(folder: Path) -> Path:
    """Pictures in two folders, two that differ in their endings alone, and one that is none."""
    (folder / "album/sub").mkdir(parents=True)
    for name in ("one.png", "twin.png", "twin.jpg", "sub/three.tif"):
        Image.fromarray(texture(40, 60)).save(folder / "album" / name)
    (folder / "album/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "album/notes.txt").write_text("no picture")
    (folder / "album/.hidden.png").write_text("no picture")
    return folder / "album"


def names(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def test_a_folder_keeps_its_shape_and_a_bad_picture_stops_nothing(
    model: Path, tmp_path: Path
) -> None:
    album, coded, decoded = write_album(tmp_path), tmp_path / "coded", tmp_path / "decoded"
    done = nas("compress", model, album, coded)
    assert (done.code, len(done.out.splitlines())) == (1, 4)
    assert done.err == f"nas: {album}/broken.jpg: no picture that Pillow can read\n"
    assert names(coded) == ["one.nasc", "sub/three.nasc", "twin.jpg.nasc", "twin.png.nasc"]
    assert nas("decompress", model, coded, decoded).code == 0
    assert names(decoded) == ["one.png", "sub/three.png", "twin.jpg.png", "twin.png.png"]


def test_json_of_a_folder_lists_done_and_failed(model: Path, tmp_path: Path) -> None:
    album = write_album(tmp_path)
    document = json.loads(nas("compress", model, album, tmp_path / "coded", "--json").out)
    assert len(document["files"]) == 4
    (failed,) = document["failed"]
    assert failed["file"] == str(album / "broken.jpg")
    assert "no picture" in failed["error"]


def test_nothing_is_overwritten_unless_forced(model: Path, photo: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.nasc"
    kept.write_bytes(b"precious")
    refused(nas("compress", model, photo, kept), f"{kept} exists; overwrite it with --force")
    assert kept.read_bytes() == b"precious"
    assert nas("compress", model, photo, kept, "--force").code == 0
    assert kept.read_bytes().startswith(b"NASC")
    refused(nas("compress", model, photo, photo, "--force"), "is an input")
    refused(nas("compress", model, photo, model, "--force"), "is an input")
    refused(nas("compress", model, photo, "/dev/null", "--force"), "is no regular file")


def test_a_folder_goes_on_where_it_was_stopped(model: Path, tmp_path: Path) -> None:
    album, coded = write_album(tmp_path), tmp_path / "coded"
    (album / "broken.jpg").unlink()
    coded.mkdir()
    (coded / "one.nasc").write_bytes(b"precious")
    done = nas("compress", model, album, coded)
    assert (done.code, len(done.out.splitlines())) == (1, 3)
    assert "one.nasc exists" in done.err
    assert (coded / "one.nasc").read_bytes() == b"precious"


def test_transparency_is_refused_or_flattened(model: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "a.png")
    coded, decoded = tmp_path / "a.nasc", tmp_path / "b.png"
    refused(nas("compress", model, tmp_path / "a.png", coded), "--flatten white")
    assert nas("compress", model, tmp_path / "a.png", coded, "--flatten", "#c86432").code == 0
    nas("decompress", model, coded, decoded)
    assert np.abs(pixels_of(decoded).astype(int) - (200, 100, 50)).max() < 12


def test_remarks_go_to_stderr(model: Path, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    done = nas("compress", model, tmp_path / "a.gif", tmp_path / "a.nasc")
    assert (done.code, done.out.count("\n")) == (0, 1)
    assert done.err == f"{tmp_path}/a.gif: the first of 2 frames\n"


def forged(data: bytes) -> bytes:
    """A header that asks for 48 gigabytes, under a checksum that fits."""
    content = data[:14] + b"\xff\xff\x07\xff\xff\x07" + data[18:-4]
    return content + zlib.crc32(content).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: b"", "empty"),
        (lambda data: data[:-10], "cut short"),
        (lambda data: data[:30] + b"?" + data[31:], "damaged: its checksum does not fit"),
        (lambda data: b"\x89PNG" + data, "foreign"),
        (lambda data: data[:4] + b"\x07" + data[5:], "format version 7; this program reads 1"),
        (forged, "malformed: a picture of 131071 x 131071; expected 1 to 268435456 pixels"),
    ],
)
def test_what_no_encoder_wrote_is_refused(
    model: Path, photo: Path, tmp_path: Path, damage: Any, expected: str
) -> None:
    coded, out = tmp_path / "a.nasc", tmp_path / "out.png"
    nas("compress", model, photo, coded)
    coded.write_bytes(damage(coded.read_bytes()))
    refused(nas("decompress", model, coded, out), f"nas: {coded}: {expected}")
    assert not out.exists()


def test_another_model_is_named_with_the_one_that_is_needed(
    model: Path, photo: Path, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other.safetensors", 1)
    nas("compress", model, photo, tmp_path / "a.nasc")
    keys = [codec_key(load_codec(file)).hex() for file in (model, other)]
    done = nas("decompress", other, tmp_path / "a.nasc", tmp_path / "a.png")
    refused(done, f"another model wrote it: it needs {keys[0]}, this one is {keys[1]}")


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_full_disk_leaves_nothing_half_written(model: Path, tmp_path: Path, command: str) -> None:
    Image.fromarray(texture(300, 300)).save(tmp_path / "a.png")
    nas("compress", model, tmp_path / "a.png", tmp_path / "a.nasc", "--quality", 7)
    source, target = {"compress": ("a.png", "b.nasc"), "decompress": ("a.nasc", "b.png")}[command]
    (tmp_path / target).write_bytes(b"before")
    done = nas_elsewhere(
        command, model, tmp_path / source, tmp_path / target, "--force", file_bytes=2000
    )
    refused(done, f"cannot write {tmp_path / target}: File too large", code=1)
    assert (tmp_path / target).read_bytes() == b"before"
    assert names(tmp_path) == sorted(["a.png", "a.nasc", target])


def test_a_full_disk_ends_a_folder_once(model: Path, tmp_path: Path) -> None:
    album = write_album(tmp_path)
    done = nas_elsewhere("compress", model, album, tmp_path / "coded", file_bytes=20)
    assert (done.code, done.out) == (1, "")
    assert "File too large" in done.err.splitlines()[-1]
    assert names(tmp_path / "coded") == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["compress", "MODEL", "photo.png"], "Missing argument 'OUT'"),
        (["compress", "MODEL", "none.png", "a.nasc"], "there is no file or folder none.png"),
        (["compress", "none.safetensors", "photo.png", "a.nasc"], "none.safetensors: "),
        (["compress", "photo.png", "photo.png", "a.nasc"], "photo.png: "),
        (["compress", "folder", "photo.png", "a.nasc"], "folder: "),
        (["compress", "MODEL", "photo.png", 300 * "a"], "File name too long"),
        (["compress", "MODEL", 300 * "a", "a.nasc"], "File name too long"),
        (["compress", "MODEL", "photo.png", "folder"], "for example folder/photo.nasc"),
        (["compress", "MODEL", "folder", "photo.png"], "folder is a folder, but photo.png is a"),
        (["compress", "MODEL", "folder", "out"], "folder and its subfolders hold no file"),
        (["compress", "MODEL", "photo.png", "a.nasc", "--quality", "7.5"], "nearest is 7"),
        (["compress", "MODEL", "photo.png", "a.nasc", "--quality", "3.3"], "nearest is 3.3125"),
        (["compress", "MODEL", "photo.png", "a.nasc", "--quality", "nan"], "no sixteenth"),
        (["compress", "MODEL", "photo.png", "a.nasc", "--bpp", "0"], "--bpp"),
        (["compress", "MODEL", "photo.png", "a.nasc", "--bpp", "1", "--quality", "2"], "give one"),
        (["compress", "MODEL", "photo.png", "a.nasc", "--flatten", "whit"], "no colour 'whit'"),
        (["compress", "MODEL", "photo.png", "a.nasc", "--threads", "0"], "--threads"),
        (["decompress", "MODEL", "photo.png", "a.xyz"], "a.xyz: cannot write .xyz; it can be .png"),
        (["decompress", "MODEL", "photo.png", "a.png"], "photo.png: foreign: it starts with"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(
    model: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(photo.parent)
    Path("folder").mkdir()
    refused(nas(*[str(model) if a == "MODEL" else a for a in arguments]), expected)
    assert names(Path()) == ["photo.png"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_picture(model: Path, tmp_path: Path) -> None:
    peaks = []
    for width in (1000, 6000):
        Image.fromarray(texture(2000, width)).save(tmp_path / f"{width}.ppm")
        peaks.append(peak_bytes("compress", model, tmp_path / f"{width}.ppm", tmp_path / "a.nasc"))
        peaks.append(peak_bytes("decompress", model, tmp_path / "a.nasc", tmp_path / "a.ppm"))
    # The file, its pixels and what is written of them; no window's features among it.
    grown = max(peaks[2] - peaks[0], peaks[3] - peaks[1])
    assert grown < 5 * 2000 * 5000 * 3
    assert max(peaks) < 2 * 2**30


def peak_bytes(*arguments: object) -> int:
    code = (
        "import atexit, pathlib\n"
        "atexit.register(lambda: print(pathlib.Path('/proc/self/status').read_text()))\n"
        "from nas.cli import main\nmain()"
    )
    command = [sys.executable, "-c", code, *map(str, arguments), "--force"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Not ru_maxrss, which a process inherits from the one that started it.
    (peak,) = [line for line in done.stdout.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(peak.split()[1])
