"""A search without a codec, by the same core, from files outside the repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
import yaml
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from evaluators.protocol import EvaluationError, Evaluator, SetupError
from nas.experiment import ExperimentError, load_experiment
from search_spaces.blocks import Block
from search_spaces.build import NetworkModule
from search_spaces.load import load_space
from search_spaces.space import SearchSpace
from search_spaces.yaml_files import import_object

EXAMPLE = Path(__file__).parents[1] / "experiments/super_resolution"
DEVICE = "iphone-17-pro-max"


def example(name: str) -> Any:
    file, _, what = name.partition(":")
    return import_object(f"./{file}.py:{what}", EXAMPLE, "example", ValueError)


LEARNED = [
    example("upscale:Learned")(kind, 8, kernel, 32)
    for kind in ("stem", "plain", "residual", "depthwise", "head")
    for kernel in (3, 5)
]
BLOCKS = [example("upscale:Bicubic")(32), *LEARNED]


def copied(folder: Path, **changes: Any) -> Path:
    """The example elsewhere, with little to lower and a short training; `changes` replace keys."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    file = folder / "experiment.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    content["space"]["parameters"] |= {
        "features.width": {"ordered": [8]},
        "features.block": {"choices": ["plain", "depthwise"]},
    }
    content |= {"proxy": {"steps": 40}, "trials": 2, "workers": 1, **changes}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space(EXAMPLE / "experiment.yaml")


@pytest.fixture(scope="module")
def evaluator() -> Any:
    return example("evaluator:UpscalingEvaluator")(steps=40)


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, space: SearchSpace, evaluator: Evaluator
) -> Path:
    directory = tmp_path_factory.mktemp("shared")
    evaluator.prepare(space, directory)
    return directory


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.signature)
def test_counts_agree_with_torch(block: Block) -> None:
    module = block.build()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*(torch.zeros(1, *shape) for shape in block.input_shapes))
    assert sum(p.numel() for p in module.parameters()) == block.parameters
    assert counter.get_total_flops() // 2 == block.macs


def test_bicubic_path_is_that_of_torch_inside_an_image() -> None:
    low = torch.rand(1, 3, 32, 32)
    # Only with `antialias` does torch use the kernel of a = -0.5, as Pillow does.
    expected = F.interpolate(low, scale_factor=2, mode="bicubic", antialias=True)
    high = example("upscale:Bicubic")(32).build()(low)
    torch.testing.assert_close(high[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8])


def test_every_architecture_starts_as_bicubic(space: SearchSpace) -> None:
    low = torch.rand(1, 3, 16, 16)
    expected = example("upscale:Bicubic")(16).build()(low)
    for code in space.sample(np.random.default_rng(0), 8):
        network = space.design(space.architecture(code)).stages["upscale"].network
        assert torch.equal(NetworkModule(network)(low)[0], expected)


def test_same_seed_gives_the_same_score(
    space: SearchSpace, evaluator: Evaluator, prepared: Path
) -> None:
    first, again, other = (
        evaluator.evaluate(space, space.reference, prepared, seed) for seed in (3, 3, 4)
    )
    assert first["psnr"] == again["psnr"] != other["psnr"]
    assert first["bicubic_psnr"] == other["bicubic_psnr"] > 25
    assert first["gain_db"] == first["psnr"] - first["bicubic_psnr"]
    assert Path(first["weights"]).is_file()


def test_training_beats_bicubic_on_photographs_held_back(
    space: SearchSpace, prepared: Path
) -> None:
    evaluator = example("evaluator:UpscalingEvaluator")(steps=150)
    assert evaluator.evaluate(space, space.reference, prepared, 0)["gain_db"] > 0.3


def test_divergence_is_a_failure_and_no_score(space: SearchSpace, prepared: Path) -> None:
    evaluator = example("evaluator:UpscalingEvaluator")(steps=20, learning_rate=1e6)
    with pytest.raises(EvaluationError, match=r"diverged|collapsed"):
        evaluator.evaluate(space, space.reference, prepared, 0)


def test_killed_preparation_is_made_anew(
    space: SearchSpace, evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", fail)
        with pytest.raises(KeyboardInterrupt):
            evaluator.prepare(space, tmp_path)
    evaluator.prepare(space, tmp_path)
    assert evaluator.evaluate(space, space.reference, tmp_path, 0)["psnr"] > 25


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"proxy": {"step": 9}}, "proxy.step: unknown key; did you mean 'steps'?"),
        ({"proxy": {"steps": 0}}, "proxy: ./evaluator.py:UpscalingEvaluator: steps: at least 1"),
        ({"proxy": {"learning_rate": -1.0}}, "learning_rate: above 0"),
        ({"proxy": {"batch": "8"}}, "proxy.batch: input should be a valid integer (got '8')"),
        ({"budget": {DEVICE: {"decode_ms": 9}}}, f"budget.{DEVICE}.decode_ms: "),
        ({"objectives": ["psnr", "upscale"]}, "unknown 'upscale'; did you mean 'upscale_ms'?"),
        ({"objectives": ["bpp_coded", "upscale_ms"]}, "objectives: unknown 'bpp_coded'; "),
    ],
)
def test_bad_setting_is_one_line_that_names_the_key(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ExperimentError) as caught:
        load_experiment(copied(tmp_path / "own", **changes))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_photographs_are_one_line() -> None:
    with pytest.raises(SetupError, match="data: no folder nowhere; give a folder"):
        example("evaluator:UpscalingEvaluator")(data="nowhere").check()


@pytest.mark.slow
def test_example_goes_through_check_search_and_front(tmp_path: Path) -> None:
    copied(tmp_path / "own")
    checked = document(tmp_path, "check", "own/experiment.yaml")
    assert (checked["space"], checked["size"]) == ("upscaler", 18)
    assert 0 < checked["share_inside_budget"] <= 1
    done = toy.nas(tmp_path, "search", "own/experiment.yaml", timeout_seconds=300)
    assert done.returncode == 0, done.stderr
    found = document(tmp_path, "front", "super-resolution")
    assert found["objectives"] == ["psnr", "upscale_ms"]
    assert found["trials"]["complete"] == 2
    for entry in found["front"]:
        assert entry["psnr"] > 25
        assert entry["upscale_ms"] <= found["budget"][DEVICE]["upscale_ms"]
        assert {"features.width", "features.depth", "features.block"} <= set(entry["choices"])
    shown = document(tmp_path, "show", "super-resolution", "0")
    blocks = shown["blocks"][DEVICE]["upscale"]
    assert [step for step, *_ in blocks[:2]] == ["bicubic", "stem"]
    assert blocks[-1][1].startswith("head(")


def document(folder: Path, *arguments: str) -> Any:
    done = toy.nas(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
