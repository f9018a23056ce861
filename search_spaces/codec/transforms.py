"""Orthonormal bases that the codec starts from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Rows: luma, red-blue and green-magenta, an orthonormal opponent colour basis over R, G, B.
COLOUR = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3.0], [2.0], [6.0]])


def dct(size: int) -> NDArray[np.float64]:
    """Orthonormal DCT-II, shape (size, size), a row a frequency."""
    frequency, sample = np.arange(size)[:, None], np.arange(size)[None]
    matrix = np.sqrt(2 / size) * np.cos(np.pi * (sample + 0.5) * frequency / size)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


def haar(size: int) -> NDArray[np.float64]:
    """Orthonormal Haar wavelet basis, shape (size, size), coarse to fine; size a power of two."""
    if size == 1:
        return np.ones((1, 1))
    means = np.kron(haar(size // 2), [1, 1])
    differences = np.kron(np.eye(size // 2), [1, -1])
    return np.asarray(np.vstack([means, differences]) / np.sqrt(2))


def haar_2d(size: int) -> NDArray[np.float64]:
    """Orthonormal Haar basis of square patches, shape (size², size²): a row a sub-band."""
    return np.asarray(np.kron(haar(size), haar(size)), dtype=np.float64)


def patch_basis(size: int) -> NDArray[np.float64]:
    """Orthonormal colour and two-dimensional DCT basis of square RGB patches.

    Args:
        size: side of a patch in pixels.

    Returns:
        Shape (3 size², 3 size²): a row a coefficient (colour, then vertical, then horizontal
        frequency), a column a sample in the channel order of pixel-unshuffle.
    """
    basis = np.einsum("ab,ij,kl->aikbjl", COLOUR, dct(size), dct(size))
    return np.asarray(basis.reshape(3 * size * size, 3 * size * size))
