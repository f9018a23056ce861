"""Architectures that were not asked for yet and are inside the budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.searchers.problem import Code, Problem
from search_spaces import operators
from search_spaces.space import Codes

_DRAW = 256
_DRAWS = 40
_ENUMERABLE = 300_000
_MOST = 4096


class Counted:
    """What every searcher says that keeps what is untried in `_untried`."""

    _untried: Untried

    @property
    def proposed(self) -> int:
        """Architectures looked at that were not asked for before."""
        return self._untried.proposed

    @property
    def over_budget(self) -> int:
        """How many of those the budget, or a filter before it, refused."""
        return self._untried.over_budget


class Untried:
    """Keeps what was asked for and finds what may be asked for next.

    Attributes:
        proposed: architectures not asked for before that were looked at.
        over_budget: how many of those the budget refused.
    """

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        """Nothing is asked for yet.

        Args:
            problem: what is searched.
            rng: of the draws.
        """
        self.proposed = 0
        self.over_budget = 0
        self._problem = problem
        self._space = problem.space
        self._rng = rng
        self._taken: set[Code] = set()
        self._queue: list[Code] = []
        self._nothing = False
        self._enumerated: list[Code] | None = None

    def take(self, code: Code) -> None:
        """Counts a code as asked for, whoever asked."""
        self._taken.add(code)
        if code in self._queue:
            self._queue.remove(code)

    def taken(self, code: Code) -> bool:
        """Whether a code was asked for."""
        return code in self._taken

    def fresh(self, codes: Codes, among: Iterable[Code] = ()) -> list[int]:
        """Rows that are new, inside the budget and not repeated; counts what was looked at.

        Args:
            codes: canonical, shape (N, P).
            among: more codes that are not new.
        """
        others = set(among)
        new: dict[Code, int] = {}
        for i, row in enumerate(map(tuple, codes.tolist())):
            if row not in self._taken and row not in others:
                new.setdefault(row, i)
        rows = list(new.values())
        inside = self._problem.feasible(codes[rows]) if rows else np.zeros(0, dtype=bool)
        self.proposed += len(rows)
        self.over_budget += int(len(rows) - inside.sum())
        return [row for row, ok in zip(rows, inside, strict=True) if ok]

    def begin(self, count: int = 0) -> list[Code]:
        """Queues what to begin with: the reference, the problem's start, then what is drawn.

        Args:
            count: how many there should be; all of the first two kinds are there in any case.

        Returns:
            Codes inside the budget, no longer new; fewer than `count` if there are no more.
        """
        first = np.array([self._space.reference.code, *self._problem.start], dtype=np.int64)
        codes = [as_code(first[row]) for row in self.fresh(first)]
        self._taken.update(codes)
        while len(codes) < count and (drawn := self.any()) is not None:
            self._taken.add(drawn)
            codes.append(drawn)
        self._queue = list(codes)
        return codes

    def queued(self) -> Code | None:
        """The first of what to begin with that nobody has taken yet; None when all are taken."""
        return self._queue[0] if self._queue else None

    def any(self) -> Code | None:
        """One that is drawn uniformly or, where drawing finds none, one of what is left.

        Returns:
            None when there is none left; in a space too large to enumerate, when drawing and every
            single change of what was asked for found none.
        """
        code = None if self._nothing else self._drawn() or self._left()
        self._nothing = code is None  # for ever: whoever replays the asks draws as often
        return code

    def _drawn(self) -> Code | None:
        for _ in range(_DRAWS):
            codes = self._space.sample(self._rng, _DRAW)
            for start in range(0, _DRAW, 8):
                rows = self.fresh(codes[start : start + 8])
                if rows:
                    return as_code(codes[start + rows[0]])
        return None

    def _left(self) -> Code | None:
        if self._space.size <= _ENUMERABLE:
            if self._enumerated is None:
                everything = self._rng.permutation(self._space.enumerate())
                self._enumerated = [as_code(row) for row in everything]
            candidates = self._enumerated
        else:
            asked = np.array(sorted(self._taken), dtype=np.int64)
            asked = asked.reshape(-1, len(self._space.names))
            candidates = [as_code(row) for row in operators.neighbours(self._space, asked)]
        count = 1
        while candidates:
            last = candidates[-count:]
            rows = self.fresh(np.array(last))
            del candidates[len(candidates) - len(last) + (rows[-1] + 1 if rows else 0) :]
            if rows:
                return candidates[-1]
            count = min(2 * count, _MOST)
        return None


def as_code(row: Sequence[int] | NDArray[np.int64]) -> Code:
    """A row of a matrix as a code."""
    return tuple(int(entry) for entry in row)
