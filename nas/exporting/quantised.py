"""W8A8: weights and activations of 8 bits, by `coremltools.optimize.torch`, after training.

What is quantised are the trained convolutions of both backbones, some nine tenths of the work. Four
parts stay in fp16. The linear transforms carry the picture itself: one scale for all of it would
lose 1 to 5 dB. The entropy model's networks must give encoder and decoder the same mu and width,
whichever precision each runs at; in 8 bits they lose up to 3.5 dB. The orthonormal bases of heads
stay exact, as in the scores of a search, and the images that heads correct are added in fp16. If
what is left still loses more than allowed, whole scales of a backbone are given back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from latency.quantisation import CONVOLUTIONS, Inputs, converted_form, quantised
from search_spaces.blocks import Network
from search_spaces.build import module_name, traceable
from search_spaces.codec.constants import SCALES

QUANTISED = ("encoder", "decoder")
MOST_LOST_DB = 0.3


@dataclass(frozen=True)
class Quantised:
    """One network.

    Attributes:
        simulated: rounds in floating point.
        layers: names of the convolutions of 8 bits.
    """

    simulated: fx.GraphModule
    layers: tuple[str, ...]
    _quantiser: Any = field(repr=False)

    def final(self) -> nn.Module:
        """What is converted: int8 weights, and activations that are quantised."""
        return converted_form(self._quantiser)


def quantise(
    network: Network, modules: nn.ModuleDict, kept: Collection[str], inputs: Inputs
) -> Quantised:
    """Quantises the backbone of a network.

    Args:
        network: encoder or decoder.
        modules: folded.
        kept: scales (`decoder.half`, ...) that stay in fp16.
        inputs: that ranges of activations are taken from.
    """
    graph = traceable(network, modules).eval()
    exact = [module_name(s.name) for s in network.steps if not _quantisable(s.name, kept)]
    others = tuple(f"{name}." for name in exact)
    layers = tuple(
        name
        for name, part in graph.named_modules()
        if isinstance(part, CONVOLUTIONS) and not name.startswith(others)
    )
    simulated, quantiser = quantised(graph, exact, inputs)
    return Quantised(simulated, layers, quantiser)


def scales_of(network: Network) -> list[str]:
    """The scales of a network's backbone, `decoder.half` and so on."""
    parts = (step.name.split(".")[:2] for step in network.steps)
    return list(dict.fromkeys(".".join(p) for p in parts if len(p) == 2 and p[1] in SCALES))


def least_kept(
    networks: Mapping[str, Network], lost_db: Callable[[Mapping[str, frozenset[str]]], float]
) -> tuple[dict[str, frozenset[str]], float]:
    """The scales to keep in fp16 so that no more than `MOST_LOST_DB` is lost.

    Tries none; then, greedily, one scale more at a time: the one that gives back most.

    Args:
        networks: the quantised ones by name.
        lost_db: what is lost with these scales kept in fp16.

    Returns:
        Scales by network, and what is lost with them.
    """
    kept = {name: frozenset[str]() for name in networks}
    lost = lost_db(kept)
    while lost > MOST_LOST_DB:
        more = [
            {**kept, name: kept[name] | {scale}}
            for name, network in networks.items()
            for scale in scales_of(network)
            if scale not in kept[name]
        ]
        if not more:
            break
        lost, _, kept = min((lost_db(each), i, each) for i, each in enumerate(more))
    return kept, lost


def _quantisable(step: str, kept: Collection[str]) -> bool:
    side, *_ = step.split(".")
    return side in QUANTISED and ".".join(step.split(".")[:2]) not in kept
