"""The proxy: trains a candidate for a stated number of steps and scores it.

Decoder only, on latents of a shared part that is trained once a study; or jointly. Kept once a
study are also the reference architecture's curve under the same recipe, which every BD-rate is
measured against, and in joint training that of the linear control, a codec without learned paths
for every entropy model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import load_file

from evaluators import candidates, classics, decoder, joint, perceptual, photos, scoring, shared
from evaluators.branches import Branch
from evaluators.candidates import Data, JointStart, Start, Trained
from evaluators.control import gain_db, without_backbones
from evaluators.devices import torch_device
from evaluators.metrics import bd_rates
from evaluators.parents import nearest_codec
from evaluators.precision import at_precision
from evaluators.protocol import (
    Direction,
    SetupError,
    StoppedEarly,
    without_later_defaults,
)
from evaluators.settings import ProxySettings
from evaluators.stopping import NO_BAR, milestones
from search_spaces.blocks import Design
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import load_codec, save_codec
from search_spaces.files import replacing, write_atomically, write_tensors
from search_spaces.space import Architecture, Choice, SearchSpace

log = logging.getLogger(__name__)

# Points of BD-rate by which a candidate may be behind on the lower rung: what seeds move it by.
_RUNG_MARGIN = 3.0


@dataclass(frozen=True)
class ProxyEvaluator(ProxySettings):
    """Scores codecs of the family by training them briefly."""

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

    @property
    def has_fidelities(self) -> bool:
        """Whether `evaluate` takes shares of the full training."""
        return True

    @property
    def stops_early(self) -> bool:
        """Whether `evaluate` heeds a bar."""
        return self.stop_early or self.decoder_first > 0

    @property
    def ablations(self) -> Mapping[str, Mapping[str, Any]]:
        """Knobs of the training that can be turned off, each with the settings that do it."""
        knobs: dict[str, Mapping[str, Any]] = {}
        if self.perceptual_weight:
            knobs["squared error alone"] = {"perceptual_weight": 0.0}
            if self.perceptual_from:
                knobs["perceptual loss from the start"] = {"perceptual_from": 0.0}
        if self.anchor and self.shared_steps:
            knobs["from scratch, without the anchor"] = {"anchor": None}
        return knobs

    def check(self) -> None:
        """Looks for photographs, LPIPS weights, the anchor and the device.

        Raises:
            SetupError: one of them is missing.
        """
        photos.find_photos(self.data)
        for backbone in ("alex", "vgg") if self.vgg_crops else ("alex",):
            perceptual.weights_file(backbone)
        torch_device(self.device)
        self._anchor()

    def prepare(self, space: SearchSpace, directory: Path) -> None:
        """Trains the shared part of the reference architecture, then its decoder."""
        self.check()
        points = self._reference(space, directory)["rd_points"]
        bd_rates(points, points)  # a reference that has none fails now, not in every trial

    def evaluate(
        self,
        space: SearchSpace,
        architecture: Architecture,
        directory: Path,
        seed: int,
        bar: Mapping[str, float] = NO_BAR,
        fidelities: Sequence[float] = (1.0,),
    ) -> dict[str, Any]:
        """Trains and scores one architecture.

        Args:
            space: of the study.
            architecture: what is trained.
            directory: the study's, filled by `prepare`.
            seed: of every random choice.
            bar: what candidates as cheap have come to by their milestones.
            fidelities: ascending shares of `steps`: trained for the last one, going on from where
                the one before parted from it; compared with a reference trained alike.

        Returns:
            `rd_points` (one mapping a level), the metrics at `level`, BD-rates against the
            reference, `learned_gain_db`, and what the training took.

        Raises:
            EvaluationError: it diverged or collapsed, or one of its BD-rates cannot be had.
            StoppedEarly: it will not come to the bar.
        """
        if tuple(fidelities) != (1.0,):
            return self._in_part(space, architecture, directory, seed, bar, fidelities)
        reference = self._reference(space, directory)
        rung = self._rung(space, architecture, directory, seed, bar) if self.decoder_first else {}
        if architecture == space.reference and seed == self.seed:
            score = reference
        else:
            score = self._score(space, architecture, directory, seed, bar)
        passed = {**milestones(score["curve"]), **rung}
        return score | bd_rates(score["rd_points"], reference["rd_points"]) | {"milestones": passed}

    def _in_part(
        self,
        space: SearchSpace,
        architecture: Architecture,
        directory: Path,
        seed: int,
        bar: Mapping[str, float],
        fidelities: Sequence[float],
    ) -> dict[str, Any]:
        """What an evaluator of fewer steps gives that knows the shorter ones before it."""
        lengths = tuple(max(1, round(share * self.steps)) for share in fidelities)
        first = self.decoder_first if len(lengths) == 1 else 0
        changes = {"steps": lengths[-1], "decoder_first": first, "lengths": lengths}
        shorter = _AfterShorter(**{**asdict(self), **changes})
        # What is to be reached is that of full trainings.
        heeded = bar if fidelities[-1] == 1.0 else NO_BAR
        return shorter.evaluate(space, architecture, directory, seed, heeded)

    def _rung(
        self,
        space: SearchSpace,
        architecture: Architecture,
        directory: Path,
        seed: int,
        bar: Mapping[str, float],
    ) -> dict[str, float]:
        """The milestone of a decoder-only training: how much better than the reference, per cent.

        Raises:
            StoppedEarly: a candidate as cheap was better there by more than seeds explain.
        """
        settings = {name: getattr(self, name) for name in ProxySettings.__dataclass_fields__}
        alone = ProxyEvaluator(**settings)
        below = replace(
            alone, training="decoder", steps=self.decoder_first, decoder_first=0, shared_steps=0,
            batch=None, learning_rate=None, stop_early=False, vgg_crops=0,
        )  # fmt: skip
        below.prepare(space, directory)
        score = below.evaluate(space, architecture, directory, seed)
        passed = {"decoder_first": -score["bd_rate_lpips"]}
        behind = bar.get("decoder_first", -math.inf) - passed["decoder_first"]
        if behind > _RUNG_MARGIN:
            reason = f"stopped early: {behind:.1f} points of BD-rate behind after decoder_first"
            raise StoppedEarly(reason, {"milestones": passed})
        return passed

    def _reference(self, space: SearchSpace, directory: Path) -> dict[str, Any]:
        """The reference architecture's score, made once."""
        file = directory / f"reference-{key_of(space.reference.key, self._settings)}.json"
        with FileLock(f"{file}.lock"):
            if not file.is_file():
                log.info("reference architecture %s", space.reference.key)
                score = self._score(space, space.reference, directory, self.seed)
                with replacing(file) as unfinished:
                    unfinished.write_text(json.dumps(score))
            content: dict[str, Any] = json.loads(file.read_text())
        return content

    def peers(self, directory: Path) -> dict[str, list[dict[str, Any]]]:
        """Curves of classical codecs on the crops that candidates are scored on, by name."""
        if not classics.has_avif():
            return {}
        return {classics.avif_name(): classics.avif_points(self.data_in(directory).held_back())}

    def seconds_per_trial(self, space: SearchSpace) -> float:
        """What a trial takes on this machine, from a few timed steps of sampled architectures."""
        codes = space.sample(np.random.default_rng(0), 4)
        device = torch_device(self.device)
        codecs = (Codec(space.design(space.architecture(code))) for code in codes)
        if self.training == "joint":
            steps = [joint.step_seconds(codec, self.joint_recipe, device) for codec in codecs]
        else:
            steps = [decoder.step_seconds(codec, self.decoder_recipe, device) for codec in codecs]
        return self.steps * float(np.mean(steps))

    @property
    def _settings(self) -> dict[str, Any]:
        """All that a score hangs on."""
        return without_later_defaults(asdict(self))

    def data_in(self, directory: Path) -> Data:
        """What is trained and scored on.

        Args:
            directory: the study's.
        """
        device = torch_device(self.device)
        return Data(self.data, self.crops, self.levels, self.level, directory, device)

    def _anchor(self) -> Codec | None:
        return None if self.anchor is None else candidates.load_anchor(self.anchor)

    def load(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> Codec:
        """The codec as `evaluate` left it, on the CPU.

        Raises:
            SetupError: that architecture was not evaluated under this recipe.
        """
        design = self.design_of(space, architecture)
        file = self._codec_file(architecture.key, directory, seed)
        if not file.is_file():
            raise SetupError(f"no weights of {architecture.key} at {file}; evaluate it first")
        codec = Codec(design)
        codec.load_state_dict(load_file(file))
        return codec.eval()

    def choices_of(self, space: SearchSpace, architecture: Architecture) -> dict[str, Choice]:
        """Of what is trained: where nothing is shared but the anchor, its encoder's choices."""
        choices = dict(space.all_choices(architecture))
        if self.training == "decoder" and self.shared_steps == 0 and self.anchor is not None:
            return candidates.with_anchors_encoder(choices, self.anchor)
        return choices

    def design_of(self, space: SearchSpace, architecture: Architecture) -> Design:
        """What is trained of an architecture."""
        return space.builder(self.choices_of(space, architecture))

    def _codec_file(self, key: str, directory: Path, seed: int) -> Path:
        return directory / f"codec-{key}-{key_of(self._settings, seed)}.safetensors"

    def _score(
        self,
        space: SearchSpace,
        architecture: Architecture,
        directory: Path,
        seed: int,
        bar: Mapping[str, float] = NO_BAR,
    ) -> dict[str, Any]:
        began = time.monotonic()
        design, data = self.design_of(space, architecture), self.data_in(directory)
        file = self._codec_file(architecture.key, directory, seed)
        unfinished = file.with_suffix(".checkpoint")  # a joint training that was killed goes on
        heeded = bar if self.stop_early else NO_BAR
        branches = self._branches(architecture, directory, seed)
        trained = self.trained(space, design, data, seed, unfinished, heeded, branches)
        _save(trained.codec, space, self.choices_of(space, architecture), file)
        unfinished.unlink(missing_ok=True)
        ended = time.monotonic()
        score = self._scored(trained, data, file.with_suffix(".png"))
        return {
            **self._with_gain(score, space, design, data),
            **self._terms(data, seed),
            "curve": trained.curve,
            "train_seconds": ended - began,
            "score_seconds": time.monotonic() - ended,
            "training_peak_bytes": _peak_bytes(),
            "codec": str(file),
        }

    def _terms(self, data: Data, seed: int) -> dict[str, Any]:
        """What a score was made under, for its record."""
        return {
            "training": self.training,
            "steps": self.steps,
            "seed": seed,
            "device": str(data.device),
            "precision": self.precision,
            "lpips_backbone": perceptual.described("alex"),
        }

    def trained(
        self,
        space: SearchSpace,
        design: Design,
        data: Data,
        seed: int,
        checkpoint: Path | None = None,
        bar: Mapping[str, float] = NO_BAR,
        branches: Sequence[Branch] = (),
    ) -> Trained:
        """Trains a design under this recipe.

        Args:
            space: of the study.
            design: of it.
            data: to train on.
            seed: of every random choice.
            checkpoint: of a joint training that broke off.
            bar: what each phase has to come to.
            branches: of shorter trainings that this one goes on from, and its own.
        """
        if self.training == "joint":
            recipe, begin = self.joint_recipe, self.joint_start(space, seed)
            return candidates.joint_candidate(
                design, data, recipe, seed, begin, checkpoint, bar, branches
            )
        folder, of_decoders = self.shared_folder(design, data), self.decoder_recipe
        start = self._start(space, design, data, seed)
        return candidates.decoder_candidate(
            design, data, of_decoders, seed, folder, start, bar, branches
        )

    def joint_start(self, space: SearchSpace, seed: int) -> JointStart:
        """What gives a whole codec the weights that it begins from."""
        return candidates.jointly_from(self._anchor(), self.joint_recipe.crop, seed)

    def _start(self, space: SearchSpace, design: Design, data: Data, seed: int) -> Start:
        """What gives a decoder the weights that it begins from."""
        parent = self._parent(design, data, seed) if self.parents else None
        if parent is not None:
            log.info("begins from %s", parent.name)
            return candidates.from_anchor(load_codec(parent))
        return candidates.from_anchor(self._anchor())

    def _parent(self, design: Design, data: Data, seed: int) -> Path | None:
        """The nearest codec that was trained under this recipe."""
        recipe = self._codec_file("*", data.directory, seed).name
        return nearest_codec(design, data.directory.glob(recipe))

    def _branches(self, architecture: Architecture, directory: Path, seed: int) -> list[Branch]:
        """Where shorter trainings part from this one; none where there is one fidelity."""
        return []

    def _scored(self, trained: Trained, data: Data, picture: Path | None) -> dict[str, Any]:
        """The codec at the precision it is scored at; with a picture unless there is no place."""
        held_back, levels = trained.held_back, self.levels
        rounded = at_precision(trained.codec, self.precision, trained.latents, trained.conditions)
        score = scoring.score(rounded, held_back, levels, data.device)
        reported = (levels.index(self.level), self.level)
        score |= next(p for p in score["rd_points"] if p["level"] == self.level)
        if picture is not None:
            score |= scoring.check_by_vgg(rounded, held_back, *reported, self.vgg_crops)
            scoring.save_picture(rounded, held_back, *reported, picture)
            score["reconstruction"] = str(picture)
        return score

    def _with_gain(
        self, score: dict[str, Any], space: SearchSpace, design: Design, data: Data
    ) -> dict[str, Any]:
        """With what the learned paths earn, which a decoder's score says of itself."""
        if self.training != "joint":
            return score
        control = self._control(space, design, data)
        return score | {"learned_gain_db": gain_db(score["rd_points"], control)}

    def _control(self, space: SearchSpace, design: Design, data: Data) -> list[dict[str, Any]]:
        """The curve of the same entropy model without learned paths, trained once as long."""
        linear = without_backbones(design)
        parts = sorted(block.signature for block in linear.blocks.values())
        file = data.directory / f"control-{key_of(parts, self._settings)}.json"
        with FileLock(f"{file}.lock"):
            if not file.is_file():
                log.info("linear control")
                score = self._scored(self.trained(space, linear, data, self.seed), data, None)
                write_atomically(file, json.dumps(score["rd_points"]))
            points: list[dict[str, Any]] = json.loads(file.read_text())
        return points

    def shared_folder(self, design: Design, data: Data) -> Path:
        """Folder of the shared part that this design has, trained once by whoever comes first."""
        stage = design.stages["encode"]
        networks = [stage.network, *([stage.cpu_network] if stage.cpu_network else [])]
        parts = sorted(block.signature for network in networks for block in network.blocks)
        settings = (self.data, self.shared_steps, self.levels, self.crops, self.seed, self.anchor)
        folder = data.directory / f"shared-{key_of(parts, settings)}"

        def make() -> Codec:
            anchor = self._anchor()
            if self.shared_steps == 0 and anchor is not None:
                return shared.of_anchor(design, anchor)
            training = data.training()
            return shared.train_shared(design, training, self.shared_steps, self.seed, anchor)

        return candidates.shared_part(data, folder, make)


@dataclass(frozen=True)
class _AfterShorter(ProxyEvaluator):
    """Goes on from shorter trainings.

    Attributes:
        lengths: their steps, ascending, and `steps`.
    """

    lengths: tuple[int, ...] = ()

    def _branches(self, architecture: Architecture, directory: Path, seed: int) -> list[Branch]:
        branches = []
        for i, steps in enumerate(self.lengths):
            at = replace(self, steps=steps, lengths=self.lengths[: i + 1])
            recipe = at.joint_recipe if at.training == "joint" else at.decoder_recipe
            name = f"branch-{architecture.key}-{key_of(at._settings, seed)}.safetensors"
            branches.append(Branch(recipe, directory / name))
        return branches


def _save(codec: Codec, space: SearchSpace, choices: Mapping[str, Choice], file: Path) -> None:
    """A codec file; of networks from elsewhere than the codec family, the weights alone."""
    if space.builder is build_design:
        save_codec(codec, choices, file)
        return
    write_tensors(file, {k: v.cpu().contiguous() for k, v in codec.state_dict().items()}, {})


def key_of(*parts: object) -> str:
    """Names what was made under these settings by this version of torch."""
    content = json.dumps([*parts, torch.__version__], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _peak_bytes() -> int:
    """Most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
