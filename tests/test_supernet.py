"""One set of weights for all decoders of a space."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evaluators import shared, supernet_run
from evaluators.cache import TrainingCache
from evaluators.candidates import SHARED_WEIGHTS
from evaluators.inherited import FINE_TUNED, INHERITED, SCRATCH, SupernetEvaluator
from evaluators.passes import refine
from evaluators.protocol import SetupError
from evaluators.proxy import ProxyEvaluator
from evaluators.supernet import Supernet, place_of, shared_blocks, sliced
from evaluators.supernet_file import load_supernet, save_supernet, supernet_about
from evaluators.supernet_training import DecoderLesson, DecodersRecipe, extremes, train_supernet
from search_spaces.codec.model import Codec, is_of_decoder, one_hot
from search_spaces.load import load_space
from search_spaces.space import SearchSpace

SHORT = SupernetEvaluator(
    steps=40, batch=2, shared_steps=30, crops=4, perceptual_weight=0, vgg_crops=0, supernet_steps=24
)
RECIPE = DecodersRecipe(12, 2, 3e-3, 1.0, 0.0, sandwich_every=3)


@pytest.fixture(scope="module")
def folder(tiny: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shared")
    SHORT.prepare(tiny, directory)
    return directory


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list[Any]:
    codes = space.sample(np.random.default_rng(seed), count)
    return [space.architecture(code) for code in codes]


def randomised(supernet: Supernet) -> Supernet:
    """Also what starts at zero, so that every weight has a say."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape))
    return supernet


@pytest.mark.parametrize("name", ["tiny", "pico_decoder"])
def test_a_decoder_with_given_weights_computes_what_its_slice_computes(name: str) -> None:
    space = load_space(name)
    supernet = randomised(Supernet(space))
    torch.manual_seed(0)
    for architecture in drawn(space, 4):
        codec = Codec(space.design(architecture)).eval()
        supernet.give(codec)
        image, level = torch.rand(2, 3, 64, 64), one_hot(1, 5)
        latents = torch.randn(2, codec.latent_channels, 4, 4)
        with torch.no_grad():
            sliced_path = supernet.path(codec.design).refine(image, latents, level)
            assert torch.equal(refine(codec, image, latents, level), sliced_path)
        assert (sliced_path - image).abs().max() > 1e-3


def test_all_decoders_of_a_space_are_slices(tiny: SearchSpace) -> None:
    supernet = Supernet(tiny)
    for architecture in drawn(tiny, 40):
        for step, block in shared_blocks(tiny.design(architecture), whole=False).items():
            largest = supernet.blocks[place_of(step, block)]
            for field in ("width", "kernel", "expand"):
                assert getattr(block, field, 0) <= getattr(largest, field, 0)


def test_a_slice_is_the_first_channels_and_the_middle_of_a_kernel() -> None:
    whole = torch.arange(4 * 3 * 5 * 5).reshape(4, 3, 5, 5)
    assert torch.equal(sliced(whole, (2, 3, 3, 3)).value, whole[:2, :, 1:4, 1:4])
    assert torch.equal(sliced(whole, whole.shape).value, whole)
    assert torch.equal(sliced(torch.arange(6), (4,)).value, torch.arange(4))


def test_training_a_decoder_moves_its_slice_and_nothing_else(tiny: SearchSpace) -> None:
    supernet = randomised(Supernet(tiny))
    (architecture,) = drawn(tiny, 1)
    design = tiny.design(architecture)
    path = supernet.path(design)
    path.refine(torch.rand(1, 3, 64, 64), torch.zeros(1, 128, 4, 4), one_hot(1)).sum().backward()
    own = {
        place_of(step, block).module for step, block in shared_blocks(design, whole=False).items()
    }
    for name, module in supernet.steps.items():
        reached = any(p.grad is not None for p in module.parameters())
        assert reached == (name in own)
    weight = "steps.decoder_half_stem.convolution.weight"
    width = architecture.choices["decoder.half.width"]
    gradient = next(
        p.grad for n, p in supernet.named_parameters() if n.startswith("steps.decoder_half_stem")
        and n.endswith("convolution.weight")
    )  # fmt: skip
    assert gradient is not None, weight
    assert gradient[:width].abs().sum() > 0
    assert gradient[width:].abs().sum() == 0


