"""From torch modules to Core ML: programs that are read, packages that run.

The only file that imports coremltools' converter. Programs and packages are made on any system;
only Apple's run them.
"""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache as memoised
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from search_spaces.blocks import Network, Precision, Shape

if TYPE_CHECKING:
    from torch import nn

    from search_spaces.build import NetworkModule

Module = TypeVar("Module", bound="nn.Module")

_SEED = 0
# Of assumed int8 activations: they span -8 to 8.
_SCALE = 1 / 16
_INT8_OPS = ("conv", "conv_transpose", "linear", "matmul")
# What an accelerator computes along with the operation before it.
_ACTIVATIONS = (
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "prelu",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "tanh",
)


class LoweringError(ValueError):
    """A block that Core ML cannot express, or a cache folder that cannot be used."""


def program_of(module: nn.Module, shapes: Sequence[Shape]) -> Any:
    """The `main` function of the fp16 program that coremltools makes of a module.

    Args:
        module: put in evaluation mode; its parameters are overwritten with random values.
        shapes: of its inputs, without the batch dimension.

    Raises:
        Exception: whatever torch or coremltools raises over what they cannot express.
    """
    import coremltools

    program = coremltools.convert(
        _exported(randomise(module), shapes),
        convert_to="milinternal",
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=coremltools.precision.FLOAT16,
    )
    return program.functions["main"]


def model_of(module: nn.Module, shapes: Sequence[Shape], precision: Precision) -> Any:
    """A package of a module for the neural engine of iOS 17 or later.

    Inputs `input_0`, `input_1`, ... and outputs are fp16 tensors, so that no cast at the border
    is part of a run. `w8` has int8 weights, symmetric, a scale a channel; biases and weights of
    fewer than ten values stay fp16. `w8a8` has int8 activations too: a pair of `quantize` and
    `dequantize`, which is how Core ML writes it, stands before and behind every convolution and
    matrix product, behind the activation function where one follows directly.

    The scales of `w8a8` activations are assumed, not calibrated. Such a package is for timing
    only, as no run takes longer for its values, and never for pictures. It was not run on a phone.

    Args:
        module: put in evaluation mode; its weights are used as they are.
        shapes: of its inputs in order, without the batch dimension.
        precision: `fp16`, `w8` or `w8a8`.

    Returns:
        A `coremltools.models.MLModel` that is not loaded.

    Raises:
        LoweringError: Core ML cannot express the module, or not in this precision.
    """
    if precision not in ("fp16", "w8", "w8a8"):
        raise LoweringError(f"Core ML packages are made in fp16, w8 or w8a8, not {precision}")
    try:
        with quiet():
            model = _package(_exported(module, shapes), len(shapes), precision == "w8a8")
            return model if precision == "fp16" else _with_int8_weights(model)
    except Exception as error:
        raise LoweringError(
            f"the module cannot be converted to Core ML in {precision}: {one_line(error)}"
        ) from error


def app_package(
    module: nn.Module, inputs: Mapping[str, Shape], outputs: Sequence[str], quantised: bool
) -> Any:
    """A package of trained weights for an app on iOS 17 or later, fp16 at its border.

    Args:
        module: as it is run: folded and trained; put in evaluation mode.
        inputs: shapes by name in order, without the batch dimension.
        outputs: names in order.
        quantised: whether `coremltools.optimize.torch` made the module; it is traced then, at the
            cost of one run, for torch cannot export quantised tensors.

    Returns:
        A `coremltools.models.MLModel` that is not loaded.

    Raises:
        LoweringError: Core ML cannot express the module.
        OSError: the disk is full: packages are made in the folder of temporary files.
    """
    try:
        with quiet():
            import coremltools

            make = _traced if quantised else _exported
            source = make(module, list(inputs.values()))
            # What torch exports states its shapes itself.
            shapes = {n: {"shape": (1, *s)} if quantised else {} for n, s in inputs.items()}
            tensor, half = coremltools.TensorType, np.float16
            return _converted(
                source,
                [tensor(name, dtype=half, **shapes[name]) for name in inputs],
                [tensor(name, dtype=half) for name in outputs],
            )
    except OSError:
        raise
    except Exception as error:
        raise LoweringError(
            f"the module cannot be converted to Core ML: {one_line(error)}"
        ) from error


def saved_program(package: Path) -> Any:
    """The `main` function of a package on disk, as coremltools reads it back."""
    import coremltools
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = coremltools.models.MLModel(str(package), skip_model_load=True).get_spec()
    weights = package / "Data/com.apple.CoreML/weights"
    program = load(spec, spec.specificationVersion, str(weights))
    return program.functions["main"]


