"""The searchers by name. Nothing of them is imported before one is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from search_spaces.hints import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nas.searchers.nsga2 import Screen
    from nas.searchers.problem import Problem, Searcher
    from search_spaces.space import Codes

SEARCHERS = ("nsga2", "nsga2-plain", "random", "optuna-nsga2", "optuna-tpe", "funnel")
Model = Literal["ridge", "gp"]


def make_searcher(
    name: str,
    problem: Problem,
    *,
    population: int = 12,
    fidelities: Sequence[float] = (),
    trials: int | None = None,
    model: Model = "ridge",
    filtered: Callable[[Codes], NDArray[np.bool_]] | None = None,
) -> Searcher:
    """A searcher that was asked for nothing yet.

    Args:
        name: one of `SEARCHERS`.
        problem: what is searched.
        population: parents of NSGA-II; results before TPE's first model.
        fidelities: ascending, the last one 1: rungs, if there are several.
        trials: of the whole search; the funnel divides them among its two trainings.
        model: what `nsga2` screens its children with.
        filtered: of the funnel, before the budget: canonical codes, shape (N, P), to whether they
            may be in its sample, shape (N,).

    Raises:
        ValueError: no such searcher, the funnel with fidelities or without trials, or fidelities
            that are none.
    """
    if name not in SEARCHERS:
        known = ", ".join(SEARCHERS)
        raise ValueError(f"searcher: {name!r} is none of {known}{did_you_mean(name, SEARCHERS)}")
    several = tuple(fidelities) not in ((), (1.0,))
    if name == "funnel":
        return _funnel(problem, several, trials, filtered)
    base = _base(name, problem, population, model)
    if not several:
        return base
    from nas.searchers.rungs import RungSearcher

    return RungSearcher(problem, fidelities, base)


def _base(name: str, problem: Problem, population: int, model: Model) -> Searcher:
    if name == "random":
        from nas.searchers.random_search import RandomSearcher

        return RandomSearcher(problem)
    if name.startswith("optuna-"):
        from nas.searchers.optuna_samplers import OptunaSearcher

        sampler: Literal["tpe", "nsga2"] = "tpe" if name == "optuna-tpe" else "nsga2"
        return OptunaSearcher(problem, sampler, population)
    from nas.searchers.nsga2 import Nsga2Searcher

    return Nsga2Searcher(problem, population, _screen(problem, model) if name == "nsga2" else None)


def _screen(problem: Problem, model: Model) -> Screen:
    from nas.screening import GaussianProcessScreen, RidgeScreen

    return RidgeScreen(problem) if model == "ridge" else GaussianProcessScreen(problem)


def _funnel(
    problem: Problem,
    several: bool,
    trials: int | None,
    filtered: Callable[[Codes], NDArray[np.bool_]] | None,
) -> Searcher:
    if several:
        raise ValueError(
            "fidelities: funnel has its own two, a partial training of its sample and a full one of"
            " the best; leave them out, or choose another searcher"
        )
    if trials is None:
        raise ValueError("trials: funnel must know how many, to divide them among its trainings")
    from nas.searchers.funnel import FunnelSearcher

    return FunnelSearcher(problem, trials, filtered)
