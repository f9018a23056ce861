"""Scores by weights that a space's networks share, and trainings that begin from them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from evaluators import candidates
from evaluators.cache import TrainingCache
from evaluators.candidates import Data, JointStart, Start
from evaluators.photos import Photo
from evaluators.protocol import SetupError
from evaluators.proxy import ProxyEvaluator, key_of
from evaluators.settings import ProxySettings
from evaluators.stopping import NO_BAR
from evaluators.supernet import Supernet
from evaluators.supernet_codecs import CodecsRecipe
from evaluators.supernet_file import load_shared_part, load_supernet, supernet_about
from evaluators.supernet_run import make_supernet
from evaluators.supernet_training import DecodersRecipe
from search_spaces.blocks import Design
from search_spaces.codec.model import Codec
from search_spaces.space import Architecture, SearchSpace

INHERITED, FINE_TUNED, SCRATCH = "inherited", "fine-tuned", "from scratch"
_TUNING_RATE = 0.1  # of that from scratch: more undoes what was learned (0.07 dB in 50 steps)


@dataclass(frozen=True)
class SupernetEvaluator(ProxyEvaluator):
    """Scores codecs by a supernet's weights, as they are or after a short training.

    `training: decoder` shares decoders behind one encoder, `training: joint` whole codecs.

    Which of it a fidelity gets is its share of `steps`: a search may begin with thousands of
    inherited scores and train from scratch what came first.

    Attributes:
        supernet: a file of `nas supernet`; None trains one for the study.
        supernet_steps: optimiser steps of that.
        drawn: networks that each of them trains.
        sandwich_every: steps from one that trains the largest and the smallest too to the next.
        distillation: share of the largest one's image in what the others learn from there.
        inherited: fidelities up to this are scored as they are inherited.
        fine_tuned: those above and up to this are trained from there, for their share of `steps`;
            those above are trained from scratch, as `ProxyEvaluator` does.
    """

    supernet: str | None = None
    supernet_steps: int = 8000
    drawn: int = 1
    sandwich_every: int = 8
    distillation: float = 0.5
    inherited: float = 0.02
    fine_tuned: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_first:
            raise ValueError("decoder_first: candidates inherit from the supernet; leave it out")
        if min(self.supernet_steps, self.drawn, self.sandwich_every) < 1:
            raise ValueError("supernet_steps, drawn, sandwich_every: at least 1 each")
        if not 0 <= self.distillation <= 1:
            raise ValueError("distillation: 0 to 1")
        if self.parents:
            raise ValueError("parents: candidates inherit from the supernet; leave it out")
        if not 0 <= self.inherited <= self.fine_tuned <= 1:
            raise ValueError("inherited, fine_tuned: shares of the full training, ascending to 1")

    @property
    def ablations(self) -> Mapping[str, Mapping[str, Any]]:
        """None: what is inherited was trained with all its knobs."""
        return {}

    @property
    def from_scratch(self) -> ProxyEvaluator:
        """The proxy that scores what inherits nothing."""
        return ProxyEvaluator(**{f.name: getattr(self, f.name) for f in fields(ProxySettings)})

    def check(self) -> None:
        """As the proxy, and looks for the supernet's file.

        Raises:
            SetupError: one of them is missing.
        """
        super().check()
        if self.supernet is None:
            return
        trained = supernet_about(Path(self.supernet))["levels"]
        if missing := sorted(set(self.levels) - set(trained)):
            raise SetupError(
                f"levels: {self.supernet} was trained at {trained} only, not at {missing}"
            )

    def prepare(self, space: SearchSpace, directory: Path) -> None:
        """Trains what all decoders share, the supernet, and the reference from scratch."""
        self.check()
        self.supernet_file(space, directory)
        for share in sorted({self.inherited, self.fine_tuned, 1.0} - {0.0}):
            self.evaluate(space, space.reference, directory, self.seed, fidelities=(share,))

    def evaluate(
        self,
        space: SearchSpace,
        architecture: Architecture,
        directory: Path,
        seed: int,
        bar: Mapping[str, float] = NO_BAR,
        fidelities: Sequence[float] = (1.0,),
    ) -> dict[str, Any]:
        """Scores one architecture; as the proxy, and `weights` says where they come from.

        Args:
            space: of the study.
            architecture: what is scored.
            directory: the study's, filled by `prepare`.
            seed: of every random choice.
            bar: as for the proxy; heeded from scratch only.
            fidelities: ascending shares of `steps`; the last one is scored.

        Raises:
            EvaluationError: it diverged or collapsed, or one of its BD-rates cannot be had.
            StoppedEarly: it will not come to the bar.
            SetupError: the supernet is of another space.
        """
        share = fidelities[-1]
        if share > self.fine_tuned:
            own = tuple(f for f in fidelities if f > self.fine_tuned)
            proxy = self.from_scratch
            score = proxy.evaluate(space, architecture, directory, seed, bar, own)
            return score | {"weights": SCRATCH}
        steps = 0 if share <= self.inherited else max(1, round(share * self.steps))
        heir = heir_of(self, self.supernet_file(space, directory), steps)
        return heir.evaluate(space, architecture, directory, seed)

    def supernet_file(self, space: SearchSpace, directory: Path) -> Path:
        """The supernet, trained once a study unless it is given.

        Raises:
            SetupError: the space's encoders differ, so that decoders do not share latents.
            EvaluationError: its loss is no longer finite.
        """
        if self.supernet is not None:
            return Path(self.supernet)
        file = self.trained_file(directory)
        with FileLock(f"{file}.lock"):
            if not file.is_file():
                make_supernet(space, self.from_scratch, self._recipe, file)
        return file

    def trained_file(self, directory: Path) -> Path:
        """Where a study's own supernet is, or will be."""
        return directory / f"supernet-{self._key}.safetensors"

    @property
    def _key(self) -> str:
        shared = self.data, self.shared_steps, self.levels, self.seed, self.anchor
        return key_of(asdict(self._recipe), *shared)

    @property
    def _recipe(self) -> DecodersRecipe | CodecsRecipe:
        joint = self.training == "joint"
        usual = asdict(self.joint_recipe if joint else self.decoder_recipe)
        own = {n: getattr(self, n) for n in ("drawn", "sandwich_every", "distillation")}
        kind: Any = CodecsRecipe if joint else DecodersRecipe
        made: DecodersRecipe | CodecsRecipe = kind(**usual | own | {"steps": self.supernet_steps})
        return made


