"""Fidelities of the proxy: longer trainings that go on from shorter ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from evaluators import decoder, joint
from evaluators.proxy import ProxyEvaluator
from search_spaces.space import Architecture, SearchSpace

DECODER = ProxyEvaluator(
    steps=40, batch=4, shared_steps=20, crops=4, vgg_crops=0, perceptual_from=0.9
)
JOINT = ProxyEvaluator(training="joint", steps=12, crops=4, vgg_crops=0, perceptual_from=0.5)


@pytest.fixture(scope="module")
def candidate(tiny: SearchSpace) -> Architecture:
    return tiny.architecture(tiny.encode({**tiny.reference.choices, "decoder.half.width": 32}))


@pytest.fixture(scope="module")
def folder(tiny: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fidelities")
    DECODER.prepare(tiny, directory)
    return directory


def taken(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[int]:
    """Steps that are taken from now on."""
    steps: list[int] = []
    step = module._step

    def counted(run: Any, data: Any) -> None:
        steps.append(run.step)
        step(run, data)

    monkeypatch.setattr(module, "_step", counted)
    return steps


def test_a_promoted_decoder_ends_as_if_it_had_been_trained_at_once(
    tiny: SearchSpace, folder: Path, candidate: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = DECODER.evaluate(tiny, candidate, folder, 0)
    low = DECODER.evaluate(tiny, candidate, folder, 0, fidelities=(0.5,))
    assert low["steps"] == 20
    steps = taken(monkeypatch, decoder)
    promoted = DECODER.evaluate(tiny, candidate, folder, 0, fidelities=(0.5, 1.0))
    # The low rung's learning rate falls after 15 of its 20 steps; the reference is trained as well.
    assert steps.count(14) == 0
    assert steps.count(15) == 2
    assert promoted["rd_points"] == at_once["rd_points"]
    assert promoted["bd_rate_psnr"] == at_once["bd_rate_psnr"]


def test_a_low_fidelity_is_compared_with_a_reference_trained_as_briefly(
    tiny: SearchSpace, folder: Path
) -> None:
    score = DECODER.evaluate(tiny, tiny.reference, folder, DECODER.seed, fidelities=(0.5,))
    assert score["bd_rate_psnr"] == pytest.approx(0.0, abs=1e-9)
    assert score["steps"] == 20


def test_a_joint_score_does_not_hang_on_checkpoints_being_there(
    tiny: SearchSpace, tmp_path: Path, candidate: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = dataclasses.replace(JOINT, steps=10)
    evaluator.evaluate(tiny, candidate, tmp_path, 0, fidelities=(0.4,))
    steps = taken(monkeypatch, joint)
    promoted = evaluator.evaluate(tiny, candidate, tmp_path, 0, fidelities=(0.4, 1.0))
    assert steps.count(0) == 1  # of the linear control, which has no shorter one
    for file in tmp_path.glob("branch-*"):
        file.unlink()
    again = evaluator.evaluate(tiny, candidate, tmp_path, 0, fidelities=(0.4, 1.0))
    assert again["rd_points"] == promoted["rd_points"]
