"""Benchmarks of the proxy still run, at their shortest: against AVIF and against CompressAI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from evaluators.photos import find_photos
from search_spaces.codec.saved import load_codec

BENCHMARKS = Path(__file__).parent.parent / "experiments/benchmarks"


def run(folder: Path, script: str, *options: str) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *options, "--out", "result.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_codec_is_trained_and_compared_with_avif_that_never_has_fewer_bytes(
    tmp_path: Path,
) -> None:
    (tmp_path / "photos").mkdir()
    with Image.open(find_photos("sample").held_back[0]) as photo:
        cut = photo.convert("RGB").crop((0, 0, 256, 256))
    cut.save(tmp_path / "photos/a<b.png")
    cut.save(tmp_path / "photos/not-scored.png")
    options = ("--photos", "photos", "--pictures", "photos", "--steps", "1", "--limit", "1")
    run(tmp_path, "perceptual.py", *options)
    result = json.loads((tmp_path / "result.json").read_text())
    assert load_codec(tmp_path / "result.safetensors").design.parameters
    assert result["training"]["cpu_seconds"] > 0
    for level in result["levels"]:
        assert level["avif"]["bpp"] >= level["ours"]["bpp"]
        assert level["avif"]["bpp"] < 1.3 * level["ours"]["bpp"]
        assert 0 < level["avif"]["lpips_vgg"] < 1
    page = (tmp_path / "result.html").read_text()
    assert page.count("<img ") == 3
    assert "a&lt;b.png" in page
    assert "a<b.png" not in page


@pytest.mark.slow
def test_throughput_is_measured_in_every_way(tmp_path: Path) -> None:
    options = ["--space", "tiny", "--within", "inf", "--architectures", "1"]
    run(
        tmp_path,
        "proxy_throughput.py",
        *options,
        "--steps",
        "1",
        "--repeats",
        "1",
        "--batches",
        "1",
    )
    result = json.loads((tmp_path / "result.json").read_text())
    (at_one,) = result["batches"]
    assert at_one["crops_per_s"]["ours 0"]["per_s"] > 0
    ways = {"as the proxy", "channels first", "bfloat16", "perceptual phase"}
    assert set(result["crops_per_s_by_way"]) == ways
