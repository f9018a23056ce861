"""When a candidate's training is not worth going on with.

A learning curve has two phases, and in each a figure in dB that stands for quality at equal rate.
Where the curve of a phase, continued to the phase's end, stays below what a candidate as cheap has
reached there, by twice the uncertainty of continuing it, the rest of the training is spared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from evaluators.extrapolation import FEWEST, extrapolate

Curve = Sequence[Mapping[str, Any]]

NO_BAR: Mapping[str, float] = MappingProxyType({})

# What doubling the rate is worth on the anchor's curves between levels 1 and 5: 31.8 to 35.4 dB
# and LPIPS .165 to .095 for 1.27 octaves.
_PSNR_DB_AN_OCTAVE = 2.8
_LPIPS_DB_AN_OCTAVE = 1.9
_DEVIATIONS = 2.0


def milestones(curve: Curve) -> dict[str, float]:
    """What a curve has come to at the end of each phase: `distortion_db`, `perception_db`."""
    phases = {name: [_figure(name, entry) for entry in part] for name, part in _phases(curve)}
    return {name: figures[-1] for name, figures in phases.items() if figures}


def hopeless(curve: Curve, ends: Mapping[str, int], bar: Mapping[str, float]) -> str | None:
    """Why a training should end now; None while it may still pay.

    Args:
        curve: entries of `step`, `psnr`, `lpips` once perception has joined, and, where candidates
            differ in rate, `bpp_estimated`.
        ends: the step that each phase ends at.
        bar: by phase, what is to be reached at its end; a phase without one stops nothing.
    """
    for name, part in _phases(curve):
        if name not in bar or len(part) < FEWEST:
            continue
        steps = [int(entry["step"]) for entry in part]
        end = extrapolate(steps, [_figure(name, e) for e in part], max(ends[name], steps[-1]))
        if end.value + _DEVIATIONS * end.deviation < bar[name]:
            return (
                f"stopped early: {name} would end at {end.value:.2f} +- {end.deviation:.2f},"
                f" a candidate as cheap has {bar[name]:.2f}"
            )
    return None


def _phases(curve: Curve) -> list[tuple[str, Curve]]:
    return [
        ("distortion_db", [entry for entry in curve if "lpips" not in entry]),
        ("perception_db", [entry for entry in curve if "lpips" in entry]),
    ]


def _figure(phase: str, entry: Mapping[str, Any]) -> float:
    octaves = math.log2(entry["bpp_estimated"]) if "bpp_estimated" in entry else 0.0
    if phase == "distortion_db":
        return float(entry["psnr"]) - _PSNR_DB_AN_OCTAVE * octaves
    return -10 * math.log10(max(entry["lpips"], 1e-6)) - _LPIPS_DB_AN_OCTAVE * octaves
