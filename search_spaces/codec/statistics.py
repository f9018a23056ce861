"""What photographs look like to the transform: the figures that an untrained codec starts from.

The root-mean-square of DCT coefficients falls with their radial frequency. Three constants a
colour, fitted to 25 photographs at half their size, give it within 10 % (RMS of the logarithm).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from search_spaces.codec.constants import LATENT_STRIDE, LEVELS

# Quantiser steps of the levels, on the scale of 8-bit samples, and the rate-distortion trade that
# makes each step the best one: step = 1.3 sqrt(6 / (ln 2 * lambda)).
STEPS_8_BIT = 230.0 * (40.0 / 230.0) ** (np.arange(LEVELS) / (LEVELS - 1))
LAMBDAS = 6 * 1.3**2 / (math.log(2) * STEPS_8_BIT**2)

# Of the mean log(|y| / rms + 0.1) of coefficients y, nearly equal at all frequencies.
LOG_FLOOR = 0.1
MEAN_LOG_MAGNITUDE = -1.2

# A row a colour of COLOUR: log rms = a + b log r + c r at radial frequency r; pixels in [0, 1].
_RMS_FIT = np.array([[-0.29, -0.86, -0.070], [-1.11, -0.75, -0.146], [-1.72, -0.81, -0.108]])
_MEAN_RMS = np.array([6.4, 3.7, 2.1])  # of the means of 16 x 16 patches


def coefficient_rms(size: int = LATENT_STRIDE) -> NDArray[np.float64]:
    """RMS of each coefficient of `patch_basis(size)`, in its order. Shape (3 size²,)."""
    frequency = np.arange(size) * LATENT_STRIDE / size
    radius = np.maximum(np.hypot(frequency[:, None], frequency[None]), 1)
    a, b, c = (column[:, None, None] for column in _RMS_FIT.T)
    rms = np.exp(a + b * np.log(radius) + c * radius)
    rms[:, 0, 0] = _MEAN_RMS * size / LATENT_STRIDE
    return np.asarray(rms.reshape(-1))


def error_rms(size: int) -> NDArray[np.float64]:
    """About the RMS error of coefficients of `patch_basis(size)` as a transform codec leaves them.

    Returns:
        Shape (LEVELS, 3 size²): coefficients far below the step are lost whole.
    """
    return np.minimum(coefficient_rms(size)[None], 0.3 * STEPS_8_BIT[:, None] / 255)


def kept_coefficients(channels: int) -> NDArray[np.int64]:
    """Indices of the coefficients of highest energy, highest first. Shape (channels,)."""
    return np.argsort(-coefficient_rms(), kind="stable")[:channels]


def log_rms_in_steps(channels: int) -> NDArray[np.float64]:
    """Log RMS of the kept coefficients in units of each level's step, shape (LEVELS, channels)."""
    rms = coefficient_rms()[kept_coefficients(channels)]
    log_steps = np.log(STEPS_8_BIT / 255)[:, None]
    return np.asarray(np.maximum(np.log(rms)[None] - log_steps, math.log(0.02)))


def bands(channels: int) -> NDArray[np.int64]:
    """Band of each kept coefficient: luma by octave and orientation, chroma by octave.

    Means of patches (frequency 0) belong to none: -1. There are 12 bands.
    """
    kept, side = kept_coefficients(channels), LATENT_STRIDE
    colour, vertical, horizontal = kept // side**2, kept % side**2 // side, kept % side
    orientation = np.where(vertical > 2 * horizontal, 1, np.where(horizontal > 2 * vertical, 2, 0))
    frequency = np.maximum(vertical, horizontal)
    octave = np.digitize(frequency, [1, 2, 4, 8])
    luma = np.where(octave <= 1, 0, 1 + (octave - 2) * 3 + orientation)
    of_colour = np.where(colour == 0, luma, 10 + (octave >= 2))
    return np.where(frequency == 0, -1, of_colour)
