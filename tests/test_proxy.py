"""The proxy on real photographs, with the shortest trainings that show what it does."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.photos import find_photos, load_photos
from evaluators.precision import at_precision
from evaluators.protocol import EvaluationError, SetupError
from evaluators.proxy import ProxyEvaluator
from search_spaces.codec.model import one_hot
from search_spaces.codec.pictures import decode_picture, encode_picture
from search_spaces.codec.saved import load_codec
from search_spaces.space import Parameter, SearchSpace

SHORT = ProxyEvaluator(steps=80, batch=4, shared_steps=60, crops=4, perceptual_from=0.9)


@pytest.fixture(scope="module")
def folder(tiny: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shared")
    SHORT.prepare(tiny, directory)
    return directory


@pytest.fixture(scope="module")
def candidate(tiny: SearchSpace) -> Any:
    choices = dict(tiny.reference.choices) | {"decoder.half.width": 32, "decoder.half.depth": 2}
    return tiny.architecture(tiny.encode(choices))


@pytest.fixture(scope="module")
def record(tiny: SearchSpace, folder: Path, candidate: Any) -> dict[str, Any]:
    return SHORT.evaluate(tiny, candidate, folder, 0)


def test_a_score_has_four_levels_of_real_rates(record: dict[str, Any]) -> None:
    points = record["rd_points"]
    assert [point["level"] for point in points] == [1, 3, 5, 7]
    for point in points:
        assert point["bpp_coded"] == pytest.approx(point["bpp_estimated"], rel=0.05)
    rates = [point["bpp_coded"] for point in points]
    assert rates == sorted(rates)
    assert record["bpp_coded"] == points[1]["bpp_coded"]


def test_a_score_has_every_metric_finite(record: dict[str, Any]) -> None:
    assert all(math.isfinite(record[name]) for name in SHORT.metrics)
    assert record["training_peak_bytes"] > 1e8
    assert record["steps"] == 80


def test_even_a_short_training_beats_the_linear_decoder(record: dict[str, Any]) -> None:
    assert record["learned_gain_db"] > 0.02


def test_the_same_seed_gives_the_same_score(
    tiny: SearchSpace, folder: Path, candidate: Any, record: dict[str, Any]
) -> None:
    again = SHORT.evaluate(tiny, candidate, folder, 0)
    assert again["rd_points"] == record["rd_points"]
    other = SHORT.evaluate(tiny, candidate, folder, 1)
    assert other["rd_points"] != record["rd_points"]


def test_the_reference_is_trained_once_and_compared_with_itself(
    tiny: SearchSpace, folder: Path
) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.glob("codec-*")}
    assert before
    score = SHORT.evaluate(tiny, tiny.reference, folder, 0)
    assert score["bd_rate_psnr"] == pytest.approx(0, abs=1e-9)
    assert score["bd_rate_lpips"] == pytest.approx(0, abs=1e-9)
    assert {file: file.stat().st_mtime_ns for file in folder.glob("codec-*")} == before


def test_the_trained_codec_can_be_loaded_again(
    tiny: SearchSpace, folder: Path, candidate: Any, record: dict[str, Any]
) -> None:
    from evaluators import scoring

    codec = SHORT.load(tiny, candidate, folder, 0)
    (shared,) = (f for f in folder.glob("shared-*") if f.is_dir())
    held_back = scoring.load_held_back(shared)
    import torch

    latents = held_back.latents[:, 0]  # ranges are of no account in fp16
    codec = at_precision(codec, SHORT.precision, latents, one_hot(1).expand(len(latents), -1))
    score = scoring.score(codec, held_back, SHORT.levels, torch.device("cpu"))
    for point, recorded in zip(score["rd_points"], record["rd_points"], strict=True):
        assert point == pytest.approx(recorded, rel=1e-4)
    with pytest.raises(SetupError, match="evaluate it first"):
        SHORT.load(tiny, candidate, folder, 99)


def test_a_candidate_that_diverges_is_an_error(
    tiny: SearchSpace, folder: Path, candidate: Any
) -> None:
    wild = dataclasses.replace(SHORT, learning_rate=1e6)
    with pytest.raises(EvaluationError, match=r"diverged|collapsed"):
        wild._score(tiny, candidate, folder, 0)


def test_a_candidate_that_changes_the_encoder_has_a_rate_of_its_own(
    tiny: SearchSpace, tmp_path: Path
) -> None:
    fixed = {k: v for k, v in tiny.fixed.items() if k != "latent_channels"}
    latent = Parameter("latent_channels", (64, 96))
    space = dataclasses.replace(
        tiny,
        parameters=(latent, *tiny.parameters),
        fixed=fixed,
        reference_choices={**tiny.reference_choices, "latent_channels": 64},
    )
    quick = dataclasses.replace(SHORT, steps=2, shared_steps=10, perceptual_weight=0.0)
    wider = space.architecture(space.encode({**space.reference_choices, "latent_channels": 96}))
    quick.prepare(space, tmp_path)
    score = quick.evaluate(space, wider, tmp_path, 0)
    assert score["bpp_coded"] > quick.evaluate(space, space.reference, tmp_path, 0)["bpp_coded"]
    assert score["bd_rate_psnr"] != 0
    assert len([f for f in tmp_path.glob("shared-*") if f.is_dir()]) == 2


def test_a_scored_candidate_is_a_codec_for_pictures(record: dict[str, Any]) -> None:
    codec = load_codec(Path(record["codec"]))
    pixels = load_photos(find_photos("sample").held_back, 192)[0].pixels[:100, :150]
    data = encode_picture(codec, pixels, 3.0)
    decoded = decode_picture(codec, data)
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(float) - pixels).mean() < 12
    assert 8 * len(data) / (100 * 150) < 4 * record["bpp_coded"]


def test_candidates_may_use_all_of_the_family(tiny: SearchSpace, tmp_path: Path) -> None:
    fixed = {
        "latent_channels": 64,
        "hyper_channels": 12,
        "quantisation": "learned",
        "context": "checkerboard",
        "encoder.quarter.depth": 1,
        "encoder.quarter.width": 8,
        "decoder.sixteenth.width": 8,
        "decoder.sixteenth.block": "convscale311",
        "decoder.scaled": True,
        "decoder.half.width": 8,
    }
    depths = [Parameter(f"decoder.{scale}.depth", (0, 1)) for scale in ("sixteenth", "half")]
    reference = {"decoder.sixteenth.depth": 0, "decoder.half.depth": 1}
    space = dataclasses.replace(
        tiny, parameters=tuple(depths), fixed=fixed, reference_choices=reference
    )
    quick = dataclasses.replace(SHORT, steps=4, shared_steps=10, perceptual_weight=0.0)
    deeper = space.architecture(space.encode(reference | {"decoder.sixteenth.depth": 1}))
    quick.prepare(space, tmp_path)
    score = quick.evaluate(space, deeper, tmp_path, 0)
    reference_score = quick.evaluate(space, space.reference, tmp_path, 0)
    assert score["bpp_coded"] == reference_score["bpp_coded"]
    assert score["psnr"] != reference_score["psnr"]
    assert load_codec(Path(score["codec"])).design == space.design(deeper)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": (1, 3, 5)}, "at least four"),
        ({"levels": (1, 3, 5, 8)}, "of 0 to 7"),
        ({"level": 2}, "level: one of"),
        ({"steps": -1}, "steps: at least 0"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProxyEvaluator(**settings)


def test_check_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no folder"):
        ProxyEvaluator(data=str(tmp_path / "none")).check()
    with pytest.raises(SetupError, match="device: 'abacus'"):
        ProxyEvaluator(device="abacus").check()
    ProxyEvaluator().check()


def test_every_knob_of_the_training_is_a_setting_that_can_be_turned() -> None:
    evaluator = ProxyEvaluator(anchor="codec.safetensors")
    assert len(evaluator.ablations) == 3
    for settings in evaluator.ablations.values():
        assert dataclasses.replace(evaluator, **settings) != evaluator
    assert ProxyEvaluator(perceptual_weight=0).ablations == {}


def test_a_candidate_may_begin_from_the_nearest_that_was_trained(
    tiny: SearchSpace, folder: Path, candidate: Any
) -> None:
    short = dataclasses.replace(SHORT, steps=0, vgg_crops=0, parents=True)
    alone = short.evaluate(tiny, candidate, folder, 0)
    trained = dataclasses.replace(SHORT, vgg_crops=0, parents=True)
    parent = trained.evaluate(tiny, candidate, folder, 0)
    choices = dict(candidate.choices) | {"decoder.half.depth": 3}
    child = tiny.architecture(tiny.encode(choices))

    @dataclasses.dataclass(frozen=True)
    class Untrained(ProxyEvaluator):
        """Of the same recipe, as it begins."""

        def _parent(self, design: Any, data: Any, seed: int) -> Path:
            return Path(parent["codec"])

    settings = dataclasses.asdict(short)
    begun = Untrained(**settings).evaluate(tiny, child, folder, 0)
    # One more block that changes nothing yet: the child begins where its parent ended.
    assert begun["psnr"] == pytest.approx(parent["psnr"], abs=0.02)
    assert begun["psnr"] > alone["psnr"] + 0.01
    design = tiny.design(child)
    assert trained._parent(design, trained.data_in(folder), 0) == Path(parent["codec"])
    assert trained._parent(design, trained.data_in(folder), 1) is None  # another seed's


def test_parents_are_off_and_no_part_of_what_older_studies_were_recorded_under() -> None:
    assert not ProxyEvaluator().parents
    assert "parents" not in ProxyEvaluator()._settings
    assert ProxyEvaluator(parents=True)._settings["parents"]
    with pytest.raises(ValueError, match="parents: of decoders"):
        ProxyEvaluator(training="joint", parents=True)
