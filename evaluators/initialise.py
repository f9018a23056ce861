"""A codec's first weights: transforms, gains and entropy parameters from data statistics."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from search_spaces.codec import modules
from search_spaces.codec.blocks import LATENT_STRIDE, LEVELS
from search_spaces.codec.model import Codec, one_hot
from search_spaces.codec.transforms import patch_basis

# Quantiser steps of the levels, on the scale of 8-bit samples, and the rate-distortion trade that
# makes each step the best one: step = 1.3 sqrt(6 / (ln 2 lambda)).
STEPS_8_BIT = 230.0 * (40.0 / 230.0) ** (np.arange(LEVELS) / (LEVELS - 1))
LAMBDAS = 6 * 1.3**2 / (math.log(2) * STEPS_8_BIT**2)


def initialise(codec: Codec, crops: Tensor) -> None:
    """Transform, gains and entropy parameters from the statistics of crops (N, 3, H, W)."""
    analysis = cast(modules.Analysis, codec.steps["analysis"])
    synthesis = cast(modules.Synthesis, codec.steps["synthesis"])
    hyper = cast(modules.HyperAnalysis, codec.steps["hyper"])
    scale = cast(modules.ScaleDecoder, codec.steps["scale_decoder"])
    context = cast(modules.ContextDecoder, codec.steps["context_decoder"])
    with torch.no_grad():
        kept, rms = _energies(crops, analysis.transform.out_channels)
        basis = torch.from_numpy(patch_basis(LATENT_STRIDE)).float()[kept]
        analysis.transform.weight.copy_(basis[:, :, None, None])
        synthesis.transform.weight.copy_(basis.T[:, :, None, None])
        log_step = torch.from_numpy(np.log(STEPS_8_BIT / 255)).float()[:, None]
        analysis.log_gain.table.copy_(-log_step.expand_as(analysis.log_gain.table))
        synthesis.log_gain.table.copy_(log_step.expand_as(synthesis.log_gain.table))
        log_rms = (rms.log()[None] - log_step).clamp_min(math.log(0.02))
        for table in (hyper.log_scale.table, scale.level.table, context.level.table):
            table.copy_(log_rms)
        _initialise_bands(codec, crops, hyper, scale, kept)


def _energies(crops: Tensor, channels: int) -> tuple[NDArray[np.int64], Tensor]:
    """Indices of the basis functions of highest energy, highest first, and their RMS."""
    patches = F.pixel_unshuffle(crops - 0.5, LATENT_STRIDE)
    basis = torch.from_numpy(patch_basis(LATENT_STRIDE)).float()
    energy = F.conv2d(patches, basis[:, :, None, None]).pow(2).mean((0, 2, 3))
    kept = torch.argsort(energy, descending=True)[:channels]
    return kept.numpy(), energy[kept].sqrt()


def _initialise_bands(
    codec: Codec,
    crops: Tensor,
    hyper: modules.HyperAnalysis,
    scale: modules.ScaleDecoder,
    kept: NDArray[np.int64],
) -> None:
    """Hyper-latents start as mean log-magnitudes of bands, which set the scales of their band."""
    gain = 1.5
    bands = _bands(kept)
    hyper.bands.weight.zero_()
    for band in range(min(bands.max() + 1, hyper.bands.out_channels)):
        members = np.flatnonzero(bands == band)
        hyper.bands.weight[band, members] = gain / max(len(members), 1)
        scale.linear.weight[members, band] = 0.9 / gain
    level = one_hot(LEVELS // 2).expand(len(crops), -1)
    y = codec.steps["analysis"](crops, level)
    means = F.conv2d(hyper.features(y, level), hyper.bands.weight).mean((0, 2, 3))
    hyper.bands.load_state_dict({"weight": hyper.bands.weight, "bias": -means})
    codec.hyper_log_scale.table.fill_(math.log(0.7))


def _bands(kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Band of each kept basis function: luma by frequency and orientation, chroma by frequency.

    Means of 16 x 16 patches (frequency 0) belong to none: -1.
    """
    side = LATENT_STRIDE
    colour, vertical, horizontal = kept // side**2, kept % side**2 // side, kept % side
    orientation = np.where(vertical > 2 * horizontal, 1, np.where(horizontal > 2 * vertical, 2, 0))
    frequency = np.maximum(vertical, horizontal)
    octave = np.digitize(frequency, [1, 2, 4, 8])
    luma = np.where(octave <= 1, 0, 1 + (octave - 2) * 3 + orientation)
    bands = np.where(colour == 0, luma, 10 + (octave >= 2))
    return np.where(frequency == 0, -1, bands)