def network_module(network: Network) -> NetworkModule:
    """A network as it is timed: folded, its weights random; torch's generator stays as it was."""
    import torch

    from search_spaces.build import NetworkModule, fold

    with torch.random.fork_rng(devices=[]):
        return randomise(fold(NetworkModule(network)))


def randomise(module: Module) -> Module:
    """Overwrites the parameters, in place, with random values: none is simplified away."""
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back coremltools' progress bars and its warnings about versions and missing macOS.

    Errors still rise: only what is printed on the way is dropped.
    """
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Before the redirection, so that handlers made on import write to the true stderr.
            importlib.import_module("coremltools")
            with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
                yield
    finally:
        logger.setLevel(level)


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line that it says."""
    message = getattr(error, "message", None)
    # What a command printed on stderr comes as bytes.
    said = message.decode(errors="replace") if isinstance(message, bytes) else str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"{type(error).__name__.lstrip('_')}: {(lines or ['no reason given'])[0]}"


def _exported(module: nn.Module, shapes: Sequence[Shape]) -> Any:
    import torch

    with torch.no_grad():
        examples = tuple(torch.zeros((1, *shape)) for shape in shapes)
        return torch.export.export(module.eval(), examples).run_decompositions({})


def _traced(module: nn.Module, shapes: Sequence[Shape]) -> Any:
    import torch

    with torch.no_grad():
        examples = tuple(torch.zeros((1, *shape)) for shape in shapes)
        return torch.jit.trace(module.eval(), examples, check_trace=False)  # type: ignore[no-untyped-call]


def _package(exported: Any, inputs: int, int8_activations: bool) -> Any:
    import coremltools

    pipeline = coremltools.PassPipeline.DEFAULT
    if int8_activations:
        # Last, so that what is fused by then keeps its int8 form.
        pipeline.append_pass(_activation_pass())
    named = [coremltools.TensorType(f"input_{i}", dtype=np.float16) for i in range(inputs)]
    return _converted(exported, named, None, pipeline)


def _converted(
    source: Any, inputs: list[Any], outputs: list[Any] | None, pipeline: Any = None
) -> Any:
    import coremltools

    return coremltools.convert(
        source,
        inputs=inputs,
        outputs=outputs,
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=coremltools.precision.FLOAT16,
        compute_units=coremltools.ComputeUnit.CPU_AND_NE,
        pass_pipeline=pipeline or coremltools.PassPipeline.DEFAULT,
        skip_model_load=True,
    )


def _with_int8_weights(model: Any) -> Any:
    from coremltools.optimize import coreml

    scheme = coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=0
    )
    return coreml.linear_quantize_weights(model, coreml.OptimizationConfig(global_config=scheme))


@memoised
def _activation_pass() -> str:
    """Makes int8 activations known to coremltools' pipelines, once; the name of the pass."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    class QuantiseActivations(AbstractGraphPass):  # type: ignore[misc]
        def apply(self, prog: Any) -> None:
            for function in prog.functions.values():
                with function:
                    for variable in _quantised(function):
                        _insert_pair(function, variable)

    register_pass(namespace="nas", name="quantise_activations")(QuantiseActivations)
    return "nas::quantise_activations"


def _quantised(function: Any) -> list[Any]:
    """What int8 operations read and write, each once; a pair serves all that read it."""
    found = {}
    for op in function.operations:
        if op.op_type in _INT8_OPS:
            read = [each for each in op.inputs.values() if each is not None and each.val is None]
            found.update(dict.fromkeys((*read, _result(op))))
    # What only leaves the network stays fp16, as its inputs are.
    return [variable for variable in found if variable.child_ops]


def _result(op: Any) -> Any:
    """What an operation writes, or the activation function that follows it and nothing else."""
    (written,) = op.outputs
    followers = written.child_ops
    alone = len(followers) == 1 and written not in op.enclosing_block.outputs
    return followers[0].outputs[0] if alone and followers[0].op_type in _ACTIVATIONS else written


def _insert_pair(function: Any, variable: Any) -> None:
    """Quantizes a variable before all that read it; an output of the function stays as it is."""
    from coremltools.converters.mil.mil import Builder

    scale = np.float16(_SCALE)
    first = next(op for op in function.operations if op in variable.child_ops)
    small = Builder.quantize(input=variable, scale=scale, output_dtype="int8", before_op=first)
    restored = Builder.dequantize(input=small, scale=scale, before_op=first)
    function.replace_uses_of_var_after_op(
        anchor_op=restored.op,
        old_var=variable,
        new_var=restored,
        end_op=list(function.operations)[-1],
    )
