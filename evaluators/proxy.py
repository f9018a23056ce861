"""The proxy: trains a candidate's decoder for a stated number of steps and scores it.

The shared part (transforms and entropy model) is trained once a study and its quantised latents
are kept; so is the reference architecture's curve, under the same recipe, which every BD-rate is
measured against. A candidate that changes the encoder or the entropy model gets a shared part of
its own, trained once for all candidates that have it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from evaluators import decoder, perceptual, photos, scoring, shared, training
from evaluators.cache import CROP, TrainingCache, write_cache
from evaluators.devices import torch_device
from evaluators.metrics import bd_rates
from evaluators.precision import at_precision
from evaluators.protocol import Direction, SetupError
from search_spaces.blocks import Design, Precision
from search_spaces.codec.constants import LEVELS
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec, one_hot
from search_spaces.codec.saved import save_codec
from search_spaces.files import replacing
from search_spaces.space import Architecture, SearchSpace

log = logging.getLogger(__name__)

_SCORED_CROP = 192
_SHARED_WEIGHTS = "shared.safetensors"


@dataclass(frozen=True)
class ProxyEvaluator:
    """Scores decoders of a hyperprior codec by training them briefly.

    Attributes:
        data: a folder of photographs, or `sample`.
        device: `auto` (CUDA, then MPS, then the CPU), or a torch device.
        steps: optimiser steps of a candidate's decoder.
        batch: crops a step.
        learning_rate: of a candidate's decoder.
        perceptual_from: share of the steps after which LPIPS joins the squared error.
        perceptual_weight: of LPIPS in the loss; 0 leaves it out.
        shared_steps: optimiser steps of the shared part.
        levels: quality levels that are trained and scored, at least four of 0 to 7.
        level: the one of them at which `bpp_coded`, `psnr`, `ms_ssim` and `lpips` are reported.
        crops: held-back crops of 192 x 192 that are scored, at most.
        vgg_crops: of them, that LPIPS is checked on with vgg at `level`; 0 leaves it out.
        seed: of the shared part.
        precision: that a trained decoder is rounded to before it is scored.
    """

    data: str = "sample"
    device: str = "auto"
    steps: int = 500
    batch: int = 8
    learning_rate: float = 3e-3
    perceptual_from: float = 0.5
    perceptual_weight: float = 1.0
    shared_steps: int = 1200
    levels: tuple[int, ...] = (1, 3, 5, 7)
    level: int = 3
    crops: int = 24
    vgg_crops: int = 4
    seed: int = 0
    precision: Precision = "fp16"

    def __post_init__(self) -> None:
        if len(set(self.levels)) < 4 or not set(self.levels) <= set(range(LEVELS)):
            raise ValueError(f"levels: at least four different ones of 0 to {LEVELS - 1}")
        if self.level not in self.levels:
            raise ValueError(f"level: one of levels, {list(self.levels)}")
        for name in ("steps", "batch", "shared_steps", "crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1")
        if self.vgg_crops < 0:
            raise ValueError("vgg_crops: at least 0")
        if not self.learning_rate > 0:
            raise ValueError("learning_rate: above 0")
        if self.perceptual_weight < 0 or not 0 <= self.perceptual_from <= 1:
            raise ValueError("perceptual_weight: at least 0; perceptual_from: 0 to 1")

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """Metrics that may serve as objectives."""
        return {
            "bd_rate_lpips": "minimize",
            "bd_rate_ms_ssim": "minimize",
            "bd_rate_psnr": "minimize",
            "bpp_coded": "minimize",
            "bpp_estimated": "minimize",
            "lpips": "minimize",
            "ms_ssim": "maximize",
            "psnr": "maximize",
            "learned_gain_db": "maximize",
        }

    def check(self) -> None:
        """Looks for photographs, LPIPS weights and the device.

        Raises:
            SetupError: one of them is missing.
        """
        photos.find_photos(self.data)
        for backbone in ("alex", "vgg") if self.vgg_crops else ("alex",):
            perceptual.weights_file(backbone)
        torch_device(self.device)

    def prepare(self, space: SearchSpace, directory: Path) -> None:
        """Trains the shared part of the reference architecture, then its decoder."""
        self.check()
        points = self._reference(space, directory)["rd_points"]
        bd_rates(points, points)  # a reference that has none fails now, not in every trial

    def evaluate(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> dict[str, Any]:
        """Trains and scores one architecture.

        Returns:
            `rd_points` (one mapping a level), the metrics at `level`, BD-rates against the
            reference, `learned_gain_db`, and what the training took.

        Raises:
            EvaluationError: it diverged or collapsed, or one of its BD-rates cannot be had.
        """
        reference = self._reference(space, directory)
        if architecture == space.reference and seed == self.seed:
            score = reference
        else:
            score = self._score(space, architecture, directory, seed)
        return score | bd_rates(score["rd_points"], reference["rd_points"])

    def _reference(self, space: SearchSpace, directory: Path) -> dict[str, Any]:
        """The reference architecture's score, made once."""
        file = directory / f"reference-{_key(space.reference.key, asdict(self))}.json"
        with FileLock(f"{file}.lock"):
            if not file.is_file():
                log.info("reference architecture %s", space.reference.key)
                score = self._score(space, space.reference, directory, self.seed)
                with replacing(file) as unfinished:
                    unfinished.write_text(json.dumps(score))
            content: dict[str, Any] = json.loads(file.read_text())
        return content

    def seconds_per_trial(self, space: SearchSpace) -> float:
        """What a trial takes on this machine, from a few timed steps of sampled architectures."""
        codes = space.sample(np.random.default_rng(0), 4)
        device = torch_device(self.device)
        codecs = (Codec(space.design(space.architecture(code))) for code in codes)
        steps = [decoder.step_seconds(codec, self._recipe, device) for codec in codecs]
        return self.steps * float(np.mean(steps))

    @property
    def _recipe(self) -> decoder.Recipe:
        return decoder.Recipe(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            perceptual_from=self.perceptual_from,
            perceptual_weight=self.perceptual_weight,
        )

    def load(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> Codec:
        """The codec as `evaluate` left it, on the CPU.

        Raises:
            SetupError: that architecture was not evaluated under this recipe.
        """
        design = space.design(architecture)
        file = self._codec_file(architecture, directory, seed)
        if not file.is_file():
            raise SetupError(f"no weights of {architecture.key} at {file}; evaluate it first")
        codec = Codec(design)
        codec.load_state_dict(load_file(file))
        return codec.eval()

    def _codec_file(self, architecture: Architecture, directory: Path, seed: int) -> Path:
        return directory / f"codec-{architecture.key}-{_key(asdict(self), seed)}.safetensors"

    def _score(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> dict[str, Any]:
        began = time.monotonic()
        design = space.design(architecture)
        folder = self._shared(design, directory)
        torch.manual_seed(seed)  # of the decoder's first weights; crops have their own
        codec = shared.load_shared(design, folder / _SHARED_WEIGHTS)
        device = torch_device(self.device)
        codec = decoder.train_decoder(codec, TrainingCache(folder), self._recipe, seed, device)
        file = self._codec_file(architecture, directory, seed)
        _save(codec, space, architecture, file)
        trained = time.monotonic()
        held_back = scoring.load_held_back(folder)
        rounded = self._rounded(codec, TrainingCache(folder), device)
        score = scoring.score(rounded, held_back, self.levels, device)
        picture = file.with_suffix(".png")
        reported = (self.levels.index(self.level), self.level)
        by_vgg = scoring.check_by_vgg(rounded, held_back, *reported, self.vgg_crops)
        scoring.save_picture(rounded, held_back, *reported, picture)
        at_level = next(p for p in score["rd_points"] if p["level"] == self.level)
        return {
            **score,
            **at_level,
            **by_vgg,
            "steps": self.steps,
            "seed": seed,
            "train_seconds": trained - began,
            "score_seconds": time.monotonic() - trained,
            "peak_bytes": _peak_bytes(),
            "device": str(device),
            "precision": self.precision,
            "codec": str(file),
            "reconstruction": str(picture),
            "lpips_backbone": perceptual.described("alex"),
        }

    def _rounded(self, codec: Codec, cache: TrainingCache, device: torch.device) -> Codec:
        """The codec at the precision it is scored at; ranges come from training crops."""
        rng = np.random.default_rng(0)
        crops = [cache.draw(self.batch, rng, level) for level in self.levels]
        latents = torch.cat([crop.latents for crop in crops]).to(device)
        levels = torch.cat([one_hot(*crop.levels.tolist()) for crop in crops]).to(device)
        return at_precision(codec, self.precision, latents, levels)

    def _shared(self, design: Design, directory: Path) -> Path:
        """Folder of the shared part that this design has, trained once by whoever comes first."""
        stage = design.stages["encode"]
        networks = [stage.network, *([stage.cpu_network] if stage.cpu_network else [])]
        parts = sorted(block.signature for network in networks for block in network.blocks)
        settings = (self.data, self.shared_steps, self.levels, self.crops, self.seed)
        folder = directory / f"shared-{_key(parts, settings)}"
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                self._train_shared(design, folder)
        return folder

    def _train_shared(self, design: Design, folder: Path) -> None:
        files = photos.find_photos(self.data)
        train = photos.load_photos(files.train, max(CROP, training.CROP))
        held_back = photos.load_photos(files.held_back, _SCORED_CROP)
        crops = photos.textured_crops(held_back, _SCORED_CROP, self.crops)
        log.info("%d photographs to train on, %d crops to score", len(train), len(crops))
        codec = shared.train_shared(design, train, self.shared_steps, self.seed)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="shared-") as name:
            unfinished = Path(name) / "content"
            unfinished.mkdir()
            shared.save_shared(codec, unfinished / _SHARED_WEIGHTS)
            write_cache(codec, train, self.levels, unfinished)
            scoring.save_held_back(scoring.code_held_back(codec, crops, self.levels), unfinished)
            unfinished.rename(folder)


def _save(codec: Codec, space: SearchSpace, architecture: Architecture, file: Path) -> None:
    """A codec file; of networks from elsewhere than the codec family, the weights alone."""
    if space.builder is build_design:
        save_codec(codec, space.all_choices(architecture), file)
        return
    with replacing(file) as unfinished:
        save_file({k: v.cpu().contiguous() for k, v in codec.state_dict().items()}, unfinished)


def _key(*parts: object) -> str:
    content = json.dumps([*parts, torch.__version__], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _peak_bytes() -> int:
    """Most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
