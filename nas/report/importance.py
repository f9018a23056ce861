"""Which choices matter: Optuna's importances, by objective."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.record.records import StudyRecord, Trial

FEWEST, MOST = 10, 500  # results
_TREES = 32
_ABSENT = "not there"  # of a parameter that an architecture has no use for


def by_objective(record: StudyRecord, trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """Shares of each objective's variance by choice (fANOVA), descending.

    Args:
        record: of the study.
        trials: full results; of more than `MOST` a drawn part is looked at.

    Returns:
        Objective -> parameter -> share; empty with too few results to tell.
    """
    if len(trials) < FEWEST:
        return {}
    if len(trials) > MOST:
        rows = np.sort(np.random.default_rng(0).permutation(len(trials))[:MOST])
        trials = [trials[row] for row in rows]
    names = dict.fromkeys(name for trial in trials for name in trial.choices)
    options = {name: list(dict.fromkeys(_choice(t, name) for t in trials)) for name in names}
    varied = {name: known for name, known in options.items() if len(known) > 1}
    columns = np.array([trial.values for trial in trials], dtype=np.float64).T
    return {
        objective: _importances(trials, column.tolist(), varied)
        for objective, column in zip(record.objectives, columns, strict=True)
        if varied and column.min() < column.max()
    }


def _choice(trial: Trial, parameter: str) -> str:
    return str(trial.choices.get(parameter, _ABSENT))


def _importances(
    trials: Sequence[Trial], values: Sequence[float], options: dict[str, list[str]]
) -> dict[str, float]:
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    menus = {name: CategoricalDistribution(known) for name, known in options.items()}
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.create_trial(
                params={name: _choice(trial, name) for name in menus},
                distributions=dict(menus),
                value=value,
            )
            for trial, value in zip(trials, values, strict=True)
        ]
    )
    return dict(
        get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=_TREES, seed=0))
    )
