"""What a search space holds, JSON-ready: exact where the space can be taken apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.pricing.budget import SAMPLES, Gate
from nas.pricing.sizes import decoder_stage
from search_spaces.parts import Measure, PartsError, Piece, Place, find_parts, pieces
from search_spaces.rules import RuleError
from search_spaces.space import Parameter, SearchSpace

_BINS = 12
_PRICED = 2**22  # architectures that are enumerated and priced in a second or two


def space_document(space: SearchSpace) -> dict[str, Any]:
    """A space.

    Returns:
        `name`, `size` and whether it is `exact`; `block_signatures` on the accelerator and the
        smallest and largest figures of its architectures: `kmacs_per_pixel` of the decoder,
        `network_parameters` of all networks, and both by stage under `stages`. `sampled` is null
        where these hold for the whole space, or the number of architectures that they are of.
        `parameters`, `constraints`, `fixed`, `paired_encoder`, `reference`.
    """
    figures = _figures(space)
    decoder = figures["stages"][decoder_stage(list(figures["stages"]))]
    return {
        "name": space.name,
        "size": space.size,
        "exact": space.exact,
        "kmacs_per_pixel": decoder["kmacs_per_pixel"],
        **figures,
        "parameters": [_parameter(parameter) for parameter in space.parameters],
        "constraints": list(space.constraints),
        "fixed": dict(space.fixed),
        "paired_encoder": {name: space.fixed[name] for name in space.paired_encoder},
        "reference": dict(space.reference.choices),
    }


def latency_document(gate: Gate) -> dict[str, Any]:
    """How a space lies to a budget: all of it where it is small enough, else drawn uniformly.

    Returns:
        By device `share_inside` of its own limits with its standard error `share_error`, `sampled`
        (null where every architecture was priced), `priced`,
        `provenance`, `held_against`, and `metrics`: by metric its `limit_ms`, `range_ms`, the
        reference's `reference_ms` and a histogram, `counts` between `edges_ms`.
    """
    whole = gate.prices_at_once and gate.space.exact and gate.space.size <= _PRICED
    space, rng = gate.space, np.random.default_rng(0)
    codes = space.enumerate() if whole else space.sample(rng, SAMPLES)
    held = gate.held(codes)
    reference = gate.price(gate.space.reference).estimates
    devices: dict[str, Any] = {}
    for device, limits in gate.limits.items():
        own = held[:, [name == device for name, *_ in gate.flat_limits]]
        share = float((own <= list(limits.values())).all(axis=1).mean())
        devices[device] = {
            "share_inside": share,
            "share_error": 0.0 if whole else math.sqrt(share * (1 - share) / len(codes)),
            "sampled": None if whole else len(codes),
            "priced": len(codes),
            "provenance": reference[device].provenance,
            "held_against": reference[device].held_against,
            "metrics": {
                name: _metric(own[:, i], limit, reference[device].held_ms(name))
                for i, (name, limit) in enumerate(limits.items())
            },
        }
    return devices


def _metric(held_ms: NDArray[np.float64], limit_ms: float, reference_ms: float) -> dict[str, Any]:
    counts, edges = np.histogram(held_ms, _BINS)
    return {
        "limit_ms": limit_ms,
        "range_ms": [float(held_ms.min()), float(held_ms.max())],
        "reference_ms": reference_ms,
        "edges_ms": edges.tolist(),
        "counts": counts.tolist(),
    }


def _figures(space: SearchSpace) -> dict[str, Any]:
    design = space.design(space.reference)
    measures = {"parameters": _weights}
    for stage in design.stages:
        measures[f"{stage}.kmacs_per_pixel"] = partial(_kmacs, stage, design.pixels_per_tile)
        measures[f"{stage}.parameters"] = partial(_stage_parameters, stage)
    try:
        signatures, ranges = _whole(space, measures)
        sampled = None
    except (PartsError, RuleError):
        signatures, ranges = _sampled(space, measures)
        sampled = SAMPLES
    stages = {
        stage: {name: ranges[f"{stage}.{name}"] for name in ("kmacs_per_pixel", "parameters")}
        for stage in design.stages
    }
    return {
        "network_parameters": ranges["parameters"],
        "block_signatures": signatures,
        "sampled": sampled,
        "stages": stages,
    }


def _whole(
    space: SearchSpace, measures: Mapping[str, Measure]
) -> tuple[int, dict[str, list[float]]]:
    """Signatures and ranges over every architecture.

    Raises:
        PartsError, RuleError: the space cannot be taken apart, or not counted.
    """
    if not space.exact:
        raise PartsError(f"{space.name}: which of its blocks occur hangs on too many parameters")
    parts = find_parts(space)
    ranges = {name: list(parts.range(measure)) for name, measure in measures.items()}
    return len(parts.accelerator_blocks), ranges


def _sampled(
    space: SearchSpace, measures: Mapping[str, Measure]
) -> tuple[int, dict[str, list[float]]]:
    """Signatures and ranges found among the reference and drawn architectures."""
    codes = np.unique(space.sample(np.random.default_rng(0), SAMPLES), axis=0)
    designs = [space.design(space.architecture(code)) for code in [space.reference.code, *codes]]
    signatures = {block.signature for design in designs for block in design.accelerator_blocks}
    ranges = {}
    for name, measure in measures.items():
        totals = [sum(measure(*item) for item in pieces(design).items()) for design in designs]
        ranges[name] = [min(totals), max(totals)]
    return len(signatures), ranges


def _weights(place: Place, piece: Piece) -> float:
    """Trainable parameters, those that stages share counted once."""
    return 0 if isinstance(piece, int) or place[1] != "weights" else piece.parameters


def _stage_parameters(stage: str, place: Place, piece: Piece) -> float:
    return 0 if isinstance(piece, int) or not _runs(stage, place) else piece.parameters


def _kmacs(stage: str, pixels: int, place: Place, piece: Piece) -> float:
    """Thousands of multiply-accumulates a pixel."""
    return 0 if isinstance(piece, int) or not _runs(stage, place) else piece.macs / pixels / 1e3


def _runs(stage: str, place: Place) -> bool:
    return place[0] == stage and place[1] in ("network", "cpu_network")


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "choices": list(parameter.choices),
        "ordered": parameter.ordered,
        "when": parameter.when,
        "default": parameter.default,
    }
