"""`nas export` and what is in its folder; `nas compress --runtime onnx`."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from PIL import Image
from recorded_studies import record, recorded
from test_compress import nas, nas_elsewhere, pixels_of, psnr, refused, texture
from test_conversion import Program

from latency.conversion import LoweringError, quiet
from latency.lowering import lower, package_ops
from nas.export_source import of_trial
from nas.exporting.coreml import Rounding
from nas.exporting.folder import sha256
from nas.exporting.integers import hyper_tables, read_integers, symbol_tables
from nas.exporting.onnx_networks import difference, onnx_runner
from nas.exporting.photographs import Photographs, photographs
from nas.exporting.quantised import least_kept, scales_of
from search_spaces.codec.deployed import NETWORKS, deployed
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import codec_key, load_codec, save_codec

ANCHOR = Path(__file__).parent.parent / "experiments/results/anchor.safetensors"
CHOICES = {
    "latent_channels": 48,
    "hyper_channels": 8,
    "hyper_width": 8,
    "quantisation": "learned",
    "context": "checkerboard",
    "coding": "grouped",
    "encoder.half.depth": 1,
    "encoder.half.width": 8,
    "encoder.half.block": "inverted",
    "encoder.scaled": True,
    "decoder.quarter.depth": 1,
    "decoder.quarter.width": 16,
    "decoder.quarter.block": "convscale311",
    "decoder.quarter.attention": "se",
    "decoder.half.depth": 1,
    "decoder.half.width": 8,
    "decoder.scaled": True,
    "decoder.resampling": "haar",
}


def write_codec(file: Path, seed: int) -> Path:
    """A codec whose learned parts are not zero, as after training."""
    torch.manual_seed(seed)
    codec = Codec(build_design(CHOICES)).eval()
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    codec.freeze()
    save_codec(codec, CHOICES, file)
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_codec(tmp_path_factory.mktemp("model") / "codec.safetensors", 0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few as there may be."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        Image.fromarray(texture(256, 256) + 9 * i).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def exported(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "out"
    done = nas("export", model, "--out", folder, "--calibrate", photos, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["folder"] == str(folder)
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(texture(100, 150)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def manifest_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return document


@pytest.mark.parametrize("precision", ["fp16", "w8a8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_packages_hold_the_operations_that_were_priced(
    exported: Path, name: str, precision: str
) -> None:
    network = deployed(build_design(CHOICES))[name]
    priced = Counter(op.text for block in network.blocks for op in lower(block))
    ops = package_ops(exported / f"coreml/{precision}/{name}.mlpackage")
    pairs = Counter(op.type for op in ops if op.type in ("quantize", "dequantize"))
    assert Counter(op.text for op in ops if op.type not in pairs) == priced
    assert bool(pairs) == (precision == "w8a8" and name != "context_decoder")


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_convolutions_of_backbones_are_int8_and_others_are_not(exported: Path, name: str) -> None:
    program = Program(exported / f"coreml/w8a8/{name}.mlpackage")
    of_8_bits = [
        op
        for op in program.of("conv", "conv_transpose")
        if program.made(op, "weight").type == "constexpr_affine_dequantize"
    ]
    layers = manifest_of(exported)["precisions"]["w8a8"]["w8a8_layers"][name]
    assert len(of_8_bits) == len(layers) > 4
    assert all(layer.startswith(name) for layer in layers)
    program.ops = [op for op in program.ops if op in of_8_bits or "quantize" in op.type]
    for op in of_8_bits:
        assert [made.type for made in program.activations(op)] == ["dequantize"]


def test_packages_say_what_they_read_and_write(exported: Path, model: Path) -> None:
    with quiet():
        import coremltools

        file = exported / "coreml/w8a8/encoder.mlpackage"
        package = coremltools.models.MLModel(str(file), skip_model_load=True)
    spec = package.get_spec().description
    assert {i.name: list(i.type.multiArrayType.shape) for i in spec.input} == {
        "image": [1, 3, 512, 512],
        "level": [1, 8],
    }
    assert [o.name for o in spec.output] == ["symbols", "hyper"]
    assert "-0.5 is black" in package.input_description["image"]
    assert all(package.output_description[o.name] for o in spec.output)
    said = package.user_defined_metadata
    assert said["nas-codecs.codec_key"] == codec_key(load_codec(model)).hex()
    assert json.loads(said["nas-codecs.choices"]) == CHOICES
    assert (said["nas-codecs.precision"], said["nas-codecs.tile_pixels"]) == ("w8a8", "512")
    assert package.author == ""


def test_the_manifest_ties_all_files_to_the_codec(exported: Path, model: Path) -> None:
    manifest = manifest_of(exported)
    files = {f.relative_to(exported).as_posix() for f in exported.rglob("*") if f.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}
    for name, about in manifest["files"].items():
        assert sha256(exported / name) == about["sha256"]
    assert manifest["codec_key"] == codec_key(load_codec(model)).hex()
    assert (exported / "codec.safetensors").read_bytes() == model.read_bytes()
    assert manifest["run_on_a_device"] is False
    assert manifest["codec_key"] in (exported / "README.md").read_text()
    assert "{" not in (exported / "README.md").read_text()


@pytest.mark.parametrize("quality", [0, 37, 112])
def test_exported_integers_give_the_tables_of_the_codec(
    exported: Path, model: Path, quality: int
) -> None:
    codec, integers = load_codec(model), read_integers(exported / "entropy.safetensors")
    rng = np.random.default_rng(quality)
    for spread in (3, 127):
        hyper = rng.integers(-spread, spread + 1, (1, 8, 5, 7), dtype=np.int32)
        ours = codec.symbol_indices(hyper, (10, 14), quality / 16)
        assert (symbol_tables(integers, hyper[0], quality) == ours[0]).all()
        assert len(np.unique(ours)) > 5
    assert (hyper_tables(integers, quality) == codec.hyper_prior.indices(quality)).all()


def test_exported_integers_give_the_tables_of_a_trained_codec(tmp_path: Path) -> None:
    from nas.exporting.integers import write_integers

    codec = load_codec(ANCHOR)
    write_integers(codec, tmp_path / "entropy.safetensors")
    hyper = np.random.default_rng(0).integers(-20, 21, (1, 32, 4, 4), dtype=np.int32)
    tables = symbol_tables(read_integers(tmp_path / "entropy.safetensors"), hyper[0], 50)
    assert (tables == codec.symbol_indices(hyper, (8, 8), 50 / 16)[0]).all()


def test_onnx_runtime_agrees_with_torch_at_every_size(exported: Path, model: Path) -> None:
    codec, picture = load_codec(model), torch.from_numpy(texture(512, 512)).permute(2, 0, 1)

    def crop(height: int, width: int) -> torch.Tensor:
        return picture[None, :, :height, :width].float() / 255

    found = difference(onnx_runner(exported / "onnx"), codec, crop)
    assert found.of > 60_000
    assert found.symbols <= found.of / 10_000  # values that lie between two integers
    assert found.image < 1e-4
    found.require_small()


def test_onnx_of_other_weights_is_told_apart(exported: Path, tmp_path: Path) -> None:
    other = load_codec(write_codec(tmp_path / "other.safetensors", 1))

    def crop(height: int, width: int) -> torch.Tensor:
        return torch.from_numpy(texture(height, width)).permute(2, 0, 1)[None].float() / 255

    found = difference(onnx_runner(exported / "onnx"), other, crop)
    with pytest.raises(LoweringError, match="leave it out with --no-onnx"):
        found.require_small()


@pytest.fixture(scope="module")
def rounding() -> Rounding:
    """A codec that was trained, on small crops."""
    photos = photographs("sample")
    calibration = tuple(crop[..., :128, 64:192] for crop in photos.calibration[:3])
    measured = tuple(crop[..., :128, 64:192] for crop in photos.measured[:3])
    return Rounding(load_codec(ANCHOR), Photographs(calibration, measured, ()), lambda *_: None)


@pytest.mark.parametrize(("precision", "most_db"), [("fp16", 0.02), ("w8a8", 0.3)])
def test_a_trained_codec_loses_little_by_rounding(
    rounding: Rounding, precision: Any, most_db: float
) -> None:
    quantised, facts = rounding.rounded(precision)
    assert min(facts["psnr_db"]) > 20
    assert facts["most_psnr_lost_db"] <= most_db
    assert max(facts["bytes_more_percent"]) < 3
    if precision == "w8a8":
        assert facts["fp16_parts"] == ["linear transforms", "entropy model", "bases of heads"]
        assert sum(len(each.layers) for each in quantised.values()) == 61
        assert max(facts["psnr_lost_db"]) > 0.005  # something was rounded


def test_scales_stay_in_fp16_until_little_enough_is_lost() -> None:
    network = deployed(build_design(CHOICES))["decoder"]
    costs = {"decoder.quarter": 0.5, "decoder.half": 0.25}
    assert scales_of(network) == list(costs)

    def lost_db(kept: Any) -> float:
        return sum(cost for scale, cost in costs.items() if scale not in kept["decoder"])

    kept, lost = least_kept({"decoder": network}, lost_db)
    assert (kept, lost) == ({"decoder": frozenset({"decoder.quarter"})}, 0.25)


def test_either_runtime_reads_what_the_other_wrote(exported: Path, tmp_path: Path) -> None:
    Image.fromarray(texture(530, 600)).save(tmp_path / "photo.png")
    for writer in ("torch", "onnx"):
        coded = tmp_path / f"{writer}.nasc"
        there = nas("compress", exported, tmp_path / "photo.png", coded, "--runtime", writer)
        assert (there.code, there.err) == (0, "")
        decoded = []
        for reader in ("torch", "onnx"):
            file = tmp_path / f"{writer}-{reader}.png"
            assert nas("decompress", exported, coded, file, "--runtime", reader).code == 0
            decoded.append(pixels_of(file).astype(int))
        assert np.abs(decoded[0] - decoded[1]).max() <= 1
        assert psnr(pixels_of(tmp_path / f"{writer}-onnx.png"), texture(530, 600)) > 22


def test_threads_change_nothing_with_onnx(exported: Path, tmp_path: Path) -> None:
    Image.fromarray(texture(530, 1100)).save(tmp_path / "a.png")
    for threads in (1, 3):
        coded, decoded = tmp_path / f"{threads}.nasc", tmp_path / f"{threads}.ppm"
        options = ("--runtime", "onnx", "--threads", threads)
        assert nas("compress", exported, tmp_path / "a.png", coded, *options).code == 0
        assert nas("decompress", exported, tmp_path / "1.nasc", decoded, *options).code == 0
    assert (tmp_path / "1.nasc").read_bytes() == (tmp_path / "3.nasc").read_bytes()
    assert (tmp_path / "1.ppm").read_bytes() == (tmp_path / "3.ppm").read_bytes()


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def exchanged(folder: Path) -> None:
    """Another codec, under a manifest whose digests fit."""
    file = write_codec(folder / "codec.safetensors", 1)
    manifest = manifest_of(folder)
    manifest["files"]["codec.safetensors"]["sha256"] = sha256(file)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "onnx/decoder.onnx").unlink(), "decoder.onnx: No such file"),
        (lambda f: flipped(f / "onnx/encoder.onnx"), "encoder.onnx: damaged or exchanged"),
        (lambda f: flipped(f / "codec.safetensors"), "codec.safetensors: damaged or exchanged"),
        (exchanged, "manifest.json: of codec "),
        (lambda f: (f / "manifest.json").write_text("{"), "no manifest of this version"),
        (lambda f: (f / "manifest.json").unlink(), "expected a folder that `nas export` made"),
    ],
)
def test_a_damaged_export_is_refused(
    copied: Path, photo: Path, tmp_path: Path, damage: Any, expected: str
) -> None:
    damage(copied)
    done = nas("compress", copied, photo, tmp_path / "a.nasc", "--runtime", "onnx")
    refused(done, expected)
    assert not (tmp_path / "a.nasc").exists()


def test_a_codec_file_has_no_onnx(model: Path, photo: Path, tmp_path: Path) -> None:
    done = nas("compress", model, photo, tmp_path / "a.nasc", "--runtime", "onnx")
    refused(done, "--runtime onnx takes a folder that `nas export` made")


def test_onnx_that_is_not_installed_is_one_line(
    exported: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "onnxruntime" else found(n)
    )
    done = nas("compress", exported, photo, tmp_path / "a.nasc", "--runtime", "onnx")
    refused(done, "onnxruntime, which is not installed: pip install 'nas-codecs[host]'")
    refused(nas("export", exported, "--out", tmp_path / "b"), "pip install 'nas-codecs[host]'")


def test_a_folder_of_a_training_is_a_model(model: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "train-3").mkdir()
    shutil.copyfile(model, tmp_path / "train-3/codec.safetensors")
    assert nas("compress", tmp_path / "train-3", photo, tmp_path / "a.nasc").code == 0
    assert nas("decompress", model, tmp_path / "a.nasc", tmp_path / "a.png").code == 0


def test_nothing_is_overwritten_unless_forced(copied: Path, model: Path, tmp_path: Path) -> None:
    before = (copied / "manifest.json").read_bytes()
    small = ("--no-onnx", "--precision", "fp16")
    refused(nas("export", model, "--out", copied, *small), "exists; replace it with --force")
    assert (copied / "manifest.json").read_bytes() == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/dear.txt").write_text("precious")
    forced = nas("export", model, "--out", tmp_path / "photos", "--force", *small)
    refused(forced, "is there and no export; choose another folder with --out")
    assert (tmp_path / "photos/dear.txt").read_text() == "precious"


def test_a_full_disk_leaves_no_half_folder(model: Path, copied: Path) -> None:
    before = sorted(copied.parent.iterdir())
    done = nas_elsewhere(
        *("export", model, "--out", copied, "--force", "--precision", "fp16"), file_bytes=100_000
    )
    assert (done.code, done.out) == (1, ""), done
    assert f"nas: cannot write {copied}: File too large" in done.err.splitlines()[-1]
    assert sorted(copied.parent.iterdir()) == before
    assert manifest_of(copied)["precisions"].keys() == {"fp16", "w8a8"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.safetensors"], "none.safetensors: no codec file or folder of `nas train`"),
        (["folder"], "folder: no codec file or folder of `nas train`"),
        (["notes.txt"], "notes.txt: not a safetensors file; expected a codec file"),
        (["MODEL", "--precision", "int4"], "no precision 'int4'; one or both of fp16,w8a8"),
        (["MODEL", "--calibrate", "none"], "data: no folder none"),
        (["MODEL", "--calibrate", "folder"], "data: folder holds 0 images"),
    ],
)
def test_a_wrong_request_is_one_line(
    arguments: list[str],
    expected: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no codec")
    named = [str(model) if each == "MODEL" else each for each in arguments]
    refused(nas("export", *named, "--out", tmp_path / "out"), expected)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "notes.txt"]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study whose evaluator keeps no codec."""
    monkeypatch.chdir(tmp_path)
    return recorded(tmp_path, range(2))


