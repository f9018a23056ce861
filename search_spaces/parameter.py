"""One decision of a space, and the types in which decisions travel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Choice = int | float | str | bool
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


class SpaceError(ValueError):
    """A space, or choices within one, that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Parameter:
    """One decision of the space.

    Attributes:
        name: unique in the space; dots separate stage and decision (`decoder.half.width`).
        choices: the values it may take, all of one type, without repetition.
        ordered: whether choices that stand side by side are near to each other.
        when: expression that switches it on; None for always.
        default: what architectures have that were recorded before the parameter was added, and
            what a mapping of choices need not state; None where there is none.
    """

    name: str
    choices: tuple[Choice, ...]
    ordered: bool = False
    when: str | None = None
    default: Choice | None = None
