"""Weights from another codec: by slicing, padding and additions that change nothing at first.

A candidate begins where a trained anchor of its space stands. What both have is copied as far as
both reach: output channels that only the candidate has start as drawn, but nothing reads them yet,
and blocks that only it has start as the identity. So a wider and deeper candidate computes what the
anchor computes; a narrower one keeps the first channels, which for latents are those of highest
energy. One without the learned scales that close the anchor's loses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from search_spaces.blocks import Block
from search_spaces.build import module_name
from search_spaces.codec import blocks, coding_blocks, modules
from search_spaces.codec.folding import Scales
from search_spaces.codec.model import Codec

_Convolution = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
_CLOSING = (blocks.SqueezeExcite, blocks.EfficientAttention, blocks.Scale)
# Choices between blocks of one kind that weights survive.
_ANY = ("activation", "scaled", "silent", "grouped", "learned_width")
# Of blocks whose parameters hold mu and then widths: the convolutions and the axis of the two.
_TWO_HALVES = {
    coding_blocks.ContextDecoder: {"linear": 0, "out": 0},
    coding_blocks.ContextStep: {"given": 1, "out": 0},
}


@torch.no_grad()
def inherit(codec: Codec, anchor: Codec, decoder_only: bool = False) -> float:
    """Gives a new codec the weights of a trained one, in place.

    Args:
        codec: freshly built.
        anchor: of the same family; not changed.
        decoder_only: leaves everything but the decoder's learned path as it is.

    Returns:
        The share of the codec's steps that inherited.
    """
    mine, theirs = dict(codec.design.blocks), anchor.design.blocks
    if decoder_only:
        mine = {name: block for name, block in mine.items() if name.startswith("decoder.")}
    twins = {name: twin for name in mine if (twin := _twin(name, mine[name], theirs)) is not None}
    for name, twin in twins.items():
        module, source = codec.steps[module_name(name)], anchor.steps[module_name(twin)]
        _copy_step(module, source, mine[name], theirs[twin])
    for name in mine.keys() - twins.keys():
        _make_identity(codec.steps[module_name(name)])
    if not decoder_only:
        _copy(codec.hyper_prior.log_scale.table, anchor.hyper_prior.log_scale.table)
    return len(twins) / max(1, len(mine))


@torch.no_grad()
def drop_what_harms(
    codec: Codec, fresh: Mapping[str, Tensor], loss: Callable[[], float], sides: Sequence[str]
) -> list[str]:
    """Gives up an inherited backbone that is worse than none.

    Where other resampling or attention stands between its blocks, or the learned scales are gone
    that held its features small, what was inherited is no shared start: features may grow by
    orders of magnitude. As it was built, a backbone says nothing at first.

    Args:
        codec: with inherited weights; changed in place.
        fresh: its state before that.
        loss: of the codec as it stands.
        sides: that inherited, of `encoder` and `decoder`.

    Returns:
        Those that begin from scratch.
    """
    dropped: list[str] = []
    best = loss()
    for side in sides:
        inherited = {
            name: value
            for name, value in codec.state_dict().items()
            if name.startswith(f"steps.{side}_")
        }
        kept = {name: value.clone() for name, value in inherited.items()}
        _restore(inherited, fresh)
        without = loss()
        if inherited and not without > best:  # NaN helps nobody
            best, dropped = without, [*dropped, side]
        else:
            _restore(inherited, kept)
    return dropped


def _restore(values: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        value.copy_(others[name])


def _twin(name: str, block: Block, others: Mapping[str, Block]) -> str | None:
    """The anchor's step that stands where a step stands.

    What closes a scale, attention and the learned scales, stands behind however many blocks.
    """
    if not isinstance(block, _CLOSING):
        return name if name in others and _alike(block, others[name]) else None
    scale = name.rpartition(".")[0]
    same = [n for n, other in others.items() if n.rpartition(".")[0] == scale]
    return next((n for n in same if type(others[n]) is type(block)), None)


def _alike(a: Block, b: Block) -> bool:
    """Whether two blocks are of one kind: sizes may differ, what they compute may not."""
    if type(a) is not type(b):
        return False
    kinds = [f.name for f in fields(a) if f.name not in _ANY]  # type: ignore[arg-type]
    kinds = [name for name in kinds if not isinstance(getattr(a, name), int)]
    same = all(getattr(a, name) == getattr(b, name) for name in kinds)
    # Patches of another size, another group of the context: the same numbers mean other things.
    exact = ("stride", "factor", "group")
    return same and all(getattr(a, n, None) == getattr(b, n, None) for n in exact)


def _copy_step(mine: nn.Module, theirs: nn.Module, block: Block, other: Block) -> None:
    halves = _TWO_HALVES.get(type(block), {})
    sources = dict(theirs.named_modules())
    for name, module in mine.named_modules():
        source = sources.get(name)
        if isinstance(module, _Convolution) and isinstance(source, _Convolution):
            parts = _learned(block), _learned(other)
            _copy_convolution(module, source, halves.get(name), parts)
        elif source is not None and not _within_convolution(name):
            _copy_others(module, source)


def two_halves(block: Block, parameter: str) -> int | None:
    """The axis along which a parameter holds mu and then widths; None where it does not.

    Args:
        block: that has it.
        parameter: its name in the block's module.
    """
    convolution, _, kind = parameter.rpartition(".")
    axis = _TWO_HALVES.get(type(block), {}).get(convolution)
    if _learned(block) < 2 or (kind == "bias" and axis != 0):
        return None
    return axis


def _learned(block: Block) -> int:
    """How many values a latent a block's parameters hold."""
    return 1 + bool(getattr(block, "learned_width", False))


