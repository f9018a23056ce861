"""Studies whose space grows: what was recorded stays true and is never trained again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import toy
import yaml

from nas.record.growth import grow, rewrite_choices
from nas.record.records import Claim, StudyRecord
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from search_spaces.load import load_space
from search_spaces.space import SearchSpace

SMALL: dict[str, Any] = {
    "name": "toy",
    "builder": toy.SPACE["builder"],
    "parameters": {"depth": {"ordered": [1, 2, 4, 6]}, "width": {"choices": [8, 32]}},
    "reference": {"depth": 1, "width": 8},
}
GROWN: dict[str, Any] = {
    **SMALL,
    "parameters": {
        "depth": {"ordered": [1, 2, 3, 4, 5, 6]},
        "width": {"choices": [8, 16, 32]},
        "groups": {"ordered": [1, 2, 4], "default": 1},
    },
}


def write(folder: Path, space: dict[str, Any], name: str = "toy.yaml") -> SearchSpace:
    (folder / name).write_text(yaml.safe_dump(space, sort_keys=False))
    return load_space(folder / name)


@pytest.fixture
def small(tmp_path: Path) -> SearchSpace:
    return write(tmp_path, SMALL)


@pytest.fixture
def grown(tmp_path: Path) -> SearchSpace:
    return write(tmp_path, GROWN, "grown.yaml")


@pytest.fixture
def store(tmp_path: Path, small: SearchSpace) -> TrialStore:
    """A study with two complete trials and one that was left running."""
    record = StudyRecord(
        identity={"seed": 1},
        objectives={"loss": "minimize"},
        limits={"phone": {"decode_ms": 150.0}},
        space="toy",
        provenance={},
        about={},
        description=small.description(),
    )
    store = TrialStore.create(f"sqlite:///{tmp_path}/nas.db", "s", record)
    for ask, choices in enumerate(({"depth": 4, "width": 32}, {"depth": 1, "width": 8})):
        store.complete(claimed(store, small, ask, choices), [1.0 + ask], {"loss": 1.0}, ask, 1.0)
    claimed(store, small, 2, {"depth": 6, "width": 8})
    store.count(5, 2)
    return store


def claimed(store: TrialStore, space: SearchSpace, ask: int, choices: dict[str, Any]) -> int:
    architecture = space.architecture(space.encode(choices))
    steps = space.design(architecture).stages["decode"].network.steps
    blocks = {"phone": {"decode": [[s.name, s.block.signature, 1.0] for s in steps]}}
    return store.claim(space, Claim(ask, 0, architecture, {"decode_ms": 1.0}, blocks, [-1.0]))


def test_recorded_trials_keep_their_choices_and_new_ones_have_more(
    store: TrialStore, grown: SearchSpace
) -> None:
    before = [(t.choices, t.values, t.state) for t in store.trials()]
    said = grow(store, grown)
    assert said == "depth 3, 5; width 16; groups (default 1)"
    reopened = TrialStore.open(store.url, "s")
    assert [(t.choices, t.values, t.state) for t in reopened.trials()] == before
    claimed(reopened, grown, 3, {"depth": 5, "width": 16, "groups": 2})
    study = optuna.load_study(study_name="s", storage=store.url)
    assert [trial.params for trial in study.trials] == [
        {"depth": 4, "width": 32},
        {"depth": 1, "width": 8},
        {"depth": 6, "width": 8},
        {"depth": 5, "width": 16, "groups": 2},
    ]
    assert {tuple(t.distributions["depth"].choices) for t in study.trials} == {(1, 2, 3, 4, 5, 6)}


def test_growth_is_recorded_once(store: TrialStore, grown: SearchSpace) -> None:
    assert grow(store, grown) is not None
    assert grow(TrialStore.open(store.url, "s"), grown) is None
    record = TrialStore.open(store.url, "s").record()
    assert [g["ask"] for g in record.grown] == [3]
    assert record.since == 3
    assert record.description == grown.description()
    store.count(4, 1)
    assert TrialStore.open(store.url, "s").proposals() == (9, 3)


def test_growth_that_was_stopped_in_between_is_finished(
    store: TrialStore, grown: SearchSpace
) -> None:
    before = [t.choices for t in store.trials()]
    rewrite_choices(store.url, store.study_id, grown)
    assert grow(TrialStore.open(store.url, "s"), grown) is not None
    assert [t.choices for t in TrialStore.open(store.url, "s").trials()] == before


def test_other_studies_of_the_storage_are_left_alone(
    store: TrialStore, small: SearchSpace, grown: SearchSpace
) -> None:
    other = TrialStore.create(store.url, "other", store.record())
    claimed(other, small, 0, {"depth": 4, "width": 32})
    grow(store, grown)
    claimed(other, small, 1, {"depth": 6, "width": 8})
    study = optuna.load_study(study_name="other", storage=store.url)
    assert [t.params for t in study.trials] == [{"depth": 4, "width": 32}, {"depth": 6, "width": 8}]


def test_default_that_recorded_architectures_did_not_have_is_refused(
    store: TrialStore, tmp_path: Path
) -> None:
    groups = {"ordered": [1, 2, 4], "default": 2}
    wrong = write(tmp_path, {**GROWN, "parameters": {**GROWN["parameters"], "groups": groups}})
    with pytest.raises(StudyError, match="trial 0 would be built differently today"):
        grow(store, wrong)
    assert not store.record().grown


def test_anything_else_is_refused_with_the_difference_named(
    store: TrialStore, tmp_path: Path
) -> None:
    smaller = {**SMALL["parameters"], "width": {"choices": [8, 64]}}
    with pytest.raises(StudyError, match="width no longer has the choice 32; undo that or choose"):
        grow(store, write(tmp_path, {**SMALL, "parameters": smaller}))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


def searched(folder: Path, cluster: str, space: dict[str, Any], trials: int) -> str:
    toy.write_experiment(folder, trials=trials)
    write(folder, space)
    done = toy.nas(folder, "search", "experiment.yaml", "--ray-address", cluster)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_search_goes_on_in_the_grown_space_and_repeats_nothing(
    tmp_path: Path, cluster: str
) -> None:
    searched(tmp_path, cluster, SMALL, 6)
    said = searched(tmp_path, cluster, GROWN, 12)
    assert "toy: its space has grown by depth 3, 5; width 16; groups (default 1)" in said
    trained = toy.trained(tmp_path)
    assert len(trained) == len(set(trained)) == 12
    assert "has grown" not in searched(tmp_path, cluster, GROWN, 16)
    trained = toy.trained(tmp_path)
    assert len(trained) == len(set(trained)) == 16


def test_search_that_was_stopped_after_growth_asks_as_one_that_was_not(
    tmp_path: Path, cluster: str
) -> None:
    for name, stops in (("stopped", (9, 14)), ("whole", (14,))):
        searched(tmp_path / name, cluster, SMALL, 6)
        for trials in stops:
            searched(tmp_path / name, cluster, GROWN, trials)
    assert toy.trained(tmp_path / "stopped") == toy.trained(tmp_path / "whole")
