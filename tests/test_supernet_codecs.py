"""One set of weights for whole codecs: encoder, entropy model and decoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from evaluators import joint
from evaluators.inherited import FINE_TUNED, INHERITED, SupernetEvaluator
from evaluators.passes import to_tensor
from evaluators.photos import Photo
from evaluators.protocol import SetupError
from evaluators.run import Run
from evaluators.supernet import Supernet, place_of, shared_blocks, sliced
from evaluators.supernet_codecs import CodecLesson, CodecsRecipe, given
from evaluators.supernet_file import load_supernet, supernet_about
from evaluators.supernet_training import extremes, train_supernet
from search_spaces.codec.model import Codec
from search_spaces.codec.statistics import kept_coefficients
from search_spaces.load import load_space
from search_spaces.space import SearchSpace

SPACE = """
name: small_codecs
builder: search_spaces.codec.family:build_design
fixed:
  quantisation: learned
  context: checkerboard
  coding: all
  encoder:
    {resampling: haar, activation: relu, scaled: true,
     quarter: {block: convscale311, attention: none},
     eighth: {block: residual, depth: 1, width: 16, kernel: 3, attention: none}}
  decoder:
    {resampling: haar, activation: relu, scaled: true, heads: every,
     quarter: {block: convscale311, attention: none}}
templates:
  scale:
    parameters:
      depth: {ordered: [1, 2]}
      width: {ordered: [8, 16]}
      expand: {ordered: [1, 2]}
      expand_out: {ordered: [2, 3]}
stages:
  encoder.quarter: {template: scale}
  decoder.quarter: {template: scale}
parameters:
  latent_channels: {ordered: [32, 48]}
  hyper_channels: {ordered: [12, 16]}
  hyper_width: {ordered: [8, 16]}
  context_width: {ordered: [8, 16]}
reference:
  encoder.quarter: {depth: 1, width: 8, expand: 1, expand_out: 2}
  decoder.quarter: {depth: 1, width: 8, expand: 1, expand_out: 2}
  latent_channels: 32
  hyper_channels: 12
  hyper_width: 8
  context_width: 8
