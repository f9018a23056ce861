"""The networks as Core ML packages that say in Xcode what they read and write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from latency.conversion import app_package, quiet
from nas import __version__
from search_spaces.blocks import Design
from search_spaces.codec.bitstream import VERSION
from search_spaces.codec.constants import TILE
from search_spaces.codec.deployed import deployed, output_names, tensor_shapes
from search_spaces.codec.tiles import CORE, MARGIN
from search_spaces.space import Choice

FOLDER = "coreml"
PREFIX = "nas-codecs."

ABOUT = {
    "encoder": "Encoder of a learned image codec: one tile of an image to integers.",
    "context_decoder": (
        "Context decoder of a learned image codec: integers to latents, all of its one-shot"
        " context steps included."
    ),
    "decoder": "Decoder of a learned image codec: latents to one tile of an image.",
}
TENSORS = {
    "image": (
        "Red, green and blue (sRGB) of one tile, value / 255 - 0.5: -0.5 is black, 0.5 white. A"
        " decoder's may exceed that: clip."
    ),
    "level": (
        "Quality, of eight levels: 1 at the level. Between two levels, 1 - s at the lower and s at"
        " the upper, s a multiple of 1/16. The same on both sides; it is in the file's header."
    ),
    "symbols": (
        "Integers of the latents, 1/16 of the tile's size. Coded under tables that the scale"
        " decoder gives. Exact in fp16 up to 2048 in magnitude."
    ),
    "hyper": "Integers of the hyper-latents, -127 to 127, 1/32 of the tile's size.",
    "latents": "What the decoder reads, in steps of the quantiser, 1/16 of the tile's size.",
}


@dataclass(frozen=True)
class Origin:
    """What a package says about its codec: key in hexadecimal, and choices."""

    key: str
    choices: Mapping[str, Choice]


def write_package(
    name: str, module: nn.Module, design: Design, precision: str, origin: Origin, file: Path
) -> None:
    """Writes one network.

    Args:
        name: of `deployed.NETWORKS`.
        module: folded; of coremltools' quantiser where it was quantised.
        design: of the codec.
        precision: what metadata say it is, `fp16` or `w8a8`.
        origin: of the codec.
        file: ends `.mlpackage`.

    Raises:
        LoweringError: Core ML cannot express the network.
        OSError: it cannot be written.
    """
    network, shapes = deployed(design)[name], tensor_shapes(design)
    outputs = output_names(name, network)
    inputs = {value: shapes[value] for value in network.inputs}
    quantised = not hasattr(module, "network")
    model = app_package(module, inputs, outputs, quantised)
    _describe(model, name, precision, origin)
    for value in inputs:
        model.input_description[value] = TENSORS[value]
    for value in outputs:
        model.output_description[value] = TENSORS[value]
    with quiet():
        model.save(str(file))


def _describe(model: Any, name: str, precision: str, origin: Origin) -> None:
    model.short_description = f"{ABOUT[name]} {precision}, {TILE} x {TILE} pixels."
    model.version = __version__
    facts = {
        "network": name,
        "bitstream_version": VERSION,
        "codec_key": origin.key,
        "choices": json.dumps(dict(origin.choices), sort_keys=True),
        "precision": precision,
        "tile_pixels": TILE,
        "core_pixels": CORE,
        "margin_pixels": MARGIN,
    }
    for fact, value in facts.items():
        model.user_defined_metadata[f"{PREFIX}{fact}"] = str(value)