def test_a_trial_without_a_codec_is_refused(study: str) -> None:
    done = nas("export", "toy", 0, "--storage", study)
    refused(done, "trial 0 of toy (complete) left no codec; train one: nas train toy 0")


KEEPING = """
from toy import ToyEvaluator

class Keeping(ToyEvaluator):
    def evaluate(self, *given):
        return {**super().evaluate(*given), "codec": "kept.safetensors"}
"""


def test_a_proxy_is_exported_with_a_warning(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = toy.write_experiment(tmp_path, evaluator="./keeping.py:Keeping")
    (tmp_path / "keeping.py").write_text(KEEPING)
    url = record(file, range(1))
    gone = nas("export", "toy", 0, "--storage", url)
    refused(gone, "kept.safetensors, the codec of trial 0 of toy, is gone; train one: nas train")
    shutil.copyfile(model, "kept.safetensors")
    source = of_trial(url, "toy", 0)
    assert (source.codec, source.folder) == (Path("kept.safetensors"), Path("runs/toy/export-0"))
    assert source.origin == "proxy of the search: trial 0 of toy"
    done = nas("export", "toy", 0, "--storage", url, "--calibrate", "none")
    assert "nas: trial 0 of toy was not trained in full: this is the proxy" in done.err


def test_what_was_trained_in_full_is_exported(study: str, model: Path, photos: Path) -> None:
    trained = Path("runs/toy/train-1")
    trained.mkdir(parents=True)
    shutil.copyfile(model, trained / "codec.safetensors")
    small = ("--no-onnx", "--precision", "fp16", "--calibrate", photos)
    done = nas("export", "toy", 1, "--storage", study, *small)
    assert done.code == 0, done.err
    assert "not trained in full" not in done.err
    manifest = manifest_of(Path("runs/toy/export-1"))
    assert manifest["origin"] == "trained in full: trial 1 of toy"
    assert manifest["onnx"] is None
    done = nas("compress", "runs/toy/export-1", "none.png", "a", "--runtime", "onnx")
    assert done.code == 2
