"""A trained decoder as a device runs it: weights and features rounded to its precision.

Rounding is simulated in full precision, as quantisation-aware training does it. Weights of 8 bits
are symmetric with a scale an output channel, activations of 8 bits are symmetric with a scale a
tensor, taken from the largest value that some crops give. Anything but fp32 keeps features in fp16
between the layers. The orthonormal bases of heads, which are not trained, stay exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.passes import linear_image, refine
from search_spaces.blocks import Precision
from search_spaces.build import fold
from search_spaces.codec.model import Codec, is_of_decoder

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_LARGEST = 127


@torch.no_grad()
def at_precision(codec: Codec, precision: Precision, latents: Tensor, level: Tensor) -> Codec:
    """A copy of a codec whose decoder rounds like a device does.

    Args:
        codec: trained.
        precision: of weights and activations.
        latents: that 8-bit activations take their ranges from, shape (N, M, h, w).
        level: of each, shape (N, LEVELS).

    Returns:
        The copy, folded: it decodes, and is not trained any more.
    """
    copied = fold(_copy(codec))
    if precision == "fp32":
        return copied
    layers = list(_layers(copied))
    if precision == "w8a8":
        _quantise_inputs(copied, layers, latents, level)
    for layer in layers:
        weight = layer.weight.data
        layer.weight.data = _in_8_bits(layer) if precision != "fp16" else weight.half().float()
        layer.register_forward_hook(_to_half)
    return copied


def _copy(codec: Codec) -> Codec:
    """Built anew: torch's copies of parametrised modules share a class, which folding changes."""
    with torch.random.fork_rng(devices=[]):
        made = Codec(codec.design)
    made.load_state_dict(codec.state_dict())
    return made.to(next(codec.parameters()).device).eval()


def _layers(codec: Codec) -> Iterator[Any]:
    """Of the decoder: its linear transform and its learned path."""
    for name, step in codec.steps.items():
        if name == "synthesis" or is_of_decoder(f"steps.{name}."):
            yield from (part for part in step.modules() if isinstance(part, _LAYERS))


def _in_8_bits(layer: Any) -> Tensor:
    """A layer's weights on 255 values an output channel."""
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    others = [i for i in range(layer.weight.dim()) if i != axis]
    scales = _scale(layer.weight.data.abs().amax(others))
    zero_points = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        layer.weight.data, scales, zero_points, axis, -_LARGEST, _LARGEST
    )


def _quantise_inputs(codec: Codec, layers: list[Any], latents: Tensor, level: Tensor) -> None:
    with _largest_inputs(layers) as largest:
        refine(codec, linear_image(codec, latents, level), latents, level)
    for layer in layers:
        if layer in largest:  # others do not run in this design
            scale = float(_scale(largest[layer]))
            layer.register_forward_pre_hook(_rounding(scale))


@contextmanager
def _largest_inputs(layers: list[Any]) -> Iterator[dict[Any, Tensor]]:
    """The largest magnitude that each layer is given meanwhile."""
    largest: dict[Any, Tensor] = {}

    def note(layer: Any, given: tuple[Tensor, ...]) -> None:
        value = given[0].detach().abs().amax()
        largest[layer] = torch.maximum(largest.get(layer, value), value)

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(note).remove)
        yield largest


def _rounding(scale: float) -> Any:
    def rounded(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first = torch.fake_quantize_per_tensor_affine(given[0], scale, 0, -_LARGEST, _LARGEST)
        return (first, *given[1:])

    return rounded


def _to_half(_: nn.Module, __: Any, output: Tensor) -> Tensor:
    return output.half().float()


def _scale(largest: Tensor) -> Tensor:
    return largest.clamp_min(1e-8) / _LARGEST
