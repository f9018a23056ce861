"""Trainings that are not worth going on with: which they are, and what a search does with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from evaluators.stopping import hopeless, milestones
from nas.experiment import ExperimentError, load_experiment
from nas.record.store import TrialStore

ENDS = {"distortion_db": 500, "perception_db": 1000}


def curve(end: float, points: int, noise: float = 0.005, lpips: float | None = None) -> list[Any]:
    """Rising to `end` dB by a power law, a point each fifty steps."""
    rng = np.random.default_rng(0)
    steps = 50 * np.arange(1, points + 1)
    values = end - 2 * (steps / 500) ** -0.7 + 2 + noise * rng.standard_normal(points)
    entries = [{"step": int(s), "psnr": float(v)} for s, v in zip(steps, values, strict=True)]
    if lpips is not None:
        entries += [
            {"step": 500 + 50 * k, "psnr": end, "lpips": lpips * (1 + 0.2 / k)} for k in range(1, 8)
        ]
    return entries


def test_a_curve_that_ends_far_below_the_bar_is_hopeless_and_says_so() -> None:
    reason = hopeless(curve(30.0, 6), ENDS, {"distortion_db": 32.0})
    assert reason is not None
    assert "distortion_db would end at 30." in reason
    assert "has 32.00" in reason


@pytest.mark.parametrize("bar", [{}, {"distortion_db": 29.9}, {"perception_db": 60.0}])
def test_a_curve_that_may_reach_the_bar_goes_on(bar: dict[str, float]) -> None:
    assert hopeless(curve(30.0, 6), ENDS, bar) is None


def test_what_is_unsure_goes_on() -> None:
    assert hopeless(curve(30.0, 3), ENDS, {"distortion_db": 40.0}) is None  # too few points
    assert hopeless(curve(30.0, 4, noise=1.0), ENDS, {"distortion_db": 30.5}) is None


def test_each_phase_has_its_own_bar() -> None:
    entries = curve(30.0, 10, lpips=0.2)
    found = milestones(entries)
    assert found["distortion_db"] == pytest.approx(30.0, abs=0.05)
    assert found["perception_db"] == pytest.approx(-10 * np.log10(0.2 * (1 + 0.2 / 7)))
    assert hopeless(entries, ENDS, {"perception_db": 8.0}) is not None
    assert hopeless(entries, ENDS, {"perception_db": 6.0}) is None


def test_a_rate_counts_as_quality() -> None:
    cheap, dear = ([{**e, "bpp_estimated": bpp} for e in curve(30.0, 6)] for bpp in (0.1, 0.2))
    difference = milestones(cheap)["distortion_db"] - milestones(dear)["distortion_db"]
    assert difference == pytest.approx(2.8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


def test_a_search_stops_only_what_is_dominated_and_says_how_many(
    tmp_path: Path, cluster: str
) -> None:
    toy.write_experiment(tmp_path, trials=14, proxy={"stops_early": True})
    options = ("experiment.yaml", "--ray-address", cluster, "--workers", "1")
    done = toy.nas(tmp_path, "search", *options)
    assert done.returncode == 0, done.stderr
    trials = TrialStore.open(f"sqlite:///{tmp_path}/runs/nas.db", "toy").trials()
    stopped = [trial for trial in trials if trial.state == "stopped"]
    complete = [trial for trial in trials if trial.state == "complete"]
    assert stopped
    assert len(stopped) + len(complete) == 14
    for trial in stopped:
        reached = trial.metrics["milestones"]["accuracy"]
        assert any(
            other.price["decode_ms"] <= trial.price["decode_ms"]
            and other.metrics["accuracy"] > reached
            for other in complete
        )
    assert f"{len(stopped)} stopped early" in done.stdout
    shown = toy.nas(tmp_path, "show", "toy", str(stopped[0].number))
    assert "stopped early: less accurate than one as cheap" in shown.stdout
    front = json.loads(toy.nas(tmp_path, "front", "toy", "--json").stdout)
    assert not {e["trial"] for e in front["front"]} & {trial.number for trial in stopped}

    before = [(trial.key, trial.state) for trial in trials]
    toy.write_experiment(tmp_path, trials=18, proxy={"stops_early": True})
    assert toy.nas(tmp_path, "search", *options).returncode == 0
    after = TrialStore.open(f"sqlite:///{tmp_path}/runs/nas.db", "toy").trials()
    assert [(trial.key, trial.state) for trial in after[:14]] == before
    assert len(after) == 18


def test_two_qualities_cannot_be_stopped_by_one(tmp_path: Path) -> None:
    file = toy.write_experiment(
        tmp_path, objectives=["loss", "accuracy"], proxy={"stops_early": True}
    )
    with pytest.raises(ExperimentError, match="loss and accuracy are two"):
        load_experiment(file)
