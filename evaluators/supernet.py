"""One set of weights for every decoder of a space.

Every place of the space's networks holds the largest block that ever stands there, one for each
kind of block: kinds that differ in more than size compute other things and share nothing. A
decoder is the slice of it that its own blocks are large: the first channels, the first blocks of a
scale, the middle of a kernel. What is trained and what is scored are the ordinary modules of a
design, with views of these weights in place of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from evaluators.inheritance import centred
from evaluators.passes import refined
from search_spaces.blocks import Block, Design
from search_spaces.build import build_modules, module_name
from search_spaces.codec.blocks import EfficientAttention, Scale, SqueezeExcite
from search_spaces.codec.model import Codec
from search_spaces.parts import find_parts
from search_spaces.space import SearchSpace

DECODER = "decoder."
_CLOSING = (SqueezeExcite, EfficientAttention, Scale)
# What a slice may be smaller in. In everything else two blocks must be alike to share weights.
_SIZES = frozenset({"width", "kernel", "expand", "expand_out", "inputs", "outputs"})
_START = frozenset({"silent"})  # says how a block begins, not what it computes


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


def place_of(step: str, block: Block) -> Place:
    """Where a block takes its weights from."""
    if isinstance(block, _CLOSING):
        step = f"{step.rpartition('.')[0]}.last"
    exact = [f.name for f in fields(block) if f.name not in _SIZES | _START]  # type: ignore[arg-type]
    values = [f"{name}={getattr(block, name)}" for name in exact]
    return Place(step, ",".join([type(block).__name__, *values]))


class Supernet(nn.Module):
    """The largest block of every place.

    Attributes:
        blocks: what stands at each place.
        steps: modules by `Place.module`.
    """

    def __init__(self, space: SearchSpace) -> None:
        """Drawn as the blocks draw their weights.

        Args:
            space: of codecs of the family.

        Raises:
            PartsError: it cannot be taken apart.
            ValueError: its decoders have no learned path.
        """
        super().__init__()
        self.blocks = largest_blocks(space)
        if not self.blocks:
            raise ValueError(f"{space.name}: its decoders have no learned path to share")
        self.steps = nn.ModuleDict({p.module: block.build() for p, block in self.blocks.items()})

    def path(self, design: Design) -> DecoderPath:
        """A decoder of the space, its weights views of these: what trains it trains them."""
        return DecoderPath(self, design)

    @torch.no_grad()
    def give(self, codec: Codec) -> None:
        """Copies a codec's slice into its decoder.

        Args:
            codec: of the space; changed in place.
        """
        for own, view in self._beside(codec):
            own.copy_(view)

    @torch.no_grad()
    def take(self, codec: Codec) -> None:
        """Copies a codec's decoder into its slice.

        Args:
            codec: of the space.
        """
        for own, view in self._beside(codec):
            view.copy_(own)

    def _beside(self, codec: Codec) -> Iterator[tuple[Tensor, Tensor]]:
        """Each tensor of a codec's decoder, and the view that stands for it here."""
        values = codec.state_dict()
        for name, view in self.slices(codec.design, codec.steps).items():
            if name in values:  # bases are in no state
                yield values[name], view

    def slices(self, design: Design, steps: nn.ModuleDict) -> dict[str, Tensor]:
        """Views of these weights by their names in a `Codec` of a design.

        Args:
            design: of the space.
            steps: its modules, at least the decoder's; they say how large.
        """
        views: dict[str, Tensor] = {}
        for name, block in decoder_blocks(design).items():
            prefix = f"steps.{module_name(name)}"
            whole = self.steps[place_of(name, block).module]
            sources = dict([*whole.named_parameters(), *whole.named_buffers()])
            module = steps[module_name(name)]
            for part, value in [*module.named_parameters(), *module.named_buffers()]:
                views[f"{prefix}.{part}"] = sliced(sources[part], value.shape)
        return views

    def sharing(self) -> Mapping[str, int]:
        """How many kinds of block share a step without sharing weights, where there are several."""
        kinds: dict[str, int] = {}
        for place in self.blocks:
            kinds[place.step] = kinds.get(place.step, 0) + 1
        return {step: count for step, count in kinds.items() if count > 1}


class DecoderPath(nn.Module):
    """The learned path of one decoder, run with a supernet's weights."""

    def __init__(self, supernet: Supernet, design: Design) -> None:
        super().__init__()
        self._network = design.stages["decode"].network
        self.steps = build_modules(decoder_blocks(design))
        self._views = supernet.slices(design, self.steps)

    def refine(self, image: Tensor, latents: Tensor, level: Tensor) -> Tensor:
        """As `evaluators.passes.refine`; gradients reach the supernet."""
        result: Tensor = functional_call(self, self._views, (image, latents, level))
        return result

    def forward(self, image: Tensor, latents: Tensor, level: Tensor) -> Tensor:
        """With the weights that are there."""
        return refined(self._network, self.steps, image, latents, level)


def decoder_blocks(design: Design) -> dict[str, Block]:
    """The steps of a decoder's learned path."""
    return {name: block for name, block in design.blocks.items() if name.startswith(DECODER)}


def largest_blocks(space: SearchSpace) -> dict[Place, Block]:
    """What has to stand at each place for every decoder of a space to be a slice of it.

    Raises:
        PartsError: the space cannot be taken apart.
    """
    largest: dict[Place, Block] = {}
    for step, block in sorted(_all_blocks(space), key=repr):
        place = place_of(step, block)
        largest[place] = _larger(largest.get(place, block), block)
    return dict(sorted(largest.items()))


def sliced(whole: Tensor, shape: Iterable[int]) -> Tensor:
    """The first channels of a weight and the middle of its kernel, as a view.

    Args:
        whole: at least as large in every dimension.
        shape: of the view; dimensions from the third of four on are a kernel's.
    """
    sizes = list(zip(whole.shape, shape, strict=True))
    kernel = 2 if whole.dim() == 4 else len(sizes)
    return whole[
        tuple(
            slice(0, part) if i < kernel else centred(size, part)[0]
            for i, (size, part) in enumerate(sizes)
        )
    ]


def _all_blocks(space: SearchSpace) -> set[tuple[str, Block]]:
    return {
        (name, piece)
        for part in find_parts(space).parts
        for built in part.pieces.values()
        for (_, kind, name), piece in built.items()
        if kind == "network" and name.startswith(DECODER) and not isinstance(piece, int)
    }


def _larger(a: Any, b: Any) -> Any:
    sizes = [f.name for f in fields(a) if f.name in _SIZES]
    starts = [f.name for f in fields(a) if f.name in _START]
    return replace(
        a,
        **{name: max(getattr(a, name), getattr(b, name)) for name in sizes},
        **{name: getattr(a, name) and getattr(b, name) for name in starts},
    )
