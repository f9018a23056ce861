"""Cheap models of recorded results, from the codes of architectures alone, with uncertainty.

The default is an ensemble of kernel ridge regressions: one is fitted to the results and gives the
mean, every other one to the results with noise added and less a draw from the prior, which spreads
them as wide as the mean may be wrong (Matthews et al., 2017). Resampled results would not: their
spread was a fifth of the errors. The other model is a Gaussian process.
"""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.kernel_approximation import RBFSampler
from sklearn.kernel_ridge import KernelRidge

from nas.searchers.problem import Values
from search_spaces.space import Codes, SearchSpace

_MEMBERS, _WAVES = 24, 200  # of the ensemble; of a draw from its prior
_SCALES = (3.0, 6.0, 12.0, 25.0)  # squared distances; two architectures differ by about P
_RIDGES = np.geomspace(1e-3, 30, 12)
_TUNED = 300  # results that hyperparameters are chosen with, the latest
_GROWN = 1.2  # times as many results, until they are chosen again


class Model(Protocol):
    """Of one objective."""

    def fit(self, features: Values, values: Values) -> None:
        """Takes in standardised results, shapes (N, F) and (N,)."""
        ...

    def predict(self, features: Values) -> tuple[Values, Values]:
        """Means and standard deviations, each of shape (M,)."""
        ...


class RidgeEnsemble:
    """Kernel ridge regressions: one for the mean, others whose spread is its uncertainty."""

    def __init__(self, seed: int) -> None:
        """Knows nothing yet; `seed` is that of its draws."""
        self._seed = seed
        self._chosen = 0

    def fit(self, features: Values, values: Values) -> None:
        """Takes in standardised results, shapes (N, F) and (N,)."""
        if len(values) > _GROWN * self._chosen:
            self._choose(features, values)
        rng = np.random.default_rng([self._seed, len(values)])
        self._prior = RBFSampler(
            gamma=self._gamma, n_components=_WAVES, random_state=self._seed
        ).fit(features)
        self._weights = np.sqrt(self._variance) * rng.normal(size=(_WAVES, _MEMBERS))
        noise = np.sqrt(self._ridge * self._variance) * rng.normal(size=(len(values), _MEMBERS))
        members = values[:, None] + noise - self._prior.transform(features) @ self._weights
        self._ridges = KernelRidge(alpha=self._ridge, kernel="rbf", gamma=self._gamma)
        self._ridges.fit(features, np.column_stack([values, members]))

    def predict(self, features: Values) -> tuple[Values, Values]:
        """Means and standard deviations, each of shape (M,)."""
        fitted = self._ridges.predict(features)
        members = fitted[:, 1:] + self._prior.transform(features) @ self._weights
        spread = np.sqrt(((members - fitted[:, :1]) ** 2).mean(axis=1))
        return fitted[:, 0], spread

    def _choose(self, features: Values, values: Values) -> None:
        """Width and ridge of the least squared error of leaving one out, on the latest results."""
        features, values = features[-_TUNED:], values[-_TUNED:]
        squared = (features**2).sum(axis=1)
        distances = np.maximum(squared[:, None] + squared - 2 * features @ features.T, 0)
        best = np.inf
        for scale in _SCALES:
            roots, vectors = np.linalg.eigh(np.exp(-distances / scale))
            for ridge in _RIDGES:
                inverse = 1 / (np.maximum(roots, 0) + ridge)
                dual = vectors @ (inverse * (vectors.T @ values))
                error = ((dual / (vectors**2 @ inverse)) ** 2).mean()
                if error < best:
                    best, self._gamma, self._ridge = error, 1 / scale, float(ridge)
                    self._variance = float(max(values @ dual / len(values), 1e-6))
        self._chosen = len(values)


class GaussianProcess:
    """A Gaussian process whose hyperparameters maximise the likelihood of the latest results."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._tuned = 0
        self._kernel = ConstantKernel(1.0, (0.01, 100)) * RBF(2.0, (0.5, 20)) + WhiteKernel(
            0.1, (1e-4, 10)
        )

    def fit(self, features: Values, values: Values) -> None:
        """Takes in standardised results, shapes (N, F) and (N,)."""
        if len(values) > _GROWN * self._tuned:
            tuned = GaussianProcessRegressor(self._kernel, random_state=self._seed)
            with warnings.catch_warnings():  # a hyperparameter at its bound is what it should be
                warnings.simplefilter("ignore", ConvergenceWarning)
                tuned.fit(features[-_TUNED:], values[-_TUNED:])
            self._kernel = tuned.kernel_
            self._tuned = len(values)
        self._process = GaussianProcessRegressor(self._kernel, optimizer=None, alpha=1e-8)
        self._process.fit(features, values)

    def predict(self, features: Values) -> tuple[Values, Values]:
        """Means and standard deviations, each of shape (M,)."""
        means, spread = self._process.predict(features, return_std=True)
        noise = self._kernel.k2.noise_level
        return means, np.sqrt(np.maximum(spread**2 - noise, 1e-9))


def features_of(space: SearchSpace, codes: Codes) -> Values:
    """What models see: every state as a column of its own; ordered choices as a number too.

    Args:
        space: of the codes.
        codes: canonical, shape (N, P).

    Returns:
        Shape (N, F). Two states of an unordered parameter are at a squared distance of 1.
    """
    columns = []
    for states, parameter in zip(space.rules.states(codes).T, space.parameters, strict=True):
        count = len(parameter.choices)
        columns.append(
            (states[:, None] == np.arange(count + (parameter.when is not None))) / 2**0.5
        )
        if parameter.ordered and count > 1:
            number = np.where(states < count, states / (count - 1), 0.5)  # inactive: in the middle
            columns.append(number[:, None])
    return np.concatenate(columns, axis=1)
