"""Searching and re-targeting by a supernet, as a user does: real photographs, short trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from test_report import CHROMIUM, needs_chromium

from nas.experiment import load_experiment
from nas.record.records import Trial
from nas.record.store import TrialStore
from nas.retarget import device_gate
from nas.warm_experiment import Inheriting, write_warm_experiment
from search_spaces.load import load_space

PROXY: dict[str, Any] = {
    "steps": 20, "shared_steps": 10, "batch": 2, "crops": 4, "vgg_crops": 0,
    "perceptual_weight": 0,
}  # fmt: skip
EXPERIMENT: dict[str, Any] = {
    "study": "base",
    "space": "tiny",
    "data": "sample",
    "budget": {"iphone-17-pro-max": {"encode_ms": 230, "decode_ms": 150}},
    "objectives": ["bd_rate_psnr", "decode_ms"],
    "searcher": {"name": "random"},
    "proxy": PROXY,
    "trials": 2,
    "workers": 1,
}
LIMITS = ("--decode-ms", "120")
OTHER = "base-iphone-17-pro-max-encode230-decode120-supernet"


def write(folder: Path, **changes: Any) -> Path:
    file = folder / "base.yaml"
    file.write_text(yaml.safe_dump({**EXPERIMENT, **changes}, sort_keys=False))
    return file


def run(folder: Path, *arguments: str) -> str:
    done = toy.nas(folder, *arguments, timeout_seconds=400)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def recorded(folder: Path, study: str) -> list[Trial]:
    return TrialStore.open(f"sqlite:///{folder}/runs/nas.db", study).trials()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two trained decoders, and a supernet of their space."""
    folder = tmp_path_factory.mktemp("supernet")
    write(folder)
    run(folder, "search", "base.yaml")
    shown = run(folder, "supernet", "base.yaml", "--steps", "20", "--out", "net.safetensors")
    assert "supernet: 20/20" in shown
    assert "net.safetensors: 20 steps of decoders of tiny" in shown
    assert "trained apart: decoder.full.0" in shown
    return folder


def test_a_supernet_that_is_there_is_shown_and_not_trained_again(folder: Path) -> None:
    (made,) = (folder / "runs/base/shared").glob("supernet-*.safetensors")
    before = made.stat().st_mtime_ns
    document = toy.json_of(folder, "supernet", "base.yaml", "--steps", "20")
    assert document["supernet"] == str(made)
    assert document["space"] == "tiny"
    assert document["curve"][-1]["step"] == document["recipe"]["steps"] == 20
    assert made.stat().st_mtime_ns == before
    assert made.read_bytes() == (folder / "net.safetensors").read_bytes()


def test_retargeting_scores_unseen_ones_and_tunes_the_best(folder: Path) -> None:
    command = ("retarget", "base", *LIMITS, "--supernet", "net.safetensors")
    shown = run(folder, *command, "--search", "8", "--tune", "2")
    assert "Weights on the front:" in shown
    assert "fine-tuned" in shown
    front = toy.json_of(folder, "front", OTHER)
    assert (front["trials"]["complete"], front["trials"]["partial"]) == (2, 8)
    assert front["budget"] == {"iphone-17-pro-max": {"encode_ms": 230.0, "decode_ms": 120.0}}
    assert {entry["weights"] for entry in front["front"]} == {"fine-tuned"}
    trials = recorded(folder, OTHER)
    assert len(trials) == 10
    assert all(trial.price["decode_ms"] <= 120 for trial in trials)
    for trial in trials:
        assert trial.metrics["weights"] == ("fine-tuned" if trial.scored else "inherited")
    # The old front is among what is scored.
    old = {entry["key"] for entry in toy.json_of(folder, "retarget", "base", *LIMITS)["front"]}
    assert old <= {trial.key for trial in trials}


def test_a_funnels_study_is_searched_on_by_the_default_searcher(folder: Path) -> None:
    store = TrialStore.open(f"sqlite:///{folder}/runs/nas.db", "base")
    gate = device_gate(store.record(), load_space("tiny"), None, {"decode_ms": 100.0})
    write(folder, searcher={"name": "funnel", "kmacs_per_pixel": [1, 20]})
    inheriting = Inheriting(folder / "net.safetensors", 2)
    file = write_warm_experiment(store, gate, None, None, 50, inheriting=inheriting)
    write(folder)
    experiment = load_experiment(file)
    assert (experiment.searcher, experiment.fidelities) == ("nsga2", (0.04, 1.0))
    assert experiment.trials == 52
    assert experiment.limits == {"iphone-17-pro-max": {"encode_ms": 230.0, "decode_ms": 100.0}}


@needs_chromium
def test_the_page_says_whose_weights_are_inherited(folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    run(folder, "report", OTHER)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((folder / f"runs/{OTHER}/report.html").as_uri())
        page.wait_for_selector("#front-chart .legend")
        legend = page.text_content("#front-chart .legend") or ""
        assert "fine-tuned weights" in legend
        assert "inherited weights" in legend
        page.click("#front-table tbody tr")
        assert page.text_content("#cards .weights") == "weights fine-tuned"
        browser.close()


def test_a_search_climbs_from_inherited_to_trained(folder: Path) -> None:
    write(
        folder,
        study="rungs",
        evaluator="evaluators.inherited:SupernetEvaluator",
        supernet="net.safetensors",
        fidelities=[0.2, 0.5, 1],
        proxy={**PROXY, "inherited": 0.2, "fine_tuned": 0.5},
        trials=9,
    )
    run(folder, "search", "base.yaml")
    trials = recorded(folder, "rungs")
    expected = {0.2: ("inherited", 0), 0.5: ("fine-tuned", 10), 1.0: ("from scratch", 20)}
    found = {t.fidelity: (t.metrics["weights"], t.metrics["steps"]) for t in trials}
    assert found == expected


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (("supernet", "base.yaml"), {"evaluator": "./toy.py:ToyEvaluator"}, "trains no codecs"),
        (("supernet", "base.yaml"), {"proxy": {"parents": True}}, "parents: candidates inherit"),
        (("supernet", "base.yaml", "--steps", "0"), {}, "--steps"),
        (("supernet", "gone.yaml"), {}, "gone.yaml"),
        (("search", "base.yaml"), {"supernet": "gone.safetensors"}, "supernet: "),
        (
            ("search", "base.yaml"),
            {"supernet": "gone", "evaluator": "evaluators.inherited:SupernetEvaluator"},
            "nas supernet EXP.yaml makes one",
        ),
        (("retarget", "base", "--supernet", "base.yaml"), {}, "state N"),
        (("retarget", "base", "--supernet", "gone", "--search", "2"), {}, "gone"),
    ],
)
def test_bad_requests_are_one_line(
    folder: Path, arguments: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    (folder / "toy.py").write_text(Path(toy.__file__).read_text())
    data = {} if "evaluator" not in changes or "toy" not in changes["evaluator"] else {"data": None}
    proxy = {"proxy": {}} if data else {}
    objectives = {"objectives": ["loss"]} if data else {}
    write(folder, **{**data, **proxy, **objectives, **changes})
    done = toy.nas(folder, *arguments)
    write(folder)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
