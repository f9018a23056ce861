"""`nas compare` as a person meets it: real files of real codecs, a folder that goes on, a page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import toy
from PIL import Image
from test_compress import nas, nas_elsewhere, pixels_of, psnr, refused, write_model
from test_report import CHROMIUM, needs_chromium, opened_page, texts

from nas.comparison.images import stated_rates
from nas.comparison.layout import ComparisonError, read_measured
from nas.comparison.work import Photo

LEVELS = "1,4,7"
QUICK = ("--metrics", "psnr,ms-ssim,lpips-alex", "--levels", LEVELS)
ONE_PEER = ("--metrics", "psnr", "--levels", "2,6", "--peers", "jpeg")
LAYOUT = {"bpp", "psnr-rgb", "ms-ssim-rgb", "lpips-alex", "encoding_time", "decoding_time"}


def write_photos(folder: Path) -> Path:
    """Cuts that MS-SSIM is just large enough for, one of them in a subfolder."""
    (folder / "sub").mkdir(parents=True)
    for name, picture in (
        ("astronaut.png", skimage.data.astronaut()[:176, 100:292]),
        ("coffee.png", skimage.data.coffee()[100:276, 200:392]),
        ("sub/chelsea.png", skimage.data.chelsea()[50:226, 100:292]),
    ):
        Image.fromarray(picture).save(folder / name)
    return folder


@dataclass(frozen=True)
class Compared:
    """A comparison that is done, and the document that it printed."""

    model: Path
    photos: Path
    out: Path
    document: dict[str, Any]
    err: str


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    model = write_model(folder / "codec.safetensors", 0)
    photos, out = write_photos(folder / "photos"), folder / "out"
    done = nas("compare", model, photos, *QUICK, "-o", out, "--json")
    assert done.code == 0, done.err
    return Compared(model, photos, out, json.loads(done.out), done.err)


def codec_of(document: dict[str, Any], key: str) -> dict[str, Any]:
    (codec,) = [codec for codec in document["codecs"] if codec["key"] == key]
    return codec


def test_the_document_is_what_was_written_and_what_was_printed(compared: Compared) -> None:
    document = compared.document
    assert json.loads((compared.out / "comparison.json").read_text()) == document
    assert document["photographs"] == ["astronaut.png", "coffee.png", "sub/chelsea.png"]
    keys = ["ours", "jpeg", "webp", "avif", "heic", "jxl"]
    assert [codec["key"] for codec in document["codecs"]] == keys
    assert list(document["bd_rates"]) == keys[1:]
    assert (document["left_out"], document["failed"]) == ({}, {})
    assert document["command"].startswith("nas compare ")
    assert {"torch", "pillow", "bjontegaard"} <= set(document["versions"])
    assert compared.err.count("comparing: 18/18") == 1


def test_each_codec_has_a_file_in_compressais_layout(compared: Compared) -> None:
    for codec in compared.document["codecs"]:
        content = json.loads((compared.out / f"codecs/{codec['key']}.json").read_text())
        assert set(content) == {"name", "description", "results"}
        assert set(content["results"]) == LAYOUT
        assert content["results"]["bpp"] == [point["bpp"] for point in codec["curve"]]
        values = list(codec["by_image"].values())
        first = np.mean([points[0]["psnr"] for points in values])
        assert content["results"]["psnr-rgb"][0] == pytest.approx(float(first))
        assert read_measured(compared.out / f"codecs/{codec['key']}.json").curve


def test_ours_is_what_compress_writes_and_decompress_reads(
    compared: Compared, tmp_path: Path
) -> None:
    photo, coded, decoded = (
        compared.photos / "coffee.png",
        tmp_path / "a.nasc",
        tmp_path / "a.png",
    )
    assert nas("compress", compared.model, photo, coded, "--quality", 4).code == 0
    assert nas("decompress", compared.model, coded, decoded).code == 0
    point = codec_of(compared.document, "ours")["by_image"]["coffee.png"][1]
    assert (point["quality"], point["bytes"]) == (4, coded.stat().st_size)
    assert point["bpp"] == 8 * point["bytes"] / (176 * 192)
    assert point["psnr"] == pytest.approx(psnr(pixels_of(decoded), pixels_of(photo)), abs=1e-3)


def test_every_bd_rate_is_a_number_or_has_a_reason(compared: Compared) -> None:
    document, numbers = compared.document, 0
    for rates in document["bd_rates"].values():
        assert list(rates) == ["psnr", "ms_ssim", "lpips"]
        for rate in rates.values():
            assert (rate["of_means"]["percent"] is None) == bool(rate["of_means"]["why"])
            known = [value for value in rate["by_image"].values() if value is not None]
            numbers += len(known)
            assert len(known) == rate["images"] == 3 - len(rate["undefined"])
            assert rate["mean"] == (pytest.approx(np.mean(known)) if known else None)
            assert rate["worst_decile"] == (max(known) if known else None)
    assert numbers > 10


def test_pictures_at_equal_bytes_are_files_that_are_no_larger(compared: Compared) -> None:
    entries = compared.document["pictures"]
    assert {entry["label"] for entry in entries} == {"best", "median", "worst"}
    lpips = {
        name: points[1]["lpips"]
        for name, points in codec_of(compared.document, "ours")["by_image"].items()
    }
    by_label = {entry["label"]: lpips[entry["photo"]] for entry in entries}
    assert by_label["best"] < by_label["median"] < by_label["worst"]
    for entry in entries:
        ours, *peers = entry["figures"]
        assert [figure["key"] for figure in peers] == ["jpeg", "webp", "avif", "heic", "jxl"]
        for figure in entry["figures"]:
            assert (compared.out / figure["file"]).stat().st_size == figure["bytes"]
        # The smallest file that there is may be larger than ours: then it is of quality 0.
        assert all(
            figure["bytes"] <= 1.02 * ours["bytes"] or figure["quality"] == 0 for figure in peers
        )
        near = [figure["bytes"] / ours["bytes"] for figure in peers if figure["quality"] > 0]
        assert all(share > 0.75 for share in near)


def test_the_same_command_does_nothing_again(compared: Compared) -> None:
    done = nas("compare", compared.model, compared.photos, *QUICK, "-o", compared.out, "--json")
    assert "comparing" not in done.err
    again = json.loads(done.out)
    assert again["codecs"] == compared.document["codecs"]  # seconds included: from the record


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@needs_chromium
def test_the_page_shows_tables_curves_and_pictures(browser: Any, compared: Compared) -> None:
    document = compared.document
    with opened_page(browser, (compared.out / "comparison.html").as_uri()) as page:
        rows = texts(page, "bd-rates")
        assert len(rows) == 3 * 5
        rate = document["bd_rates"]["webp"]["lpips"]
        for row, value in zip(
            rows[3:6],
            (rate["of_means"]["percent"], rate["mean"], rate["worst_decile"]),
            strict=True,
        ):
            assert row[-1] == ("–" if value is None else f"{value:+.1f}")
        assert page.locator(".js-plotly-plot .scatterlayer .trace").count() == 3 * 6
        pictures = page.locator(".pictures img")
        assert pictures.count() == 3 * 7
        widths = pictures.evaluate_all("all => all.map(one => one.naturalWidth)")
        assert set(widths) == {192}
        shown = page.locator("#h-pictures ~ .pictures").first.inner_text()
        for figure in document["pictures"][0]["figures"]:
            assert f"{figure['bytes']:,} bytes" in shown
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_terminal_shows_it_in_100_columns(
    compared: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    done = nas("compare", compared.model, compared.photos, *QUICK, "-o", compared.out)
    assert done.code == 0
    rate = compared.document["bd_rates"]["jpeg"]["psnr"]["mean"]
    assert f"{rate:+.1f}" in done.out
    tables = [line for line in done.out.splitlines() if line.startswith(("codec", "against"))]
    assert len(tables) == 2
    assert "LPIPS alex" in tables[0]
    assert "decode s" in tables[0]


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        varying = ("encode_seconds", "decode_seconds", "created", "command")
        return {k: without_seconds(v) for k, v in value.items() if k not in varying}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def test_a_killed_comparison_goes_on_to_the_same_result(compared: Compared, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    options = ("--metrics", "psnr", "--levels", LEVELS, "--peers", "jpeg,webp")
    command = ["compare", compared.model, compared.photos, *options, "-o"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nas", *map(str, [*command, out])], stderr=subprocess.DEVNULL
    )
    toy.wait_until(lambda: len(list(out.glob("points/**/[!.]*.json"))) >= 2)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "comparison.json").exists()
    kept = {file: file.stat().st_mtime_ns for file in out.glob("points/**/[!.]*.json")}
    assert 2 <= len(kept) < 9
    resumed, uninterrupted = (
        json.loads(nas(*command, folder, "--json").out) for folder in (out, tmp_path / "whole")
    )
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert without_seconds(resumed) == without_seconds(uninterrupted)


def test_a_damaged_result_is_made_again(compared: Compared, tmp_path: Path) -> None:
    out = shutil.copytree(compared.out, tmp_path / "out")
    (out / "points/webp/coffee.png.json").write_text('{"of": "x", "resu')
    (out / "points/jpeg/coffee.png.json").write_text("[]")
    command = ["compare", compared.model, compared.photos, *QUICK, "-o", out, "--json"]
    done = nas(*command)
    assert "comparing: 2/2" in done.err
    assert without_seconds(json.loads(done.out)) == without_seconds(compared.document)


def test_a_codec_measured_elsewhere_is_compared_by_its_means(
    compared: Compared, tmp_path: Path
) -> None:
    content = json.loads((compared.out / "codecs/ours.json").read_text())
    half = {"results": content["results"] | {"bpp": [2 * x for x in content["results"]["bpp"]]}}
    (tmp_path / "same.json").write_text(json.dumps(content | {"name": "same"}))
    (tmp_path / "double.json").write_text(json.dumps(content | {"name": "double"} | half))
    measured = ("--measured", tmp_path / "same.json", "--measured", tmp_path / "double.json")
    done = nas(
        *("compare", compared.model, compared.photos, *QUICK, "-o", compared.out, "--json"),
        *measured,
    )
    document = json.loads(done.out)
    for name, percent in (("same", 0), ("double", -50)):
        for rate in document["bd_rates"][name].values():
            assert rate["of_means"]["percent"] == pytest.approx(percent, abs=1e-6)


def test_two_codecs_of_one_name_are_refused(compared: Compared, tmp_path: Path) -> None:
    content = json.loads((compared.out / "codecs/jpeg.json").read_text()) | {"name": "jpeg"}
    file = measured_file(tmp_path, json.dumps(content))
    done = nas("compare", compared.model, compared.photos, "--measured", file)
    refused(done, "--measured: 'jpeg' names two codecs; rename one")


def measured_file(folder: Path, text: str) -> Path:
    (folder / "measured.json").write_text(text)
    return folder / "measured.json"


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        ('{"bpp": [0.1, 0.2]', "no JSON: "),
        ("[1]", "no mapping `results`; expected CompressAI's layout"),
        ('{"results": {"bpp": [0.1]}}', "`results` needs `bpp` and one of psnr-rgb, ms-ssim-rgb"),
        ('{"results": {"psnr": [30]}}', "`results` needs `bpp`"),
        ('{"results": {"bpp": [0.1, 0.2], "psnr": [30]}}', "lists of different lengths"),
        ('{"results": {"bpp": [0.1], "psnr": ["30"]}}', "results.psnr holds '30'; expected num"),
        ('{"results": {"bpp": [0.1], "psnr": [NaN]}}', "results.psnr holds nan; expected a number"),
        ('{"results": {"bpp": [0], "psnr": [30]}}', "results.bpp holds 0; expected a number from"),
        ('{"results": {"bpp": [1], "ms-ssim": [14]}}', "results.ms-ssim holds 14; expected 0 to 1"),
        ('{"results": {"bpp": [], "psnr": []}}', "results.bpp is no list of numbers"),
        (f'{{"results": {{"bpp": [1{"0" * 400}]}}}}', "results.bpp holds a number beyond any"),
        ('{"a":' * 100_000, "no JSON: maximum recursion depth"),
    ],
)
def test_a_damaged_measured_file_is_one_line_before_any_work(
    compared: Compared, tmp_path: Path, results: str, problem: str
) -> None:
    file = measured_file(tmp_path, results)
    command = ("compare", compared.model, compared.photos, "--measured", file)
    refused(nas(*command, "-o", tmp_path / "out"), f"nas: {file}: {problem}")
    assert not (tmp_path / "out").exists()


def test_decibels_and_older_names_of_compressai_are_read(tmp_path: Path) -> None:
    results = {"ms-ssim-db-rgb": [20, 10], "psnr": [31, 28], "bpp": [1, 0.5], "psnr-y": "other"}
    text = json.dumps({"name": "A", "results": results})
    found = read_measured(measured_file(tmp_path, text))
    assert found.name == "A"
    assert found.curve == [
        {"ms_ssim": pytest.approx(0.9), "psnr": 28, "bpp": 0.5},
        {"ms_ssim": pytest.approx(0.99), "psnr": 31, "bpp": 1},
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["MODEL", "none"], "none does not exist; give a folder of photographs"),
        (["MODEL", "MODEL"], "codec.safetensors is no folder"),
        (["MODEL", "empty"], "empty and its subfolders hold no photograph"),
        (["none.safetensors", "PHOTOS"], "none.safetensors: "),
        (["corrupt.safetensors", "PHOTOS"], "corrupt.safetensors: "),
        (["MODEL", "PHOTOS", "--peers", "jpeg,bpg"], "--peers: 'bpg' is none of jpeg, webp"),
        (["MODEL", "PHOTOS", "--metrics", "vmaf"], "--metrics: 'vmaf' is none of psnr, ms-ssim"),
        (["MODEL", "PHOTOS", "--metrics", ""], "--metrics: none is given"),
        (["MODEL", "PHOTOS", "--levels", "1,9"], "9 is no sixteenth of 0 to 7"),
        (["MODEL", "PHOTOS", "--levels", "x"], "'x' is no number"),
        (["MODEL", "PHOTOS", "--limit", "0"], "--limit"),
        (["MODEL", "PHOTOS", "--bpp", "1"], "--bpp states the rate of --images"),
        (["MODEL", "PHOTOS", "--measured", "none.json"], "cannot read none.json: No such file"),
        (["MODEL", "PHOTOS", "-o", "corrupt.safetensors"], "corrupt.safetensors is no folder"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(
    compared: Compared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("corrupt.safetensors").write_bytes(compared.model.read_bytes()[:5000])
    places = {"MODEL": str(compared.model), "PHOTOS": str(compared.photos)}
    refused(nas("compare", *(places.get(a, a) for a in arguments)), expected)
    assert sorted(Path().iterdir()) == [Path("corrupt.safetensors"), Path("empty")]


def test_a_folder_of_another_models_comparison_is_left_alone(
    compared: Compared, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other.safetensors", 1)
    before = (compared.out / "comparison.json").read_bytes()
    done = nas("compare", other, compared.photos, *ONE_PEER, "-o", compared.out)
    refused(done, "holds a comparison of another model")
    assert (compared.out / "comparison.json").read_bytes() == before


def test_a_photograph_that_cannot_be_compared_stops_no_other(
    compared: Compared, tmp_path: Path
) -> None:
    photos = write_photos(tmp_path / "photos")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    Image.fromarray(skimage.data.astronaut()[:40, :40]).save(photos / "small.png")
    command = ["compare", compared.model, photos, "-o", tmp_path / "out", "--json"]
    options = ["--metrics", "ms-ssim", "--levels", "2,6", "--peers", "jpeg"]
    done = nas(*command, *options)
    document = json.loads(done.out)
    assert done.code == 1
    assert document["photographs"] == ["astronaut.png", "coffee.png", "sub/chelsea.png"]
    assert set(document["failed"]) == {"broken.jpg", "small.png"}
    said = [line for line in done.err.splitlines() if line.startswith("nas: ")]
    assert said[0] == f"nas: {photos}/broken.jpg: no picture that Pillow can read"
    assert said[1].startswith(f"nas: {photos}/small.png: no ms_ssim of 40 x 40 pixels")


def test_only_broken_photographs_are_an_error(compared: Compared, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    done = nas("compare", compared.model, tmp_path / "photos", *ONE_PEER, "-o", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert "broken.jpg: no picture that Pillow can read" in done.err
    assert not (tmp_path / "out/comparison.json").exists()


def test_a_peer_whose_library_is_missing_is_left_out_with_a_line(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    command = ["compare", compared.model, compared.photos, "-o", tmp_path / "out", "--json"]
    options = ["--metrics", "psnr", "--levels", "2,6", "--peers", "jpeg,heic", "--limit", 1]
    done = nas(*command, *options)
    document = json.loads(done.out)
    assert done.code == 0
    assert [codec["key"] for codec in document["codecs"]] == ["ours", "jpeg"]
    line = "HEIC needs pillow-heif: pip install 'nas-codecs[compare]'"
    assert document["left_out"] == {"heic": line}
    assert f"nas: {line}\n" in done.err


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    compared: Compared, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["compare", compared.model, compared.photos, *ONE_PEER, "--limit", 1, "-o", out]
    done = nas_elsewhere(*command, file_bytes=100)
    assert (done.code, done.out) == (1, "")
    assert "File too large" in done.err.splitlines()[-1]
    assert [file for file in out.rglob("*") if file.is_file()] == []


@pytest.fixture
def reconstructed(compared: Compared, tmp_path: Path) -> Path:
    """Two photographs' JPEG files, as others would have made them."""
    (tmp_path / "theirs/sub").mkdir(parents=True)
    for name in ("astronaut", "coffee", "sub/chelsea"):
        picture = Image.open(compared.photos / f"{name}.png")
        picture.save(tmp_path / f"theirs/{name}.jpg", quality=30, optimize=True)
    return tmp_path / "theirs"


