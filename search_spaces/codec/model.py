"""A codec as one torch module: its blocks, its entropy model, and how images pass through it."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.blocks import Design
from search_spaces.build import build_modules, run
from search_spaces.codec import coding_blocks, entropy
from search_spaces.codec.coding_modules import LARGEST_HYPER, Quantise
from search_spaces.codec.constants import HYPER_STRIDE, LATENT_STRIDE, LEVELS, QUALITY_STEPS
from search_spaces.codec.scale_decoder import HyperPrior, ScaleDecoder


@dataclass(frozen=True)
class Coded:
    """What one image becomes: the bytes written, and the integers that they stand for.

    Attributes:
        data: entropy-coded hyper-latents, then latents.
        symbols: shape (1, M, h, w).
        hyper: shape (1, K, ⌈h/2⌉, ⌈w/2⌉).
    """

    data: bytes
    symbols: Tensor
    hyper: Tensor


class Codec(nn.Module):
    """The blocks of a `Design` by name, and the prior of the hyper-latents.

    Works untrained: as a transform codec. Quality is a level of 0 to 7, or lies on a sixteenth
    between two of them.

    Attributes:
        design: of the codec family.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        self.steps = build_modules(design.blocks)
        self.hyper_prior = HyperPrior(self._hyper.hyper_channels)

    @property
    def latent_channels(self) -> int:
        """M."""
        return self._hyper.latent_channels

    @property
    def grouped(self) -> bool:
        """Whether symbols of negligible scale are left out."""
        return cast(coding_blocks.ScaleDecoder, self.design.blocks["scale_decoder"]).grouped

    def freeze(self) -> None:
        """Makes the integers that coding uses from the trained entropy model."""
        self._scale_decoder.freeze()
        self.hyper_prior.freeze()

    def noisy_rate(
        self,
        image: Tensor,
        level: Tensor,
        precision: AbstractContextManager[object] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Differentiable coding: noise stands in for rounding in the rate, straight-through else.

        Args:
            image: shape (N, 3, H, W) in [0, 1], sides multiples of 16.
            level: shape (N, LEVELS).
            precision: that the encoder's learned path runs in; all else is in full precision.

        Returns:
            Bits of each image, shape (N,), and its latents, shape (N, M, H/16, W/16).
        """
        network = self.design.stages["encode"].network
        y_name, parameters_name = network.steps[-1].inputs
        given = {"image": image - 0.5, "level": level}
        given["analysis"] = self.steps["analysis"](given["image"], level)
        with precision or nullcontext():
            y = run(network, self.steps, given, (y_name,))[y_name].float()
        z = self.steps["hyper"](y, level)
        hyper = z + (torch.round(z) - z).detach()
        values = run(network, self.steps, {"hyper": hyper, "level": level, y_name: y})
        parameters, symbols = values[parameters_name], values["symbols"]
        residual = cast(Quantise, self.steps["symbols"]).residual(y, parameters)
        log_scale = self.steps["scale_decoder"](hyper, level)[..., : y.shape[2], : y.shape[3]]
        bits = _laplace_bits(_noisy(z), self.hyper_prior(level))
        bits = bits + _laplace_bits(_noisy(residual), log_scale)
        return bits, self.steps["latents"](symbols, parameters)

    def compress(self, image: Tensor, quality: float) -> Coded:
        """Codes one image.

        Args:
            image: shape (1, 3, H, W) in [0, 1], sides multiples of 16.
            quality: 0 to 7, a multiple of 1/16.
        """
        return self.write(*self.analyse(image, quality), quality)

    @torch.no_grad()
    def analyse(self, image: Tensor, quality: float) -> tuple[Tensor, Tensor]:
        """What the encoder's network makes of an image, before any of it is coded.

        Args:
            image: as for `compress`.
            quality: as for `compress`.

        Returns:
            Symbols, shape (1, M, h, w), and hyper-latents, shape (1, K, ⌈h/2⌉, ⌈w/2⌉): integers.
        """
        network = self.design.stages["encode"].network
        given = {"image": image - 0.5, "level": level_of(quality).to(image.device)}
        values = run(network, self.steps, given)
        return values["symbols"], values["hyper"]

    def write(self, symbols: Tensor, hyper: Tensor, quality: float) -> Coded:
        """Codes the integers of `analyse`, on the CPU; `read` gives them back."""
        integers, device = _integers(hyper), symbols.device
        largest = entropy.LARGEST_SYMBOL
        values = np.clip(_integers(symbols), -largest, largest)
        indices = self.symbol_indices(integers, values.shape[-2:], quality)
        if self.grouped:
            values = entropy.silence(values, indices)
        writer = entropy.Writer(self.grouped)
        writer.write(integers, self._hyper_indices(integers.shape, quality))
        writer.write(values, indices)
        return Coded(writer.to_bytes(), _floats(values, device), _floats(integers, device))

    @torch.no_grad()
    def read(self, data: bytes, height: int, width: int, quality: float) -> tuple[Tensor, Tensor]:
        """Reads the integers that `compress` wrote for an image; the same on every machine.

        Args:
            data: of `Coded`.
            height: of the image, a multiple of 16.
            width: of the image, a multiple of 16.
            quality: as it was coded.

        Returns:
            Symbols, shape (1, M, h, w), and hyper-latents, shape (1, K, ⌈h/2⌉, ⌈w/2⌉).

        Raises:
            BitstreamError: `data` does not come from `compress`.
        """
        reader = entropy.Reader(data, self.grouped)
        size = -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)
        hyper = reader.read(self._hyper_indices((1, self._hyper.hyper_channels, *size), quality))
        if int(np.abs(hyper).max()) > LARGEST_HYPER:  # the scale decoder is exact up to there
            raise entropy.BitstreamError("a hyper-latent is no 8-bit integer")
        size = height // LATENT_STRIDE, width // LATENT_STRIDE
        symbols = reader.read(self.symbol_indices(hyper, size, quality))
        reader.finish()
        device = next(self.parameters()).device
        return _floats(symbols, device), _floats(hyper, device)

    def decode(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        """The image of decoded integers, shape (1, 3, H, W), not clipped."""
        (image,) = self.design.stages["decode"].network.outputs
        return self._decoded(symbols, hyper, quality, image) + 0.5

    def decompress(self, data: bytes, height: int, width: int, quality: float) -> Tensor:
        """Decodes what `compress` wrote for an image of these sides, multiples of 16.

        Returns:
            Shape (1, 3, height, width), not clipped.

        Raises:
            BitstreamError: `data` does not come from `compress`.
        """
        return self.decode(*self.read(data, height, width, quality), quality)

    def latents(self, symbols: Tensor, hyper: Tensor, quality: float) -> Tensor:
        """What the decoder's transform receives for decoded integers, shape (1, M, h, w)."""
        return self._decoded(symbols, hyper, quality, "latents")

    def estimated_bits(self, coded: Coded, quality: float) -> float:
        """Code length of integers under the Laplace distributions of their scales, in bits."""
        hyper, symbols = _integers(coded.hyper), _integers(coded.symbols)
        of_hyper = self._hyper_indices(hyper.shape, quality)
        of_symbols = self.symbol_indices(hyper, symbols.shape[-2:], quality)
        live = of_symbols >= entropy.DEAD_BELOW if self.grouped else np.ones_like(symbols, bool)
        bits = _table_bits(hyper, of_hyper) + _table_bits(symbols[live], of_symbols[live])
        return float(bits)

    def symbol_indices(
        self, hyper: NDArray[np.int32], size: tuple[int, ...], quality: float
    ) -> entropy.Indices:
        """The entropy coder's table of every symbol, from integers alone.

        Args:
            hyper: hyper-latents, shape (1, K, ⌈h/2⌉, ⌈w/2⌉).
            size: (h, w).
            quality: 0 to 7, a multiple of 1/16.

        Returns:
            Shape (1, M, h, w).
        """
        indices = self._scale_decoder.indices(hyper[0], sixteenths(quality))
        return indices[None, :, : size[0], : size[1]]

    @torch.no_grad()
    def _decoded(self, symbols: Tensor, hyper: Tensor, quality: float, output: str) -> Tensor:
        """The result of one step of the decoder."""
        level = level_of(quality).to(symbols.device)
        given = {"symbols": symbols, "hyper": hyper, "level": level}
        return run(self.design.stages["decode"].network, self.steps, given, (output,))[output]

    @property
    def _hyper(self) -> coding_blocks.HyperAnalysis:
        return cast(coding_blocks.HyperAnalysis, self.design.blocks["hyper"])

    @property
    def _scale_decoder(self) -> ScaleDecoder:
        return cast(ScaleDecoder, self.steps["scale_decoder"])

    def _hyper_indices(self, shape: tuple[int, ...], quality: float) -> entropy.Indices:
        indices = self.hyper_prior.indices(sixteenths(quality))
        return np.broadcast_to(indices[None, :, None, None], shape)


def sixteenths(quality: float) -> int:
    """Quality as a whole number of sixteenths of a level.

    Raises:
        ValueError: outside 0 to 7, or between two sixteenths.
    """
    steps = quality * QUALITY_STEPS
    if not 0 <= quality <= LEVELS - 1 or steps != int(steps):
        raise ValueError(f"quality: {quality} is no multiple of 1/16 from 0 to {LEVELS - 1}")
    return int(steps)


def level_of(quality: float) -> Tensor:
    """A quality as a row that blends the two levels around it, shape (1, LEVELS)."""
    level, share = divmod(sixteenths(quality), QUALITY_STEPS)
    row = torch.zeros(1, LEVELS)
    row[0, level] = 1 - share / QUALITY_STEPS
    if share:
        row[0, level + 1] = share / QUALITY_STEPS
    return row


def one_hot(*levels: int) -> Tensor:
    """Levels as one-hot rows, shape (N, LEVELS)."""
    return torch.eye(LEVELS)[list(levels)]


def is_of_decoder(parameter_name: str) -> bool:
    """Whether a parameter or buffer of a `Codec` belongs to the decoder's learned path.

    All others are what decoders share: encoder, transforms and entropy model.
    """
    return parameter_name.startswith("steps.decoder_")


def _integers(values: Tensor) -> NDArray[np.int32]:
    return values.to(torch.int32).cpu().numpy()


def _floats(values: NDArray[np.int32], device: torch.device) -> Tensor:
    return torch.from_numpy(values).float().to(device)


def _noisy(values: Tensor) -> Tensor:
    return values + torch.rand_like(values) - 0.5


def _table_bits(values: NDArray[np.int32], indices: entropy.Indices) -> float:
    log_scale = torch.from_numpy(entropy.LOG_SCALES[indices])
    bits = _laplace_bits(torch.from_numpy(values).double()[None], log_scale[None])
    return bits.item()


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
