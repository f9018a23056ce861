"""The three networks that an accelerator runs for one tile of a codec, and their interfaces.

    encoder           image, level -> symbols, hyper
    context_decoder   symbols, hyper, level -> latents, one-shot context steps included
    decoder           latents, level -> image

Between them, the CPU writes and reads integers (`bitstream.py`, `entropy.py`, `scale_decoder.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from search_spaces.blocks import Design, Network, Shape
from search_spaces.codec.coding_blocks import HyperAnalysis
from search_spaces.codec.constants import HYPER_STRIDE, LATENT_STRIDE, LEVELS, TILE

NETWORKS = ("encoder", "context_decoder", "decoder")


def deployed(design: Design) -> Mapping[str, Network]:
    """The networks of a codec's design by name, in the order of `NETWORKS`.

    They share the step names of the design, and so the weights of one `Codec`.
    """
    encode, decode = (design.stages[name].network for name in ("encode", "decode"))
    at = [step.name for step in decode.steps].index("latents") + 1
    context, rest = decode.steps[:at], decode.steps[at:]
    networks = {
        "encoder": encode,
        "context_decoder": Network(decode.inputs, context, ("latents",)),
        "decoder": Network(("latents", "level"), rest, decode.outputs),
    }
    return MappingProxyType(networks)


def tensor_shapes(design: Design, height: int = TILE, width: int = TILE) -> dict[str, Shape]:
    """Shapes of what the networks read and write, without the batch dimension.

    Args:
        design: of the codec family.
        height: of the window in pixels, a multiple of 16.
        width: of the window in pixels, a multiple of 16.
    """
    hyper = cast(HyperAnalysis, design.blocks["hyper"])
    latents = (hyper.latent_channels, height // LATENT_STRIDE, width // LATENT_STRIDE)
    return {
        "image": (3, height, width),
        "level": (LEVELS,),
        "hyper": (hyper.hyper_channels, -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)),
        "symbols": latents,
        "latents": latents,
    }


def output_names(name: str, network: Network) -> tuple[str, ...]:
    """What the outputs of a deployed network are called: a decoder's last step is the image."""
    return ("image",) if name == "decoder" else network.outputs
