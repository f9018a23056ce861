"""Networks of 8 bits after training, by `coremltools.optimize.torch`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from latency.conversion import quiet

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
# Observers and rounding are switched by hand: no step of a training is taken.
_SCHEME = {"quantization_scheme": "symmetric", "milestones": [0, 1, 2, 3]}

Inputs = Sequence[tuple[Tensor, ...]]


def quantised(
    graph: fx.GraphModule, exact: Collection[str], inputs: Inputs
) -> tuple[fx.GraphModule, Any]:
    """Quantises weights and activations of convolutions, activations by the ranges of inputs.

    Args:
        graph: in evaluation mode; it stays as it is.
        exact: direct submodules that are left alone, whatever is in them.
        inputs: positional arguments that ranges are taken from.

    Returns:
        What rounds in floating point, and the quantiser, for `converted_form`.
    """
    with quiet(), torch.random.fork_rng(devices=[]):
        from coremltools.optimize.torch.quantization import LinearQuantizer, LinearQuantizerConfig

        nodes = _Tracer(exact).trace(graph).nodes
        # Only convolutions are quantised: additions of images and gains keep their precision.
        calls = {node.target for node in nodes if node.op in ("call_function", "call_method")}
        config = LinearQuantizerConfig.from_dict(
            {
                "global_config": _SCHEME,
                "module_type_configs": dict.fromkeys(calls),
                "non_traceable_module_names": list(exact),
            }
        )
        quantiser = LinearQuantizer(graph, config)
        simulated: fx.GraphModule = quantiser.prepare(inputs[0]).eval()
    _calibrate(simulated, inputs)
    return simulated, quantiser


def converted_form(quantiser: Any) -> nn.Module:
    """What is converted: int8 weights, and activations that are quantised."""
    with quiet():
        final: nn.Module = quantiser.finalize(inplace=False)
    return final


class _Tracer(fx.Tracer):
    """Does not look into some modules, as the quantiser does not."""

    def __init__(self, leaves: Collection[str]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one call of the graph."""
        named = module_qualified_name in self._leaves
        return named or super().is_leaf_module(m, module_qualified_name)


@torch.no_grad()
def _calibrate(simulated: fx.GraphModule, inputs: Inputs) -> None:
    from torch.ao import quantization

    simulated.apply(quantization.enable_observer)
    simulated.apply(quantization.disable_fake_quant)
    for values in inputs:
        simulated(*values)
    simulated.apply(quantization.disable_observer)
    simulated.apply(quantization.enable_fake_quant)
