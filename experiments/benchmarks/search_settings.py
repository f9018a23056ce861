"""What `search_efficiency.py` searches: the synthetic problem, or a table of trained codecs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from synthetic_problem import SyntheticProblem, Values, first_front

from nas.pareto import hypervolume
from nas.searchers.problem import Ask, Problem
from search_spaces.load import load_space
from search_spaces.space import Codes, SearchSpace


class Setting(Protocol):
    """What is searched, and what it is in truth."""

    def problem(self, seed: int) -> Problem:
        """What a searcher is given."""
        ...

    def evaluate(self, ask: Ask, seed: int) -> Sequence[float]:
        """Objectives of one training."""
        ...

    def reached(self, codes: Codes, recorded: Values) -> float:
        """Share of the true hypervolume that the recorded front has in truth."""
        ...


@dataclass(frozen=True)
class Synthetic(SyntheticProblem):
    """With more noise at lower fidelities."""

    def evaluate(self, ask: Ask, seed: int) -> Sequence[float]:
        return self.trained(ask.architecture, seed, ask.fidelity)


@dataclass(frozen=True)
class Table:
    """Architectures that were really trained, at several fidelities.

    Attributes:
        content: of the file.
    """

    content: dict[str, Any]

    @cached_property
    def space(self) -> SearchSpace:
        return load_space(self.content["space"])

    @cached_property
    def rows(self) -> dict[tuple[int, ...], dict[str, Any]]:
        return {tuple(row["code"]): row for row in self.content["trained"]}

    @cached_property
    def fidelities(self) -> list[float]:
        """Ascending, the last one 1."""
        return sorted(float(share) for share in self.content["trained"][0]["rungs"])

    @cached_property
    def values(self) -> Values:
        """Of all rows in full, minimised, shape (N, 2)."""
        return np.array([self._values(row, 1.0) for row in self.rows.values()])

    @cached_property
    def reference(self) -> Values:
        """The worst that is not among the worst tenth, shape (2,)."""
        return np.asarray(np.quantile(self.values, 0.9, axis=0))

    def problem(self, seed: int) -> Problem:
        ways = ("minimize",) * len(self.content["objectives"])
        return Problem(self.space, ways, self.feasible, self.prices, (), seed)

    def feasible(self, codes: Codes) -> Any:
        return np.array([code in self.rows for code in map(tuple, codes.tolist())], dtype=bool)

    def prices(self, codes: Codes) -> Values:
        empty: dict[str, Any] = {"prices": {}}
        rows = [self.rows.get(code, empty)["prices"] for code in map(tuple, codes.tolist())]
        names = self.content["objectives"]
        priced = [name in self.content["trained"][0]["prices"] for name in names]
        # What is not in the table has a price too, so that it is not taken for one to be trained.
        default = [0.0 if known else np.nan for known in priced]
        values = [[row.get(n, d) for n, d in zip(names, default, strict=True)] for row in rows]
        return np.array(values, dtype=float).reshape(len(codes), len(names))

    def evaluate(self, ask: Ask, seed: int) -> Sequence[float]:
        return self._values(self.rows[ask.architecture.code], ask.fidelity)

    def reached(self, codes: Codes, recorded: Values) -> float:
        whole = hypervolume(first_front(self.values), self.reference)
        return hypervolume(first_front(recorded), self.reference) / whole

    def _values(self, row: dict[str, Any], fidelity: float) -> list[float]:
        nearest = min(self.fidelities, key=lambda share: abs(share - fidelity))
        metrics = next(m for share, m in row["rungs"].items() if float(share) == nearest)
        return [float({**metrics, **row["prices"]}[name]) for name in self.content["objectives"]]