def test_kinds_of_block_share_no_weights_and_that_is_said(tiny: SearchSpace) -> None:
    apart = Supernet(tiny).sharing()
    assert apart["decoder.half.0"] == 2  # residual and inverted
    assert "decoder.half.stem" not in apart
    assert not Supernet(load_space("pico_decoder")).sharing()


def test_extremes_are_the_cheapest_and_the_dearest_decoder(tiny: SearchSpace) -> None:
    smallest, largest = (tiny.design(tiny.architecture(code)) for code in extremes(tiny))
    others = [tiny.design(a).kmacs_per_pixel("decode") for a in drawn(tiny, 300)]
    assert smallest.kmacs_per_pixel("decode") <= min(others)
    assert largest.kmacs_per_pixel("decode") >= max(others)
    assert "decoder.full.1" in largest.blocks


def trained(tiny: SearchSpace, folder: Path, checkpoint: Path | None, **changes: Any) -> Supernet:
    (of_shared,) = (f for f in folder.glob("shared-*") if f.is_dir())
    torch.manual_seed(0)
    codec = shared.load_shared(tiny.design(tiny.reference), of_shared / SHARED_WEIGHTS)
    supernet, device = Supernet(tiny), torch.device("cpu")
    lesson = DecoderLesson(supernet, codec, TrainingCache(of_shared), RECIPE, device)
    return train_supernet(
        supernet,
        tiny,
        lambda code: tiny.design(tiny.architecture(code)),
        lesson,
        RECIPE,
        0,
        device,
        checkpoint,
        **changes,
    )


class Stopped(Exception):  # noqa: N818
    pass


