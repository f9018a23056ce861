"""Whole networks that others timed on phones, and the operations that they consist of."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from evaluators.torchvision_operators import declare_missing_operators
from latency.lowering import lower_module
from latency.ops import Op
from search_spaces.blocks import Precision

_QUANTISED: dict[str, Precision] = {"W8": "w8", "W8A8": "w8a8"}
_NOT_PRICED = ("sparse90", "W6lut", "W4lut")  # compressed in ways that no precision here stands for


@dataclass(frozen=True)
class Timed:
    """One published figure.

    Attributes:
        network: its published name, without the precision.
        built_as: the name that timm (or torchvision, after `tv:`) builds it under.
        input: height and width of the image, pixels.
        device: with the system, where that is published.
        precision: of weights and activations.
        latency_ms: of one run.
    """

    network: str
    built_as: str
    input: int
    device: str
    precision: Precision
    latency_ms: float


def read(table: Path) -> tuple[list[Timed], list[str]]:
    """The rows of the table that can be priced, and the names of the others."""
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    priced = [bool(row["timm_or_tv"]) and _suffix(row) not in _NOT_PRICED for row in rows]
    timed = [_timed(row) for row, is_priced in zip(rows, priced, strict=True) if is_priced]
    return timed, [row["network"] for row, ok in zip(rows, priced, strict=True) if not ok]


def lowered(rows: Sequence[Timed]) -> dict[str, tuple[Op, ...]]:
    """Operations of each network, by its published name, as it is deployed.

    Branches are merged and the classifier is included.
    """
    timm = _import_timm()
    return {
        row.network: lower_module(_built(timm, row), [(3, row.input, row.input)], row.network)
        for row in {row.network: row for row in rows}.values()
    }


def _suffix(row: dict[str, str]) -> str:
    return row["network"].rpartition("-")[2]


def _timed(row: dict[str, str]) -> Timed:
    precision = _QUANTISED.get(_suffix(row), "fp16")
    name = row["network"] if precision == "fp16" else row["network"].rpartition("-")[0]
    latency_ms = float(row["latency_ms"])
    return Timed(name, row["timm_or_tv"], int(row["input"]), row["device"], precision, latency_ms)


def _built(timm: Any, row: Timed) -> nn.Module:
    if row.built_as.startswith("tv:"):
        import torchvision

        network: nn.Module = getattr(torchvision.models, row.built_as.removeprefix("tv:"))()
        return network
    merged: nn.Module = timm.utils.reparameterize_model(timm.create_model(row.built_as).eval())
    return merged


def _import_timm() -> Any:
    declare_missing_operators()  # timm imports torchvision
    try:
        import timm
    except ImportError as error:
        sys.exit(f"needs timm to build the published networks: pip install timm ({error})")
    return timm
