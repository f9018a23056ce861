"""A codec as one torch module: its blocks, its entropy model, and how images pass through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from search_spaces.blocks import Design
from search_spaces.build import build_modules, run
from search_spaces.codec import entropy
from search_spaces.codec.blocks import HYPER_STRIDE, LEVELS, HyperAnalysis
from search_spaces.codec.family import SCALES
from search_spaces.codec.modules import LevelTable


@dataclass(frozen=True)
class Coded:
    """What one image becomes: the bytes written, and the integers that they stand for.

    Attributes:
        data: entropy-coded hyper-latents, then latents.
        symbols: shape (1, M, h, w).
        hyper: shape (1, K, h/2, w/2).
    """

    data: bytes
    symbols: Tensor
    hyper: Tensor


class Codec(nn.Module):
    """The blocks of a `Design` by name, and the prior of the hyper-latents."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        self.steps = build_modules(design.blocks)
        self._hyper_channels = cast(HyperAnalysis, design.blocks["hyper"]).hyper_channels
        self.hyper_log_scale = LevelTable(self._hyper_channels)

    def noisy_rate(self, image: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Differentiable coding: noise stands in for rounding in the rate, straight-through else.

        Args:
            image: shape (N, 3, H, W) in [0, 1], sides multiples of 32.
            level: one-hot, shape (N, LEVELS).

        Returns:
            Bits of each image, shape (N,); symbols and mu, shape (N, M, H/16, W/16).
        """
        y = self.steps["analysis"](image, level)
        z = self.steps["hyper"](y, level)
        z_rounded = _round_through(z)
        mu = self.steps["context_decoder"](z_rounded, level)
        log_scale = self.steps["scale_decoder"](z_rounded, level)
        bits = _laplace_bits(_noisy(z), self.hyper_log_scale(level))
        bits = bits + _laplace_bits(_noisy(y - mu), log_scale)
        return bits, _round_through(y - mu), mu

    def estimated_bits(self, symbols: Tensor, hyper: Tensor, level: Tensor) -> Tensor:
        """Ideal code length of integer symbols under the entropy model, in bits. Shape (N,)."""
        log_scale = self.steps["scale_decoder"](hyper, level)
        hyper_bits = _laplace_bits(hyper, self.hyper_log_scale(level).expand_as(hyper))
        return hyper_bits + _laplace_bits(symbols, log_scale)

    @torch.no_grad()
    def compress(self, image: Tensor, level: int) -> Coded:
        """Codes one image.

        Args:
            image: shape (1, 3, H, W) in [0, 1], sides multiples of 32.
            level: quality, 0 to LEVELS - 1.
        """
        values = run(
            self.design.stages["encode"].network, self.steps, image=image, level=one_hot(level)
        )
        symbols, hyper = values["symbols"], values["hyper"]
        writer = entropy.Writer()
        writer.write(_integers(hyper), self._hyper_indices(hyper.shape, level))
        writer.write(_integers(symbols), self._symbol_indices(hyper, level))
        return Coded(writer.to_bytes(), symbols, hyper)

    @torch.no_grad()
    def read(self, data: bytes, height: int, width: int, level: int) -> tuple[Tensor, Tensor]:
        """Decodes what `compress` wrote for an image of a height and width, multiples of 32.

        Returns:
            Symbols, shape (1, M, h, w), and hyper-latents, shape (1, K, h/2, w/2).
        """
        reader = entropy.Reader(data)
        shape = (1, self._hyper_channels, height // HYPER_STRIDE, width // HYPER_STRIDE)
        hyper = torch.from_numpy(reader.read(self._hyper_indices(shape, level))).float()
        symbols = reader.read(self._symbol_indices(hyper, level))
        return torch.from_numpy(symbols).float(), hyper

    def _hyper_indices(self, shape: tuple[int, ...], level: int) -> entropy.Indices:
        log_scale = self.hyper_log_scale(one_hot(level)).expand(shape)
        return entropy.scale_indices(log_scale.numpy())

    def _symbol_indices(self, hyper: Tensor, level: int) -> entropy.Indices:
        return entropy.scale_indices(self.steps["scale_decoder"](hyper, one_hot(level)).numpy())


def is_refinement(parameter_name: str) -> bool:
    """Whether a parameter or buffer of a `Codec` belongs to what candidates differ in.

    All others are the shared part: transforms and entropy model.
    """
    return parameter_name.startswith(tuple(f"steps.{scale}_" for scale in SCALES))


def one_hot(*levels: int) -> Tensor:
    """Levels as one-hot rows, shape (N, LEVELS)."""
    return torch.eye(LEVELS)[list(levels)]


def _integers(values: Tensor) -> entropy.Symbols:
    return values.to(torch.int32).cpu().numpy()


def _noisy(values: Tensor) -> Tensor:
    return values + torch.rand_like(values) - 0.5


def _round_through(values: Tensor) -> Tensor:
    """Rounds, with the gradient of the identity."""
    return values + (torch.round(values) - values).detach()


def _laplace_bits(values: Tensor, log_scale: Tensor) -> Tensor:
    """-log2 of the Laplace mass within half a unit of each value, summed to shape (N,)."""
    low, high = entropy.LOG_SCALES[0], entropy.LOG_SCALES[-1]
    scale = log_scale.clamp(low, high).exp()
    magnitude = values.abs()
    upper = (0.5 - magnitude) / scale
    inside = 1 - 0.5 * torch.exp(-upper.clamp_min(0)) - 0.5 * torch.exp(-(magnitude + 0.5) / scale)
    # Beyond half a unit both tails lie on one side: their difference, in logarithms for safety.
    outside = torch.log(-0.5 * torch.expm1(-1 / scale)) + upper.clamp_max(0)
    nats = torch.where(magnitude < 0.5, torch.log(inside.clamp_min(1e-9)), outside)
    return -nats.flatten(1).sum(1) / math.log(2)
