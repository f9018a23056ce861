"""The networks of a codec as they are exported, and the rounding of a device that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces.build import NetworkModule, fold
from search_spaces.codec.deployed import deployed
from search_spaces.codec.deployed_codec import Runner
from search_spaces.codec.model import Codec


def folded(codec: Codec) -> Codec:
    """A copy with learned scales and bases written into its convolutions; it only runs."""
    with torch.random.fork_rng(devices=[]):
        copied = Codec(codec.design)  # torch's own copies of parametrised modules share a class
    copied.load_state_dict(codec.state_dict())
    return fold(copied.eval())


def exported_networks(codec: Codec) -> dict[str, NetworkModule]:
    """The three networks of a folded codec by name; they share its modules."""
    networks = deployed(codec.design).items()
    return {name: NetworkModule(network, codec.steps).eval() for name, network in networks}


def runner(modules: Mapping[str, nn.Module]) -> Runner:
    """Runs networks with torch, for `DeployedCodec`."""

    @torch.no_grad()
    def run(name: str, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = modules[name](*inputs)
        return outputs

    return run


def half_runner(modules: Mapping[str, nn.Module]) -> Runner:
    """As `runner`, rounding every result as an accelerator does that computes in fp16."""
    run = runner(modules)

    def rounded(name: str, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with _Half():  # type: ignore[no-untyped-call]
            return run(name, tuple(_half(value) for value in inputs))

    return rounded


@torch.no_grad()
def round_weights(module: nn.Module) -> None:
    """Rounds parameters and buffers of floating point to fp16, in place."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(_half(tensor))


class _Half(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Rounds the results of all operators to fp16."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        return torch.utils._pytree.tree_map_only(Tensor, _half, result)


def _half(value: Tensor) -> Tensor:
    return value.half().float() if value.dtype == torch.float32 else value