def heir_of(evaluator: SupernetEvaluator, file: Path, steps: int) -> ProxyEvaluator:
    """What trains candidates for a few steps from a supernet's weights, or for none, and scores.

    Args:
        evaluator: whose other settings it has.
        file: of the supernet.
        steps: optimiser steps.
    """
    scratch = evaluator.from_scratch
    usual = scratch.joint_recipe if scratch.training == "joint" else scratch.decoder_recipe
    rate = _TUNING_RATE * usual.learning_rate
    changes = {"steps": steps, "stop_early": False, "learning_rate": rate}
    given = "" if evaluator.supernet is None else _digest(file, file.stat().st_mtime_ns)
    settings = {**asdict(scratch), **changes}
    return _Heir(**settings, supernet=str(file), given=given, scratch=scratch)


@dataclass(frozen=True)
class SupernetTraining(SupernetEvaluator):
    """Prepares the supernet alone, not what its scores are compared with."""

    def prepare(self, space: SearchSpace, directory: Path) -> None:
        """Trains what all decoders share, and the supernet."""
        self.check()
        self.supernet_file(space, directory)


@dataclass(frozen=True)
class _Heir(ProxyEvaluator):
    """Scores decoders that begin with a supernet's weights, behind its encoder.

    Attributes:
        supernet: its file.
        given: names its content, unless it was trained for this study.
        scratch: what trains from scratch.
    """

    supernet: str = ""
    given: str = ""
    scratch: ProxyEvaluator = field(default_factory=ProxyEvaluator)

    def _start(self, space: SearchSpace, design: Design, data: Data, seed: int) -> Start:
        supernet = self._supernet(space)

        def start(codec: Codec, cache: TrainingCache) -> None:
            supernet.give(codec)

        return start

    def joint_start(self, space: SearchSpace, seed: int) -> JointStart:
        """With the codec's slice."""
        supernet = self._supernet(space)

        def start(codec: Codec, training: Sequence[Photo]) -> None:
            supernet.give(codec)

        return start

    def _supernet(self, space: SearchSpace) -> Supernet:
        changed = Path(self.supernet).stat().st_mtime_ns
        return _loaded(self.supernet, changed, space, self.training == "joint")

    def _control(self, space: SearchSpace, design: Design, data: Data) -> list[dict[str, Any]]:
        """One for all: of trainings from scratch, with the reference's entropy model.

        A slice's linear part was never meant to stand alone, and a control for each entropy model
        would cost more than the scores of thousands.
        """
        return self.scratch._control(space, self.design_of(space, space.reference), data)

    def shared_folder(self, design: Design, data: Data) -> Path:
        """Of the supernet's encoder and entropy model."""
        if not self.given:
            return super().shared_folder(design, data)
        settings = self.given, self.data, self.levels, self.crops
        folder = data.directory / f"shared-{key_of(settings)}"
        file = Path(self.supernet)
        return candidates.shared_part(data, folder, lambda: load_shared_part(file, design))

    def _score(
        self,
        space: SearchSpace,
        architecture: Architecture,
        directory: Path,
        seed: int,
        bar: Mapping[str, float] = NO_BAR,
    ) -> dict[str, Any]:
        if self.steps:
            score = super()._score(space, architecture, directory, seed, bar)
            return score | {"weights": FINE_TUNED}
        # Figures alone are kept: there are thousands, and their weights are the supernet's.
        began = time.monotonic()
        design, data = self.design_of(space, architecture), self.data_in(directory)
        score = self._scored(self.trained(space, design, data, seed), data, None)
        return {
            **self._with_gain(score, space, design, data),
            **self._terms(data, seed),
            "weights": INHERITED,
            "curve": [],
            "score_seconds": time.monotonic() - began,
        }


@lru_cache(maxsize=2)
def _loaded(file: str, changed: int, space: SearchSpace, whole: bool) -> Supernet:
    """Read once a process, and never changed."""
    return load_supernet(Path(file), space, whole)


@lru_cache(maxsize=2)
def _digest(file: Path, changed: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
