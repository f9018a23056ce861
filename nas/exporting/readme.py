"""What the engineer reads who opens an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.codec.bitstream import VERSION
from search_spaces.codec.constants import TILE
from search_spaces.codec.tiles import CORE, MARGIN

_TEXT = f"""# A learned image codec

Codec key `{{key}}`, files of bitstream version {VERSION} (`.nasc`).

| | |
| --- | --- |
| `coreml/<precision>/*.mlpackage` | three networks; drag those of one precision into Xcode |
| `entropy.safetensors` | integers of the scale decoder and the hyper-prior, for the CPU |
| `onnx/*.onnx` | the same networks in fp32, for any size of tile |
| `codec.safetensors` | the codec itself, for `nas compress` and further training |
| `manifest.json` | what ties them together: sizes, SHA-256, units, losses |

**The packages were made without a Mac and have not run on a device.** Their precision was
simulated: run them on a device and compare before you ship.

## One tile

    encode   image, level            -> encoder           -> symbols, hyper        accelerator
             hyper, level            -> scale decoder     -> table of each symbol  CPU, integers
             hyper, symbols          -> entropy coder     -> bytes                 CPU
    decode   bytes                   -> entropy coder     -> hyper, then symbols   CPU, integers
             symbols, hyper, level   -> context_decoder   -> latents               accelerator
             latents, level          -> decoder           -> image                 accelerator

While the accelerator has one tile, let the CPU code another.

{{tensors}}

Tiles are {TILE} x {TILE} pixels: {CORE} of the picture and {MARGIN} of its neighbours on each side,
which are thrown away after decoding. A 4032 x 3024 picture is exactly 8 x 6 of them. At a border
that does not fill a tile, repeat the last row and column of pixels; code only the symbols that
picture and margin cover (a 16th of their size, rounded up; hyper-latents a 32nd); on decoding set
the others to 0. The last pixels at such a border are less exact than with networks of that very
size, which the ONNX files are.

The level's row has eight values: quality q (0 to 7 in 16ths) is 1 - s at floor(q) and s at the
next one, s the rest. `symbols` and `hyper` are integers in fp16 arrays, exact up to 2048.

## Integers

Table indices come from `entropy.safetensors` in integer arithmetic and must agree in every bit;
layout and reference are in `nas/exporting/integers.py`. Container and entropy coder are described
in `search_spaces/codec/BITSTREAM.md` and `search_spaces/codec/entropy.py`.

## What rounding costs

Simulated, beside full precision at levels 1, 3, 5 and 7, on {{photographs}}.

| | PSNR lost, dB | bytes more | in fp16 |
| --- | --- | --- | --- |
{{losses}}

Made by `{{command}}`.
"""


def readme(manifest: Mapping[str, Any]) -> str:
    """The text of a folder's README."""
    return _TEXT.format(
        key=manifest["codec_key"],
        tensors=_tensors(manifest),
        photographs=", ".join(manifest["measured_on"]) or "no photograph",
        losses="\n".join(_loss(*item) for item in manifest["precisions"].items()),
        command=manifest["command"],
    )


def _tensors(manifest: Mapping[str, Any]) -> str:
    rows = ["| array | shape | |", "| --- | --- | --- |"]
    for name, about in manifest["tensors"].items():
        shape = " x ".join(map(str, about["shape"]))
        rows.append(f"| `{name}` | {shape} | {about['units']} |")
    return "\n".join(rows)


def _loss(precision: str, about: Mapping[str, Any]) -> str:
    # Plus 0, so that nothing is written as -0.
    lost = ", ".join(f"{round(value, 2) + 0.0:.2f}" for value in about["psnr_lost_db"])
    more = ", ".join(f"{round(value, 1) + 0.0:.1f} %" for value in about["bytes_more_percent"])
    return f"| {precision} | {lost} | {more} | {', '.join(about['fp16_parts'])} |"
