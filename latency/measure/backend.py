"""What a campaign measures with: packages in, whole runs in milliseconds out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from search_spaces.blocks import Network, Precision, Shape


class MeasureError(ValueError):
    """Nothing can be measured: says what is missing and what to do about it."""


@dataclass(frozen=True)
class Package:
    """One program to time: a network that runs as a whole.

    Attributes:
        name: unique in a campaign and safe in file names.
        network: what runs.
        input_shapes: network input -> shape without the batch dimension.
        precision: of weights and activations.
    """

    name: str
    network: Network
    input_shapes: Mapping[str, Shape]
    precision: Precision


@dataclass(frozen=True)
class Device:
    """What ran the packages: the facts of a table's header.

    Attributes:
        chip: by its maker's name.
        os_build: of the operating system.
        compute_unit: of the chip, threads included where there are several.
        library_versions: of what translated and ran the packages.
        reference_ms: what the reference workload counts as that runs along; None without one.
    """

    chip: str
    os_build: str
    compute_unit: str
    library_versions: Mapping[str, str]
    reference_ms: float | None = None


class Backend(Protocol):
    """A device that runs packages."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """That it can run, the usual one first."""
        ...

    def describe(self) -> Device:
        """The device as a table's header names it.

        Raises:
            MeasureError: there is none, or it does not answer.
        """
        ...

    def sample_ms(self, package: Package, runs: int) -> list[float]:
        """One visit: loads the package and warms it up untimed, then times whole runs.

        Args:
            package: translated on its first visit.
            runs: how many are timed.

        Returns:
            Milliseconds of each run.

        Raises:
            MeasureError: the package cannot be translated, or did not run.
        """
        ...


def require_precision(backend: Backend, precision: Precision) -> None:
    """Fails before anything is translated.

    Raises:
        MeasureError: the backend does not run this precision.
    """
    if precision not in backend.precisions:
        known = " or ".join(backend.precisions)
        raise MeasureError(
            f"this backend runs {known}, not {precision}; measure with --precision"
            f" {backend.precisions[0]}"
        )
