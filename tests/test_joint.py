"""Joint training: schedule, resuming, and that it trains everything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evaluators import joint, losses
from evaluators.joint import JointRecipe, train_joint
from evaluators.photos import Photo, find_photos, load_photos
from evaluators.protocol import EvaluationError, SetupError
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.space import Choice

CPU = torch.device("cpu")
RECIPE = JointRecipe(steps=6, batch=2, perceptual_from=0.5)
CHOICES: dict[str, Choice] = {
    "latent_channels": 32,
    "hyper_channels": 8,
    "hyper_width": 8,
    "encoder.eighth.depth": 1,
    "encoder.eighth.width": 8,
    "decoder.half.depth": 1,
    "decoder.half.width": 8,
}


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return load_photos(find_photos("sample").train[:2], RECIPE.crop)


def fresh() -> Codec:
    torch.manual_seed(0)
    return Codec(build_design(CHOICES))


def weights(codec: Codec) -> dict[str, Any]:
    return {name: value.clone() for name, value in codec.state_dict().items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def test_encoder_entropy_model_and_decoder_all_move(photos: list[Photo]) -> None:
    before = weights(fresh())
    after = weights(train_joint(fresh(), photos, RECIPE, 0, CPU))
    for part in ("encoder_", "decoder_", "analysis", "synthesis", "hyper", "scale_decoder"):
        names = [n for n in before if n.startswith(f"steps.{part}")]
        assert any(not torch.equal(before[n], after[n]) for n in names), part


def test_the_same_seed_gives_the_same_codec_and_another_does_not(photos: list[Photo]) -> None:
    first = weights(train_joint(fresh(), photos, RECIPE, 3, CPU))
    torch.manual_seed(99)  # whatever happened before
    assert same(first, weights(train_joint(fresh(), photos, RECIPE, 3, CPU)))
    assert not same(first, weights(train_joint(fresh(), photos, RECIPE, 4, CPU)))


@pytest.mark.parametrize("at", [1, 4])
def test_a_training_that_broke_off_ends_as_if_it_had_not(
    photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    whole = weights(train_joint(fresh(), photos, RECIPE, 0, CPU))
    file = tmp_path / "checkpoint.safetensors"
    step = joint._step

    def breaking(run: Any, crops: Any) -> None:
        if run.step == at:
            raise KeyboardInterrupt
        step(run, crops)

    monkeypatch.setattr(joint, "_step", breaking)
    with pytest.raises(KeyboardInterrupt):
        train_joint(fresh(), photos, RECIPE, 0, CPU, file, every_seconds=0.0)
    monkeypatch.undo()
    assert same(whole, weights(train_joint(fresh(), photos, RECIPE, 0, CPU, file)))


def test_a_checkpoint_of_another_training_is_refused(photos: list[Photo], tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    train_joint(fresh(), photos, RECIPE, 0, CPU, file)
    for recipe, seed in ((replace(RECIPE, batch=3), 0), (RECIPE, 1)):
        with pytest.raises(SetupError, match="checkpoint of another training"):
            train_joint(fresh(), photos, recipe, seed, CPU, file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(SetupError, match="is no checkpoint"):
        train_joint(fresh(), photos, RECIPE, 0, CPU, file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("step", {}), ("step", "x"), ("rng", 5), ("rng", {"state": 1}), ("training", None)],
)
def test_a_forged_checkpoint_is_one_line(
    photos: list[Photo], tmp_path: Path, name: str, value: Any
) -> None:
    file = tmp_path / "checkpoint.safetensors"
    train_joint(fresh(), photos, RECIPE, 0, CPU, file, every_seconds=0.0)
    with safe_open(file, "pt") as content:
        about = json.loads(content.metadata()["run"])
    tensors = load_file(file)
    save_file(tensors, file, {"run": json.dumps({**about, name: value})})
    with pytest.raises(SetupError, match=r"checkpoint.*; move it away$"):
        train_joint(fresh(), photos, RECIPE, 0, CPU, file)
    for changed in ({**tensors, "average.0": torch.zeros(1)}, {**tensors, "noise": torch.zeros(3)}):
        save_file(changed, file, {"run": json.dumps(about)})
        with pytest.raises(SetupError, match=r"is a damaged checkpoint: .*; move it away$"):
            train_joint(fresh(), photos, RECIPE, 0, CPU, file)
    for text in ("[]", "[" * 100_000):
        save_file(tensors, file, {"run": text})
        with pytest.raises(SetupError, match="is no checkpoint"):
            train_joint(fresh(), photos, RECIPE, 0, CPU, file)


def test_watching_sees_averaged_weights_and_changes_nothing(photos: list[Photo]) -> None:
    seen: list[int] = []

    def watch(step: int, codec: Codec) -> None:
        assert not codec.training
        codec.compress(torch.rand(1, 3, 64, 64), 3)
        seen.append(step)

    watched = weights(train_joint(fresh(), photos, RECIPE, 0, CPU, watch=watch))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert same(watched, weights(train_joint(fresh(), photos, RECIPE, 0, CPU)))


def test_the_loss_moves_from_distortion_to_perception_and_the_rate_decays() -> None:
    recipe = JointRecipe(steps=1000, perceptual_from=0.5)
    perception = [recipe.perception(step) for step in (0, 500, 625, 750, 999)]
    assert perception == pytest.approx([0, 0, 0.5, 1, 1])
    factors = [recipe.rate_factor(step) for step in (0, 49, 500, 999)]
    assert factors[0] == pytest.approx(1 / 50)
    assert factors[1] > 0.98
    assert factors[2] == pytest.approx(0.525, abs=0.01)
    assert factors[3] == pytest.approx(0.05, abs=0.01)


def test_distortion_alone_loads_no_lpips(
    photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(backbone: str) -> None:
        raise AssertionError("LPIPS before its phase")

    monkeypatch.setattr(losses, "load_lpips", fail)
    train_joint(fresh(), photos, replace(RECIPE, steps=2, perceptual_from=1.0), 0, CPU)


def test_a_loss_that_is_not_finite_is_an_error(photos: list[Photo]) -> None:
    wild = replace(RECIPE, steps=60, learning_rate=1e8)
    with pytest.raises(EvaluationError, match="diverged"):
        train_joint(fresh(), photos, wild, 0, CPU)
