"""The benchmarks of whole pictures run, and what they write can be read."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from test_compress import texture, write_model
from test_engine_benchmarks import run


def test_time_of_networks_and_of_coding_is_told_apart(tmp_path: Path) -> None:
    Image.fromarray(texture(100, 100)).save(tmp_path / "photo.png")
    model = write_model(tmp_path / "codec.safetensors", 0)
    options = ("--photo", "photo.png", "--rounds", "1", "--anchor", str(model))
    found = run(tmp_path, "pipeline.py", *options)
    assert found["tiles"] == 1
    for codec in found["codecs"].values():
        for side in ("encode", "decode"):
            for threads in (1, 2):
                row = codec[f"{side}, {threads} threads"]
                share = row["coding_cpu_s"] / row["network_cpu_s"]
                assert row["coding_over_network"] == share > 0
    assert 38 < found["codecs"]["pico_decoder"]["decode_kmacs_per_pixel"] < 42


def test_latents_are_equal_in_other_processes_with_one_and_two_threads(tmp_path: Path) -> None:
    model = write_model(tmp_path / "codec.safetensors", 0)
    options = ("--limit", "1", "--side", "600", "--model", str(model))
    found = run(tmp_path, "exact_latents.py", *options)
    assert [reader["threads"] for reader in found["readers"]] == [1, 2]
    assert len({reader["digest"] for reader in found["readers"]}) == 1
    assert found["equal"]
    assert found["integers"] > 100_000
    assert found["files"] == 4