def test_a_training_that_broke_off_goes_on_to_the_same_weights(
    tiny: SearchSpace, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluators.supernet_training._CHECKPOINT_EVERY", 5)
    at_once = trained(tiny, folder, None)

    def stop(step: int, steps: int) -> None:
        if step == 7:
            raise Stopped

    checkpoint = tmp_path / "unfinished"
    with pytest.raises(Stopped):
        trained(tiny, folder, checkpoint, watch=stop)
    assert checkpoint.is_file()
    in_two = trained(tiny, folder, checkpoint)
    for name, value in at_once.state_dict().items():
        assert torch.equal(value, in_two.state_dict()[name]), name


def test_a_supernet_that_broke_off_goes_on_with_its_curve(
    tiny: SearchSpace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluators.supernet_training._CHECKPOINT_EVERY", 3)
    brief = replace(SHORT, supernet_steps=8)
    watch = supernet_run._Watch.__call__

    def stop(self: Any, step: int, steps: int) -> None:
        if step == 5:
            raise Stopped
        watch(self, step, steps)

    with monkeypatch.context() as stopped:
        stopped.setattr(supernet_run._Watch, "__call__", stop)
        with pytest.raises(Stopped):
            brief.supernet_file(tiny, folder)
    file = brief.trained_file(folder)
    assert not file.exists()
    assert brief.supernet_file(tiny, folder) == file
    about = supernet_about(file)
    assert [entry["step"] for entry in about["curve"]] == list(range(1, 9))
    seconds = [entry["seconds"] for entry in about["curve"]]
    assert seconds == sorted(seconds)
    assert not file.with_suffix(".checkpoint").exists()


@pytest.fixture(scope="module")
def scores(tiny: SearchSpace, folder: Path) -> dict[float, dict[str, Any]]:
    """One architecture at every kind of fidelity."""
    (architecture,) = drawn(tiny, 1)
    return {
        share: SHORT.evaluate(tiny, architecture, folder, 0, fidelities=(share,))
        for share in (0.02, 0.2, 1.0)
    }


def test_a_fidelity_says_where_its_weights_come_from(scores: dict[float, dict[str, Any]]) -> None:
    for share, weights, steps in ((0.02, INHERITED, 0), (0.2, FINE_TUNED, 8), (1.0, SCRATCH, 40)):
        score = scores[share]
        assert (score["weights"], score["steps"]) == (weights, steps)
        assert set(SHORT.metrics) <= score.keys()
        assert [p["level"] for p in score["rd_points"]] == [1, 3, 5, 7]
    rates = {share: [p["bpp_coded"] for p in s["rd_points"]] for share, s in scores.items()}
    assert rates[0.02] == rates[0.2] == rates[1.0]  # one encoder
    assert len({s["psnr"] for s in scores.values()}) == 3


def test_from_scratch_is_what_the_proxy_scores(
    tiny: SearchSpace, folder: Path, scores: dict[float, dict[str, Any]]
) -> None:
    proxy = SHORT.from_scratch
    assert type(proxy) is ProxyEvaluator
    again = proxy.evaluate(tiny, drawn(tiny, 1)[0], folder, 0)
    assert scores[1.0]["rd_points"] == again["rd_points"]
    assert scores[1.0]["bd_rate_psnr"] == again["bd_rate_psnr"]


def test_the_reference_is_compared_with_itself_at_every_fidelity(
    tiny: SearchSpace, folder: Path
) -> None:
    for share in (0.02, 0.2, 1.0):
        score = SHORT.evaluate(tiny, tiny.reference, folder, 0, fidelities=(share,))
        assert score["bd_rate_psnr"] == pytest.approx(0, abs=1e-9)


def test_inherited_scores_leave_no_files(tiny: SearchSpace, folder: Path) -> None:
    before = set(folder.rglob("*"))
    (architecture,) = drawn(tiny, 1, seed=5)
    first = SHORT.evaluate(tiny, architecture, folder, 0, fidelities=(0.02,))
    again = SHORT.evaluate(tiny, architecture, folder, 7, fidelities=(0.02,))
    assert set(folder.rglob("*")) == before
    assert first["rd_points"] == again["rd_points"]  # no seed has a say


def test_a_given_supernet_scores_alike_in_another_study(
    tiny: SearchSpace, folder: Path, tmp_path: Path, scores: dict[float, dict[str, Any]]
) -> None:
    given = replace(SHORT, supernet=str(SHORT.trained_file(folder)))
    given.check()
    (architecture,) = drawn(tiny, 1)
    for share in (0.02, 0.2):
        other = given.evaluate(tiny, architecture, tmp_path, 0, fidelities=(share,))
        assert other["rd_points"] == scores[share]["rd_points"]
    assert not list(tmp_path.glob("supernet-*"))  # nothing was trained


def test_a_file_says_whose_it_is_and_how_it_was_trained(tiny: SearchSpace, folder: Path) -> None:
    about = supernet_about(SHORT.trained_file(folder))
    assert about["space"] == "tiny"
    assert about["recipe"]["steps"] == 24
    assert about["curve"][-1]["step"] == 24
    assert set(about["curve"][-1]["psnr"]) >= {"smallest", "largest"}


def test_what_is_no_supernet_of_the_space_is_one_line(
    tiny: SearchSpace, folder: Path, tmp_path: Path
) -> None:
    file = SHORT.trained_file(folder)
    with pytest.raises(SetupError, match="of the space 'tiny', not of 'pico_decoder'"):
        load_supernet(file, load_space("pico_decoder"))
    with pytest.raises(SetupError, match="none: "):
        replace(SHORT, supernet=str(tmp_path / "none")).check()
    with pytest.raises(SetupError, match=r"trained at \[1, 3, 5, 7\] only, not at \[0, 2\]"):
        replace(SHORT, supernet=str(file), levels=(0, 1, 2, 3), level=3).check()
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(SetupError, match="not a safetensors file"):
        load_supernet(damaged, tiny)
    save_file({"a": torch.zeros(1)}, damaged)
    with pytest.raises(SetupError, match="no supernet of this version"):
        load_supernet(damaged, tiny)
    codec = Codec(tiny.design(tiny.reference))
    supernet = Supernet(tiny)
    supernet.steps.pop(next(iter(supernet.steps)))
    save_supernet(supernet, codec, tiny, {}, damaged)
    with pytest.raises(SetupError, match="is missing, unknown or of another size"):
        load_supernet(damaged, tiny)


@pytest.mark.parametrize(
    "about", ["{", "7", "[" * 100_000, '{"levels": [1]}', '{"recipe": 1, "curve": []}']
)
def test_a_forged_description_is_one_line(tiny: SearchSpace, tmp_path: Path, about: str) -> None:
    file = tmp_path / "net.safetensors"
    save_supernet(Supernet(tiny), Codec(tiny.design(tiny.reference)), tiny, {}, file)
    with safe_open(file, "pt") as content:
        metadata = {**content.metadata(), "about": about}
    save_file(load_file(file), file, metadata)
    with pytest.raises(SetupError, match="what it says of its training is damaged; train one"):
        supernet_about(file)


def test_a_space_that_searches_encoders_needs_an_anchor(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"searches encoders too; share them with training: joint"):
        SHORT.supernet_file(load_space("codec"), tmp_path)


def test_what_is_taken_is_given_back(tiny: SearchSpace) -> None:
    supernet = randomised(Supernet(tiny))
    (architecture,) = drawn(tiny, 1, seed=2)
    codec, other = (Codec(tiny.design(architecture)) for _ in range(2))
    supernet.take(codec)
    supernet.give(other)
    decoders = [
        {n: v for n, v in c.state_dict().items() if is_of_decoder(n)} for c in (codec, other)
    ]
    assert decoders[0]
    for name, value in decoders[0].items():
        assert torch.equal(value, decoders[1][name]), name


def test_a_supernet_begins_from_an_anchor(tiny: SearchSpace, folder: Path, tmp_path: Path) -> None:
    whole = replace(SHORT.from_scratch, steps=80).evaluate(tiny, tiny.reference, folder, 0)
    begun = replace(
        SHORT, anchor=whole["codec"], shared_steps=0, supernet_steps=1, learning_rate=1e-9
    )
    score = begun.evaluate(tiny, tiny.reference, tmp_path, 0, fidelities=(0.02,))
    assert score["learned_gain_db"] == pytest.approx(whole["learned_gain_db"], abs=0.01)
    assert whole["learned_gain_db"] > 0.02


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("decoder_first", 5, "rung below"),
        ("supernet_steps", 0, "at least 1"),
        ("drawn", 0, "at least 1"),
        ("sandwich_every", 0, "at least 1"),
        ("distillation", 1.5, "0 to 1"),
        ("inherited", 0.5, "ascending"),
    ],
)
def test_bad_settings_are_refused(setting: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SHORT, **{setting: value})


def test_the_file_holds_the_encoder_too(tiny: SearchSpace, folder: Path) -> None:
    tensors = load_file(SHORT.trained_file(folder))
    assert {name.split(".")[0] for name in tensors} == {"supernet", "shared"}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells only there")
def test_processes_of_a_machine_share_the_weights_of_one_file(
    tiny: SearchSpace, folder: Path
) -> None:
    file = SHORT.trained_file(folder)
    supernet = load_supernet(file, tiny)
    weights = sum(p.nbytes for p in supernet.parameters())
    with torch.no_grad():
        sum(parameter.sum() for parameter in supernet.parameters())
    mapped = dict.fromkeys(("Rss", "Private_Dirty"), 0)
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in mapped and ours:
            mapped[name] += 1024 * int(rest.split()[0])
        elif "-" in line.split()[0]:
            ours = line.endswith(str(file))
    assert mapped["Rss"] >= weights  # read, and from the file's own pages
    assert mapped["Private_Dirty"] == 0
