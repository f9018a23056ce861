"""A codec's file: what was saved is what runs, and nothing else is let in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import CodecFileError, codec_key, load_codec, save_codec
from search_spaces.space import Choice

CHOICES: dict[str, Choice] = {
    "latent_channels": 32,
    "hyper_channels": 12,
    "hyper_width": 8,
    "decoder.half.depth": 1,
    "decoder.half.width": 8,
    "decoder.scaled": True,
}


@pytest.fixture
def codec() -> Codec:
    torch.manual_seed(3)
    return Codec(build_design(CHOICES)).eval()


@pytest.fixture
def file(codec: Codec, tmp_path: Path) -> Path:
    save_codec(codec, CHOICES, tmp_path / "codec.safetensors")
    return tmp_path / "codec.safetensors"


def rewritten(file: Path, metadata: dict[str, str], **changed: torch.Tensor) -> Path:
    with safe_open(file, "pt") as content:
        kept = dict(content.metadata())
    save_file(load_file(file) | changed, file, kept | metadata)
    return file


def test_a_loaded_codec_codes_the_same_bytes(codec: Codec, file: Path) -> None:
    image = torch.rand(1, 3, 64, 48)
    loaded = load_codec(file)
    assert loaded.compress(image, 3.0).data == codec.compress(image, 3.0).data
    assert codec_key(loaded) == codec_key(codec)
    assert len(codec_key(codec)) == 8


def test_half_of_the_size_decodes_to_the_same_symbols(codec: Codec, file: Path) -> None:
    half = file.with_name("half.safetensors")
    save_codec(codec, CHOICES, half, half=True)
    assert half.stat().st_size < 0.7 * file.stat().st_size
    loaded, image = load_codec(half), torch.rand(1, 3, 64, 48)
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    coded = codec.compress(image, 3.0)
    symbols, hyper = loaded.read(coded.data, 64, 48, 3.0)
    assert torch.equal(symbols, coded.symbols)
    assert torch.equal(hyper, coded.hyper)
    for mine, theirs in zip(loaded.parameters(), codec.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_any_changed_weight_changes_the_key(codec: Codec) -> None:
    key = codec_key(codec)
    for name, tensor in codec.state_dict().items():
        before = tensor.clone()
        tensor[(0,) * tensor.dim()] += 1
        assert codec_key(codec) != key, name
        tensor.copy_(before)
    assert codec_key(codec) == key


def test_choices_that_make_another_codec_are_refused(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not make the codec's design"):
        save_codec(codec, CHOICES | {"decoder.half.width": 9}, tmp_path / "codec.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "nas-codec 99"}, "no codec file of this version"),
        ({"choices": "{"}, "choices are missing or damaged"),
        ({"choices": "[1]"}, "choices are missing or damaged"),
        ({"choices": json.dumps({"builder": "os:system"})}, "knows no choice 'builder'"),
        ({"choices": json.dumps(CHOICES | {"decoder.half.width": 4096})}, "for a codec of"),
        ({"choices": json.dumps(CHOICES | {"decoder.half.width": 10**12})}, "whole number"),
        ({"choices": json.dumps(CHOICES | {"context": "2x2"})}, "for a codec of|is missing"),
    ],
)
def test_a_forged_header_is_one_line_of_error(
    file: Path, metadata: dict[str, str], message: str
) -> None:
    with pytest.raises(CodecFileError, match=message) as error:
        load_codec(rewritten(file, metadata))
    assert "\n" not in str(error.value)


def test_impossible_tensors_are_refused(file: Path) -> None:
    wrong = {
        "steps.analysis.transform.weight": torch.full((32, 768, 1, 1), torch.nan),
        "steps.scale_decoder.out_shift": torch.full((128,), 200, dtype=torch.uint8),
        "hyper_prior.table_indices": torch.full((8, 12), 64, dtype=torch.uint8),
        "steps.scale_decoder.hidden_bias": torch.zeros(9, dtype=torch.int32),
        "unknown": torch.zeros(1),
    }
    intact = file.read_bytes()
    for name, tensor in wrong.items():
        with pytest.raises(CodecFileError, match=name):
            load_codec(rewritten(file, {}, **{name: tensor}))
        file.write_bytes(intact)
    load_codec(file)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff" * 100, b"\x80\x04K\x01."])
def test_what_is_no_codec_file_says_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CodecFileError, match="expected a codec file"):
        load_codec(tmp_path / "other")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CodecFileError, match="No such file"):
        load_codec(tmp_path / "none.safetensors")
