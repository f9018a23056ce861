"""What all decoders of a study share: encoder, transforms and entropy model.

Trained first, then frozen: the quantised latents of every photograph are kept, so that a
candidate's decoder is trained and scored without the encoder ever running again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evaluators.inheritance import inherit
from evaluators.photos import Photo
from evaluators.training import train_codec
from search_spaces.blocks import Design
from search_spaces.codec.model import Codec, is_of_decoder


def train_shared(
    design: Design, photos: Sequence[Photo], steps: int, seed: int, anchor: Codec | None = None
) -> Codec:
    """Trains encoder, entropy model and linear decoder for all levels at once.

    Args:
        design: any architecture of the space; its decoder's learned path is not trained.
        photos: to train on.
        steps: optimiser steps.
        seed: of initialisation, crops and noise.
        anchor: a trained codec whose weights they begin from.
    """
    torch.manual_seed(seed)
    codec = Codec(design)
    if anchor is not None:
        inherit(codec, anchor)
    return train_codec(codec, photos, steps, seed, whole=False)


def of_anchor(design: Design, anchor: Codec) -> Codec:
    """Encoder, entropy model and linear decoder of an anchor with another decoder's learned path.

    Args:
        design: the anchor's but for the learned path of the decoder.
        anchor: frozen.
    """
    codec = Codec(design)
    _load(codec, _shared(anchor), "the anchor")
    return codec.eval()


def save_shared(codec: Codec, file: Path) -> None:
    """Writes the shared weights as safetensors."""
    save_file({name: value.contiguous() for name, value in _shared(codec).items()}, file)


def load_shared(design: Design, file: Path) -> Codec:
    """A codec of `design` with the shared weights of `file`, its decoder freshly initialised."""
    codec = Codec(design)
    _load(codec, load_file(file), str(file))
    return codec.eval()


def _shared(codec: Codec) -> dict[str, Tensor]:
    return {name: v for name, v in codec.state_dict().items() if not is_of_decoder(name)}


def _load(codec: Codec, weights: Mapping[str, Tensor], origin: str) -> None:
    missing, unexpected = codec.load_state_dict(weights, strict=False)
    if unexpected or not all(is_of_decoder(name) for name in missing):
        raise ValueError(f"{origin} has another encoder: {[*unexpected, *missing][:3]}")
