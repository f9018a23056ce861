"""Benchmarks still run: each on the smallest study that has a front."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search of two candidates, hardly trained."""
    folder = tmp_path_factory.mktemp("study")
    content = yaml.safe_load((ROOT / "experiments/quickstart.yaml").read_text())
    proxy = {"steps": 20, "batch": 4, "shared_steps": 40, "crops": 4}
    content |= {"trials": 2, "workers": 2, "objectives": ["bd_rate_psnr", "decode_ms"]}
    (folder / "short.yaml").write_text(yaml.safe_dump(content | {"proxy": proxy}))
    nas(folder, "search", "short.yaml")
    return folder


def nas(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "nas", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_against_classics_compares_at_the_bytes_written(study: Path) -> None:
    script = ROOT / "experiments/benchmarks/against_classics.py"
    options = ["short.yaml", "--peers", "JPEG", "--limit", "1", "--out", "result.json"]
    command = [sys.executable, str(script), *options]
    done = subprocess.run(command, cwd=study, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    levels = json.loads((study / "result.json").read_text())["levels"]
    assert [level["level"] for level in levels] == [1, 3, 5, 7]
    rates = [level["bpp"] for level in levels]
    assert rates == sorted(rates)
    for name in ("ours", "linear", "JPEG"):
        assert all(15 < level[name]["psnr"] < 50 for level in levels)


def test_codec_family_compares_ablations_by_bytes_written(tmp_path: Path) -> None:
    script = ROOT / "experiments/benchmarks/codec_family.py"
    options = ["--small", "--steps", "5", "--limit", "1", "--out", "result.json"]
    command = [sys.executable, str(script), *options, "--variants", "default", "context off"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    variants = json.loads((tmp_path / "result.json").read_text())["variants"]
    default, without = variants["default"], variants["context off"]
    assert default["parameters"] > without["parameters"]
    assert default["bd_rate_psnr"] == 0
    assert without["bd_rate_psnr"] != 0
    for variant in variants.values():
        for point in variant["untrained"] + variant["trained"]:
            assert point["bpp_coded"] == pytest.approx(point["bpp_estimated"], rel=0.02)
            assert 20 < point["psnr"] < 45


def test_tiling_compares_files_with_pictures_in_one_piece(tmp_path: Path) -> None:
    script = ROOT / "experiments/benchmarks/tiling.py"
    command = [sys.executable, str(script), "--limit", "2", "--out", "result.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for row in json.loads((tmp_path / "result.json").read_text())["levels"]:
        assert 1 <= row["tiled_bytes"] / row["one_piece_bytes"] < 1.1


def test_the_quickstarts_front_shows_in_table_json_and_record(study: Path) -> None:
    document = json.loads(nas(study, "front", "quickstart", "--json"))
    table = nas(study, "front", "quickstart")
    assert document["front"]
    for entry in document["front"]:
        shown = json.loads(nas(study, "show", "quickstart", str(entry["trial"]), "--json"))
        for name in ("bd_rate_psnr", "decode_ms", "bpp_coded", "lpips", "rd_points", "choices"):
            assert shown[name] == entry[name]
        assert f"{entry['decode_ms']:.1f}" in table
        assert entry["decode_ms"] <= 150
    assert (study / "runs/quickstart/front.png").stat().st_size > 10_000
