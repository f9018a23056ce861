"""Pictures of every kind arrive as 8-bit RGB, or as an error of one line."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from nas import picture_files
from nas.picture_files import PictureFileError, Pixels, read_picture

RED, BLUE = (250, 20, 10), (10, 20, 250)


def ramp() -> Pixels:
    """Grey values 0 to 255, shape (16, 16)."""
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def colours(height: int = 20, width: int = 30) -> Pixels:
    pixels = np.full((height, width, 3), RED, dtype=np.uint8)
    pixels[:, width // 2 :] = BLUE
    return pixels


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def as_grey(pixels: Pixels) -> Pixels:
    return np.repeat(pixels[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (ramp(), "a.png"),
        (ramp().astype(np.uint16) * 257, "a.png"),
        (ramp().astype(np.uint16) * 257, "a.tif"),
        (ramp().astype(np.int32) * 257, "a.tif"),
        (ramp().astype(np.float32) / 255, "a.tif"),
    ],
)
def test_grey_of_any_depth_is_scaled_and_not_clipped(
    tmp_path: Path, values: np.ndarray[Any, Any], name: str
) -> None:
    read = read_picture(saved(tmp_path, Image.fromarray(values), name))
    assert (read.pixels == as_grey(ramp())).all()
    assert read.remarks == ()


def test_the_range_of_floats_is_said_when_it_had_to_be_assumed(tmp_path: Path) -> None:
    read = read_picture(saved(tmp_path, Image.fromarray(ramp().astype(np.float32)), "a.tif"))
    assert (read.pixels == as_grey(ramp())).all()
    assert read.remarks == ("floating-point values taken as 0 to 255",)


@pytest.mark.parametrize("value", [-1.0, 300.0, float("nan")])
def test_floats_without_a_known_range_are_refused(tmp_path: Path, value: float) -> None:
    values = ramp().astype(np.float32)
    values[3, 3] = value
    with pytest.raises(PictureFileError, match="expected 0 to"):
        read_picture(saved(tmp_path, Image.fromarray(values), "a.tif"))


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "RGBA", "RGBX", "YCbCr", "LAB"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8) if mode == "1" else colours()
    image = Image.fromarray(pixels)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB") or image
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    read = read_picture(saved(tmp_path, image, "a.tif"))
    assert read.pixels.shape == pixels.shape
    assert np.abs(read.pixels.astype(int) - pixels).max() <= (16 if mode == "LAB" else 4)
    assert (read.pixels.dtype, read.remarks) == (np.uint8, ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = colours()
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: stored[::-1].swapaxes(0, 1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: stored.swapaxes(0, 1)[::-1],
    }[orientation]
    read = read_picture(saved(tmp_path, Image.fromarray(stored), exif=exif))
    assert (read.pixels == upright).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_refused_or_flattened_by_choice(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(colours()).convert("RGBA")
    image.putpixel((3, 2), (0, 0, 0, 0))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    file = saved(tmp_path, image)
    with pytest.raises(PictureFileError, match=r"a.* has transparent parts.*--flatten white"):
        read_picture(file)
    read = read_picture(file, (1, 200, 3)).pixels
    assert read[2, 3].tolist() == [1, 200, 3]
    assert (read[5:] == np.asarray(image.convert("RGB"))[5:]).all()


def test_a_transparent_colour_counts_as_transparency(tmp_path: Path) -> None:
    deep = Image.fromarray(ramp().astype(np.uint16) * 257)
    for image, key in ((Image.fromarray(ramp()), 9), (deep, 9 * 257)):
        file = saved(tmp_path, image, transparency=key)
        with pytest.raises(PictureFileError, match="transparent"):
            read_picture(file)
        assert read_picture(file, (0, 255, 0)).pixels[0, 9].tolist() == [0, 255, 0]


def test_an_alpha_channel_without_effect_is_dropped(tmp_path: Path) -> None:
    read = read_picture(saved(tmp_path, Image.fromarray(colours()).convert("RGBA")))
    assert (read.pixels == colours()).all()


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    swapped = profile_with_red_and_green_exchanged()
    file = saved(tmp_path, Image.fromarray(colours()), icc_profile=swapped)
    expected = colours()[..., [1, 0, 2]].astype(int)
    assert np.abs(read_picture(file).pixels - expected).max() <= 3
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = read_picture(saved(tmp_path, Image.fromarray(colours()), icc_profile=srgb))
    assert (same.pixels == colours()).all()


def test_an_unusable_colour_profile_is_ignored_and_said_so(tmp_path: Path) -> None:
    read = read_picture(saved(tmp_path, Image.fromarray(colours()), icc_profile=b"junk" * 50))
    assert (read.pixels == colours()).all()
    assert "colour profile was ignored" in read.remarks[0]


def test_of_an_animation_the_first_frame_is_taken_and_said_so(tmp_path: Path) -> None:
    frames = [Image.fromarray(colours()), Image.fromarray(255 - colours())]
    file = saved(tmp_path, frames[0], save_all=True, append_images=frames[1:])
    read = read_picture(file)
    assert (read.pixels == colours()).all()
    assert read.remarks == ("the first of 2 frames",)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp", "a.gif", "a.ppm"])
def test_a_file_cut_short_is_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    file = saved(tmp_path, Image.fromarray(noise), name)
    whole = file.read_bytes()
    for share in range(0, 10):
        file.write_bytes(whole[: len(whole) * share // 10])
        with pytest.raises(PictureFileError, match=name) as problem:
            read_picture(file)
        assert "\n" not in str(problem.value)


def test_damaged_files_give_an_error_or_a_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.tif", "a.webp", "a.bmp", "a.gif", "a.ico", "a.tga", "a.pcx"):
        whole = np.frombuffer(saved(tmp_path, Image.fromarray(noise), name).read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[rng.integers(0, min(len(whole), 200), 3)] = rng.integers(0, 256, 3)
            (tmp_path / name).write_bytes(damaged.tobytes())
            try:
                assert read_picture(tmp_path / name, (0, 0, 0)).pixels.shape[2] == 3
            except PictureFileError as problem:
                assert name in str(problem)  # noqa: PT017


def test_decompression_bombs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.ppm"
    file.write_bytes(b"P6 60000 60000 255\n" + bytes(100))
    with pytest.raises(PictureFileError, match=r"bomb.ppm: Image size .3600000000 pixels. exceeds"):
        read_picture(file)


def test_a_damaged_tiff_is_one_line_though_its_library_prints_more(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = saved(tmp_path, Image.fromarray(colours()), "a.tif", compression="tiff_lzw")
    whole = file.read_bytes()
    file.write_bytes(whole[:8] + bytes(40) + whole[48:])
    with pytest.raises(PictureFileError, match=r"a.tif: decoder error"):
        read_picture(file)
    assert capfd.readouterr() == ("", "")


def test_a_picture_that_memory_does_not_hold_is_one_line(tmp_path: Path) -> None:
    file = saved(tmp_path, Image.new("L", (12_000, 10_000)), "a.png")
    code = (
        "import resource, sys, pathlib\nfrom nas.picture_files import read_picture\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (400 << 20,) * 2)\n"
        "try: read_picture(pathlib.Path(sys.argv[1]))\nexcept ValueError as said: print(said)"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert done.stdout == f"{file}: not enough memory for a picture of its size\n", done.stderr


def test_what_is_no_picture_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(PictureFileError, match=r"a.txt: no picture that Pillow can read"):
        read_picture(tmp_path / "a.txt")
    with pytest.raises(PictureFileError, match=r"b.txt: No such file"):
        read_picture(tmp_path / "b.txt")
    with pytest.raises(PictureFileError, match="Is a directory"):
        read_picture(tmp_path)


@pytest.mark.parametrize("suffix", picture_files.FORMATS)
def test_every_output_format_keeps_the_pixels(suffix: str) -> None:
    content = picture_files.picture_bytes(colours(), suffix)
    decoded = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert np.abs(decoded - colours()).max() <= (12 if suffix.startswith(".jp") else 0)


def test_a_format_without_room_is_refused() -> None:
    with pytest.raises(PictureFileError, match="WEBP cannot hold 20000 x 1"):
        picture_files.picture_bytes(np.zeros((1, 20_000, 3), np.uint8), ".webp")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"before")
    code = (
        "import sys, resource; from pathlib import Path; from nas.picture_files import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_whole(Path(sys.argv[1]), bytes(5000))\n"
        "except OutputError as problem: print(problem)"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert done.stdout == f"cannot write {file}: File too large\n", done.stderr
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def profile_with_red_and_green_exchanged() -> bytes:
    """Pillow's own sRGB profile under another name, with two of its primaries exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "GRGB".encode("utf-16-be"))
    swaps = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    content = bytearray(profile)
    for i in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        content[i : i + 4] = swaps.get(bytes(profile[i : i + 4]), profile[i : i + 4])
    return bytes(content)