def score(compared: Compared, images: Path, bpp: object, *more: str) -> Any:
    out = images.parent / "scored"
    options = ("--metrics", "psnr,lpips-alex", "-o", out, *more)
    return nas("compare", "--images", compared.photos, images, "--bpp", bpp, *options)


def test_images_made_elsewhere_are_scored_at_the_rate_that_is_stated(
    compared: Compared, reconstructed: Path
) -> None:
    done = score(compared, reconstructed, 0.75, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    content = json.loads((reconstructed.parent / "scored/codecs/theirs.json").read_text())
    assert set(content["results"]) == {"bpp", "psnr-rgb", "lpips-alex"}
    assert content["results"]["bpp"] == [0.75]
    by_image = document["codec"]["by_image"]
    assert list(by_image) == ["astronaut.jpg", "coffee.jpg", "sub/chelsea.jpg"]
    pair = [pixels_of(f) for f in (reconstructed / "coffee.jpg", compared.photos / "coffee.png")]
    assert by_image["coffee.jpg"][0]["psnr"] == pytest.approx(psnr(*pair), abs=1e-3)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_rates_by_file_name_are_read(compared: Compared, reconstructed: Path, kind: str) -> None:
    rates = {"astronaut.png": 0.5, "coffee": 0.25, "sub/chelsea.jpg": 0.75}
    file = reconstructed.parent / f"rates.{kind}"
    lines = [f"{name},{rate}" for name, rate in rates.items()]
    file.write_text(json.dumps(rates) if kind == "json" else "\n".join(["file,bpp", *lines]))
    document = json.loads(score(compared, reconstructed, file, "--json").out)
    stated = [points[0]["bpp"] for points in document["codec"]["by_image"].values()]
    assert stated == [0.5, 0.25, 0.75]
    assert document["codec"]["curve"][0]["bpp"] == 0.5


def test_images_that_do_not_fit_are_one_line(compared: Compared, reconstructed: Path) -> None:
    rates = reconstructed.parent / "rates.csv"
    rates.write_text("file,bpp\nastronaut,0.1\n")
    refused(score(compared, reconstructed, rates), "rates.csv states no rate of coffee.jpg")
    rates.write_text("name,rate\n")
    refused(score(compared, reconstructed, rates), "a first line with the columns file and bpp")
    refused(score(compared, reconstructed, 0), "--bpp: '0' is no rate; expected")
    refused(score(compared, reconstructed, "x.txt"), "is no number, no .csv and no .json file")
    done = nas("compare", "--images", compared.photos, reconstructed)
    refused(done, "--images needs --bpp")
    (reconstructed / "coffee.jpg").rename(reconstructed / "tea.jpg")
    refused(score(compared, reconstructed, 1), "tea.jpg: no original of its name")
    (reconstructed / "tea.jpg").unlink()
    refused(score(compared, reconstructed, 1), "coffee.png: no reconstruction of its name")
    Image.new("RGB", (50, 60)).save(reconstructed / "coffee.png")
    done = score(compared, reconstructed, 1)
    assert done.code == 2
    assert "coffee.png is 50 x 60, but" in done.err
    assert "coffee.png is 192 x 176; expected one size" in done.err.splitlines()[-1]


def test_rates_of_what_no_file_is_called_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text('{"": 0.5, ".": 1, "a.png": 0.25}')
    rates = stated_rates(str(tmp_path / "rates.json"))
    assert rates(Photo("a.png", tmp_path / "a.png")) == 0.25
    with pytest.raises(ComparisonError, match=r"states no rate of b\.png"):
        rates(Photo("b.png", tmp_path / "b.png"))
