"""The choices that a codec is made of, read from a flat mapping and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from search_spaces.codec.constants import LATENT_STRIDE, PATCH_CHANNELS, SCALES
from search_spaces.codec.context import CONTEXTS
from search_spaces.hints import did_you_mean
from search_spaces.space import Choice

Choices = TypeVar("Choices")
_LARGEST_WIDTH = 4096
_LARGEST_DEPTH = 64


@dataclass(frozen=True)
class ScaleChoices:
    """One scale of a backbone.

    Attributes:
        depth: blocks; 0 leaves the scale out.
        width: channels.
        block: `convscale311`, `inverted`, `convnext` or `residual`.
        kernel: of residual and depthwise convolutions.
        expand: channels within a block over its width; of convscale311 after the 3x3 convolution.
        expand_out: of convscale311, channels after the first 1x1 convolution over its width.
        attention: at the end of the scale: `none`, `se` or `eca`.
    """

    depth: int = 0
    width: int = 32
    block: str = "residual"
    kernel: int = 3
    expand: int = 2
    expand_out: int = 2
    attention: str = "none"

    def __post_init__(self) -> None:
        _check_range("depth", self.depth, 0, _LARGEST_DEPTH)
        _check_range("width", self.width, 1, _LARGEST_WIDTH)
        _check_one_of("block", self.block, ("convscale311", "inverted", "convnext", "residual"))
        _check_one_of("kernel", self.kernel, (1, 3, 5, 7))
        _check_range("expand", self.expand, 1, 16)
        _check_range("expand_out", self.expand_out, 1, 16)
        _check_one_of("attention", self.attention, ("none", "se", "eca"))


@dataclass(frozen=True)
class BackboneChoices:
    """Encoder or decoder: its scales, and what they share.

    Attributes:
        scales: scale name -> its choices.
        resampling: between scales: `haar`, `shuffle` or `strided`.
        activation: `relu`, `leaky_relu`, `silu`, `gelu` or `hardswish`.
        scaled: learned scales on every convolution and at the end of every scale.
        heads: of a decoder: where the image is corrected, at `every` scale or the `last`.
    """

    scales: Mapping[str, ScaleChoices]
    resampling: str = "haar"
    activation: str = "gelu"
    scaled: bool = False
    heads: str = "every"

    def __post_init__(self) -> None:
        _check_one_of("resampling", self.resampling, ("haar", "shuffle", "strided"))
        known = ("relu", "leaky_relu", "silu", "gelu", "hardswish")
        _check_one_of("activation", self.activation, known)
        _check_one_of("scaled", self.scaled, (False, True))
        _check_one_of("heads", self.heads, ("every", "last"))


@dataclass(frozen=True)
class EntropyChoices:
    """Latents and their entropy model.

    Attributes:
        latent_channels: M, of y; at most 768.
        hyper_channels: K, of z.
        hyper_width: channels within the hyper-encoder and both hyper-decoders.
        quantisation: width of the quantiser, `unit` or `learned`.
        context: one-shot context of mu and width: `none`, `checkerboard`, `2x2`, `channels2`,
            `channels4`.
        context_width: channels within a context step.
        coding: `all` symbols, or `grouped`: those of negligible scale are left out.
    """

    latent_channels: int = 128
    hyper_channels: int = 24
    hyper_width: int = 48
    quantisation: str = "unit"
    context: str = "none"
    context_width: int = 48
    coding: str = "all"

    def __post_init__(self) -> None:
        _check_range("latent_channels", self.latent_channels, 4, PATCH_CHANNELS)
        for name in ("hyper_channels", "hyper_width", "context_width"):
            _check_range(name, getattr(self, name), 1, _LARGEST_WIDTH)
        _check_one_of("quantisation", self.quantisation, ("unit", "learned"))
        _check_one_of("context", self.context, tuple(CONTEXTS))
        _check_one_of("coding", self.coding, ("all", "grouped"))


@dataclass(frozen=True)
class CodecChoices:
    """Everything that an architecture of the family decides."""

    encoder: BackboneChoices
    decoder: BackboneChoices
    entropy: EntropyChoices

    @classmethod
    def parse(cls, choices: Mapping[str, Choice]) -> CodecChoices:
        """From flat choices: those of `EntropyChoices` by their names, `<side>.resampling`,
        `.activation`, `.scaled`, `decoder.heads`, and `<side>.<scale>.depth` and the like, where a
        side is `encoder` or `decoder`. What is not given has its default.

        Raises:
            ValueError: an unknown name or value, naming it and the nearest that is known.
        """
        for name in choices:
            if name not in _NAMES:
                hint = did_you_mean(name, _NAMES)
                raise ValueError(f"the codec family knows no choice {name!r}{hint}")
        sides = {side: _backbone(choices, side) for side in ("encoder", "decoder")}
        return cls(**sides, entropy=_part(choices, "", EntropyChoices))


def _backbone(choices: Mapping[str, Choice], side: str) -> BackboneChoices:
    scales = {
        scale: _part(choices, f"{side}.{scale}.", ScaleChoices)
        for scale in SCALES
        if choices.get(f"{side}.{scale}.depth", 0) != 0
    }
    return _part(choices, f"{side}.", BackboneChoices, scales=scales)


def _part(choices: Mapping[str, Choice], prefix: str, kind: type[Choices], **given: Any) -> Choices:
    for field in fields(kind):  # type: ignore[arg-type]
        if prefix + field.name in choices:
            given[field.name] = choices[prefix + field.name]
    try:
        return kind(**given)
    except ValueError as problem:
        raise ValueError(f"{prefix}{problem}") from None


def _names() -> Iterator[str]:
    yield from (field.name for field in fields(EntropyChoices))
    for side in ("encoder", "decoder"):
        left_out = ("scales",) if side == "decoder" else ("scales", "heads")
        yield from (f"{side}.{f.name}" for f in fields(BackboneChoices) if f.name not in left_out)
        for scale, stride in SCALES.items():
            if side == "decoder" or 1 < stride <= LATENT_STRIDE:
                yield from (f"{side}.{scale}.{field.name}" for field in fields(ScaleChoices))


_NAMES = tuple(_names())


def _check_one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known or isinstance(value, bool) != isinstance(known[0], bool):
        shown = ", ".join(str(k) for k in known)
        raise ValueError(f"{name}: {value!r} is none of {shown}")


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name}: {value!r} is no whole number from {low} to {high}")
