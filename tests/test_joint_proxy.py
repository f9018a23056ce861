"""The proxy training whole codecs, from scratch and from an anchor, as briefly as shows it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators import joint
from evaluators.control import gain_db, without_backbones
from evaluators.protocol import SetupError, StoppedEarly
from evaluators.proxy import ProxyEvaluator
from nas.experiment import ExperimentError, load_experiment
from search_spaces.codec.model import Codec, is_of_decoder
from search_spaces.codec.saved import load_codec, save_codec
from search_spaces.load import load_space
from search_spaces.space import Architecture, SearchSpace

SHORT = ProxyEvaluator(
    training="joint", steps=10, batch=2, crops=4, vgg_crops=0, perceptual_from=0.8
)


@pytest.fixture(scope="module")
def folder(tiny: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("joint")
    SHORT.prepare(tiny, directory)
    return directory


@pytest.fixture(scope="module")
def candidate(tiny: SearchSpace) -> Architecture:
    return tiny.architecture(tiny.encode({**tiny.reference.choices, "decoder.half.width": 32}))


@pytest.fixture(scope="module")
def record(tiny: SearchSpace, folder: Path, candidate: Architecture) -> dict[str, Any]:
    return SHORT.evaluate(tiny, candidate, folder, 0)


def test_a_joint_score_has_every_metric_and_says_how_it_was_trained(
    record: dict[str, Any],
) -> None:
    assert all(math.isfinite(record[name]) for name in SHORT.metrics)
    assert record["training"] == "joint"
    rates = [point["bpp_coded"] for point in record["rd_points"]]
    assert rates == sorted(rates)
    for point in record["rd_points"]:
        assert point["bpp_coded"] == pytest.approx(point["bpp_estimated"], rel=0.05)


def test_intermediate_scores_are_recorded_with_steps_and_seconds(record: dict[str, Any]) -> None:
    assert [entry["step"] for entry in record["curve"]] == list(range(1, 11))
    seconds = [entry["seconds"] for entry in record["curve"]]
    assert seconds == sorted(seconds)
    assert all(20 < entry["psnr"] < 50 for entry in record["curve"])
    assert all(0 < entry["bpp_estimated"] < 3 for entry in record["curve"])


def test_the_same_seed_gives_the_same_joint_score(
    tiny: SearchSpace, folder: Path, candidate: Architecture, record: dict[str, Any]
) -> None:
    again = SHORT.evaluate(tiny, candidate, folder, 0)
    assert again["rd_points"] == record["rd_points"]


def test_a_joint_trial_that_was_killed_goes_on_from_its_checkpoint(
    tiny: SearchSpace, folder: Path, candidate: Architecture, record: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    taken: list[int] = []
    step = joint._step

    def breaking(run: Any, photos: Any) -> None:
        taken.append(run.step)
        if run.step == 7 and 7 not in taken[:-1]:
            raise KeyboardInterrupt
        step(run, photos)

    whole = joint.train_joint

    def often(*arguments: Any, **options: Any) -> Codec:
        return whole(*arguments, **options, every_seconds=0.0)

    monkeypatch.setattr(joint, "_step", breaking)
    monkeypatch.setattr(joint, "train_joint", often)
    with pytest.raises(KeyboardInterrupt):
        SHORT._score(tiny, candidate, folder, 5)
    assert len(list(folder.glob("*.checkpoint"))) == 1
    again = SHORT._score(tiny, candidate, folder, 5)
    assert taken == [*range(8), 7, 8, 9]
    assert not list(folder.glob("*.checkpoint"))
    assert again["rd_points"] != record["rd_points"]


def test_photographs_are_decoded_once_a_study(folder: Path) -> None:
    assert len(list(folder.glob("photographs-*/*.npy"))) == 5
    assert len(list(folder.glob("crops-*/*.npy"))) == 4
    assert len(list(folder.glob("control-*.json"))) == 1


def test_gain_over_the_control_is_at_equal_rate() -> None:
    control = [{"bpp_coded": r, "psnr": 30 + 5 * math.log2(r)} for r in (0.25, 0.5, 1.0, 2.0)]
    better = [{**p, "psnr": p["psnr"] + 0.7} for p in control]
    cheaper = [{**p, "bpp_coded": p["bpp_coded"] / 2} for p in control]
    assert gain_db(control, control) == pytest.approx(0, abs=1e-9)
    assert gain_db(better, control) == pytest.approx(0.7, abs=1e-6)
    assert gain_db(cheaper, control) == pytest.approx(5, abs=0.05)


@pytest.mark.parametrize("name", ["tiny", "codec", "pico_decoder"])
def test_the_control_is_the_codec_without_its_learned_paths(name: str) -> None:
    space = load_space(name)
    linear = without_backbones(space.design(space.reference))
    names = [step for step in linear.blocks if step.startswith(("encoder.", "decoder."))]
    assert names == []
    codec = Codec(linear).eval()
    image = torch.rand(1, 3, 64, 64)
    coded = codec.compress(image, 4)
    assert codec.decode(coded.symbols, coded.hyper, 4).shape == image.shape
    assert codec.read(coded.data, 64, 64, 4)[0].equal(coded.symbols)


def test_candidates_begin_where_the_anchor_stands(
    tiny: SearchSpace, folder: Path, candidate: Architecture, record: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    # An anchor that is trained ten times as long; a step of training then loses nothing of it.
    longer = dataclasses.replace(SHORT, steps=100)
    trained = longer.trained(tiny, tiny.design(candidate), longer.data_in(folder), 0)
    file = tmp_path / "anchor.safetensors"
    save_codec(trained.codec, tiny.all_choices(candidate), file)
    assert load_codec(file).design == tiny.design(candidate)
    begun = dataclasses.replace(SHORT, anchor=str(file), learning_rate=1e-5)
    score = begun._score(tiny, candidate, folder, 0)
    anchored, scratch = (gain_db(s["rd_points"], record["rd_points"]) for s in (score, record))
    assert scratch == pytest.approx(0, abs=1e-9)
    assert anchored > 0.05
    decoders = dataclasses.replace(begun, training="decoder", shared_steps=2, steps=2)
    assert math.isfinite(decoders._score(tiny, candidate, folder, 0)["learned_gain_db"])

    # A rung below: decoders of any candidate on the anchor's own latents, nothing shared trained.
    other = tiny.architecture(tiny.encode({**candidate.choices, "decoder.half.width": 16}))
    rung = dataclasses.replace(begun, decoder_first=2, steps=2, perceptual_from=0.0)
    passed = rung.evaluate(tiny, other, folder, 0)["milestones"]
    assert set(passed) == {"decoder_first", "perception_db"}
    bar = {"decoder_first": passed["decoder_first"] + 3.1}
    with pytest.raises(StoppedEarly, match=r"3\.1 points of BD-rate behind") as stopped:
        rung.evaluate(tiny, other, folder, 0, bar)
    assert stopped.value.record["milestones"] == {"decoder_first": passed["decoder_first"]}
    latents = dataclasses.replace(decoders, shared_steps=0)
    codec = load_codec(Path(latents._score(tiny, other, folder, 0)["codec"]))
    anchors = load_codec(file).state_dict()
    shared = [name for name in anchors if not is_of_decoder(name)]
    assert all(torch.equal(codec.state_dict()[name], anchors[name]) for name in shared)


def test_a_training_far_below_the_bar_ends_before_its_steps_do(
    tiny: SearchSpace, folder: Path, candidate: Architecture
) -> None:
    hopeful = dataclasses.replace(SHORT, stop_early=True)
    bar = {"distortion_db": 90.0}
    with pytest.raises(StoppedEarly, match="distortion_db would end at") as stopped:
        hopeful._score(tiny, candidate, folder, 5, bar)
    assert len(stopped.value.record["curve"]) < 8


@pytest.mark.parametrize(
    "settings", [{"decoder_first": 5}, {"decoder_first": 5, "training": "decoder", "anchor": "a"}]
)
def test_a_rung_needs_a_joint_training_above_it_and_an_anchor(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="decoder_first: a rung below"):
        dataclasses.replace(SHORT, **settings)


def test_what_is_no_anchor_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "anchor.safetensors").write_bytes(b"no codec")
    with pytest.raises(SetupError, match=r"anchor: .*anchor\.safetensors"):
        dataclasses.replace(SHORT, anchor=str(tmp_path / "anchor.safetensors")).check()
    file = tmp_path / "experiment.yaml"
    file.write_text("study: s\nspace: tiny\nanchor: gone.safetensors\ntrials: 1\n")
    with pytest.raises(ExperimentError, match=r"anchor: no file .*gone\.safetensors"):
        load_experiment(file)


def test_an_experiment_names_the_kind_of_training_and_the_anchor(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"any")
    text = "study: s\nspace: tiny\nanchor: a.safetensors\nproxy: {training: joint}\ntrials: 1\n"
    (tmp_path / "experiment.yaml").write_text(text)
    experiment = load_experiment(tmp_path / "experiment.yaml")
    built = experiment.evaluator.build(ValueError)
    assert built.training == "joint"  # type: ignore[attr-defined]
    assert built.anchor == str((tmp_path / "a.safetensors").resolve())  # type: ignore[attr-defined]
    before = experiment.identity
    (tmp_path / "a.safetensors").write_bytes(b"other weights")
    assert load_experiment(tmp_path / "experiment.yaml").identity != before
