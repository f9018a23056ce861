"""A codec whose three networks run elsewhere: in another runtime, or at another precision.

What codes integers is the codec's own, so that what one runtime wrote the other reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.codec.model import Codec, Coded, level_of

# Runs a network of `deployed.NETWORKS` by name: its inputs, then its outputs, in its own order.
Runner = Callable[[str, tuple[Tensor, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class DeployedCodec:
    """As `Codec`, for the CPU.

    Attributes:
        codec: whose integers code.
        run: its networks.
    """

    codec: Codec
    run: Runner

    @torch.no_grad()
    def analyse(self, image: Tensor, quality: float) -> tuple[Tensor, Tensor]:
        """As `Codec.analyse`."""
        symbols, hyper = self.run("encoder", (image - 0.5, level_of(quality)))
        return symbols, hyper

    def write(self, symbols: Tensor, hyper: Tensor, quality: float) -> Coded:
        """As `Codec.write`."""
        return self.codec.write(symbols, hyper, quality)

    def read(self, data: bytes, height: int, width: int, quality: float) -> tuple[Tensor, Tensor]:
        """As `Codec.read`."""
        return self.codec.read(data, height, width, quality)

    @torch.no_grad()
    def decode(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        """As `Codec.decode`."""
        level = level_of(quality)
        (latents,) = self.run("context_decoder", (symbols, hyper, level))
        (image,) = self.run("decoder", (latents, level))
        return image + 0.5
