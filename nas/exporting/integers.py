"""The scale decoder and the hyper-prior as integers, and the arithmetic that they stand for.

`entropy.safetensors` holds, for M latent and K hyper-latent channels, a hidden layer of W values
and eight levels:

    hidden_weight  int8   (W, 9 K)   of the 3 x 3 neighbourhood, channel by channel, row by row
    hidden_bias    int32  (W,)       hidden_shift  uint8 (W,)
    linear_weight  int8   (M, K)     linear_shift  uint8 (M,)
    out_weight     int8   (4 M, W)   out_shift     uint8 (4 M,)
    index_bias     int32  (8, 4 M)   256ths of a table index
    table_indices  uint8  (8, K)     tables of the hyper-latents

Every operation below is one of integers, right shifts round to nearest, and what it gives decides
how bytes are read: an implementation must agree in every bit. This one is written to be read; the
codec's own, which is faster, is held to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search_spaces.codec.model import Codec

Integers = Mapping[str, NDArray[np.integer]]

FILE = "entropy.safetensors"
LAYOUT = "nas-entropy 1"
_STEPS = 16  # of quality, from level to level
_ONE = 256  # a table index
_TABLES = 64


def write_integers(codec: Codec, file: Path) -> None:
    """Writes the integers of a frozen codec."""
    from safetensors.numpy import save

    scales = codec.steps["scale_decoder"].named_buffers()
    prior = codec.hyper_prior.named_buffers()
    tensors = {name: buffer.numpy() for name, buffer in (*scales, *prior) if "." not in name}
    file.write_bytes(save(tensors, {"format": LAYOUT, "grouped": str(int(codec.grouped))}))


def read_integers(file: Path) -> Integers:
    """Reads what `write_integers` wrote."""
    from safetensors.numpy import load_file

    return {name: values.astype(np.int64) for name, values in load_file(file).items()}


def symbol_tables(
    integers: Integers, hyper: NDArray[np.integer], quality: int
) -> NDArray[np.int64]:
    """Under which of the 64 tables each symbol is coded.

    Args:
        integers: of `read_integers`.
        hyper: hyper-latents, shape (K, h, w), -127 to 127.
        quality: in sixteenths of a level, 0 to 112.

    Returns:
        Shape (M, 2h, 2w).
    """
    channels, height, width = hyper.shape
    padded = np.pad(hyper.astype(np.int64), ((0, 0), (1, 1), (1, 1)))
    near = [padded[:, r : r + height, c : c + width] for r in range(3) for c in range(3)]
    around = np.stack(near, 1).reshape(9 * channels, height, width)
    hidden = _weighted(integers["hidden_weight"], around)
    hidden += integers["hidden_bias"][:, None, None]
    hidden = np.clip(_shifted(hidden, integers["hidden_shift"]), 0, 255)
    fine = _shifted(_ONE * _weighted(integers["out_weight"], hidden), integers["out_shift"])
    fine += _between_levels(integers["index_bias"], quality)[:, None, None]
    coarse = _shifted(_ONE * _weighted(integers["linear_weight"], hyper), integers["linear_shift"])
    index = (fine.reshape(-1, 4, height, width) + coarse[:, None] + _ONE // 2) // _ONE
    tables = np.clip(index, 0, _TABLES - 1).reshape(-1, 2, 2, height, width)
    # Channels 0 to 3 of every four are the places of a 2 x 2 square, row by row.
    return np.asarray(tables.transpose(0, 3, 1, 4, 2).reshape(-1, 2 * height, 2 * width))


def hyper_tables(integers: Integers, quality: int) -> NDArray[np.int64]:
    """Under which table each channel of the hyper-latents is coded, shape (K,)."""
    return _between_levels(integers["table_indices"], quality)


def _weighted(weights: NDArray[np.integer], values: NDArray[np.integer]) -> NDArray[np.int64]:
    product = np.einsum("oi,ihw->ohw", weights.astype(np.int64), values.astype(np.int64))
    return np.asarray(product)


def _shifted(values: NDArray[np.int64], shifts: NDArray[np.integer]) -> NDArray[np.int64]:
    places = shifts.astype(np.int64)[:, None, None]
    return np.asarray((values + ((1 << places) >> 1)) >> places)


def _between_levels(table: NDArray[np.integer], quality: int) -> NDArray[np.int64]:
    level, share = divmod(quality, _STEPS)
    above = min(level + 1, len(table) - 1)
    row = table[level].astype(np.int64) * (_STEPS - share) + table[above].astype(np.int64) * share
    return np.asarray((row + _STEPS // 2) // _STEPS)
