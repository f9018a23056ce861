"""The seam between the search and whatever scores an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from search_spaces.space import Architecture, SearchSpace

Direction = Literal["minimize", "maximize"]


_LATER = {"parents": False}  # settings of the proxy that older studies know nothing of


def without_later_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, of those that came later only what is not their default: older records then go on.

    Args:
        settings: of an evaluator, all of them.
    """
    return {n: x for n, x in settings.items() if n not in _LATER or x != _LATER[n]}


class EvaluationError(RuntimeError):
    """A candidate that cannot be scored: it diverged or collapsed. Its trial is FAILED."""


class SetupError(ValueError):
    """What every evaluation needs is missing (photographs, weights); says what and what next."""


class StoppedEarly(Exception):  # noqa: N818, it is no error
    """A candidate whose evaluation was given up: it would not have reached the front.

    Attributes:
        record: what is known of it, JSON-ready.
    """

    def __init__(self, reason: str, record: Mapping[str, Any]) -> None:
        super().__init__(reason)
        self.record = dict(record)


class Evaluator(Protocol):
    """Scores architectures. Built anew in every worker from its import path and settings.

    It may offer `seconds_per_trial(space)`, from which `nas check` says how long a search takes.

    It may stop candidates early: then `stops_early` is true, its records hold `milestones`, a
    mapping of names to figures that a candidate passes on its way (larger is better), and
    `evaluate` takes `bar`: by name the best milestones among finished candidates that are no worse
    in any priced objective. Far below the bar, it raises `StoppedEarly`.

    It may evaluate at lower fidelities: then `has_fidelities` is true, and `evaluate` takes
    `fidelities`, ascending shares of the full evaluation. The last one is wanted; the architecture
    was evaluated at those before it, and the evaluation may go on from what these left in the
    study's folder. Should that be gone, the score is the same all the same.

    It may offer `ablations`: by name, settings that turn off one part of its training each.

    It may offer `peers(directory)`: by name, rate-distortion points of other codecs on the images
    that architectures are scored on, for a page to show beside them.

    A user's own evaluator is any class with these members, named in the experiment as
    `package.module:Name` or `./file.py:Name`; its constructor takes the experiment's settings as
    keywords.
    """

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """Every metric that may serve as an objective, with the direction that is better."""
        ...

    def check(self) -> None:
        """Fails early and cheaply when something that every evaluation needs is missing.

        Raises:
            SetupError: what is missing, where, and what to do next.
        """
        ...

    def prepare(self, space: SearchSpace, directory: Path) -> None:
        """Does once a study what all evaluations share; safe to repeat, and to be killed in.

        Args:
            space: the study's space.
            directory: the study's folder for shared files; exists.
        """
        ...

    def evaluate(
        self, space: SearchSpace, architecture: Architecture, directory: Path, seed: int
    ) -> dict[str, Any]:
        """Scores one architecture; the same seed gives the same score on one machine.

        Args:
            space: the study's space.
            architecture: what to score.
            directory: the folder that `prepare` filled.
            seed: of every random choice.

        Returns:
            JSON-ready record; at least every name of `metrics`, finite numbers.

        Raises:
            EvaluationError: the candidate diverged or collapsed.
        """
        ...
