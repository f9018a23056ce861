"""Training in full: its schedule, what a step sees, the discriminator, seams, going on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_joint import CHOICES
from torch import Tensor, nn

from evaluators.discriminator import Adversary, patch_discriminator
from evaluators.full_crops import Crops
from evaluators.full_recipe import FullRecipe
from evaluators.full_training import FullTraining, codec_of
from evaluators.losses import perceptual_distances, seam_cost
from evaluators.photos import Photo, find_photos, load_photos
from evaluators.protocol import EvaluationError, SetupError
from evaluators.together import ALONE, Place
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.tiles import MARGIN

CPU = torch.device("cpu")
RECIPE = FullRecipe(steps=8, batch=2, perceptual_from=0.25, seam_every=2, adversarial_weight=0.1)


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return load_photos(find_photos("sample").train[:2], RECIPE.pair_length)


def training(photos: list[Photo], recipe: FullRecipe = RECIPE) -> FullTraining:
    torch.manual_seed(0)
    return FullTraining(Codec(build_design(CHOICES)), photos, recipe, 0, CPU)


def test_the_loss_moves_to_perception_and_then_to_the_discriminator() -> None:
    recipe = FullRecipe(steps=1000, perceptual_from=0.6, adversarial_weight=0.1)
    assert recipe.phase_2 == 600
    assert [recipe.perception(s) for s in (599, 600, 700, 800, 999)] == [0, 0, 0.5, 1, 1]
    learns = [recipe.learns_to_discriminate(s) for s in (0, 600, 699, 700, 999)]
    assert learns == [False, False, False, True, True]
    weights = [recipe.adversarial(s) for s in (700, 750, 825, 900, 999)]
    assert weights == pytest.approx([0, 0, 0.05, 0.1, 0.1])
    assert [recipe.pairs(s) for s in (596, 600, 601, 604)] == [False, True, False, True]
    assert not any(replace(recipe, perceptual_from=1.0).pairs(s) for s in range(1000))
    alone = replace(recipe, adversarial_weight=0.0)
    assert not any(alone.learns_to_discriminate(s) for s in range(1000))


@pytest.mark.parametrize(
    "wrong", [{"crop": 130}, {"crop": 96}, {"batch": 0}, {"perceptual_from": 2.0}, {"steps": 0}]
)
def test_an_impossible_recipe_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=next(iter(wrong))):
        replace(RECIPE, **wrong)


def test_every_part_of_the_loss_is_in_the_curve_from_its_phase_on(photos: list[Photo]) -> None:
    run = training(photos)
    while not run.ended:
        run.take_step()
    assert [row["step"] for row in run.curve] == list(range(1, 9))
    assert all(np.isfinite(list(row.values())).all() for row in run.curve)
    first = {name: min(row["step"] for row in run.curve if name in row) for name in run.curve[-1]}
    assert (first["bpp"], first["lpips"], first["discriminator"], first["adversarial"]) == (
        1, 4, 5, 6,
    )  # fmt: skip
    assert [row["step"] for row in run.curve if "seam" in row] == [3, 5, 7]
    codec = codec_of(run)
    coded = codec.compress(torch.rand(1, 3, 64, 64), 3)
    assert codec.decompress(coded.data, 64, 64, 3).shape == (1, 3, 64, 64)


def test_a_training_that_goes_on_ends_bit_for_bit_alike(
    photos: list[Photo], tmp_path: Path
) -> None:
    whole = training(photos)
    while not whole.ended:
        whole.take_step()
        if whole.run.step == 6:  # the discriminator has learned and weighs
            whole.save(tmp_path / "checkpoint.safetensors", {"any": 1})
    torch.manual_seed(99)
    again = training(photos)
    assert again.load(tmp_path / "checkpoint.safetensors") == {"any": 1}
    while not again.ended:
        again.take_step()
    assert again.curve == whole.curve
    for a, b in (
        (whole.run.codec, again.run.codec),
        (whole._adversary.network, again._adversary.network),
    ):
        assert all(torch.equal(v, b.state_dict()[n]) for n, v in a.state_dict().items())
    assert all(map(torch.equal, whole.run.averages.values, again.run.averages.values))
    other = training(photos, replace(RECIPE, adversarial_weight=0.2))
    with pytest.raises(SetupError, match="checkpoint of another training"):
        other.load(tmp_path / "checkpoint.safetensors")


def test_a_loss_that_is_not_finite_ends_the_training(photos: list[Photo]) -> None:
    run = training(photos)
    with torch.no_grad():
        next(run.run.codec.parameters()).fill_(float("nan"))
    with pytest.raises(EvaluationError, match="diverged: loss is nan at step 1"):
        run.take_step()


def test_workers_share_the_crops_that_one_would_see(photos: list[Photo]) -> None:
    recipe = replace(RECIPE, batch=4)
    crops = Crops(photos, recipe, 5)
    whole = crops.draw(0, ALONE.of_batch(4), CPU)
    shares = [crops.draw(0, Place(rank, 2).of_batch(4), CPU) for rank in (0, 1)]
    for rank, share in enumerate(shares):
        assert torch.equal(share.images, whole.images[rank::2])
        assert list(share.levels) == list(whole.levels[rank::2])
    assert not torch.equal(crops.draw(1, [0], CPU).images, whole.images[:1])
    with pytest.raises(SetupError, match="batch: 4 crops for 3 workers"):
        Place(0, 3).of_batch(4)


def test_pairs_are_windows_that_abut_as_tiles_do(photos: list[Photo]) -> None:
    crops, axes = Crops(photos, RECIPE, 0), set()
    for step in range(2, 20, 2):
        batch = crops.draw(step, [0, 1], CPU)
        assert batch.axis is not None
        axes.add(batch.axis)
        assert batch.images.shape == (2, 3, 128, 128)
        assert batch.levels[0] == batch.levels[1]
        assert batch.pictures.shape[batch.axis] == RECIPE.pair_length == 256 - 2 * MARGIN
        assert torch.equal(batch.put_together(batch.images), batch.pictures)
        # Each window owns what is on its side of the seam.
        marked = torch.stack([torch.zeros(3, 128, 128), torch.ones(3, 128, 128)])
        seen = batch.seam_in_width(batch.put_together(marked))
        assert seen[..., :124].eq(0).all()
        assert seen[..., 124:].eq(1).all()
    assert axes == {2, 3}


def test_without_a_long_photograph_there_are_no_pairs(photos: list[Photo]) -> None:
    short = [Photo("short", photos[0].pixels[:128, :160])]
    run = training(short)
    assert not run.has_pairs
    while not run.ended:
        run.take_step()
    assert not any("seam" in row for row in run.curve)


def test_a_step_at_the_seam_costs_more_than_the_same_error_elsewhere() -> None:
    picture = torch.rand(1, 3, 128, 248)

    def cost(change: Tensor) -> float:
        return seam_cost(picture + change, picture).item()

    step = torch.full((1, 3, 128, 248), 0.02)
    step[..., 124:] = -0.02
    noise = 0.02 * torch.sign(torch.randn(1, 3, 128, 248))
    far = torch.zeros(1, 3, 128, 248)
    far[..., :64] = 0.5
    assert cost(torch.zeros(1, 3, 128, 248)) == 0
    assert cost(step) == pytest.approx(4 * 0.02, rel=1e-4)
    assert cost(noise) < 0.6 * cost(step)
    assert cost(far) == 0


def test_lpips_sees_both_pictures_moved_alike_and_otherwise_each_time() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 128, 128)
    decoded = (images + 0.1 * torch.randn_like(images)).clamp(0, 1)

    def seen(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return perceptual_distances(decoded, images, anew=True)[1]

    plain = perceptual_distances(decoded, images)[1]
    views = [seen(seed) for seed in range(6)]
    assert torch.equal(seen(3), views[3])  # so a training that goes on is the same one
    assert len({float(view[0]) for view in views}) >= 5
    # Moved otherwise than the original, a picture would be as far from it as from any other.
    strangers = perceptual_distances(decoded.roll(40, -1), images)[1]
    assert all(((view - plain).abs() < 0.2 * (strangers - plain)).all() for view in views)
    for seed in range(6):
        torch.manual_seed(seed)
        assert perceptual_distances(images, images, anew=True)[1].abs().max() < 1e-6


def test_the_discriminator_learns_to_tell_and_teaches_images_alone() -> None:
    torch.manual_seed(0)
    real = torch.rand(4, 3, 64, 64)
    blurred = nn.functional.avg_pool2d(real, 5, 1, 2)
    adversary = Adversary(0, CPU, ALONE)
    losses = [adversary.learn(blurred, real).item() for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    made = blurred.clone().requires_grad_()
    before = adversary.tensors()["weights.0.parametrizations.weight.original"].clone()
    adversary.cost(made, real).mean().backward()  # type: ignore[no-untyped-call]
    assert made.grad is not None
    assert made.grad.abs().sum() > 0
    assert all(p.grad is None or p.requires_grad for p in adversary.network.parameters())
    after = adversary.tensors()["weights.0.parametrizations.weight.original"]
    assert torch.equal(before, after)
    assert patch_discriminator()(real).shape == (4, 1, 8, 8)