def _within_convolution(name: str) -> bool:
    """Whether a module is a part of a convolution: its parametrisation."""
    return ".parametrizations" in f".{name}"


def _copy_others(module: nn.Module, source: nn.Module) -> None:
    """Tables, scales and norms: whatever has parameters and is no convolution."""
    theirs = dict(source.named_parameters(recurse=False))
    for name, parameter in module.named_parameters(recurse=False):
        if name in theirs and theirs[name].dim() == parameter.dim():
            _copy(parameter, theirs[name])
    buffers = dict(source.named_buffers(recurse=False))
    if "band_scale" in buffers:  # what a stem divides coefficients by
        dict(module.named_buffers(recurse=False))["band_scale"].copy_(buffers["band_scale"])


def _copy_convolution(
    module: nn.Module, source: nn.Module, halves: int | None, parts: tuple[int, int]
) -> None:
    target, given = _raw_weight(module), _scaled_weight(source)
    transposed = isinstance(module, nn.ConvTranspose2d)
    for mine, theirs in _paired(target, given, halves, parts):
        _copy_kernel(mine, theirs, transposed)
    biases = [dict(m.named_parameters(recurse=False)).get("bias") for m in (module, source)]
    if biases[0] is not None and biases[1] is not None:
        of_bias = halves if halves == 0 else None
        for mine, theirs in _paired(biases[0], biases[1], of_bias, parts):
            _copy(mine, theirs)


def _paired(
    mine: Tensor, theirs: Tensor, axis: int | None, parts: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of what belongs together: mu with mu and widths with widths."""
    if axis is None:
        yield mine, theirs
        return
    yield from zip(mine.chunk(parts[0], axis), theirs.chunk(parts[1], axis), strict=False)


def _raw_weight(module: nn.Module) -> Tensor:
    if parametrize.is_parametrized(module, "weight"):
        return cast(Tensor, module.parametrizations.weight.original)  # type: ignore[union-attr]
    return dict(module.named_parameters(recurse=False))["weight"]


def _scaled_weight(module: nn.Module) -> Tensor:
    """The weight with its learned scales: the copy's own start at 1. Haar bases stay outside."""
    weight = _raw_weight(module)
    if parametrize.is_parametrized(module, "weight"):
        scales = [part for part in module.parametrizations.weight if isinstance(part, Scales)]  # type: ignore[union-attr]
        for part in scales:
            weight = cast(Tensor, part(weight))
    return weight


def _copy_kernel(mine: Tensor, theirs: Tensor, transposed: bool) -> None:
    """Where both reach; kernels are centred, and what the new inputs would add is zero."""
    outputs = 1 if transposed else 0
    both = [slice(0, min(a, b)) for a, b in zip(mine.shape[:2], theirs.shape[:2], strict=True)]
    rows: list[slice] = [slice(None), slice(None)]
    rows[outputs] = both[outputs]
    mine[tuple(rows)] = 0  # of the outputs that both have, all inputs
    centres = [centred(a, b) for a, b in zip(mine.shape[2:], theirs.shape[2:], strict=True)]
    place = (*both, *(own for own, _ in centres))
    mine[place] = theirs[(*both, *(other for _, other in centres))]


def centred(mine: int, theirs: int) -> tuple[slice, slice]:
    """What two kernels have in common, in either of them: their middle."""
    size = min(mine, theirs)
    own, other = (mine - size) // 2, (theirs - size) // 2
    return slice(own, own + size), slice(other, other + size)


def _copy(mine: Tensor, theirs: Tensor) -> None:
    place = tuple(slice(0, min(a, b)) for a, b in zip(mine.shape, theirs.shape, strict=True))
    mine[place] = theirs[place].to(mine)


def _make_identity(module: nn.Module) -> None:
    """A residual block that adds nothing yet; others start as they are built."""
    if isinstance(module, modules.ResidualPath):
        last = [part for part in module.path if isinstance(part, _Convolution)][-1]
        _raw_weight(last).zero_()
