"""The gate: what an architecture costs, and whether it may be trained at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.pricing.price import BudgetError as BudgetError
from nas.pricing.price import Code, Limit, Price, Pricer, Values
from search_spaces.space import Architecture, Codes

SAMPLES = 2000
_BATCH = 500


class Gate:
    """Prices architectures of one space and tells which are inside the budget."""

    def __init__(
        self,
        pricer: Pricer,
        limits: Mapping[str, Mapping[str, float]],
        other_limits: Mapping[str, float] | None = None,
    ) -> None:
        """Holds every limit.

        Args:
            pricer: of the space whose codes are judged.
            limits: device or label -> metric -> hard limit.
            other_limits: metric -> hard limit of what is no device's latency.
        """
        self.space = pricer.space
        self.pricer = pricer
        self.limits = limits
        self.flat_limits = [
            *(Limit(d, name, most) for d, held in limits.items() for name, most in held.items()),
            *(Limit("", name, most) for name, most in (other_limits or {}).items()),
        ]

    def price(self, architecture: Architecture) -> Price:
        """What one architecture costs; lowers blocks that no one lowered before."""
        return self.pricer.price(architecture)

    def prices(self, codes: Codes, names: Sequence[str]) -> Values:
        """Metrics that need no training, as they are recorded.

        Args:
            codes: canonical, shape (N, P).
            names: K metrics.

        Returns:
            Shape (N, K); NaN of metrics that need training.
        """
        return self.pricer.prices(codes, names)

    def held(self, codes: Codes) -> Values:
        """The figures that the limits are held against.

        Args:
            codes: canonical, shape (N, P).

        Returns:
            Shape (N, L), a column for each of `flat_limits`.
        """
        return self.pricer.held(codes, self.flat_limits)

    def feasible(self, codes: Codes) -> NDArray[np.bool_]:
        """Which canonical codes, shape (N, P), are inside the budget. Shape (N,)."""
        return self.within(self.held(codes))

    def within(self, held: Values) -> NDArray[np.bool_]:
        """Which figures, from `held`, hold every limit; (N, L) -> (N,)."""
        return np.asarray((held <= self._most).all(axis=1))

    def excess(self, held: Values) -> Values:
        """By how much of itself the limit is exceeded that is exceeded most; (..., L) -> (...)."""
        scale = np.where(self._most == 0, 1.0, np.abs(self._most))
        return np.asarray(((held - self._most) / scale).max(axis=-1))

    def overshoot(self, price: Price) -> list[float]:
        """Each limit's overshoot in its own unit, at most 0 where it is held."""
        return [price.held(limit) - limit.most for limit in self.flat_limits]

    def share_inside(self, rng: np.random.Generator, count: int = SAMPLES) -> float:
        """Share of uniformly drawn architectures that are inside the budget."""
        return float(self.feasible(self.space.sample(rng, count)).mean())

    def unlowered(self, rng: np.random.Generator, count: int = SAMPLES) -> dict[str, Code]:
        """Blocks that must be lowered before prices are quick.

        Returns:
            Signature -> code of an architecture that has the block; looked for in the reference
            and in `count` uniformly drawn architectures.
        """
        drawn = np.unique(self.space.sample(rng, count), axis=0)
        return self.pricer.unlowered(np.vstack([[self.space.reference.code], drawn]))

    def require_feasible(self, rng: np.random.Generator, count: int = 20_000) -> None:
        """Fails when neither the reference nor any of `count` drawn ones is inside the budget.

        A space of no more than `count` architectures is looked through whole.

        Raises:
            BudgetError: with the smallest value found for every limit, and what comes nearest to
                holding them all.
        """
        looked_at, smallest, nearest = 0, np.full(len(self.flat_limits), np.inf), None
        for codes in self._looked_through(rng, count):
            held = self.held(codes)
            if self.within(held).any():
                return
            looked_at += len(codes)
            smallest = np.minimum(smallest, held.min(axis=0))
            best = held[self.excess(held).argmin()]
            if nearest is None or self.excess(best) < self.excess(nearest):
                nearest = best
        assert nearest is not None
        what = (
            f"{self.space.size:,} architectures of"
            if self._whole(count)
            else (f"{looked_at - 1:,} architectures drawn from")
        )
        raise BudgetError(self._none_inside(what, smallest, nearest))

    @property
    def prices_at_once(self) -> bool:
        """Whether matrices of codes are priced without building each."""
        return self.pricer.at_once

    @property
    def _most(self) -> Values:
        return np.array([limit.most for limit in self.flat_limits], dtype=np.float64)

    def _looked_through(self, rng: np.random.Generator, count: int) -> Iterator[Codes]:
        yield np.array([self.space.reference.code])
        if self._whole(count):
            codes = self.space.enumerate()
            yield from (codes[i : i + _BATCH] for i in range(0, len(codes), _BATCH))
            return
        for _ in range(count // _BATCH):
            yield self.space.sample(rng, _BATCH)

    def _whole(self, count: int) -> bool:
        return self.space.exact and self.space.size <= count

    def _none_inside(self, what: str, smallest: Values, nearest: Values) -> str:
        both = f"smallest found: {self._compared(smallest)}"
        if len(self.flat_limits) > 1:
            both += f"; the nearest to them all: {self._compared(nearest)}"
        return (
            f"budget: none of {what} {self.space.name} meets it; {both};"
            " raise the budget or take a space with smaller members"
        )

    def _compared(self, held: Values) -> str:
        pairs = zip(self.flat_limits, held.tolist(), strict=True)
        return ", ".join(f"{limit.text} {_number(x)} of {limit.most:g}" for limit, x in pairs)


def _number(value: float) -> str:
    """A tenth where that says enough, else four digits."""
    return f"{value:.1f}" if 10 <= abs(value) < 1e5 else f"{value:.4g}"
