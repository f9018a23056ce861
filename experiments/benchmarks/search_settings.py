"""What `search_efficiency.py` searches: the synthetic problem, or a table of trained codecs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from synthetic_problem import SyntheticProblem, Values, first_front

from nas.pareto import hypervolume
from nas.searchers.problem import Ask, Problem, Searcher
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
        supernet: of `supernet.py` about the same architectures; empty without.
    """

    content: dict[str, Any]
    supernet: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> Table:
        """A table with what is known of its supernet, if that stands beside it."""
        content = json.loads(file.read_text())
        beside = file.with_name(f"supernet_{content['space']}.json")
        return cls(content, json.loads(beside.read_text()) if beside.is_file() else {})

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

    @property
    def inherited_share(self) -> float:
        """What a score by inherited weights costs beside a training, both of them scored."""
        cost = self.supernet["cost"]
        return float(cost["inherited_seconds"] / cost["alone_seconds"])

    @cached_property
    def inherited(self) -> dict[tuple[int, ...], dict[str, Any]]:
        """Metrics by inherited weights, by code."""
        lines = (x for x in self.supernet.get("runs", []) if x["stage"] == "inherited")
        return {tuple(line["code"]): line for line in lines}

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

    def whole_problem(self, seed: int) -> Problem:
        """All of the space, for a searcher behind `Nearest`."""
        return replace(self.problem(seed), feasible=lambda c: np.ones(len(c), bool), prices=None)

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
        if self.supernet and fidelity == self.inherited_share:
            known = {**self.inherited[tuple(row["code"])], **row["prices"]}
            return [float(known[name]) for name in self.content["objectives"]]
        nearest = min(self.fidelities, key=lambda share: abs(share - fidelity))
        metrics = next(m for share, m in row["rungs"].items() if float(share) == nearest)
        return [float({**metrics, **row["prices"]}[name]) for name in self.content["objectives"]]


class Nearest:
    """A searcher that roams the whole space of a table of which few are trained.

    Asked for is the nearest of the table that was not evaluated yet, and its result is told as its
    own; what the searcher proposed instead is told to have none. Otherwise all that samplers
    propose would be refused, and what they get in its place is drawn.
    """

    def __init__(self, searcher: Searcher, table: Table) -> None:
        self._searcher, self._space = searcher, table.space
        self._left = dict.fromkeys(table.rows)

    @property
    def proposed(self) -> int:
        return self._searcher.proposed

    @property
    def over_budget(self) -> int:
        return self._searcher.over_budget

    def ask(self) -> Ask | None:
        wish = self._searcher.ask() if self._left else None
        if wish is None:
            return None
        code = self._nearest(wish.architecture.code)
        del self._left[code]
        if code == wish.architecture.code:
            return wish
        ask = Ask(self._space.architecture(code), wish.fidelity)
        self._searcher.adopt(ask)
        self._searcher.tell(wish, None)
        return ask

    def adopt(self, ask: Ask) -> None:
        self._left.pop(ask.architecture.code, None)
        self._searcher.adopt(ask)

    def tell(self, ask: Ask, values: Sequence[float] | None) -> None:
        self._searcher.tell(ask, values)

    def _nearest(self, code: tuple[int, ...]) -> tuple[int, ...]:
        """By differing choices; ordered ones count by how far apart, as a share of their range."""
        left, rules = list(self._left), self._space.rules
        own, *others = rules.states(np.array([code, *left]))
        apart = np.abs(np.array(others) - own).astype(float)
        active = (np.array(others) < rules.inactive) & (own < rules.inactive)
        steps = [max(1, len(p.choices) - 1) if p.ordered else 1 for p in self._space.parameters]
        distance = np.where(active, np.minimum(apart / steps, 1), apart > 0)
        return left[int(distance.sum(axis=1).argmin())]
