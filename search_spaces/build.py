"""From networks to torch modules: the only place that walks a `Network` with tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from search_spaces.blocks import Block, Network, Step

Module = TypeVar("Module", bound=nn.Module)


def build_modules(blocks: Mapping[str, Block]) -> nn.ModuleDict:
    """One module a block, keyed by step name with dots written as underscores."""
    return nn.ModuleDict({module_name(name): block.build() for name, block in blocks.items()})


def module_name(step_name: str) -> str:
    """The key of a step in `build_modules` (torch forbids dots in module names)."""
    return step_name.replace(".", "_")


def run(
    network: Network,
    modules: nn.ModuleDict,
    given: Mapping[str, Tensor],
    outputs: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Runs what the outputs need, in order.

    Args:
        network: what to run.
        modules: from `build_modules`, holding every step that runs.
        given: values by name, shape (N, ...): network inputs, or results of steps, which then
            do not run, nor do those before them that nothing else needs.
        outputs: names of steps; default the network's own outputs.

    Returns:
        Every value by name: those given, the outputs and what lies between.
    """
    values = dict(given)
    for step in _needed(network, set(outputs or network.outputs) - set(given), set(given)):
        module = modules[module_name(step.name)]
        values[step.name] = module(*(values[name] for name in step.inputs))
    return values


def _needed(network: Network, wanted: set[str], given: set[str]) -> list[Step]:
    """The steps that wanted values depend on, not looking behind given values."""
    steps = []
    for step in reversed(network.steps):
        if step.name in wanted:
            steps.append(step)
            wanted |= set(step.inputs) - given
    return steps[::-1]


def fold(module: Module) -> Module:
    """Writes parametrised weights out, in place: the same outputs from fewer, plain parameters.

    A part that has a `fold` of its own is folded by it. Folded modules run and are exported; they
    are not trained any more.
    """
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            for name in list(part.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)
        if callable(own := getattr(part, "fold", None)):
            own()
    return module


class NetworkModule(nn.Module):
    """A whole network as one module: positional inputs and outputs in the network's order."""

    def __init__(self, network: Network, modules: nn.ModuleDict | None = None) -> None:
        super().__init__()
        self.network = network
        blocks = {step.name: step.block for step in network.steps}
        self.steps = build_modules(blocks) if modules is None else modules

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Shapes as the first and last blocks state, with a batch dimension in front."""
        given = dict(zip(self.network.inputs, inputs, strict=True))
        values = run(self.network, self.steps, given)
        return tuple(values[name] for name in self.network.outputs)


def traceable(network: Network, modules: nn.ModuleDict) -> fx.GraphModule:
    """A whole network as a graph with a named argument an input, for tools that rewrite graphs.

    Args:
        network: its steps become calls of their modules.
        modules: from `build_modules`; those of the steps are shared with the result.
    """
    graph = fx.Graph()
    nodes = {name: graph.placeholder(name) for name in network.inputs}
    for step in network.steps:
        inputs = tuple(nodes[name] for name in step.inputs)
        nodes[step.name] = graph.call_module(module_name(step.name), inputs)
    graph.output(tuple(nodes[name] for name in network.outputs))
    return fx.GraphModule(modules, graph)
