"""One walk: what is counted is what torch builds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.blocks import Block, Network, Step
from search_spaces.build import NetworkModule, build_modules, run
from search_spaces.codec import blocks
from search_spaces.codec.model import one_hot
from search_spaces.space import SearchSpace

EVERY_KIND = [
    blocks.Analysis(24),
    blocks.HyperAnalysis(24, 8),
    blocks.HyperSynthesis(24, 8, "mu"),
    blocks.HyperSynthesis(24, 8, "log_scale"),
    blocks.Quantise(24),
    blocks.Synthesis(24),
    blocks.Stem(2, 16),
    blocks.Residual(16, 5, 64),
    blocks.Inverted(16, 5, 64),
    blocks.SqueezeExcite(16, 64),
    blocks.Head(4, 24),
]


@pytest.mark.parametrize("block", EVERY_KIND, ids=lambda block: block.signature)
def test_counts_agree_with_torch(block: Block) -> None:
    module = block.build().train()  # in training the stem's fold, done once for a device, is out
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*(torch.zeros(1, *shape) for shape in block.input_shapes))
    extra = blocks.TILE**2 * 3 * 3 * 2**2 if isinstance(block, blocks.Stem) else 0
    assert sum(p.numel() for p in module.parameters()) == block.parameters
    assert counter.get_total_flops() // 2 == block.macs + extra


def test_a_stem_folds_into_one_convolution() -> None:
    stem = blocks.Stem(2, 16).build()
    stem.band_scale.uniform_(0.5, 2.0)
    image, level = torch.rand(2, 3, 64, 64), one_hot(1, 6)
    unfolded = stem.train()(image, level)
    torch.testing.assert_close(stem.eval()(image, level), unfolded, rtol=1e-4, atol=1e-5)


def test_every_refinement_starts_as_the_identity(tiny: SearchSpace) -> None:
    for code in tiny.sample(np.random.default_rng(1), 12):
        network = tiny.design(tiny.architecture(code)).stages["decode"].network
        modules = build_modules({step.name: step.block for step in network.steps}).eval()
        image = torch.rand(1, 3, 64, 64)
        values = run(network, modules, synthesis=image, level=one_hot(3))
        torch.testing.assert_close(values[network.outputs[0]], image)


def test_a_decoder_runs_from_symbols_to_an_image_of_any_size(tiny: SearchSpace) -> None:
    network = tiny.design(tiny.reference).stages["decode"].network
    module = NetworkModule(network).eval()
    (image,) = module(torch.zeros(1, 128, 4, 6), torch.zeros(1, 24, 2, 3), one_hot(0))
    assert image.shape == (1, 3, 64, 96)


def test_a_network_with_a_missing_or_repeated_name_is_refused() -> None:
    step = Step("a", blocks.Residual(8, 3, 64), ("x",))
    for broken in [(("y",), (step,), ("a",)), (("x",), (step, step), ("a",)), (("x",), (), ("a",))]:
        with pytest.raises(ValueError, match="step"):
            Network(*broken)
