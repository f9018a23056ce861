"""The linear control: what a codec is without its learned paths.

A score is worth its architecture only as far as the learned paths earn something over it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from evaluators.metrics import RdPoint
from search_spaces.blocks import Design, Network, Stage, Step

# What a step of a backbone is replaced by: the linear transform that it refines.
_LINEAR = {"encoder": "analysis", "decoder": "synthesis"}


def without_backbones(design: Design, sides: Collection[str] = ("encoder", "decoder")) -> Design:
    """The same transforms and entropy model with nothing learned between them.

    Args:
        design: of the codec family.
        sides: whose backbones go.
    """
    linear = {side: _LINEAR[side] for side in sides}
    stages = {name: _linear(stage, linear) for name, stage in design.stages.items()}
    return replace(design, stages=stages)


def _linear(stage: Stage, linear: Mapping[str, str]) -> Stage:
    def without(name: str) -> str:
        return linear.get(_side(name), name)

    network = stage.network
    kept = [step for step in network.steps if _side(step.name) not in linear]
    steps = tuple(Step(s.name, s.block, tuple(map(without, s.inputs))) for s in kept)
    outputs = tuple(map(without, network.outputs))
    return replace(stage, network=Network(network.inputs, steps, outputs))


def _side(name: str) -> str:
    return name.partition(".")[0]


def gain_db(points: Sequence[RdPoint], control: Sequence[RdPoint]) -> float:
    """What a codec's PSNR earns over the control's at equal rate, mean over the rates of both.

    Bjoentegaard's delta in dB, piecewise-cubic in the log of the rate; a mean over the rates that
    both reach, however few.
    """
    import bjontegaard

    curves = [sorted((p["bpp_coded"], p["psnr"]) for p in each) for each in (control, points)]
    (rates, qualities), (own_rates, own_qualities) = (zip(*curve, strict=True) for curve in curves)
    value = bjontegaard.bd_psnr(
        rates, qualities, own_rates, own_qualities,
        method="pchip", require_matching_points=False, min_overlap=0.0,
    )  # fmt: skip
    return float(value)
