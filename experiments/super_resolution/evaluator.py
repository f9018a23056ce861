"""How good an upscaler is: trained for a stated number of steps, scored on held-back photographs.

Photographs are brought to half their sides once a study; all workers map the same files. An
architecture is scored beside bicubic interpolation, which every network here holds as a step.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluators import photos
from evaluators.devices import torch_device
from evaluators.metrics import psnr, to_8_bit
from evaluators.protocol import Direction, EvaluationError
from search_spaces.blocks import Network
from search_spaces.build import build_modules, run
from search_spaces.files import replacing
from search_spaces.space import Architecture, SearchSpace

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Pair = tuple[Pixels, Pixels]  # of low resolution, shape (3, h, w), and of high, (3, 2 h, 2 w)

_PAIRS = "pairs"
_SIDE = 32  # of a training crop at low resolution
_SCORED_SIDE, _SCORED_CROPS = 192, 24
_WORST_GAIN_DB = -1.0


@dataclass(frozen=True)
class UpscalingEvaluator:
    """Trains upscalers by two on random crops, all by the same recipe.

    Attributes:
        data: a folder of photographs, or `sample`.
        device: `auto` (CUDA, then MPS, then the CPU), or a torch device.
        steps: optimiser steps.
        batch: crops a step, 32 x 32 pixels of low resolution.
        learning_rate: the highest, of Adam with warm-up and cosine decay.
    """

    data: str = "sample"
    device: str = "auto"
    steps: int = 500
    batch: int = 8
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError("learning_rate: above 0")

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """Metrics that may serve as objectives."""
        return {"psnr": "maximize", "gain_db": "maximize"}

    def check(self) -> None:
        """Looks for photographs and the device.

        Raises:
            SetupError: one of them is missing.
        """
        photos.find_photos(self.data)
        torch_device(self.device)

    def prepare(self, space: SearchSpace, directory: Path) -> None:
        """Writes all photographs in both resolutions; what a killed run left is made anew."""
        folder = directory / _PAIRS
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _write_pairs(self.data, folder)

    def evaluate(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> dict[str, Any]:
        """Trains and scores one architecture.

        Returns:
            Means over held-back crops: `psnr`, `bicubic_psnr` and their difference `gain_db`, in
            dB; `weights`, the file that the network was saved to; what the training took.

        Raises:
            EvaluationError: it diverged, or ended 1 dB below bicubic.
        """
        began, device = time.monotonic(), torch_device(self.device)
        network = space.design(architecture).stages["upscale"].network
        modules = self._train(network, _load_pairs(directory, "train"), seed, device)
        trained = time.monotonic()
        score = _score(network, modules, _load_pairs(directory, "scored"), device)
        file = directory / f"upscaler-{architecture.key}-{seed}.safetensors"
        with replacing(file) as unfinished:
            save_file({k: v.cpu() for k, v in modules.state_dict().items()}, unfinished)
        return {
            **score,
            "weights": str(file),
            "steps": self.steps,
            "seed": seed,
            "train_seconds": trained - began,
            "device": str(device),
        }

    def seconds_per_trial(self, space: SearchSpace) -> float:
        """What a trial takes on this machine, from timed steps of sampled architectures."""
        codes = space.sample(np.random.default_rng(0), 8)
        designs = [space.design(space.architecture(code)) for code in codes]
        device = torch_device(self.device)
        with _one_thread():
            seconds = [self._step_seconds(d.stages["upscale"].network, device) for d in designs]
        return self.steps * float(np.mean(seconds))

    def _step_seconds(self, network: Network, device: torch.device) -> float:
        """The fastest of four: the first one allocates, and others may be disturbed."""
        modules = build_modules(_blocks(network)).to(device)
        low = torch.zeros(self.batch, 3, _SIDE, _SIDE, device=device)
        high = torch.zeros(self.batch, 3, 2 * _SIDE, 2 * _SIDE, device=device)
        seconds = []
        for _ in range(4):
            began = time.perf_counter()
            _loss(network, modules, low, high).backward()  # type: ignore[no-untyped-call]
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    def _train(
        self, network: Network, pairs: Sequence[Pair], seed: int, device: torch.device
    ) -> nn.ModuleDict:
        """The network's modules, trained from first weights that hang on the seed."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        modules = build_modules(_blocks(network)).to(device)
        optimiser = torch.optim.Adam(modules.parameters(), betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.learning_rate, self.steps + 1, pct_start=0.1
        )
        for step in range(self.steps):
            low, high = (crops.to(device) for crops in _draw(pairs, self.batch, rng))
            loss = _loss(network, modules, low, high)
            _step(loss, optimiser)
            schedule.step()
            _report(step, self.steps, loss.item())
        return modules.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """As workers have it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _blocks(network: Network) -> dict[str, Any]:
    return {step.name: step.block for step in network.steps}


def _loss(network: Network, modules: nn.ModuleDict, low: Tensor, high: Tensor) -> Tensor:
    """Squared error as a share of bicubic's: easy batches weigh as much as hard ones."""
    images = run(network, modules, {"low": low}, ("bicubic", "high"))
    error, bicubic_error = ((images[name] - high).pow(2).mean() for name in ("high", "bicubic"))
    return error / bicubic_error.detach().clamp_min(1e-5)


