"""From choices to the networks of a codec.

image ─ analysis ─(+ encoder)─ y ─┬─ hyper ─ z ── context_decoder ─ parameters     encode
                                  └─ quantise(y, parameters) ─ symbols

z ─ context_decoder ─ parameters ─┐                                                decode
symbols ───────── dequantise ─ latents ─ synthesis ─(+ decoder)─ image
z ─ scale_decoder ─ log sigma of every symbol, on the CPU, for the entropy coder

The parameters of a latent are mu and its quantisation width. With a one-shot context both sides
refine them group by group, each group from the latents of those before. Images are centred: -0.5
is black, 0.5 white.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from search_spaces.blocks import Block, Design, Network, Stage, Step
from search_spaces.codec import blocks, coding_blocks, edge_blocks
from search_spaces.codec.choices import BackboneChoices, CodecChoices, EntropyChoices, ScaleChoices
from search_spaces.codec.constants import HYPER_SIZE, LATENT_SIZE, LATENT_STRIDE, SCALES, TILE
from search_spaces.codec.context import Context
from search_spaces.space import Choice

# A 4032 x 3024 image is 8 x 6 tiles of 504, each padded to 512 by 4 pixels of context.
TILES_PER_12MP = 48


def build_design(choices: Mapping[str, Choice]) -> Design:
    """The networks of a codec.

    Args:
        choices: flat, as `CodecChoices.parse` reads them.

    Returns:
        Stages `encode` (image, level -> symbols, hyper) and `decode` (symbols, hyper, level ->
        image), 48 tiles of 512 x 512 an image.

    Raises:
        ValueError: an unknown choice, or a value that it cannot have.
    """
    parsed = CodecChoices.parse(choices)
    model = parsed.entropy
    scale = coding_blocks.ScaleDecoder(
        model.latent_channels,
        model.hyper_channels,
        model.hyper_width,
        grouped=model.coding == "grouped",
    )
    cpu = Network(
        ("hyper", "level"), (Step("scale_decoder", scale, ("hyper", "level")),), ("scale_decoder",)
    )
    symbols = model.latent_channels * LATENT_SIZE**2 + model.hyper_channels * HYPER_SIZE**2
    return Design(
        stages={
            "encode": Stage(_encode(parsed), cpu, symbols_encoded=symbols),
            "decode": Stage(_decode(parsed), cpu, symbols_decoded=symbols),
        },
        tiles_per_image=TILES_PER_12MP,
        pixels_per_tile=TILE**2,
    )


def _encode(choices: CodecChoices) -> Network:
    model = choices.entropy
    channels = model.latent_channels
    steps = [Step("analysis", coding_blocks.Analysis(channels), ("image", "level"))]
    steps += _encoder(choices.encoder, channels)
    y = steps[-1].name
    hyper = coding_blocks.HyperAnalysis(channels, model.hyper_channels, model.hyper_width)
    steps.append(Step("hyper", hyper, (y, "level")))
    context = _parameters(model, y)
    quantise = Step("symbols", _quantise(model), (y, context[-1].name))
    return Network(("image", "level"), (*steps, *context, quantise), ("symbols", "hyper"))


def _decode(choices: CodecChoices) -> Network:
    model = choices.entropy
    steps = _parameters(model, None)
    steps.append(Step("latents", _dequantise(model), ("symbols", steps[-1].name)))
    synthesis = coding_blocks.Synthesis(model.latent_channels)
    steps.append(Step("synthesis", synthesis, ("latents", "level")))
    steps += _decoder(choices.decoder, model.latent_channels)
    return Network(("symbols", "hyper", "level"), tuple(steps), (steps[-1].name,))


def _parameters(model: EntropyChoices, y: str | None) -> list[Step]:
    """Steps to the parameters of all latents, from y or (None) from the symbols decoded."""
    learned = model.quantisation == "learned"
    decoder = coding_blocks.ContextDecoder(
        model.latent_channels, model.hyper_channels, model.hyper_width, learned
    )
    steps = [Step("context_decoder", decoder, ("hyper", "level"))]
    for group in range(1, Context(model.context).groups):
        parameters, symbols = steps[-1].name, "symbols"
        if y is not None:
            symbols = f"symbols.{group}"
            steps.append(Step(symbols, _quantise(model), (y, parameters)))
        latents = f"latents.{group}"
        steps.append(Step(latents, _dequantise(model), (symbols, parameters)))
        step = coding_blocks.ContextStep(
            model.latent_channels, learned, model.context_width, model.context, group
        )
        steps.append(Step(f"context.{group}", step, (latents, parameters, "level")))
    return steps


def _quantise(model: EntropyChoices) -> Block:
    return coding_blocks.Quantise(model.latent_channels, model.quantisation == "learned")


def _dequantise(model: EntropyChoices) -> Block:
    return coding_blocks.Dequantise(model.latent_channels, model.quantisation == "learned")


def _encoder(choices: BackboneChoices, channels: int) -> list[Step]:
    """From the finest scale to the latents' own, and onto them."""
    if not choices.scales:
        return []
    scales = dict(sorted(choices.scales.items(), key=lambda item: SCALES[item[0]]))
    coarsest = list(scales.values())[-1]
    scales.setdefault("sixteenth", replace(coarsest, depth=0, attention="none"))
    backbone = _Backbone("encoder", choices, "image", "analysis", channels, heads="none")
    steps = backbone.steps(scales)
    head = edge_blocks.LatentHead(channels, scales["sixteenth"].width)
    return [*steps, Step("encoder.head", head, (steps[-1].name, "analysis", "level"))]


