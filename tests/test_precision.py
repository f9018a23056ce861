"""A decoder rounded to what a device computes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators.passes import linear_image, refine
from evaluators.precision import at_precision
from search_spaces.blocks import Precision
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec, one_hot

CHOICES = {
    "decoder.scaled": True,
    "decoder.resampling": "strided",
    "decoder.eighth.depth": 1,
    "decoder.half.depth": 2,
    "decoder.half.block": "convscale311",
    "decoder.half.attention": "se",
}


@pytest.fixture(scope="module")
def codec() -> Codec:
    """With a learned path that changes the image: an untrained one adds nothing."""
    torch.manual_seed(0)
    made = Codec(build_design(CHOICES)).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.startswith("steps.decoder_"):
                parameter.add_(0.05 * torch.randn_like(parameter))
    return made


@pytest.fixture(scope="module")
def latents(codec: Codec) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.laplace(0, 0.2, (2, codec.latent_channels, 4, 4))).float()


LEVEL = one_hot(3).expand(2, -1)


@torch.no_grad()
def decoded(codec: Codec, latents: Tensor) -> Tensor:
    return refine(codec, linear_image(codec, latents, LEVEL), latents, LEVEL)


def error(codec: Codec, precision: Precision, latents: Tensor) -> float:
    rounded = at_precision(codec, precision, latents, LEVEL)
    return float((decoded(rounded, latents) - decoded(codec, latents)).abs().mean())


def test_fewer_bits_are_further_from_full_precision(codec: Codec, latents: Tensor) -> None:
    errors = [error(codec, name, latents) for name in ("fp32", "fp16", "w8", "w8a8")]
    assert errors[0] < 1e-6
    assert errors == sorted(errors)
    assert errors[1] > 1e-5
    assert errors[3] < 0.2 * float(decoded(codec, latents).std())


def test_weights_of_8_bits_take_at_most_255_values_a_channel(codec: Codec, latents: Tensor) -> None:
    rounded = at_precision(codec, "w8", latents, LEVEL)
    convolutions = [
        part
        for name, step in rounded.steps.items()
        if name.startswith("decoder_")
        for part in step.modules()
        if isinstance(part, nn.Conv2d)
    ]
    assert convolutions
    for convolution in convolutions:
        for channel in convolution.weight.data:
            scale = channel.abs().max() / 127
            assert torch.allclose(channel / scale, (channel / scale).round(), atol=1e-3)


def test_the_codec_itself_stays_as_it_was(codec: Codec, latents: Tensor) -> None:
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    at_precision(codec, "w8a8", latents, LEVEL)
    after = codec.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_activations_beyond_the_calibrated_range_are_cut_off(codec: Codec, latents: Tensor) -> None:
    narrow = at_precision(codec, "w8a8", latents / 100, LEVEL)
    fitting = at_precision(codec, "w8a8", latents, LEVEL)
    exact = decoded(codec, latents)
    cut = float((decoded(narrow, latents) - exact).abs().mean())
    assert cut > 3 * float((decoded(fitting, latents) - exact).abs().mean())
