"""Commands that `fuzz.py` adds to the program: what only workers read, and readers that are broken.

They run under the program's own handling of errors. The broken ones are there to be found.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from fuzz_child import Case
from fuzz_given import CODECS, SPACE, Given, picture
from fuzz_mutations import Rng


@cache
def _training() -> Any:
    """A full training of the smallest codec, at its start; made once a process."""
    from evaluators.full_recipe import FullRecipe
    from evaluators.full_training import FullTraining
    from evaluators.photos import Photo
    from evaluators.together import ALONE
    from search_spaces.codec.family import build_design
    from search_spaces.codec.model import Codec

    torch.manual_seed(0)
    photos = [Photo("a", picture(160, 160, np.random.default_rng(0)))]
    codec = Codec(build_design(CODECS[0]))
    return FullTraining(codec, photos, FullRecipe(2), 0, torch.device("cpu"), ALONE)


@click.command("fuzz-checkpoint", hidden=True)
@click.argument("file", type=click.Path(path_type=Path))
def checkpoint(file: Path) -> None:
    """Goes on with a full training."""
    _training().load(file)


@click.command("fuzz-supernet", hidden=True)
@click.argument("space", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def supernet(space: Path, file: Path) -> None:
    """Reads a supernet as a worker does."""
    from evaluators.supernet_file import load_supernet
    from search_spaces.load import load_space

    load_supernet(file, load_space(space))


def write_trained(given: Given) -> None:
    """A checkpoint of that training, and a supernet of the space."""
    import yaml

    from evaluators.supernet import Supernet
    from evaluators.supernet_file import save_supernet
    from search_spaces.load import load_space

    training = _training()
    training.take_step()
    training.take_step()
    training.save(given.folder / "checkpoint.safetensors", {"scores": [], "seconds": 1.0})
    assert yaml.safe_load(given.bytes_of("space.yaml")) == SPACE
    space = load_space(given.folder / "space.yaml")
    curve = [{"step": 0, "seconds": 1.0, "psnr": {"smallest": 20.0, "largest": 21.0}}]
    about = {"recipe": {"steps": 2}, "data": "sample", "levels": [1, 3, 5, 7], "seed": 0,
             "seconds": 1.0, "curve": curve, "trained_apart": {"decoder.half.0": 2},
             "torch": "2"}  # fmt: skip
    supernet_file = given.folder / "supernet.safetensors"
    save_supernet(Supernet(space), None, space, about, supernet_file)
    (given.folder / "supernet.name").write_text(_supernet_name(given))


def _supernet_name(given: Given) -> str:
    """Where `nas supernet` looks for what it has trained."""
    from nas.commands import setup
    from nas.commands.supernet import _for_training

    training, _ = _for_training(setup.experiment(given.folder / "experiment.yaml"), None)
    return str(training.trained_file(Path()).name)


def write_export(given: Given) -> None:
    """An export without Core ML packages, which nothing here reads."""
    import shutil

    from nas.exporting.folder import write_manifest
    from nas.exporting.onnx_networks import write_onnx
    from search_spaces.codec.saved import codec_key, load_codec

    folder = given.folder / "export"
    folder.mkdir()
    codec = load_codec(given.folder / "codec-0.safetensors")
    shutil.copyfile(given.folder / "codec-0.safetensors", folder / "codec.safetensors")
    write_onnx(codec, folder / "onnx")
    write_manifest(folder, {"codec_key": codec_key(codec).hex(), "origin": "a fuzz"})


def _raise() -> None:
    raise KeyError("not foreseen")


def _say_much() -> None:
    click.echo("one\ntwo", err=True)
    raise click.UsageError("three")


def _write_outside() -> None:
    Path("../escape").write_text("")


def _swallow() -> None:
    data = bytes(3 << 30)
    click.echo(len(data))


def _take_time() -> None:
    began = time.process_time()
    while time.process_time() < began + 1.5:
        pass


def _recurse() -> None:
    _recurse()


# Way -> what is wrong, and the verdict's beginning.
BROKEN: Mapping[str, tuple[Callable[[], Any], str]] = {
    "raises": (_raise, "traceback: KeyError"),
    "recurses": (_recurse, "traceback: RecursionError"),
    "swallows memory": (_swallow, "traceback: MemoryError"),
    "crashes": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "the process died: SIGSEGV"),
    "exits": (lambda: os._exit(3), "the process died: exit 3"),
    "takes its time": (_take_time, "too slow"),
    "says much": (_say_much, "its error is not one line"),
    "writes outside": (_write_outside, "wrote outside its place: "),
}


@click.command("fuzz-broken", hidden=True)
@click.argument("way")
def broken(way: str) -> None:
    """Is broken in one of several ways."""
    BROKEN[way][0]()


def broken_case(_: Given, rng: Rng, __: Path) -> Case:
    """An input of the broken reader."""
    way = list(BROKEN)[rng.integers(len(BROKEN))]
    return Case(way, ["fuzz-broken", way])


COMMANDS = (checkpoint, supernet, broken)
