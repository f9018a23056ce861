"""From networks to torch modules: the only place that walks a `Network` with tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from search_spaces.blocks import Block, Network, Step


def build_modules(blocks: Mapping[str, Block]) -> nn.ModuleDict:
    """One module a block, keyed by step name with dots written as underscores."""
    return nn.ModuleDict({module_name(name): block.build() for name, block in blocks.items()})


def module_name(step_name: str) -> str:
    """The key of a step in `build_modules` (torch forbids dots in module names)."""
    return step_name.replace(".", "_")


def run(network: Network, modules: nn.ModuleDict, **given: Tensor) -> dict[str, Tensor]:
    """Runs what a network's outputs need, in order.

    Args:
        network: what to run.
        modules: from `build_modules`, holding every step that runs.
        given: values by name, shape (N, ...): network inputs, or results of steps, which then
            do not run, nor do those before them that nothing else needs.

    Returns:
        Every value by name: those given, the network's outputs and what lies between.
    """
    values = dict(given)
    for step in _needed(network, set(given)):
        module = modules[module_name(step.name)]
        values[step.name] = module(*(values[name] for name in step.inputs))
    return values


def _needed(network: Network, given: set[str]) -> list[Step]:
    """The steps that the outputs depend on, not looking behind given values."""
    wanted = set(network.outputs) - given
    steps = []
    for step in reversed(network.steps):
        if step.name in wanted:
            steps.append(step)
            wanted |= set(step.inputs) - given
    return steps[::-1]


class NetworkModule(nn.Module):
    """A whole network as one module: positional inputs and outputs in the network's order."""

    def __init__(self, network: Network, modules: nn.ModuleDict | None = None) -> None:
        super().__init__()
        self.network = network
        blocks = {step.name: step.block for step in network.steps}
        self.steps = build_modules(blocks) if modules is None else modules

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Shapes as the first and last blocks state, with a batch dimension in front."""
        values = run(
            self.network, self.steps, **dict(zip(self.network.inputs, inputs, strict=True))
        )
        return tuple(values[name] for name in self.network.outputs)
