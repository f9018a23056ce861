"""One set of weights for every decoder of a space, or for every codec.

Every place of the space's networks holds the largest block that ever stands there, one for each
kind of block: kinds that differ in more than size compute other things and share nothing. A
codec is the slice of it that its own blocks are large: the first channels, the first blocks of a
scale, the middle of a kernel. Latent channels stand in order of their energy, so that a slice of
the initial transform is the transform with as many coefficients. What is trained and what is
scored are the ordinary modules of a design, with these weights in place of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from evaluators.inheritance import centred, two_halves
from evaluators.passes import refined
from search_spaces.blocks import Block, Design
from search_spaces.build import build_modules, module_name
from search_spaces.codec.blocks import EfficientAttention, Scale, SqueezeExcite
from search_spaces.codec.model import Codec
from search_spaces.codec.scale_decoder import HyperPrior
from search_spaces.parts import find_parts
from search_spaces.space import SearchSpace

DECODER = "decoder."
_PRIOR = "hyper_prior"
_CLOSING = (SqueezeExcite, EfficientAttention, Scale)
# What a slice may be smaller in. In everything else two blocks must be alike to share weights.
_SIZES = frozenset(
    {
        "width", "kernel", "expand", "expand_out", "inputs", "outputs", "latent_channels",
        "hyper_channels",
    }
)  # fmt: skip
# How a block begins and how its symbols are written, not what it computes.
_ASIDE = frozenset({"silent", "grouped"})


@dataclass(frozen=True, order=True)
class Place:
    """Where blocks share weights.

    Attributes:
        step: name of the step; what closes a scale stands behind however many blocks.
        kind: class and every field that is no size, as text.
    """

    step: str
    kind: str

    @property
    def module(self) -> str:
        """Its key among the supernet's modules."""
        return module_name(f"{self.step}:{self.kind}")


@dataclass(frozen=True)
class Slice:
    """The part of a shared weight that a network has.

    Attributes:
        views: of the shared weight; two where it holds mu and then widths.
        axis: along which they are joined.
    """

    views: tuple[Tensor, ...]
    axis: int = 0

    @property
    def value(self) -> Tensor:
        """As the network holds it; gradients reach the shared weight."""
        return self.views[0] if len(self.views) == 1 else torch.cat(self.views, self.axis)

    def put(self, value: Tensor) -> None:
        """Writes a network's own into the shared weight."""
        for view, part in zip(self.views, value.chunk(len(self.views), self.axis), strict=True):
            view.copy_(part)


def place_of(step: str, block: Block) -> Place:
    """Where a block takes its weights from."""
    if isinstance(block, _CLOSING):
        step = f"{step.rpartition('.')[0]}.last"
    exact = [f.name for f in fields(block) if f.name not in _SIZES | _ASIDE]  # type: ignore[arg-type]
    values = [f"{name}={getattr(block, name)}" for name in exact]
    return Place(step, ",".join([type(block).__name__, *values]))


class Supernet(nn.Module):
    """The largest block of every place.

    Attributes:
        whole: whether encoders and entropy models are shared too.
        blocks: what stands at each place.
        steps: modules by `Place.module`.
    """

    def __init__(self, space: SearchSpace, whole: bool = False) -> None:
        """Drawn as the blocks draw their weights.

        Args:
            space: of codecs of the family.
            whole: shares encoders and entropy models too.

        Raises:
            PartsError: it cannot be taken apart.
            ValueError: its decoders have no learned path.
        """
        super().__init__()
        self.whole = whole
        self.blocks = largest_blocks(space, whole)
        if not any(place.step.startswith(DECODER) for place in self.blocks):
            raise ValueError(f"{space.name}: its decoders have no learned path to share")
        self.steps = nn.ModuleDict({p.module: block.build() for p, block in self.blocks.items()})
        if whole:
            sizes = [getattr(block, "hyper_channels", 0) for block in self.blocks.values()]
            self.hyper_prior = HyperPrior(max(sizes))

    def path(self, design: Design) -> DecoderPath:
        """A decoder of the space with these weights: what trains it trains them."""
        return DecoderPath(self, design)

    @torch.no_grad()
    def give(self, codec: Codec) -> None:
        """Copies a codec's slice into it: into its decoder, unless whole codecs are shared.

        Args:
            codec: of the space; changed in place. Its entropy model's integers stay as they are.
        """
        for own, part in self._beside(codec):
            own.copy_(part.value)

    @torch.no_grad()
    def take(self, codec: Codec) -> None:
        """Copies a codec, or its decoder, into its slice.

        Args:
            codec: of the space.
        """
        for own, part in self._beside(codec):
            part.put(own)

    def _beside(self, codec: Codec) -> Iterator[tuple[Tensor, Slice]]:
        """Each tensor of a codec that is shared, and the slice that stands for it here."""
        values = codec.state_dict()
        for name, part in self.slices(codec.design, codec).items():
            if name in values:  # bases are in no state
                yield values[name], part

    def slices(self, design: Design, networks: nn.Module) -> dict[str, Slice]:
        """Slices of these weights by their names in a `Codec` of a design.

        Args:
            design: of the space.
            networks: a codec, or whatever has the `steps` that are shared; says how large.
        """
        steps = cast(nn.ModuleDict, networks.steps)
        parts: dict[str, Slice] = {}
        for name, block in shared_blocks(design, self.whole).items():
            prefix = f"steps.{module_name(name)}"
            sources = dict(_floats(self.steps[place_of(name, block).module]))
            for part, value in _floats(steps[module_name(name)]):
                halves = two_halves(block, part)
                parts[f"{prefix}.{part}"] = sliced(sources[part], value.shape, halves)
        if self.whole:
            sources = dict(_floats(self.hyper_prior))
            for part, value in _floats(cast(nn.Module, networks.hyper_prior)):
                parts[f"{_PRIOR}.{part}"] = sliced(sources[part], value.shape)
        return parts

    def sharing(self) -> Mapping[str, int]:
        """How many kinds of block share a step without sharing weights, where there are several."""
        kinds: dict[str, int] = {}
        for place, block in self.blocks.items():
            if not isinstance(block, Scale):  # stands behind the others, not in their place
                kinds[place.step] = kinds.get(place.step, 0) + 1
        return {step: count for step, count in kinds.items() if count > 1}