"""
SHORT = SupernetEvaluator(
    training="joint", steps=40, crops=3, vgg_crops=0, supernet_steps=12, perceptual_weight=0,
    sandwich_every=4, fine_tuned=0.1,
)  # fmt: skip
RECIPE = CodecsRecipe(9, crop=128, sandwich_every=3)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    file = tmp_path_factory.mktemp("space") / "small.yaml"
    file.write_text(SPACE)
    return load_space(file)


@pytest.fixture(scope="module")
def folder(space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shared")
    SHORT.prepare(space, directory)
    return directory


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list[Any]:
    codes = space.sample(np.random.default_rng(seed), count)
    return [space.architecture(code) for code in codes]


def photos() -> list[Photo]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
    return [Photo("blocks", coarse.repeat(16, 0).repeat(16, 1))]


def randomised(supernet: Supernet) -> Supernet:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return supernet


def test_every_codec_of_the_space_is_a_slice(space: SearchSpace) -> None:
    supernet = Supernet(space, whole=True)
    sizes = ("width", "kernel", "expand", "expand_out", "latent_channels", "hyper_channels")
    for architecture in drawn(space, 30):
        for step, block in shared_blocks(space.design(architecture), whole=True).items():
            largest = supernet.blocks[place_of(step, block)]
            assert all(getattr(block, n, 0) <= getattr(largest, n, 0) for n in sizes)
    assert not supernet.sharing()


def test_a_slice_of_the_initial_transform_is_the_transform_of_the_strongest_coefficients(
    space: SearchSpace,
) -> None:
    supernet = Supernet(space, whole=True)
    assert np.array_equal(kept_coefficients(48)[:32], kept_coefficients(32))
    for architecture in drawn(space, 6):
        codec, fresh = (Codec(space.design(architecture)) for _ in range(2))
        supernet.give(codec)
        for step in ("analysis", "synthesis"):
            for own, built in zip(
                codec.steps[step].parameters(), fresh.steps[step].parameters(), strict=True
            ):
                assert torch.equal(own, built)


def test_training_a_codec_computes_with_its_slice_and_moves_nothing_else(
    space: SearchSpace,
) -> None:
    supernet = randomised(Supernet(space, whole=True))
    (smallest, _) = extremes(space, True)
    design = space.design(space.architecture(smallest))
    lesson = CodecLesson(supernet, photos(), RECIPE, torch.device("cpu"))
    run = Run(supernet, RECIPE, 0, [{"params": list(supernet.parameters()), "factor": 1.0}], 0.9)
    batch = lesson.batch(run)
    loss, images = lesson.loss(design, batch, run)
    alone = Codec(design).train()
    supernet.give(alone)
    run.noise = torch.Generator().manual_seed(0).get_state()
    torch.set_rng_state(run.noise)
    expected, pictures = joint.loss_of(alone, *batch, 0.0, RECIPE)
    assert torch.equal(images, pictures)
    assert loss.item() == expected.item()
    loss.backward()
    gradients = {n: p.grad for n, p in supernet.named_parameters() if p.grad is not None}
    for name, value in gradients.items():
        if name.startswith("steps.synthesis") and name.endswith("transform.weight"):
            assert value[:, :32].abs().sum() > 0
            assert value[:, 32:].abs().sum() == 0
        if name.startswith("steps.context_decoder") and name.endswith("linear.weight"):
            mu, width = value.chunk(2)  # of 48 latents each: a slice has the first 32 of both
            assert min(mu[:32].abs().sum(), width[:32].abs().sum()) > 0
            assert max(mu[32:].abs().sum(), width[32:].abs().sum()) == 0


@drawn_from(st.integers(1, 6), st.integers(0, 3), st.integers(0, 1))
@settings(deadline=None, max_examples=60)
def test_halves_are_cut_and_written_apart(part: int, more: int, axis: int) -> None:
    shape = [4, 4]
    shape[axis] = 2 * (part + more)
    whole = torch.arange(float(np.prod(shape))).reshape(shape)
    own = list(shape)
    own[axis] = 2 * part
    cut = sliced(whole, own, axis)
    halves = [half.narrow(axis, 0, part) for half in whole.chunk(2, axis)]
    assert torch.equal(cut.value, torch.cat(halves, axis))
    cut.put(torch.full(own, -1.0))
    assert int((whole == -1).sum()) == 4 * 2 * part
    assert all(bool((half == -1).all()) for half in halves)


def test_a_slice_has_its_own_integers_and_decodes_what_it_wrote(space: SearchSpace) -> None:
    supernet = randomised(Supernet(space, whole=True))
    image = to_tensor(photos()[0].pixels[:96, :64])
    for architecture in drawn(space, 4, seed=3):
        codec = given(supernet, space.design(architecture))
        coded = codec.compress(image, 4)
        symbols, hyper = codec.read(coded.data, 96, 64, 4)
        assert torch.equal(symbols, coded.symbols)
        assert torch.equal(hyper, coded.hyper)
        fresh = Codec(codec.design)
        integers = [c.steps["scale_decoder"].index_bias for c in (codec, fresh)]
        assert not torch.equal(*integers)


def trained(space: SearchSpace, checkpoint: Path | None, **changes: Any) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(space, whole=True)
    lesson = CodecLesson(supernet, photos(), RECIPE, torch.device("cpu"))
    return train_supernet(
        supernet,
        space,
        lambda code: space.design(space.architecture(code)),
        lesson,
        RECIPE,
        0,
        torch.device("cpu"),
        checkpoint,
        **changes,
    )


class Stopped(Exception):  # noqa: N818
    pass


def test_a_training_that_broke_off_goes_on_to_the_same_weights(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluators.supernet_training._CHECKPOINT_EVERY", 4)
    at_once = trained(space, None)

    def stop(step: int, steps: int) -> None:
        if step == 6:
            raise Stopped

    checkpoint = tmp_path / "unfinished"
    with pytest.raises(Stopped):
        trained(space, checkpoint, watch=stop)
    in_two = trained(space, checkpoint)
    for name, value in at_once.state_dict().items():
        assert torch.equal(value, in_two.state_dict()[name]), name


def test_scores_say_where_their_weights_come_from(space: SearchSpace, folder: Path) -> None:
    (architecture,) = drawn(space, 1, seed=5)
    scores = [
        SHORT.evaluate(space, architecture, folder, 0, fidelities=(share,)) for share in (0.02, 0.1)
    ]
    assert [score["weights"] for score in scores] == [INHERITED, FINE_TUNED]
    for score in scores:
        assert [p["level"] for p in score["rd_points"]] == [1, 3, 5, 7]
        assert np.isfinite([score["bd_rate_psnr"], score["learned_gain_db"]]).all()
    assert "codec" not in scores[0]
    again = SHORT.evaluate(space, architecture, folder, 0, fidelities=(0.02,))
    assert again["rd_points"] == scores[0]["rd_points"]


def test_the_curve_names_psnr_and_rate_of_watched_codecs(folder: Path) -> None:
    about = supernet_about(SHORT.trained_file(folder))
    assert about["shares"] == "codecs"
    assert about["levels"] == list(range(8))
    last = about["curve"][-1]
    assert last["psnr"].keys() == last["bpp"].keys() == {
        "smallest", "largest", "drawn 1", "drawn 2", "drawn 3"
    }  # fmt: skip
    assert min(last["bpp"].values()) > 0
    names = {name.split(".")[0] for name in load_file(SHORT.trained_file(folder))}
    assert names == {"supernet"}


def test_a_supernet_of_decoders_is_none_of_codecs(space: SearchSpace, folder: Path) -> None:
    file = SHORT.trained_file(folder)
    with pytest.raises(SetupError, match="shares codecs; set training: joint"):
        load_supernet(file, space)
    assert load_supernet(file, space, whole=True).whole


def test_a_whole_supernet_begins_from_an_anchor(
    space: SearchSpace, folder: Path, tmp_path: Path
) -> None:
    whole = replace(SHORT.from_scratch, steps=30).evaluate(space, space.reference, folder, 0)
    begun = replace(SHORT, anchor=whole["codec"], supernet_steps=1, learning_rate=1e-9)
    score = begun.evaluate(space, space.reference, tmp_path, 0, fidelities=(0.02,))
    for mine, theirs in zip(score["rd_points"], whole["rd_points"], strict=True):
        assert mine["psnr"] == pytest.approx(theirs["psnr"], abs=0.02)
        assert mine["bpp_coded"] == pytest.approx(theirs["bpp_coded"], rel=0.01)
