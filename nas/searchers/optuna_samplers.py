"""Optuna's samplers on a study in memory: NSGA-II, and the tree-structured Parzen estimator (TPE).

Both begin with the reference, the problem's start and uniformly drawn architectures. What they
propose over the budget, against a constraint of the space or a second time costs no evaluation:
they are told at once, and asked again. Optuna is told minimised values.

Parameters are suggested one after the other, those under a condition only where it holds. TPE
models them too (multivariate, in groups); Optuna's NSGA-II breeds only what every architecture has
and draws the others uniformly.

A proposal costs more the more results there are, on 12 parameters and one core: NSGA-II takes
about 0.04 s at 10,000 results; TPE takes 0.05 s at 1,000, 0.2 s at 3,000 and 0.7 s at 10,000. An
ask takes one or two proposals, at most 20. A recorded search is gone on with by repeating its asks:
of 10,000, that is minutes with NSGA-II and more than an hour with TPE.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, PartialFixedSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from nas.searchers.problem import Ask, Code, Problem
from nas.searchers.untried import Counted, Untried, as_code
from search_spaces.space import Codes

_PROPOSALS = 20  # an ask, before one is drawn: bounds what an ask may cost
_VIOLATED = 1.0  # above 0; the samplers are not told by how much

SamplerName = Literal["nsga2", "tpe"]


class OptunaSearcher(Counted):
    """Asks for what an Optuna sampler proposes, if it is new and inside the budget."""

    def __init__(self, problem: Problem, sampler: SamplerName, population: int = 12) -> None:
        """Nothing is asked for yet.

        Args:
            problem: what is searched.
            sampler: `nsga2` or `tpe`.
            population: results of a generation, two or more; before so many are told, what is
                asked for is drawn uniformly.
        """
        self._problem = problem
        self._space = problem.space
        self._untried = Untried(problem, np.random.default_rng([problem.seed, 1]))
        self._untried.begin(population)
        self._population = population
        self._exhausted = False
        self._running: dict[Code, int] = {}
        self._told: dict[Code, list[float]] = {}
        with _quiet():
            self._sampler = _sampler(sampler, problem.seed, population)
            ways = [StudyDirection.MINIMIZE] * len(problem.directions)
            self._study = optuna.create_study(directions=ways, sampler=self._sampler)

    def ask(self) -> Ask | None:
        """What the sampler proposes; where 20 proposals in a row are of no use, one that is drawn.

        Returns:
            None once nothing is found, and from then on.
        """
        if self._exhausted:
            return None
        code = self._untried.queued() or self._proposal() or self._untried.any()
        if code is None:
            # For ever: proposals that nobody recorded have changed the sampler.
            self._exhausted = True
            return None
        self._take(code)
        return Ask(self._space.architecture(code))

    def adopt(self, ask: Ask) -> None:
        """Counts an architecture as asked for by somebody else."""
        self._take(ask.architecture.code)

    def tell(self, ask: Ask, values: Sequence[float] | None) -> None:
        """Takes in a result, or that there is none; of one architecture once."""
        code = ask.architecture.code
        scores = None if values is None else self._problem.minimised(ask.architecture, values)
        if code in self._told:
            return
        self._take(code)
        number = self._running.pop(code)
        if scores is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._told[code] = scores.tolist()
            self._study.tell(number, self._told[code])

    def _proposal(self) -> Code | None:
        if len(self._told) < self._population:
            return None
        for _ in range(_PROPOSALS):
            trial = self._study.ask()
            codes = self._suggested(trial)[None]
            code = as_code(codes[0])
            if self._space.valid(codes)[0] and self._untried.fresh(codes):
                self._running[code] = trial.number
                return code
            self._refuse(trial, code)
        return None

    def _refuse(self, trial: Trial, code: Code) -> None:
        """Tells a proposal that is not evaluated: what is known of it, or that it is not allowed.

        NSGA-II leaves out what is pruned or failed; TPE takes what is pruned for the worst.
        """
        if code in self._told:
            self._study.tell(trial, self._told[code])
        elif self._untried.taken(code):
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            trial.set_constraint("allowed", _VIOLATED)
            self._study.tell(trial, state=TrialState.PRUNED)

    def _take(self, code: Code) -> None:
        """Lets the study know that a code is being evaluated, whoever proposed it."""
        self._untried.take(code)
        if code in self._running or code in self._told:
            return
        with _quiet():
            self._study.sampler = PartialFixedSampler(self._entries(code), self._sampler)
        trial = self._study.ask()
        self._suggested(trial)
        self._study.sampler = self._sampler
        self._running[code] = trial.number

    def _entries(self, code: Code) -> dict[str, int]:
        states = self._space.rules.states(np.array([code]))[0].tolist()
        pairs = zip(self._space.parameters, states, strict=True)
        return {p.name: state for p, state in pairs if state < len(p.choices)}

    def _suggested(self, trial: Trial) -> Codes:
        """The canonical code of what a trial suggests, shape (P,); constraints may not hold."""
        rules = self._space.rules
        states = rules.inactive.copy()
        for column in rules.order:
            if rules.active(column, states):
                parameter = self._space.parameters[column]
                indices = range(len(parameter.choices))
                if parameter.ordered:
                    states[column] = trial.suggest_int(parameter.name, 0, indices[-1])
                else:
                    states[column] = trial.suggest_categorical(parameter.name, indices)
        return rules.codes(states)


def _sampler(name: SamplerName, seed: int, population: int) -> BaseSampler:
    derived = int(np.random.SeedSequence([seed, 2]).generate_state(1)[0])
    if name == "nsga2":
        return NSGAIISampler(population_size=population, seed=derived)
    return TPESampler(n_startup_trials=0, multivariate=True, group=True, seed=derived)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Optuna from logging and from warning of what it calls experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
