"""A declared search space: parameters, conditions, exact size, uniform sampling, stable keys.

Architectures travel as rows of an integer matrix, one column a parameter, each entry the index of a
choice. A parameter whose condition does not hold is inactive: its entry is 0 in every canonical
row, so that two codes that build the same network are one architecture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.blocks import Design
from search_spaces.hints import did_you_mean

Codes = NDArray[np.int64]
Choice = int | float | str | bool


class SpaceError(ValueError):
    """A space, or choices within one, that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Parameter:
    """One decision of the space.

    Attributes:
        name: unique in the space; a dot separates scale and decision (`half.width`).
        choices: the values it may take, without repetition.
        when: the parameter that switches this one on, and the values of it that do.
    """

    name: str
    choices: tuple[Choice, ...]
    when: tuple[str, tuple[Choice, ...]] | None = None


@dataclass(frozen=True)
class Architecture:
    """One member of a space: its canonical code, its active choices and its stable key."""

    key: str
    code: tuple[int, ...]
    choices: Mapping[str, Choice] = field(compare=False)


@dataclass(frozen=True)
class SearchSpace:
    """A finite set of architectures and the way to build each of them.

    Attributes:
        name: as shown and recorded.
        parameters: a parameter stands after the one that its condition names.
        builder: choices (fixed ones included) -> the networks they describe.
        builder_name: import path of `builder`, part of every key.
        fixed: choices that every architecture shares.
        reference_choices: the architecture that all others are compared with.
    """

    name: str
    parameters: tuple[Parameter, ...]
    builder: Callable[[Mapping[str, Choice]], Design] = field(repr=False, compare=False)
    builder_name: str
    fixed: Mapping[str, Choice]
    reference_choices: Mapping[str, Choice]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Parameter names in column order."""
        return tuple(parameter.name for parameter in self.parameters)

    @cached_property
    def cardinalities(self) -> NDArray[np.int64]:
        """Number of choices of each parameter, shape (P,)."""
        return np.array([len(parameter.choices) for parameter in self.parameters], dtype=np.int64)

    @cached_property
    def size(self) -> int:
        """Exact number of different architectures."""
        total = 1
        for column, parameter in enumerate(self.parameters):
            if parameter.when is None:
                total *= sum(self._branch_sizes[column])
        return total

    @cached_property
    def reference(self) -> Architecture:
        """The architecture that BD-rates are measured against."""
        return self.architecture(self.encode(self.reference_choices))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides what a code means; a study is recorded under one."""
        return _digest(
            {
                "parameters": [[p.name, list(p.choices), p.when] for p in self.parameters],
                "fixed": dict(self.fixed),
                "builder": self.builder_name,
                "reference": dict(self.reference_choices),
            }
        )

    def sample(self, rng: np.random.Generator, count: int) -> Codes:
        """Draws architectures uniformly, with repetition.

        Returns:
            Canonical codes, shape (count, P).
        """
        codes = np.zeros((count, len(self.parameters)), dtype=np.int64)
        for column, sizes in enumerate(self._branch_sizes):
            weights = np.array(sizes, dtype=np.float64)
            drawn = rng.choice(len(sizes), size=count, p=weights / weights.sum())
            codes[:, column] = np.where(self._active(codes, column), drawn, 0)
        return codes

    def canonical(self, codes: Codes) -> Codes:
        """Sets every inactive entry to 0. Shape (N, P) in and out."""
        canonical = np.array(codes, dtype=np.int64, copy=True)
        for column in range(len(self.parameters)):
            canonical[~self._active(canonical, column), column] = 0
        return canonical

    def encode(self, choices: Mapping[str, Choice]) -> Codes:
        """Canonical code of a mapping from parameter to choice, shape (P,).

        Args:
            choices: every active parameter; inactive ones may be absent and are ignored.

        Raises:
            SpaceError: an unknown parameter, a value that is not among its choices, or an active
                parameter without a value.
        """
        for name in choices:
            if name not in self.names:
                raise SpaceError(
                    f"{self.name} has no parameter {name!r}{_nearest(name, self.names)}"
                )
        code = np.zeros((1, len(self.parameters)), dtype=np.int64)
        for column, parameter in enumerate(self.parameters):
            if not self._active(code, column)[0]:
                continue
            if parameter.name not in choices:
                raise SpaceError(f"{self.name}: {parameter.name} has no value")
            code[0, column] = _index(self.name, parameter, choices[parameter.name])
        row: Codes = code[0]
        return row

    def decode(self, code: Sequence[int] | Codes) -> dict[str, Choice]:
        """The active choices of one code, by parameter name.

        Raises:
            SpaceError: the wrong length, or an entry outside its parameter's choices.
        """
        row = np.asarray(code, dtype=np.int64)
        if row.shape != self.cardinalities.shape:
            raise SpaceError(
                f"{self.name}: a code has {len(self.parameters)} entries, not {row.shape}"
            )
        if (row < 0).any() or (row >= self.cardinalities).any():
            raise SpaceError(f"{self.name}: code {row.tolist()} has an entry outside its choices")
        active = [self._active(row[None], column)[0] for column in range(len(row))]
        pairs = zip(self.parameters, row, active, strict=True)
        return {parameter.name: parameter.choices[i] for parameter, i, on in pairs if on}

    def architecture(self, code: Sequence[int] | Codes) -> Architecture:
        """The architecture of a code, canonical or not."""
        row = self.canonical(np.asarray(code, dtype=np.int64)[None])[0]
        choices = self.decode(row)
        return Architecture(self.key(choices), tuple(row.tolist()), choices)

    def key(self, choices: Mapping[str, Choice]) -> str:
        """Hash of what is built; the same in every process, version and study."""
        return _digest({**self.fixed, **choices, "": self.builder_name})[:12]

    def design(self, architecture: Architecture) -> Design:
        """The networks of an architecture."""
        return self.builder(self.all_choices(architecture))

    def all_choices(self, architecture: Architecture) -> dict[str, Choice]:
        """What the builder is given: the architecture's choices and the fixed ones."""
        return {**self.fixed, **architecture.choices}

    @cached_property
    def _branch_sizes(self) -> list[list[int]]:
        """For each parameter and choice: architectures of the subtree that the choice opens."""
        sizes = [[1] * len(parameter.choices) for parameter in self.parameters]
        for column in reversed(range(len(self.parameters))):
            condition = self.parameters[column].when
            if condition is None:
                continue
            parent = self.names.index(condition[0])
            for i, choice in enumerate(self.parameters[parent].choices):
                if choice in condition[1]:
                    sizes[parent][i] *= sum(sizes[column])
        return sizes

    @cached_property
    def _conditions(self) -> list[tuple[int, NDArray[np.bool_]] | None]:
        """For each parameter: the column of its condition and which of its choices switch it on."""
        conditions: list[tuple[int, NDArray[np.bool_]] | None] = []
        for parameter in self.parameters:
            if parameter.when is None:
                conditions.append(None)
                continue
            parent = self.names.index(parameter.when[0])
            opens = [choice in parameter.when[1] for choice in self.parameters[parent].choices]
            conditions.append((parent, np.array(opens)))
        return conditions

    def _active(self, codes: Codes, column: int) -> NDArray[np.bool_]:
        """Rows in which a parameter is active, given canonical columns before it. Shape (N,)."""
        condition = self._conditions[column]
        if condition is None:
            return np.ones(len(codes), dtype=bool)
        parent, opens = condition
        active: NDArray[np.bool_] = opens[codes[:, parent]] & self._active(codes, parent)
        return active


def _index(space: str, parameter: Parameter, value: Choice) -> int:
    for i, choice in enumerate(parameter.choices):
        if choice == value and type(choice) is type(value):
            return i
    raise SpaceError(
        f"{space}: {parameter.name} is one of {list(parameter.choices)}, not {value!r}"
    )


def _nearest(name: str, valid: Sequence[str]) -> str:
    return did_you_mean(name, valid) or f"; it has {', '.join(valid)}"


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
