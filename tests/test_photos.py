"""Photographs: what is read, skipped, split and cut."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluators.photos import find_photos, load_photos, textured_crops
from evaluators.protocol import SetupError


def picture(file: Path, mode: str = "RGB", size: tuple[int, int] = (200, 150)) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file)
    return file


def test_the_packaged_sample_needs_no_download_and_is_split() -> None:
    files = find_photos("sample")
    assert len(files.train) >= 5
    assert len(files.held_back) >= 4
    assert not set(files.train) & set(files.held_back)
    photos = load_photos((*files.train, *files.held_back), 192)
    assert len(photos) == len(files.train) + len(files.held_back)
    assert all(side % 32 == 0 for photo in photos for side in photo.pixels.shape[:2])


def test_a_folder_is_split_the_same_way_wherever_it_lies(tmp_path: Path) -> None:
    splits = []
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        for i in range(7):
            picture(tmp_path / name / "inner" / f"{i}.png", size=(40, 40))
        files = find_photos(str(tmp_path / name))
        splits.append([file.name for file in files.held_back])
        assert len(files.held_back) == 2
        assert len(files.train) == 5
    assert splits[0] == splits[1]


def test_a_corrupt_image_among_good_ones_is_skipped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = picture(tmp_path / "good.png")
    whole = picture(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "text.png").write_text("not an image")
    with caplog.at_level(logging.WARNING):
        photos = load_photos([good, tmp_path / "cut.jpg", tmp_path / "text.png"], 64)
    assert [photo.name for photo in photos] == ["good.png"]
    assert "cut.jpg" in caplog.text
    assert "text.png" in caplog.text


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "I;16", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        values = np.linspace(0, 65535, 150 * 200).reshape(150, 200).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / "image.tif")
        file = tmp_path / "image.tif"
    else:
        file = picture(tmp_path / ("image.tif" if mode == "CMYK" else "image.png"), mode)
    (photo,) = load_photos([file], 64)
    assert photo.pixels.shape == (128, 192, 3)
    assert photo.pixels.std() > 10


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    image = Image.open(picture(tmp_path / "a.png", size=(200, 100)))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    (photo,) = load_photos([tmp_path / "turned.jpg"], 64)
    assert photo.pixels.shape == (192, 96, 3)


def test_large_photographs_are_reduced(tmp_path: Path) -> None:
    (photo,) = load_photos([picture(tmp_path / "large.jpg", size=(2400, 1600))], 64)
    assert photo.pixels.shape[0] * photo.pixels.shape[1] <= 1_500_000


def test_missing_and_empty_folders_say_what_to_do(tmp_path: Path) -> None:
    for data in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(SetupError, match="sample"):
            find_photos(str(data))
    with pytest.raises(SetupError, match="at least 512 pixels"):
        load_photos([picture(tmp_path / "small.png")], 512)


def test_crops_come_from_every_photograph() -> None:
    photos = load_photos(find_photos("sample").held_back, 192)
    crops = textured_crops(photos, 192, 8)
    assert len(crops) == 8
    assert {crop.shape for crop in crops} == {(192, 192, 3)}
    owners = {i for crop in crops for i, p in enumerate(photos) if np.shares_memory(crop, p.pixels)}
    assert owners == set(range(len(photos)))
