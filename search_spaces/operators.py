"""From architectures to architectures: neighbours, mutation, crossover; always valid ones.

All three follow a wish: decisions are taken one after the other, as wished where the rules leave
the wish open and otherwise to something near it. What was decided before never leads into a dead
end (`search_spaces.elimination`), so that nothing is repaired or thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from search_spaces.space import Codes, SearchSpace

_ATTEMPTS = 20
Mask = NDArray[np.bool_]


def mutate(space: SearchSpace, codes: Codes, rng: np.random.Generator) -> Codes:
    """Changes at least one decision that matters, and any other with probability 1 / P.

    An ordered parameter moves to a near choice more often than to a far one; parameters that a
    change switches on are drawn, and those that a change rules out give way.

    Args:
        space: of the codes.
        codes: canonical and valid, shape (N, P).
        rng: of every draw.

    Returns:
        Canonical, valid codes, shape (N, P). A row comes back as it was if it is the only
        architecture, or if constraints over many parameters forbid what was drawn 20 times.
    """
    states = space.rules.states(codes)
    open_ = _open(space, states)
    hit = rng.random(states.shape) < 1 / states.shape[1]
    chosen = np.where(open_, rng.random(states.shape), -1).argmax(axis=1)
    hit[np.arange(len(states)), chosen] = True
    return _followed(space, states, hit & open_, rng, states)


def crossover(space: SearchSpace, first: Codes, second: Codes, rng: np.random.Generator) -> Codes:
    """Every decision from one of two parents, where the rules allow.

    A parameter that is active in one parent only is wished as it is there.

    Args:
        space: of the codes.
        first: canonical and valid, shape (N, P).
        second: the same.
        rng: of every draw.

    Returns:
        Canonical, valid codes, shape (N, P).
    """
    one, other = space.rules.states(first), space.rules.states(second)
    inactive = space.rules.inactive
    from_one = (rng.random(one.shape) < 0.5) | (other == inactive)
    wish = np.where(from_one & (one < inactive), one, other)
    return _followed(space, wish, np.zeros(wish.shape, dtype=bool), rng, one)


def neighbours(space: SearchSpace, codes: Codes) -> Codes:
    """Every architecture that differs in one decision and in what that decision forces.

    An ordered parameter takes one step, any other takes each of its choices. What is switched on
    takes the first choice that the rules allow.

    Args:
        space: of the codes.
        codes: canonical and valid, shape (N, P).

    Returns:
        Canonical, valid codes, sorted and without repetition, `codes` not among them.
    """
    reached, _ = changes(space, space.rules.states(codes))
    found = np.unique(space.rules.codes(reached), axis=0)
    given = {row.tobytes() for row in np.asarray(codes, dtype=np.int64)}
    return found[[row.tobytes() not in given for row in found]]


def changes(space: SearchSpace, states: Codes, far: bool = False) -> tuple[Codes, Codes]:
    """What `neighbours` finds, as states.

    Args:
        space: of the states.
        states: valid, shape (N, P).
        far: ordered parameters take every choice too, not one step alone.

    Returns:
        Valid states, shape (M, P), and the column that was changed in each, shape (M,).
    """
    wishes, columns = [states[:0]], [np.zeros(0, dtype=np.int64)]
    for column, parameter in enumerate(space.parameters):
        for state in range(len(parameter.choices)):
            step = np.abs(states[:, column] - state)
            near = (step == 1) if parameter.ordered and not far else (step > 0)
            wish = states[near & (states[:, column] < space.rules.inactive[column])]
            wish[:, column] = state
            wishes.append(wish)
            columns.append(np.full(len(wish), column))
    wish, column_of = np.concatenate(wishes), np.concatenate(columns)
    reached = _follow(space, wish, np.zeros(wish.shape, dtype=bool), None)
    rows = np.arange(len(wish))
    came = (reached[rows, column_of] == wish[rows, column_of]) & space.holds_loose(reached)
    return reached[came], column_of[came]


def _open(space: SearchSpace, states: Codes) -> Mask:
    """Decisions that have another way out, given those before them. Shape (N, P) in and out."""
    ways = np.ones(states.shape, dtype=np.int64)
    for decision in space.elimination.decisions:
        ways[:, decision.column] = (decision.share[decision.rows(states)] > 0).sum(axis=1)
    return ways > 1


def _followed(
    space: SearchSpace,
    wish: Codes,
    change: Mask,
    rng: np.random.Generator,
    otherwise: Codes,
) -> Codes:
    """Follows a wish until the loose constraints hold too; takes `otherwise` in the end."""
    states = _follow(space, wish, change, rng)
    for _ in range(_ATTEMPTS):
        wrong = np.flatnonzero(~space.holds_loose(states))
        if not len(wrong):
            return space.rules.codes(states)
        states[wrong] = _follow(space, wish[wrong], change[wrong], rng)
    return space.rules.codes(np.where(space.holds_loose(states)[:, None], states, otherwise))


def _follow(
    space: SearchSpace, wish: Codes, change: Mask, rng: np.random.Generator | None
) -> Codes:
    """Takes every decision as wished where that is allowed and not to be changed.

    Args:
        space: of the states.
        wish: states, shape (N, P).
        change: decisions to take differently if anything else is allowed, shape (N, P).
        rng: draws what is not as wished, near choices more often; None takes the nearest.
    """
    states = np.zeros(wish.shape, dtype=np.int64)
    rows = np.arange(len(wish))
    for decision in space.elimination.decisions:
        wished = wish[:, decision.column]
        allowed = decision.share[decision.rows(states)] > 0
        weights = allowed * space.nearness[decision.column][wished]
        weights[rows, wished] = 0
        stays = allowed[rows, wished] & ~(change[:, decision.column] & (weights.sum(axis=1) > 0))
        states[:, decision.column] = np.where(stays, wished, _pick(weights, rng))
    return states


def _pick(weights: NDArray[np.float64], rng: np.random.Generator | None) -> Codes:
    """One column by row, in proportion to its weights; of the largest weight without `rng`."""
    if rng is None:
        return np.asarray(weights.argmax(axis=1), dtype=np.int64)
    summed = np.cumsum(weights, axis=1)
    drawn = rng.random((len(weights), 1)) * summed[:, -1:]
    return np.asarray((drawn >= summed[:, :-1]).sum(axis=1), dtype=np.int64)
