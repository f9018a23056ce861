"""A space of one's own: the codec family's decoder with a block that the family does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.blocks import Design, Shape, Step
from search_spaces.codec import family
from search_spaces.codec.constants import SCALES, TILE
from search_spaces.space import Choice


@dataclass(frozen=True)
class Separable:
    """x + 1 x k convolution, GELU, k x 1 convolution: large kernels at the price of small ones.

    Attributes:
        width: channels read and written.
        inner: channels in between.
        kernel: k, odd.
        size: side of the features of one tile.
    """

    width: int
    inner: int
    kernel: int
    size: int

    @property
    def signature(self) -> str:
        """What it is and the size it runs at: equal signatures cost the same."""
        return f"separable({self.width}, inner={self.inner}, k={self.kernel}, size={self.size})"

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Without the batch dimension, in call order."""
        return ((self.width, self.size, self.size),)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return 2 * self.width * self.inner * self.kernel * self.size**2

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return 2 * self.width * self.inner * self.kernel + self.inner + self.width

    def build(self) -> Any:
        """The torch module."""
        from torch import nn

        class Module(nn.Module):
            def __init__(self, block: Separable) -> None:
                super().__init__()
                k, margin = block.kernel, block.kernel // 2
                across = nn.Conv2d(block.width, block.inner, (1, k), padding=(0, margin))
                down = nn.Conv2d(block.inner, block.width, (k, 1), padding=(margin, 0))
                nn.init.zeros_(down.weight)  # starts as x: training begins calmly
                self.path = nn.Sequential(across, nn.GELU(), down)

            def forward(self, x: Any) -> Any:
                return x + self.path(x)

        return Module(self)


def build_design(choices: Mapping[str, Choice]) -> Design:
    """The family's codec, with separable blocks at half resolution.

    Args:
        choices: `separable.kernel`, `separable.expand`, and any of the family's.
    """
    width = int(choices["decoder.half.width"])
    inner = width * int(choices["separable.expand"])
    block = Separable(width, inner, int(choices["separable.kernel"]), TILE // SCALES["half"])
    design = family.build_design(
        {name: choice for name, choice in choices.items() if not name.startswith("separable.")}
    )
    decode = design.stages["decode"]
    steps = tuple(_swapped(step, block) for step in decode.network.steps)
    stage = replace(decode, network=replace(decode.network, steps=steps))
    return replace(design, stages={**design.stages, "decode": stage})


def _swapped(step: Step, block: Separable) -> Step:
    """`decoder.half.0`, `decoder.half.1`, ... are the blocks of the scale."""
    is_block = step.name.startswith("decoder.half.") and step.name[-1].isdigit()
    return replace(step, block=block) if is_block else step
