"""How a codec is scored on crops: what a score holds, and what ends it instead of a made-up one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from evaluators import perceptual, scoring
from evaluators.metrics import ms_ssim, to_8_bit
from evaluators.passes import to_tensor
from evaluators.perceptual import load_lpips
from evaluators.photos import find_photos, load_photos, textured_crops
from evaluators.protocol import EvaluationError, SetupError
from evaluators.proxy import ProxyEvaluator
from evaluators.scoring import HeldBack
from search_spaces.codec.model import Codec
from search_spaces.space import SearchSpace

LEVELS = (1, 3, 5, 7)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def codec(tiny: SearchSpace) -> Codec:
    """Untrained: a transform codec."""
    torch.manual_seed(0)
    return Codec(tiny.design(tiny.reference)).eval()


@pytest.fixture(scope="module")
def held_back(codec: Codec) -> HeldBack:
    photos = load_photos(find_photos("sample").held_back, 192)
    return scoring.code_held_back(codec, textured_crops(photos, 192, 5), LEVELS)


@pytest.fixture(scope="module")
def score(codec: Codec, held_back: HeldBack) -> dict[str, Any]:
    return scoring.score(codec, held_back, LEVELS, CPU)


def decoded(codec: Codec, held_back: HeldBack, crop: int, index: int) -> tuple[Tensor, Tensor]:
    """One crop as the codec's file gives it back, and the crop itself."""
    original = held_back.pixels[crop].permute(1, 2, 0).numpy()
    with torch.no_grad():
        image = codec.decompress(
            codec.compress(to_tensor(original), LEVELS[index]).data, 192, 192, LEVELS[index]
        )
    return to_8_bit(image), to_tensor(original)


def test_every_level_has_every_distortion(score: dict[str, Any]) -> None:
    points = score["rd_points"]
    assert [point["level"] for point in points] == list(LEVELS)
    for name, better in (("psnr", 1), ("ms_ssim", 1), ("lpips", -1)):
        values = [better * point[name] for point in points]
        assert values == sorted(values)
    assert all(0.5 < point["ms_ssim"] < 1 for point in points)


def test_distortions_are_means_over_crops_of_what_the_bytes_decode_to(
    codec: Codec, held_back: HeldBack, score: dict[str, Any]
) -> None:
    pairs = [decoded(codec, held_back, crop, 1) for crop in range(5)]
    with torch.no_grad():
        distances = [load_lpips("alex")(*pair).item() for pair in pairs]
    assert score["rd_points"][1]["lpips"] == pytest.approx(np.mean(distances), rel=1e-3)
    similarities = [ms_ssim(*pair).item() for pair in pairs]
    assert score["rd_points"][1]["ms_ssim"] == pytest.approx(np.mean(similarities), rel=1e-4)


def test_vgg_checks_crops_from_end_to_end(codec: Codec, held_back: HeldBack) -> None:
    check = scoring.check_by_vgg(codec, held_back, 1, 3, 3)
    with torch.no_grad():
        pairs = [decoded(codec, held_back, crop, 1) for crop in (0, 2, 4)]
        distances = [load_lpips("vgg")(*pair).item() for pair in pairs]
    assert check["lpips_vgg"] == pytest.approx(np.mean(distances), rel=1e-3)
    assert check["lpips_vgg_crops"] == 3
    assert check["lpips_vgg_backbone"] == "vgg, LPIPS 0.1, inputs in [-1, 1]"


def test_vgg_checks_no_more_crops_than_there_are(codec: Codec, held_back: HeldBack) -> None:
    one = scoring.chosen(held_back, [3])
    assert scoring.check_by_vgg(codec, one, 1, 3, 4)["lpips_vgg_crops"] == 1
    assert scoring.check_by_vgg(codec, held_back, 1, 3, 0) == {}


def test_crops_too_small_for_ms_ssim_are_an_error(codec: Codec) -> None:
    photos = load_photos(find_photos("sample").held_back, 192)
    small = scoring.code_held_back(codec, textured_crops(photos, 128, 2), LEVELS)
    with pytest.raises(SetupError, match="no ms_ssim of 128 x 128 pixels"):
        scoring.score(codec, small, LEVELS, CPU)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_images_that_are_not_finite_are_an_error(
    codec: Codec, held_back: HeldBack, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*arguments: Any) -> Tensor:
        image = refine(*arguments)
        image[-1, 0, 5, 5] = value
        return image

    refine = scoring.refine
    monkeypatch.setattr(scoring, "refine", spoiled)
    scorers: list[Callable[[], Any]] = [
        lambda: scoring.score(codec, held_back, LEVELS, CPU),
        lambda: scoring.check_by_vgg(codec, held_back, 1, 3, 1),
    ]
    for scorer in scorers:
        with pytest.raises(EvaluationError, match="diverged: the decoded images are not finite"):
            scorer()


def test_a_metric_that_is_not_finite_is_an_error_that_names_it(
    codec: Codec, held_back: HeldBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_a_number(_: object, images: Tensor) -> Tensor:
        return torch.full((len(images),), math.nan)

    with monkeypatch.context() as patched:
        patched.setattr(scoring.Originals, "lpips", not_a_number)
        with pytest.raises(EvaluationError, match="lpips_vgg is nan, not a finite number"):
            scoring.check_by_vgg(codec, held_back, 1, 3, 1)
    for holder, name, metric in (
        (scoring.Originals, "lpips", "lpips"),
        (scoring, "ms_ssim", "ms_ssim"),
    ):
        monkeypatch.setattr(holder, name, not_a_number)
        with pytest.raises(EvaluationError, match=f"{metric} is nan, not a finite number"):
            scoring.score(codec, held_back, LEVELS, CPU)


def test_a_decoder_that_collapsed_is_an_error(
    codec: Codec, held_back: HeldBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    refine = scoring.refine
    monkeypatch.setattr(scoring, "refine", lambda *given: refine(*given) * 0.5)
    with pytest.raises(EvaluationError, match="collapsed"):
        scoring.score(codec, held_back, LEVELS, CPU)


def test_the_picture_is_a_crop_and_what_the_codec_makes_of_it(
    codec: Codec, held_back: HeldBack, tmp_path: Path
) -> None:
    scoring.save_picture(codec, held_back, 3, 7, tmp_path / "pair.png")
    pixels = np.asarray(Image.open(tmp_path / "pair.png"))
    image, original = decoded(codec, held_back, 0, 3)
    assert np.array_equal(pixels[:, :192], (255 * original[0]).permute(1, 2, 0).numpy())
    shown = (255 * image[0]).permute(1, 2, 0).numpy()
    assert np.abs(pixels[:, 192:] - shown).max() <= 1


def test_vgg_is_looked_for_only_where_it_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(perceptual, "weights_file", asked.append)
    ProxyEvaluator().check()
    ProxyEvaluator(vgg_crops=0).check()
    assert asked == ["alex", "vgg", "alex"]
    with pytest.raises(ValueError, match="vgg_crops: at least 0"):
        ProxyEvaluator(vgg_crops=-1)
