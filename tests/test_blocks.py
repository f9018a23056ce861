"""One walk: what is counted is what torch builds, and what is built starts as a transform codec."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.blocks import Block, Network, Step
from search_spaces.build import NetworkModule, build_modules, fold, run
from search_spaces.codec import blocks, coding_blocks, edge_blocks
from search_spaces.codec.family import build_design
from search_spaces.codec.model import one_hot
from search_spaces.codec.transforms import haar_2d
from search_spaces.space import SearchSpace

ON_FEATURES = [
    blocks.ConvScale311(16, 64, 2, 3, "gelu", True),
    blocks.ConvScale311(16, 64, 1, 2, "hardswish", False),
    blocks.Residual(16, 64, 5, "leaky_relu", True),
    blocks.Inverted(16, 64, 3, 2, "relu", False),
    blocks.Inverted(16, 64, 5, 4, "silu", True),
    blocks.Inverted(16, 64, 7, 1, "relu", True),
    blocks.ConvNeXt(16, 64, 7, 4, "gelu", True),
    blocks.SqueezeExcite(16, 64),
    blocks.EfficientAttention(16, 64),
    blocks.Scale(16, 64),
]
RESAMPLING = [
    blocks.Resample(kind, 12, 8, 32, factor, upwards, scaled, scaled)
    for kind in ("haar", "shuffle", "strided")
    for factor in (2, 4)
    for upwards in (False, True)
    for scaled in (False, True)
]
CODING = [
    coding_blocks.Analysis(24),
    coding_blocks.Synthesis(24),
    coding_blocks.HyperAnalysis(24, 8, 16),
    coding_blocks.ScaleDecoder(24, 8, 16, True),
    coding_blocks.ContextDecoder(24, 8, 16, False),
    coding_blocks.ContextDecoder(24, 8, 16, True),
    coding_blocks.Quantise(24, True),
    coding_blocks.Dequantise(24, True),
    coding_blocks.ContextStep(24, False, 16, "checkerboard", 1),
    coding_blocks.ContextStep(24, True, 16, "2x2", 3),
    coding_blocks.ContextStep(24, True, 16, "channels4", 2),
]
AT_THE_EDGES = [
    edge_blocks.Stem(2, 16),
    edge_blocks.Stem(8, 16),
    edge_blocks.Head(1, 8),
    edge_blocks.Head(4, 24),
    edge_blocks.LatentStem(24, 16),
    edge_blocks.LatentHead(24, 16),
]
EVERY_KIND = [*ON_FEATURES, *RESAMPLING, *CODING, *AT_THE_EDGES]


def inputs(block: Block) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, *shape, generator=generator) for shape in block.input_shapes]


def stirred(block: Block) -> nn.Module:
    """The block's module with random parameters: fresh ones are zero where it matters."""
    module = block.build()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    if hasattr(module, "band_scale"):
        nn.init.uniform_(module.band_scale, 0.5, 2.0)
    return module


@pytest.mark.parametrize("block", EVERY_KIND, ids=lambda block: block.signature)
def test_counts_agree_with_torch(block: Block) -> None:
    module = fold(block.build())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*(torch.zeros(1, *shape) for shape in block.input_shapes))
    assert sum(p.numel() for p in module.parameters()) == block.parameters
    assert counter.get_total_flops() // 2 == block.macs


@pytest.mark.parametrize("block", EVERY_KIND, ids=lambda block: block.signature)
def test_folding_changes_nothing_but_the_parameters(block: Block) -> None:
    module = stirred(block).eval()
    given = inputs(block)
    with torch.no_grad():
        before = module(*given)
        after = fold(module)(*given)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factor", [2, 4])
def test_haar_resampling_is_convolution_and_wavelet(factor: int) -> None:
    basis = torch.from_numpy(haar_2d(factor)).float().view(-1, 1, factor, factor)
    fine, coarse = torch.randn(2, 6, 16, 16), torch.randn(2, 6, 16 // factor, 16 // factor)
    down = stirred(blocks.Resample("haar", 6, 4, 256, factor, False, True, False)).path
    up = stirred(blocks.Resample("haar", 6, 4, 256, factor, True, True, True)).path
    with torch.no_grad():
        bands = F.conv2d(fine, basis.repeat(6, 1, 1, 1), stride=factor, groups=6)
        weight, bias = unfolded(down)
        torch.testing.assert_close(down(fine), F.conv2d(bands, weight, bias), rtol=1e-4, atol=1e-4)
        weight, bias = unfolded(up)
        bands = F.conv2d(coarse, weight)
        image = F.conv_transpose2d(bands, basis.repeat(4, 1, 1, 1), bias, factor, groups=4)
        torch.testing.assert_close(up(coarse), image, rtol=1e-4, atol=1e-4)


def unfolded(convolution: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the 1 x 1 convolution on sub-bands, and the bias."""
    parametrisation = convolution.parametrizations.weight
    _, scales = parametrisation
    weight = scales(parametrisation.original).flatten(2)
    if isinstance(convolution, nn.ConvTranspose2d):
        return weight.permute(1, 2, 0).flatten(0, 1)[:, :, None, None], convolution.bias
    return weight.flatten(1)[:, :, None, None], convolution.bias


def test_haar_bases_are_orthonormal() -> None:
    for size in (1, 2, 4, 8):
        basis = haar_2d(size)
        np.testing.assert_allclose(basis @ basis.T, np.eye(size**2), atol=1e-12)


def test_every_decoder_of_tiny_starts_as_the_identity(tiny: SearchSpace) -> None:
    for code in tiny.sample(np.random.default_rng(1), 12):
        network = tiny.design(tiny.architecture(code)).stages["decode"].network
        modules = build_modules({step.name: step.block for step in network.steps}).eval()
        image = torch.rand(1, 3, 64, 64)
        values = run(network, modules, {"synthesis": image, "level": one_hot(3)})
        torch.testing.assert_close(values[network.outputs[0]], image)


def test_a_decoder_runs_from_symbols_to_an_image_of_any_size(tiny: SearchSpace) -> None:
    network = tiny.design(tiny.reference).stages["decode"].network
    module = NetworkModule(network).eval()
    (image,) = module(torch.zeros(1, 128, 3, 5), torch.zeros(1, 24, 2, 3), one_hot(0))
    assert image.shape == (1, 3, 48, 80)


def test_a_network_with_a_missing_or_repeated_name_is_refused() -> None:
    step = Step("a", blocks.Scale(8, 64), ("x",))
    for broken in [(("y",), (step,), ("a",)), (("x",), (step, step), ("a",)), (("x",), (), ("a",))]:
        with pytest.raises(ValueError, match="step"):
            Network(*broken)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"decoder.half.deph": 1}, "did you mean 'decoder.half.depth'"),
        ({"decoder.half.depth": 1, "decoder.half.block": "resnet"}, "decoder.half.block: 'resnet'"),
        ({"decoder.half.depth": 1, "decoder.half.width": 10**9}, "whole number from 1 to 4096"),
        ({"context": "raster"}, "context: 'raster' is none of none, checkerboard, 2x2"),
        ({"encoder.full.depth": 1}, "knows no choice 'encoder.full.depth'"),
        ({"decoder.scaled": "yes"}, "decoder.scaled: 'yes' is none of False, True"),
    ],
)
def test_unknown_choices_are_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_design(choices)  # type: ignore[arg-type]
