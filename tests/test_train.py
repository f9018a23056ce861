"""`nas train`: from a recorded trial to a folder of results; killed, gone on, and refused."""

from __future__ import annotations

import csv
import json
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recorded_studies
import torch
import toy
import yaml
from filelock import FileLock
from PIL import Image
from safetensors.numpy import load_file, save_file

from evaluators.full_job import Job
from evaluators.full_run import _planned
from evaluators.full_scores import HeldBackPhotos
from evaluators.photos import find_photos, load_photos
from evaluators.protocol import SetupError
from evaluators.together import ALONE
from nas.experiment import load_experiment
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from nas.train import Request, finished, make_job
from nas.train_workers import train_on_workers
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import CodecFileError, load_codec, save_codec
from search_spaces.load import load_space

EXPERIMENT: dict[str, Any] = {
    "study": "base",
    "space": "tiny",
    "data": "sample",
    "budget": {"iphone-17-pro-max": {"decode_ms": 150}},
    "objectives": ["bd_rate_psnr", "decode_ms"],
    "proxy": {
        "steps": 2, "shared_steps": 4, "batch": 1, "crops": 4, "vgg_crops": 0,
        "perceptual_weight": 0,
    },
    "trials": 1,
}  # fmt: skip
STEPS = 6
SHORT = (
    "--steps", str(STEPS), "--batch", "2", "--checkpoint-minutes", "0",
    "--scored-crops", "1", "--vgg-crops", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one trial, the space's reference architecture."""
    folder = tmp_path_factory.mktemp("train")
    file = folder / "base.yaml"
    file.write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
    space = load_space("tiny")
    row = int(np.flatnonzero((space.enumerate() == space.reference.code).all(1))[0])
    recorded_studies.record(file, [row])
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """What the command made."""
    done = toy.nas(folder, "train", "base", "0", *SHORT, timeout_seconds=400)
    assert done.returncode == 0, done.stderr
    assert f"{STEPS} steps of 2 crops of 128 x 128, from trial, on 5 photographs" in done.stderr
    assert "s a step" in done.stderr
    assert "results: runs/base/train-0" in done.stderr
    assert "LPIPS alex" in done.stdout
    return folder / "runs/base/train-0"


def job(folder: Path, **stated: Any) -> Job:
    """What `nas train base 0` would run."""
    store = TrialStore.open(f"sqlite:///{folder}/runs/nas.db", "base")
    stated.setdefault("out", folder / "new")
    return make_job(load_experiment(folder / "base.yaml"), store.trial(0), Request(**stated))


def test_the_folder_holds_codec_recipe_metrics_and_samples(trained: Path) -> None:
    names = {file.name for file in trained.iterdir()}
    assert names == {"codec.safetensors", "recipe.json", "metrics.json", "curve.csv", "samples"}
    metrics = json.loads((trained / "metrics.json").read_text())
    assert [point["level"] for point in metrics["rd_points"]] == list(range(8))
    rates = [point["bpp_coded"] for point in metrics["rd_points"]]
    assert rates == sorted(rates)
    assert {"psnr", "ms_ssim", "lpips"} <= set(metrics["rd_points"][0])
    rows = list(csv.DictReader((trained / "curve.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert [row["step"] for row in metrics["curve"]] == list(range(1, STEPS + 1))
    assert rows[-1]["discriminator"]
    assert not rows[0]["lpips"]
    recipe = json.loads((trained / "recipe.json").read_text())
    assert recipe["recipe"]["steps"] == STEPS
    assert recipe["command"].startswith("nas train base 0 --steps 6")
    assert recipe["versions"]["torch"]
    assert recipe["asked"]["data"] == "sample"
    assert str(trained.parent) not in (trained / "recipe.json").read_text()
    pictures = sorted((trained / "samples").glob("step-0000006-*.png"))
    assert len(pictures) == 4
    with Image.open(pictures[0]) as picture:
        assert picture.size == (768, 384)
        pixels = np.asarray(picture).astype(float)
    assert 0 < np.abs(pixels[:, :384] - pixels[:, 384:]).mean() < 20
    codec = load_codec(trained / "codec.safetensors")
    assert codec.compress(torch.zeros(1, 3, 64, 64), 3).data


def test_the_same_command_says_that_it_is_finished(folder: Path, trained: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in trained.iterdir()}
    document = toy.json_of(folder, "train", "base", "0", *SHORT)
    assert document == json.loads((trained / "metrics.json").read_text())
    assert {file: file.stat().st_mtime_ns for file in trained.iterdir()} == before
    done = toy.nas(folder, "train", "base", "0", "--steps", "7")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "nas: runs/base/train-0 holds a training with steps 6, not 7; give --out another folder, or"
        " remove it"
    )
    assert {file: file.stat().st_mtime_ns for file in trained.iterdir()} == before


def test_killed_and_started_again_it_ends_with_the_same_losses_and_weights(
    folder: Path, trained: Path
) -> None:
    command = [sys.executable, "-m", "nas", "train", "base", "0", *SHORT, "--out", "killed"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    killed = folder / "killed"
    try:
        # After step 5, where the discriminator has learned and weighs in.
        toy.wait_until(lambda: _rows(killed) >= 5, 300)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert (killed / "checkpoint.safetensors").is_file()
    assert not (killed / "metrics.json").exists()
    # What is not stated again stays as it was.
    done = toy.nas(folder, "train", "base", "0", *SHORT[4:], "--out", "killed", timeout_seconds=400)
    assert done.returncode == 0, done.stderr
    assert (killed / "curve.csv").read_bytes() == (trained / "curve.csv").read_bytes()
    one, other = (load_file(f / "codec.safetensors") for f in (killed, trained))
    assert all(np.array_equal(one[name], other[name]) for name in (*one, *other))
    assert not (killed / "checkpoint.safetensors").exists()
    assert {file.name[0] for file in killed.iterdir()} & {"."} == set()


def _rows(folder: Path) -> int:
    try:
        return len((folder / "curve.csv").read_text().splitlines()) - 1
    except FileNotFoundError:
        return -1


@pytest.mark.slow
def test_two_workers_train_one_codec(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")
    done = toy.nas(
        folder, "train", "base", "0", *SHORT, "--out", "two", "--workers", "2", "--from", "scratch",
        timeout_seconds=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = finished(folder / "two")
    assert metrics is not None
    assert len(metrics["curve"]) == STEPS
    assert 20 < metrics["rd_points"][3]["psnr"] < 50
    assert load_codec(folder / "two/codec.safetensors").design
    assert not list((folder / "runs/base/logs").glob("train-*"))


def test_a_batch_that_workers_cannot_share_is_refused_before_any_starts(
    folder: Path, tmp_path: Path
) -> None:
    wanted = job(folder, recipe={"batch": 3})
    with pytest.raises(SetupError, match="batch: 3 crops for 2 workers; give a multiple"):
        train_on_workers(wanted, 2, lambda event: None, tmp_path)


def test_what_fits_into_hours_is_fixed_before_the_first_step(folder: Path) -> None:
    wanted = job(folder, hours=0.05, vgg_crops=0, scored_crops=1, out=folder / "timed")
    found = find_photos("sample")
    photos, others = load_photos(found.train, 128), load_photos(found.held_back, 192)
    held_back = HeldBackPhotos(others, torch.device("cpu"), 1, 0)
    told: list[dict[str, Any]] = []
    recipe, seconds = _planned(wanted, photos, held_back, told.append, ALONE)
    assert recipe.steps * (seconds[0] + seconds[1]) / 2 <= 0.05 * 3600
    assert recipe.steps >= 1
    assert told[0]["event"] == "planned"
    again, _ = _planned(wanted, photos, held_back, told.append, ALONE)
    assert again == recipe
    with pytest.raises(StudyError, match=r"a training with hours 0\.05, not 0\.1"):
        job(folder, hours=0.1, out=folder / "timed")


def _pickle(file: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, file)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.pt", _pickle, "a pickle, which could run any code and is never opened"),
        ("b.pkl", lambda f: f.write_bytes(pickle.dumps({"a": 1})), "a pickle"),
        ("c.safetensors", lambda f: f.write_bytes(b"no weights"), "not a safetensors file"),
        ("d.safetensors", None, "No such file"),
    ],
)
def test_weights_that_are_none_are_refused(
    folder: Path, tmp_path: Path, name: str, write: Callable[[Path], Any] | None, said: str
) -> None:
    file = tmp_path / name
    if write:
        write(file)
    with pytest.raises(CodecFileError, match=said) as refused:
        job(folder, start=str(file))
    assert "\n" not in str(refused.value)
    assert not (folder / "new").exists()


def test_truncated_and_foreign_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    kept = _kept(folder)
    (tmp_path / "half.safetensors").write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    for name in ("half", "foreign"):
        with pytest.raises(CodecFileError, match=name):
            job(folder, start=str(tmp_path / f"{name}.safetensors"))


def test_the_trials_weights_must_be_of_its_architecture(folder: Path) -> None:
    kept = _kept(folder)
    saved = kept.read_bytes()
    space = load_space("tiny")
    choices = {**space.reference.choices, "decoder.half.width": 32}
    other = space.architecture(space.encode(choices))
    codec = Codec(space.design(other))
    codec.freeze()
    try:
        save_codec(codec, space.all_choices(other), kept)
        with pytest.raises(SetupError, match="another architecture than trial 0"):
            job(folder, start="trial")
        assert job(folder, start=str(kept)).start == str(kept)  # as an anchor it serves
        kept.unlink()
        with pytest.raises(SetupError, match="the weights of trial 0 were not kept"):
            job(folder, start="trial")
        assert job(folder).start is None
    finally:
        kept.write_bytes(saved)
    assert job(folder).start == str(kept)
    with pytest.raises(SetupError, match="--from anchor: the experiment names none"):
        job(folder, start="anchor")


def _kept(folder: Path) -> Path:
    store = TrialStore.open(f"sqlite:///{folder}/runs/nas.db", "base")
    return Path(store.trial(0).metrics["codec"])


def test_photographs_that_are_missing_or_too_small_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match="no folder"):
        job(folder, data=str(tmp_path / "gone"))
    with pytest.raises(SetupError, match="0 images"):
        job(folder, data=str(tmp_path))
    for i in range(6):
        Image.new("RGB", (200, 200), (i, 0, 0)).save(tmp_path / f"{i}.png")
    done = toy.nas(
        folder, "train", "base", "0", "--data", str(tmp_path), "--crop", "256", "--out", "small"
    )
    assert done.returncode == 2
    assert "at least 256 pixels wide and high" in done.stderr.splitlines()[-1]
    assert not (folder / "small").exists()


def test_a_folder_of_something_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StudyError, match="holds something else"):
        job(folder, out=tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(StudyError, match=r"recipe\.json cannot be read; move it away"):
        job(folder, out=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_folder_that_another_process_trains_into_is_left_alone(folder: Path) -> None:
    with FileLock(f"{folder}/busy.lock"):
        done = toy.nas(folder, "train", "base", "0", *SHORT, "--out", "busy")
    assert done.returncode == 2
    assert done.stderr == "nas: busy: another process is training into it; wait for it\n"
    assert not (folder / "busy").exists()


def test_a_full_disk_leaves_the_last_checkpoint_and_no_half_file(
    folder: Path, trained: Path
) -> None:
    """The limit on a file's size stands in for the disk: codec files fit, checkpoints do not."""
    size = (trained / "codec.safetensors").stat().st_size
    code = (
        "import resource, sys;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({2 * size}, {2 * size}));"
        "from nas.cli import main; sys.argv = ['nas', *sys.argv[1:]]; main()"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    arguments = ("train", "base", "0", *SHORT, "--out", "full")
    shutil.rmtree(folder / "full", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("nas: full: ")
    assert last.endswith("the same command goes on from there")
    left = {file.name for file in (folder / "full").iterdir()}
    assert left <= {"recipe.json", "samples", "curve.csv"}
