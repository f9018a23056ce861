"""Weights from an anchor: what a candidate computes before it is trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from evaluators.inheritance import drop_what_harms, inherit
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.space import Choice

ANCHOR: dict[str, Choice] = {
    "latent_channels": 64,
    "hyper_channels": 16,
    "hyper_width": 16,
    "quantisation": "learned",
    "context": "checkerboard",
    "context_width": 16,
    **{f"{side}.scaled": True for side in ("encoder", "decoder")},
    **{f"{side}.{scale}.depth": 1 for side in ("encoder", "decoder") for scale in ("eighth",)},
    **{
        f"{side}.eighth.{k}": v
        for side in ("encoder", "decoder")
        for k, v in {"block": "convscale311", "width": 16, "expand": 1, "expand_out": 2}.items()
    },
    **{
        f"decoder.half.{k}": v
        for k, v in {"depth": 1, "width": 8, "block": "residual", "kernel": 3}.items()
    },
}


def built(**changes: Choice) -> Codec:
    choices = {**ANCHOR, **{name.replace("__", "."): value for name, value in changes.items()}}
    return Codec(build_design(choices)).eval()


@pytest.fixture(scope="module")
def anchor() -> Codec:
    """As if trained: no weight is where it started."""
    torch.manual_seed(1)
    codec = built()
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    codec.freeze()
    return codec


@torch.no_grad()
def results(codec: Codec) -> tuple[Tensor, Tensor]:
    """Bits and the decoded image, with the same noise for all."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 64) * torch.linspace(0.2, 1, 64)
    torch.manual_seed(0)
    codec.eval()
    coded = codec.compress(image, 3)
    bits = torch.tensor(codec.estimated_bits(coded, 3))
    return bits, codec.decode(coded.symbols, coded.hyper, 3)


def inherited(anchor: Codec, **changes: Choice) -> Codec:
    torch.manual_seed(2)
    codec = built(**changes)
    share = inherit(codec, anchor)
    assert 0.4 < share <= 1
    codec.freeze()
    return codec


def test_the_same_architecture_computes_the_same(anchor: Codec) -> None:
    for mine, theirs in zip(results(inherited(anchor)), results(anchor), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


WIDER = {
    "width": {"decoder__eighth__width": 24, "decoder__half__width": 12},
    "encoder width": {"encoder__eighth__width": 32},
    "expansion": {"decoder__eighth__expand": 2, "decoder__eighth__expand_out": 3},
    "depth": {"decoder__half__depth": 3, "encoder__eighth__depth": 2},
    "kernel": {"decoder__half__kernel": 5},
    "hyper width": {"hyper_width": 32},
    "context width": {"context_width": 32},
}


@pytest.mark.parametrize("name", WIDER)
def test_a_larger_architecture_computes_what_the_anchor_computes(anchor: Codec, name: str) -> None:
    mine, theirs = results(inherited(anchor, **WIDER[name])), results(anchor)
    torch.testing.assert_close(mine[1], theirs[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine[0], theirs[0], rtol=1e-3, atol=1.0)


def test_fewer_latents_are_those_of_highest_energy(anchor: Codec) -> None:
    fewer = inherited(anchor, latent_channels=32)
    for name in ("analysis", "synthesis"):
        mine, theirs = fewer.steps[name], anchor.steps[name]
        torch.testing.assert_close(mine.log_gain.table, theirs.log_gain.table[:, :32])
    torch.testing.assert_close(
        fewer.steps["analysis"].transform.weight, anchor.steps["analysis"].transform.weight[:32]
    )


def test_mu_and_widths_are_sliced_apart(anchor: Codec) -> None:
    fewer = inherited(anchor, latent_channels=32)
    mine = fewer.steps["context_decoder"].linear.weight
    theirs = anchor.steps["context_decoder"].linear.weight
    torch.testing.assert_close(mine[:32], theirs[:32])
    torch.testing.assert_close(mine[32:], theirs[64:96])
    refined, of_anchor = (codec.steps["context_1"].given.weight for codec in (fewer, anchor))
    torch.testing.assert_close(refined[:, 32:], of_anchor[:, 64:96])


def test_unit_quantisation_takes_mu_alone(anchor: Codec) -> None:
    unit = inherited(anchor, quantisation="unit")
    mine = unit.steps["context_decoder"].linear.weight
    torch.testing.assert_close(mine, anchor.steps["context_decoder"].linear.weight[:64])


def test_a_block_of_another_kind_starts_as_the_identity(anchor: Codec) -> None:
    other = inherited(anchor, decoder__half__block="inverted", decoder__half__expand=2)
    block = other.steps["decoder_half_0"]
    features = torch.randn(1, 8, 16, 16)
    torch.testing.assert_close(block(features), features)


def test_another_context_keeps_its_own_start(anchor: Codec) -> None:
    torch.manual_seed(2)
    fresh = built(context="2x2").steps["context_1"].known.weight
    torch.testing.assert_close(
        inherited(anchor, context="2x2").steps["context_1"].known.weight, fresh
    )


def test_the_anchor_is_not_changed(anchor: Codec) -> None:
    before = {name: value.clone() for name, value in anchor.state_dict().items()}
    codec = inherited(anchor, latent_channels=32, decoder__half__depth=2)
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(1.0)
    after = anchor.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_every_parameter_of_a_wider_codec_is_finite(anchor: Codec) -> None:
    codec = inherited(anchor, latent_channels=128, hyper_channels=32, decoder__half__width=32)
    assert all(torch.isfinite(p).all() for p in codec.parameters())


@torch.no_grad()
def test_a_backbone_that_harms_is_dropped_and_one_that_helps_is_kept(anchor: Codec) -> None:
    torch.manual_seed(2)
    codec = built()
    fresh = {name: value.clone() for name, value in codec.state_dict().items()}
    inherit(codec, anchor)
    kept = {name: value.clone() for name, value in codec.state_dict().items()}
    decoder = [name for name in fresh if name.startswith("steps.decoder_")]

    def worse_with(name: str) -> float:
        """A loss that only an inherited decoder, or only a fresh one, raises."""
        state = codec.state_dict()
        return float(any(not torch.equal(state[n], fresh[n]) for n in decoder)) * (
            1 if name == "inherited" else -1
        )

    sides = ("encoder", "decoder")
    assert drop_what_harms(codec, fresh, lambda: worse_with("fresh"), sides) == ["encoder"]
    assert all(torch.equal(codec.state_dict()[n], kept[n]) for n in decoder)
    assert "decoder" in drop_what_harms(codec, fresh, lambda: worse_with("inherited"), sides)
    assert all(torch.equal(codec.state_dict()[n], fresh[n]) for n in decoder)
    inherit(codec, anchor)
    assert drop_what_harms(codec, fresh, lambda: float("nan"), sides) == ["encoder", "decoder"]
