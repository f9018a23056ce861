"""All that a comparison found, as one document."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from evaluators.comparison import Point, curve, rate_saved, rates_saved
from nas.comparison.coders import TIMING, Coder
from nas.comparison.layout import Measured
from nas.comparison.work import Results

_LIBRARIES = ("nas-codecs", "torch", "lpips", "pytorch-msssim", "bjontegaard", "pillow", "numpy")


def codecs(coders: Sequence[Coder], results: Results) -> list[dict[str, Any]]:
    """Ours first: `key`, `name`, `description`, `curve` (means), `by_image`."""
    return [
        {
            "key": coder.key,
            "name": coder.name,
            "description": coder.description,
            "curve": curve(results.by_coder[coder.key]),
            "by_image": dict(results.by_coder[coder.key]),
        }
        for coder in coders
    ]


def elsewhere(files: Sequence[Measured]) -> list[dict[str, Any]]:
    """Codecs measured elsewhere: as `codecs`, without pictures of their own."""
    return [
        {"key": one.name, "name": one.name, "description": one.description, "curve": one.curve}
        for one in files
    ]


def bd_rates(
    ours: Mapping[str, Any], others: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """By codec and metric, as from `rates_saved`; of one measured elsewhere `of_means` alone."""
    return {
        other["key"]: {
            metric: _bd_rate(ours, other, metric) for metric in metrics if _has(other, metric)
        }
        for other in others
    }


def undefined(
    document: Mapping[str, Any], names: Mapping[str, str], known: Mapping[str, str]
) -> list[str]:
    """A line for every BD-rate that there is none of, and why.

    Args:
        document: with `bd_rates`.
        names: of codecs, by key.
        known: names of metrics.
    """
    lines = []
    for key, rates in document["bd_rates"].items():
        for metric, rate in rates.items():
            about = f"{names[key]}, {known[metric]}"
            if rate["of_means"]["why"]:
                lines.append(f"{about}, mean curves: {rate['of_means']['why']}")
            if missing := rate.get("undefined"):
                photo, why = next(iter(missing.items()))
                of = f"{len(missing)} of {len(missing) + rate['images']} photographs"
                lines.append(f"{about}: {of} have none; {photo}: {why}")
    return lines


def provenance(lpips: Mapping[str, str]) -> dict[str, Any]:
    """Machine, versions, and the command that repeats it; nothing here is random."""
    return {
        "lpips": dict(lpips),
        "timing": TIMING,
        "machine": f"{platform.machine()} {platform.system()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "seed": None,
        "command": shlex.join(["nas", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _bd_rate(ours: Mapping[str, Any], other: Mapping[str, Any], metric: str) -> dict[str, Any]:
    names = (ours["name"], other["name"])
    if "by_image" in other:
        return rates_saved(ours["by_image"], other["by_image"], metric, names)
    of_means = rate_saved(ours["curve"], other["curve"], metric, names)
    return {"of_means": of_means, "mean": None, "worst_decile": None, "images": 0}


def _has(codec: Mapping[str, Any], metric: str) -> bool:
    points: Sequence[Point] = codec["curve"]
    return metric in points[0]