def _decoder(choices: BackboneChoices, channels: int) -> list[Step]:
    """From the coarsest scale to the finest, and onto the linear decoder's image."""
    scales = dict(sorted(choices.scales.items(), key=lambda item: -SCALES[item[0]]))
    backbone = _Backbone("decoder", choices, "synthesis", "latents", channels, choices.heads)
    return backbone.steps(scales)


@dataclass(frozen=True)
class _Backbone:
    """A chain of scales, each fed by the one before and by the image (or latents) itself.

    Attributes:
        heads: `every` scale corrects the image, which the next then sees; only the `last`; `none`.
    """

    side: str
    choices: BackboneChoices
    image: str
    latents: str
    latent_channels: int
    heads: str

    def steps(self, scales: Mapping[str, ScaleChoices]) -> list[Step]:
        steps: list[Step] = []
        image, before = self.image, None
        for name, scale in scales.items():
            steps.append(self._stem(name, scale.width, image))
            if before is not None:
                resample = self._resample(scales[before[0]].width, scale.width, before[0], name)
                inputs = (before[1], steps[-1].name)
                steps.append(Step(f"{self.side}.{name}.resample", resample, inputs))
            for i, block in enumerate(self._body(name, scale)):
                steps.append(Step(f"{self.side}.{name}.{i}", block, (steps[-1].name,)))
            before = name, steps[-1].name
            if self.heads == "every" or (self.heads == "last" and name == list(scales)[-1]):
                head = edge_blocks.Head(SCALES[name], scale.width)
                image_before, image = image, f"{self.side}.{name}.head"
                steps.append(Step(image, head, (before[1], image_before, "level")))
        return steps

    def _stem(self, name: str, width: int, image: str) -> Step:
        stride = SCALES[name]
        if stride == LATENT_STRIDE:
            stem: Block = edge_blocks.LatentStem(self.latent_channels, width)
            return Step(f"{self.side}.{name}.stem", stem, (self.latents, "level"))
        stem = edge_blocks.Stem(stride, width)
        return Step(f"{self.side}.{name}.stem", stem, (image, "level"))

    def _resample(self, inputs: int, outputs: int, before: str, name: str) -> Block:
        fine, coarse = sorted((SCALES[before], SCALES[name]))
        return blocks.Resample(
            kind=self.choices.resampling,
            inputs=inputs,
            outputs=outputs,
            size=TILE // coarse,
            factor=coarse // fine,
            upwards=SCALES[name] == fine,
            scaled=self.choices.scaled,
            silent=self.heads == "every",
        )

    def _body(self, name: str, scale: ScaleChoices) -> list[Block]:
        size = TILE // SCALES[name]
        body = [self._block(scale, size)] * scale.depth
        if scale.attention == "se":
            body.append(blocks.SqueezeExcite(scale.width, size))
        if scale.attention == "eca":
            body.append(blocks.EfficientAttention(scale.width, size))
        if self.choices.scaled:
            body.append(blocks.Scale(scale.width, size))
        return body

    def _block(self, scale: ScaleChoices, size: int) -> Block:
        last = self.choices.activation, self.choices.scaled
        if scale.block == "convscale311":
            return blocks.ConvScale311(scale.width, size, scale.expand, scale.expand_out, *last)
        if scale.block == "residual":
            return blocks.Residual(scale.width, size, scale.kernel, *last)
        kind = {"inverted": blocks.Inverted, "convnext": blocks.ConvNeXt}[scale.block]
        return kind(scale.width, size, scale.kernel, scale.expand, *last)