class DecoderPath(nn.Module):
    """The learned path of one decoder, run with a supernet's weights."""

    def __init__(self, supernet: Supernet, design: Design) -> None:
        super().__init__()
        self._network = design.stages["decode"].network
        self.steps = build_modules(shared_blocks(design, whole=False))
        self._values = {n: part.value for n, part in supernet.slices(design, self).items()}

    def refine(self, image: Tensor, latents: Tensor, level: Tensor) -> Tensor:
        """As `evaluators.passes.refine`; gradients reach the supernet."""
        result: Tensor = functional_call(self, self._values, (image, latents, level))
        return result

    def forward(self, image: Tensor, latents: Tensor, level: Tensor) -> Tensor:
        """With the weights that are there."""
        return refined(self._network, self.steps, image, latents, level)


def shared_blocks(design: Design, whole: bool) -> dict[str, Block]:
    """The steps of a design that are shared: all, or those of its decoder's learned path."""
    return {name: block for name, block in design.blocks.items() if is_shared(name, whole)}


def is_shared(step: str, whole: bool) -> bool:
    """Whether a step is shared, by its name."""
    return whole or step.startswith(DECODER)


def largest_blocks(space: SearchSpace, whole: bool = False) -> dict[Place, Block]:
    """What has to stand at each place for every decoder of a space to be a slice of it.

    Args:
        space: of codecs of the family.
        whole: for every codec.

    Raises:
        PartsError: the space cannot be taken apart.
    """
    largest: dict[Place, Block] = {}
    for step, block in sorted(_all_blocks(space, whole), key=repr):
        place = place_of(step, block)
        largest[place] = _larger(largest.get(place, block), block)
    return dict(sorted(largest.items()))


def sliced(whole: Tensor, shape: Iterable[int], halves: int | None = None) -> Slice:
    """The first channels of a weight and the middle of its kernel.

    Args:
        whole: at least as large in every dimension.
        shape: of the slice; dimensions from the third of four on are a kernel's.
        halves: the axis of the two halves that it and the slice have.
    """
    if halves is None:
        return Slice((_first(whole, tuple(shape)),))
    half = [size // 2 if axis == halves else size for axis, size in enumerate(shape)]
    return Slice(tuple(_first(part, half) for part in whole.chunk(2, halves)), halves)


def _first(whole: Tensor, shape: Iterable[int]) -> Tensor:
    sizes = list(zip(whole.shape, shape, strict=True))
    kernel = 2 if whole.dim() == 4 else len(sizes)
    return whole[
        tuple(
            slice(0, part) if i < kernel else centred(size, part)[0]
            for i, (size, part) in enumerate(sizes)
        )
    ]


def _floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers without the entropy model's integers, which are made of them."""
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point():
            yield name, value


def _all_blocks(space: SearchSpace, whole: bool) -> set[tuple[str, Block]]:
    return {
        (name, piece)
        for part in find_parts(space).parts
        for built in part.pieces.values()
        for (_, kind, name), piece in built.items()
        if kind == "weights" and not isinstance(piece, int) and is_shared(name, whole)
    }


def _larger(a: Any, b: Any) -> Any:
    sizes = [f.name for f in fields(a) if f.name in _SIZES]
    aside = [f.name for f in fields(a) if f.name in _ASIDE]
    return replace(
        a,
        **{name: max(getattr(a, name), getattr(b, name)) for name in sizes},
        **{name: getattr(a, name) and getattr(b, name) for name in aside},
    )
