"""A user's own prices: an oracle that knows neither tables nor Core ML."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any, Protocol

import numpy as np

from evaluators.protocol import Direction
from nas.pricing.price import BudgetError, Code, Limit, Price, Values
from search_spaces.hints import did_you_mean
from search_spaces.space import Architecture, Codes, SearchSpace

PROVENANCE = "user's own oracle"
RESERVED = (  # what the record of a trial holds beside metrics
    *("trial", "key", "fidelity", "choices", "seconds", "latency"),
    *("study", "state", "started", "error", "provenance", "blocks", "log"),
)

_DIRECTIONS = ("minimize", "maximize")
_REMEMBERED = 2**16


class Oracle(Protocol):
    """Prices architectures before they are trained; deterministic.

    A user's own oracle is any class with these members, named in the experiment as
    `package.module:Name` or `./file.py:Name`; its constructor takes `oracle_settings` as keywords.

    It may offer `prices(space, codes)`: canonical codes, shape (N, P), to the values of all
    `metrics` in their order, shape (N, M); thousands of architectures are then priced at once. It
    may say in `provenance`, a text, how its figures are known.
    """

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """Every metric that it states, with the direction that is better."""
        ...

    def price(self, space: SearchSpace, architecture: Architecture) -> Mapping[str, float]:
        """The value of every one of `metrics`, finite numbers."""
        ...


class OwnPricer:
    """Prices architectures by a user's own oracle; what it says is checked.

    Attributes:
        space: whose architectures are priced.
    """

    at_once: bool
    warnings: Sequence[str] = ()

    def __init__(self, space: SearchSpace, oracle: Oracle, path: str, label: str) -> None:
        """Prices the reference, so that what is wrong with an oracle shows at once.

        Args:
            space: whose architectures are priced.
            oracle: the user's.
            path: where it was imported from, for messages.
            label: what limits and prices stand under.

        Raises:
            BudgetError: it lacks a member, or says something that is no price.
        """
        self.space = space
        self._oracle, self._path, self._label = oracle, path, label
        self._remembered = lru_cache(_REMEMBERED)(self._values)
        self.metrics = self._stated_metrics()
        self.at_once = callable(getattr(oracle, "prices", None))
        self._require_agreement()

    @property
    def figures(self) -> Sequence[str]:
        """All that the oracle states."""
        return list(self.metrics)

    @property
    def provenance(self) -> Mapping[str, Mapping[str, Any]]:
        """What the oracle says of itself, by label."""
        kind = str(getattr(self._oracle, "provenance", PROVENANCE))
        return {self._label: {"kind": kind, "held_against": "figure", "oracle": self._path}}

    def price(self, architecture: Architecture) -> Price:
        """What the oracle says of one architecture.

        Raises:
            BudgetError: it fails, or says something that is no price.
        """
        return Price(self._priced(architecture))

    def prices(self, codes: Codes, names: Sequence[str]) -> Values:
        """Canonical codes, shape (N, P) -> figures (N, K), NaN of unknown names."""
        known = {name: i for i, name in enumerate(self.metrics)}
        values = np.full((len(codes), len(names)), np.nan)
        columns = [i for i, name in enumerate(names) if name in known]
        if columns and len(codes):
            values[:, columns] = self._matrix(codes)[:, [known[names[i]] for i in columns]]
        return values

    def held(self, codes: Codes, limits: Sequence[Limit]) -> Values:
        """What limits are held against: canonical codes, shape (N, P) -> (N, L)."""
        return self.prices(codes, [limit.name for limit in limits])

    def unlowered(self, codes: Codes) -> dict[str, Code]:
        """Nothing: an oracle of the user's own knows no blocks."""
        return {}

    def _priced(self, architecture: Architecture) -> dict[str, float]:
        said = self._asked(lambda: dict(self._oracle.price(self.space, architecture)), "price")
        for name in self.metrics:
            if name not in said:
                raise self._wrong(f"price returns no {name!r}{did_you_mean(name, said)}")
            if not _finite(said[name]):
                what = f"{name} {said[name]!r} for {dict(architecture.choices)}"
                raise self._wrong(f"price returns {what}; it must be a finite number")
        return {name: _plain(said[name]) for name in self.metrics}

    def _matrix(self, codes: Codes) -> Values:
        """Every metric of canonical codes, shape (N, P) -> (N, M)."""
        if not self.at_once:
            return np.array([self._remembered(tuple(code)) for code in codes.tolist()])
        offered: Any = self._oracle
        said = self._asked(lambda: np.asarray(offered.prices(self.space, codes)), "prices")
        wanted = (len(codes), len(self.metrics))
        if said.shape != wanted or said.dtype.kind not in "iuf":
            raise self._wrong(f"prices returns {said.dtype} {said.shape}, not numbers {wanted}")
        if not np.isfinite(said).all():
            row, column = np.argwhere(~np.isfinite(said))[0]
            name, code = list(self.metrics)[column], tuple(codes[row].tolist())
            what = f"{name} {said[row, column]} for code {code}"
            raise self._wrong(f"prices returns {what}; it must be a finite number")
        return np.asarray(said, dtype=np.float64)

    def _values(self, code: Code) -> tuple[float, ...]:
        return tuple(self._priced(self.space.architecture(code)).values())

    def _stated_metrics(self) -> dict[str, Direction]:
        for member in ("metrics", "price"):
            if not hasattr(self._oracle, member):
                raise self._wrong(f"has no {member!r}")
        metrics: dict[str, Direction]
        metrics = self._asked(lambda: dict(self._oracle.metrics), "metrics")
        for name, way in metrics.items():
            if way not in _DIRECTIONS:
                raise self._wrong(f"metrics.{name}: {way!r} is none of {', '.join(_DIRECTIONS)}")
            if name in RESERVED:
                raise self._wrong(f"metrics.{name}: records hold something else under it; rename")
        return metrics

    def _require_agreement(self) -> None:
        """Fails unless the reference can be priced, in both ways alike where there are two."""
        reference = self.space.reference
        one = list(self._priced(reference).values())
        row = self._matrix(np.array([reference.code]))[0] if self.metrics else np.empty(0)
        for name, a, b in zip(self.metrics, one, row.tolist(), strict=True):
            if not math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12):
                raise self._wrong(f"price says {name} {a:g} of the reference, prices says {b:g}")

    def _asked(self, question: Callable[[], Any], member: str) -> Any:
        try:
            return question()
        except Exception as problem:  # a user's own file may raise anything
            line = traceback.extract_tb(problem.__traceback__)[-1]
            what = f"{type(problem).__name__}: {problem} ({line.filename}:{line.lineno})"
            raise self._wrong(f"{member} fails: {' '.join(what.split())}") from problem

    def _wrong(self, what: str) -> BudgetError:
        return BudgetError(f"oracle: {self._path}: {what}")


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> float:
    """JSON-ready: of numpy's numbers Python's."""
    plain: float = value.item() if isinstance(value, np.generic) else value
    return plain
