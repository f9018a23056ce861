"""From choices to the networks of a codec.

image ─ analysis ─ y ─┬─ hyper_analysis ─ z ── context_decoder ─ mu      encode
                      └────────────── quantise(y, mu) ─ symbols

z ─ context_decoder ─ mu ─┐                                              decode
symbols ──────────── synthesis ─ quarter ─ half ─ full ─ image
z ─ scale_decoder ─ log sigma of every symbol, on the CPU, for the entropy coder
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from search_spaces.blocks import Block, Design, Network, Stage, Step
from search_spaces.codec import blocks
from search_spaces.space import Choice

# A 4032 x 3024 image is 8 x 6 tiles of 504, each padded to 512 by 4 pixels of context.
TILES_PER_12MP = 48
SCALES = {"quarter": 4, "half": 2, "full": 1}


def build_design(choices: Mapping[str, Choice]) -> Design:
    """The networks of a codec.

    Args:
        choices: `latent_channels`, `hyper_channels`, and for each scale (`quarter`, `half`,
            `full`) `<scale>.depth` and, where that is not 0, `.width`, `.block` (`residual` or
            `inverted`), `.kernel` and `.attention` (`none` or `se`).

    Returns:
        Stages `encode` (image, level -> symbols, hyper) and `decode` (symbols, hyper, level ->
        image), 48 tiles of 512 x 512 an image.
    """
    latent, hyper = cast(int, choices["latent_channels"]), cast(int, choices["hyper_channels"])
    context = Step(
        "context_decoder", blocks.HyperSynthesis(latent, hyper, "mu"), ("hyper", "level")
    )
    scale = Step(
        "scale_decoder", blocks.HyperSynthesis(latent, hyper, "log_scale"), ("hyper", "level")
    )
    cpu = Network(("hyper", "level"), (scale,), ("scale_decoder",))
    symbols = latent * (blocks.TILE // blocks.LATENT_STRIDE) ** 2
    symbols += hyper * (blocks.TILE // blocks.HYPER_STRIDE) ** 2
    return Design(
        stages={
            "encode": Stage(_encoder(latent, hyper, context), cpu, symbols_encoded=symbols),
            "decode": Stage(_decoder(latent, context, choices), cpu, symbols_decoded=symbols),
        },
        tiles_per_image=TILES_PER_12MP,
        pixels_per_tile=blocks.TILE**2,
    )


def _encoder(latent: int, hyper: int, context: Step) -> Network:
    steps = (
        Step("analysis", blocks.Analysis(latent), ("image", "level")),
        Step("hyper", blocks.HyperAnalysis(latent, hyper), ("analysis", "level")),
        context,
        Step("symbols", blocks.Quantise(latent), ("analysis", "context_decoder")),
    )
    return Network(("image", "level"), steps, ("symbols", "hyper"))


def _decoder(latent: int, context: Step, choices: Mapping[str, Choice]) -> Network:
    inputs = ("symbols", "context_decoder", "level")
    steps = [context, Step("synthesis", blocks.Synthesis(latent), inputs)]
    for scale, stride in SCALES.items():
        steps += _refinement(scale, stride, steps[-1].name, choices)
    return Network(("symbols", "hyper", "level"), tuple(steps), (steps[-1].name,))


def _refinement(scale: str, stride: int, image: str, choices: Mapping[str, Choice]) -> list[Step]:
    """Stem, blocks, attention and head that refine `image` at one resolution."""
    depth = cast(int, choices[f"{scale}.depth"])
    if depth == 0:
        return []
    width, kernel = cast(int, choices[f"{scale}.width"]), cast(int, choices[f"{scale}.kernel"])
    size = blocks.TILE // stride
    dense = choices[f"{scale}.block"] == "residual"
    block: Block = (blocks.Residual if dense else blocks.Inverted)(width, kernel, size)
    body: list[Block] = [block] * depth
    if choices[f"{scale}.attention"] == "se":
        body.append(blocks.SqueezeExcite(width, size))
    steps = [Step(f"{scale}.stem", blocks.Stem(stride, width), (image, "level"))]
    for i, block in enumerate(body):
        steps.append(Step(f"{scale}.{i}", block, (steps[-1].name,)))
    head = blocks.Head(stride, width)
    return [*steps, Step(f"{scale}.head", head, (steps[-1].name, image, "level"))]
