"""Architectures taken apart: which changes there are, and what they are told to do."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from recorded_studies import recorded

from nas.ablate import rows_of
from nas.record.store import TrialStore
from search_spaces.load import load_space


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


@pytest.mark.parametrize("name", ["tiny", "codec", "pico_decoder"])
def test_every_alternative_of_every_choice_is_one_row(name: str) -> None:
    space = load_space(name)
    for code in space.sample(np.random.default_rng(0), 5):
        architecture = space.architecture(code)
        base, *rows = rows_of(space, architecture, {})
        assert base.architecture == architecture
        keys = [row.architecture.key for row in rows]
        assert architecture.key not in keys
        assert len({(row.what, row.change) for row in rows}) == len(rows)
        changed = {(row.what, row.architecture.choices[row.what]) for row in rows}
        for parameter in space.parameters:
            if parameter.name in architecture.choices:
                mine = architecture.choices[parameter.name]
                found = {choice for what, choice in changed if what == parameter.name}
                assert mine not in found
                assert found <= set(parameter.choices)
        assert all(space.valid(np.array([row.architecture.code])).all() for row in rows)


def test_unconstrained_choices_miss_no_alternative(tmp_path: Path) -> None:
    toy.write_experiment(tmp_path)
    space = load_space(tmp_path / "toy.yaml")
    choices = {"depth": 3, "width": 8, "mixing": "shuffle", "groups": 2}
    architecture = space.architecture(space.encode(choices))
    _, *rows = rows_of(space, architecture, {"half": {"steps": 1}})
    assert [row.what for row in rows] == [
        *["depth"] * 5, *["width"] * 2, "mixing", *["groups"] * 2, "training",
    ]  # fmt: skip
    assert rows[-1].settings == {"steps": 1}
    assert rows[0].change == "3 → 1"
    only = rows_of(space, architecture, {"half": {}}, ("width", "training"))
    assert [row.what for row in only] == ["as it is", "width", "width", "training"]
    with pytest.raises(ValueError, match="nothing to change is called height; there are"):
        rows_of(space, architecture, {}, ("height",))


@pytest.mark.slow
def test_table_says_what_every_change_does_and_trains_nothing_twice(
    tmp_path: Path, cluster: str
) -> None:
    recorded(tmp_path, rows=range(6), proxy={"noise": 0.5}, budget={toy.DEVICE: {"decode_ms": 11}})
    trial = TrialStore.open(f"sqlite:///{tmp_path}/runs/nas.db", "toy").trials()[2]
    command = ("ablate", "experiment.yaml", "2", "--ray-address", cluster)
    base, *rows = toy.json_of(tmp_path, *command)["rows"]
    assert base["key"] == trial.key
    assert base["values"]["loss"] == trial.metrics["loss"]
    assert base["latency_ms"]["decode_ms"] == trial.price["decode_ms"]
    for row in rows:
        assert row["error"] is None
        for name, value in row["values"].items():
            assert row["differences"][name] == value - base["values"][name]
    quiet = next(row for row in rows if row["what"] == "training")
    assert quiet["change"] == "without noise"
    assert quiet["differences"]["loss"] < 0
    assert quiet["differences"]["decode_ms"] == 0
    assert not all(row["inside"] for row in rows)
    trained = toy.trained(tmp_path)
    table = toy.nas(tmp_path, *command).stdout
    assert "over the budget" in table
    assert f"{len(rows)} changes, one at a time" in table
    text = toy.nas(tmp_path, *command, "--csv").stdout
    assert len(list(csv.DictReader(io.StringIO(text)))) == len(rows) + 1
    assert toy.trained(tmp_path) == trained


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("99",), "study 'toy' has no trial 99"),
        (("2", "--only", "height"), "--only: nothing to change is called height"),
        (("2", "--study", "toi"), "no study 'toi'"),
    ],
)
def test_bad_request_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, options: tuple[str, ...], expected: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "ablated"
    if not folder.exists():
        recorded(folder, rows=range(6))
    done = toy.nas(folder, "ablate", "experiment.yaml", *options)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert expected in done.stderr
