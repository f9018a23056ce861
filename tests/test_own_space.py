"""The example of a space of one's own, outside the repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml

EXAMPLE = Path(__file__).parents[1] / "experiments/own_space"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's two files elsewhere, with a training of a few steps."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("elsewhere") / "own"))
    file = folder / "experiment.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    content["proxy"] |= {"steps": 4, "shared_steps": 4, "crops": 2}
    content |= {"trials": 2, "workers": 1}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def document(folder: Path, *arguments: str) -> Any:
    done = toy.nas(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_experiment_that_holds_its_space_is_a_space_too(folder: Path) -> None:
    space = document(folder, "space", "experiment.yaml")
    assert (space["name"], space["size"], space["exact"]) == ("separable", 78, True)
    assert space["constraints"] == ["decoder.half.depth * separable.kernel <= 21"]


@pytest.mark.slow
def test_example_goes_through_check_and_search(folder: Path) -> None:
    checked = document(folder, "check", "experiment.yaml")
    assert (checked["space"], checked["share_inside_budget"]) == ("separable", 1.0)
    done = toy.nas(folder, "search", "experiment.yaml", timeout_seconds=300)
    assert done.returncode == 0, done.stderr
    entries = document(folder, "front", "own-space")["front"]
    assert all("separable.kernel" in entry["choices"] for entry in entries)
    blocks = document(folder, "show", "own-space", "0")["blocks"]["iphone-17-pro-max"]["decode"]
    assert any(signature.startswith("separable(") for _, signature, _ in blocks)
