"""The scale decoder's integers: exact, near what was trained, and pinned."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from search_spaces.codec import entropy
from search_spaces.codec.model import level_of
from search_spaces.codec.scale_decoder import HyperPrior, ScaleDecoder


def decoder(
    seed: int, latent: int = 6, hyper: int = 5, width: int = 7, spread: float = 0.3
) -> ScaleDecoder:
    torch.manual_seed(seed)
    made = ScaleDecoder(latent, hyper, width)
    for parameter in (made.linear.weight, made.inner.weight, made.out.weight):
        torch.nn.init.normal_(parameter, std=spread)
    torch.nn.init.uniform_(made.level.table, -4, 5)
    made.freeze()
    return made


def hyper_of(seed: int, shape: tuple[int, ...], largest: int = 127) -> NDArray[np.int32]:
    values = np.random.default_rng(seed).integers(-largest, largest + 1, size=shape)
    return values.astype(np.int32)


def in_plain_integers(made: ScaleDecoder, hyper: NDArray[np.int32], quality: int) -> list[int]:
    """The definition, one Python integer at a time."""
    tables = {name: buffer.tolist() for name, buffer in made.named_buffers()}
    channels, height, width = hyper.shape
    level, share = divmod(quality, 16)
    below, above = (tables["index_bias"][min(at, 7)] for at in (level, level + 1))
    result = {}
    for y in range(height):
        for x in range(width):
            around = [
                int(hyper[c, y + dy, x + dx]) if 0 <= y + dy < height and 0 <= x + dx < width else 0
                for c in range(channels)
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            hidden = []
            rows = zip(
                tables["hidden_weight"], tables["hidden_bias"], tables["hidden_shift"], strict=True
            )
            for weights, bias, shift in rows:
                total = bias + sum(w * v for w, v in zip(weights, around, strict=True))
                hidden.append(min(max((total + (1 << shift >> 1)) >> shift, 0), 255))
            for out, weights in enumerate(tables["out_weight"]):
                shift = tables["out_shift"][out]
                total = sum(w * v for w, v in zip(weights, hidden, strict=True)) << 8
                index = (total + (1 << shift >> 1)) >> shift
                shift, weights = tables["linear_shift"][out // 4], tables["linear_weight"][out // 4]
                total = sum(w * int(v) for w, v in zip(weights, hyper[:, y, x], strict=True)) << 8
                index += (total + (1 << shift >> 1)) >> shift
                bias = (below[out] * (16 - share) + above[out] * share + 8) // 16
                index = (index + bias + 128) >> 8
                place = (out // 4, 2 * y + out % 4 // 2, 2 * x + out % 2)
                result[place] = min(max(index, 0), 63)
    return [result[place] for place in sorted(result)]


@given(
    seed=st.integers(0, 10**6),
    quality=st.integers(0, 112),
    sides=st.tuples(*[st.integers(1, 3)] * 2),
)
@settings(max_examples=25, deadline=None)
def test_indices_are_the_integers_of_the_definition(
    seed: int, quality: int, sides: tuple[int, int]
) -> None:
    made, hyper = decoder(seed), hyper_of(seed, (5, *sides))
    assert made.indices(hyper, quality).ravel().tolist() == in_plain_integers(made, hyper, quality)


def test_integers_stay_near_what_was_trained() -> None:
    made, hyper = decoder(1, 24, 12, 32, spread=0.05), hyper_of(1, (12, 16, 16), 6)
    with torch.no_grad():
        trained = made(torch.from_numpy(hyper).float()[None], level_of(3.5))[0].numpy()
    step = entropy.LOG_SCALES[1] - entropy.LOG_SCALES[0]
    wanted = np.clip((trained - entropy.LOG_SCALES[0]) / step, 0, 63)
    assert np.abs(made.indices(hyper, 56) - wanted).max() < 1.0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_indices_are_pinned_whatever_the_threads(threads: int) -> None:
    made = ScaleDecoder(4, 3, 5)
    rng = np.random.default_rng(0)
    for name, buffer in made.named_buffers():
        low, high = {"shift": (4, 12), "weight": (-127, 128), "bias": (-4000, 9000)}[
            name.split("_")[1]
        ]
        drawn = rng.integers(low, high, size=tuple(buffer.shape))
        buffer.copy_(torch.from_numpy(drawn))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        indices = made.indices(hyper_of(2, (3, 40, 40)), 37)
    finally:
        torch.set_num_threads(before)
    assert len(np.unique(indices)) > 20
    assert hashlib.sha256(indices.tobytes()).hexdigest()[:16] == "a3df272130d2a75b"


def test_products_of_any_size_are_exact() -> None:
    """Wide layers pass what single precision holds exactly: double takes their place."""
    made = ScaleDecoder(1, 300, 2)
    made.hidden_weight.fill_(127)
    made.hidden_shift.fill_(16)
    hyper = np.full((300, 3, 3), 127, dtype=np.int32)
    hyper[0, 1, 1] = 126
    for buffer in (made.out_weight, made.out_shift, made.linear_weight, made.index_bias):
        buffer.zero_()
    made.out_weight[:, 0] = 1
    exact = (127 * (127 * 2700 - 1) + (1 << 15)) >> 16
    assert made.indices(hyper, 0)[0, 2, 2] == min(exact, 255, 63)
    made.hidden_shift.fill_(20)
    exact = (127 * (127 * 2700 - 1) + (1 << 19)) >> 20
    assert made.indices(hyper, 0)[0, 2, 2] == exact


def test_no_hyper_latent_is_ever_left_out() -> None:
    prior = HyperPrior(3)
    torch.nn.init.constant_(prior.log_scale.table, -9.0)
    prior.freeze()
    assert prior.indices(40).tolist() == [entropy.DEAD_BELOW] * 3