def _step(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
    optimiser.step()


def _report(step: int, steps: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise EvaluationError(f"diverged: loss is {loss} at step {step + 1}")
    if step % 50 == 0 or step == steps - 1:
        log.info("step %d of %d, error %.3f of bicubic", step + 1, steps, loss)


@torch.no_grad()
def _score(
    network: Network, modules: nn.ModuleDict, pairs: Sequence[Pair], device: torch.device
) -> dict[str, float]:
    """Means over the pairs, of images as a screen would show them."""
    found = []
    for pair in pairs:
        low, high = (to_tensor(pixels[None]).to(device) for pixels in pair)
        images = run(network, modules, {"low": low}, ("high", "bicubic"))
        found.append([psnr(to_8_bit(images[name]), high).item() for name in ("high", "bicubic")])
    learned, bicubic = np.mean(found, axis=0).tolist()
    if not learned - bicubic > _WORST_GAIN_DB:
        raise EvaluationError(f"collapsed: {learned:.2f} dB where bicubic has {bicubic:.2f} dB")
    return {"psnr": learned, "bicubic_psnr": bicubic, "gain_db": learned - bicubic}


def to_tensor(pixels: Pixels) -> Tensor:
    """Shape (N, 3, H, W) as it is, values in [0, 1]; mapped files cannot be written to."""
    images = torch.from_numpy(pixels.copy()).float() / 255
    return images.contiguous(memory_format=torch.channels_last)


def _draw(pairs: Sequence[Pair], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random crops of both resolutions, mirrored and transposed alike: photographs are few."""
    crops = [max((_cut(pairs, rng) for _ in range(3)), key=_texture) for _ in range(count)]
    mirrored = [axis for axis in (2, 3) if rng.random() < 0.5]
    order = (0, 1, 3, 2) if rng.random() < 0.5 else (0, 1, 2, 3)
    low, high = (
        np.flip(np.stack(one), mirrored).transpose(order) for one in zip(*crops, strict=True)
    )
    return to_tensor(low), to_tensor(high)


def _cut(pairs: Sequence[Pair], rng: np.random.Generator) -> Pair:
    """Large photographs are cut more often, so that every place is as likely."""
    areas = np.array([low.size for low, _ in pairs], dtype=np.float64)
    low, high = pairs[rng.choice(len(pairs), p=areas / areas.sum())]
    top, left = (int(rng.integers(side - _SIDE + 1)) for side in low.shape[1:])
    return (
        low[:, top : top + _SIDE, left : left + _SIDE],
        high[:, 2 * top : 2 * (top + _SIDE), 2 * left : 2 * (left + _SIDE)],
    )


def _texture(pair: Pair) -> float:
    """There is little to learn from a sky."""
    return float(np.abs(np.diff(pair[1][1].astype(np.float32))).mean())


def _write_pairs(data: str, folder: Path) -> None:
    """The folder appears when all of it is written."""
    files = photos.find_photos(data)
    train = [photo.pixels for photo in photos.load_photos(files.train, 2 * _SIDE)]
    held_back = photos.load_photos(files.held_back, _SCORED_SIDE)
    scored = photos.textured_crops(held_back, _SCORED_SIDE, _SCORED_CROPS)
    log.info("%d photographs to train on, %d crops to score", len(train), len(scored))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{_PAIRS}-") as name:
        unfinished = Path(name) / _PAIRS
        for part, images in (("train", train), ("scored", scored)):
            for i, high in enumerate(images):
                of_pair = unfinished / part / f"{i:03d}"
                of_pair.mkdir(parents=True)
                np.save(of_pair / "low.npy", _halved(high).transpose(2, 0, 1).copy())
                np.save(of_pair / "high.npy", high.transpose(2, 0, 1).copy())
        unfinished.rename(folder)


def _load_pairs(directory: Path, part: str) -> list[Pair]:
    """Pixels stay on disk until they are read, and in memory once for all workers."""
    folders = sorted((directory / _PAIRS / part).iterdir())
    names = ("low.npy", "high.npy")
    return [tuple(np.load(folder / name, mmap_mode="r") for name in names) for folder in folders]


def _halved(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((width // 2, height // 2), Image.Resampling.BICUBIC))
