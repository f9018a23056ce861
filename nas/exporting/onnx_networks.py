"""The networks as ONNX: one graph for every size of window, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency.conversion import LoweringError
from latency.onnx_runtime import import_onnxruntime
from nas.exporting.networks import exported_networks, folded
from search_spaces.codec.deployed import NETWORKS, output_names, tensor_shapes
from search_spaces.codec.deployed_codec import DeployedCodec, Runner
from search_spaces.codec.model import Codec
from search_spaces.codec.saved import CodecFileError

FOLDER = "onnx"
HINT = "pip install 'nas-codecs[host]'"
# Odd numbers of latents and hyper-latents, so that what they need is part of the graph.
_TRACED = (272, 304)
# Values between two integers can fall to either side; a 256th is a step of 8-bit pixels.
_MOST_SYMBOLS, _MOST_IMAGE = 1e-3, 1 / 256
_CHECKED = ((512, 512), (272, 304), (16, 512))


@dataclass(frozen=True)
class Difference:
    """ONNX Runtime's results beside torch's, on crops of several sizes.

    Attributes:
        symbols: integers that differ, symbols and hyper-latents.
        of: integers compared.
        image: the largest difference of a decoded pixel value, of 0 to 1, from the same integers.
    """

    symbols: int
    of: int
    image: float

    def require_small(self) -> None:
        """Lets pass what rounding alone explains.

        Raises:
            LoweringError: the networks in ONNX are other ones than torch's.
        """
        if self.symbols > self.of * _MOST_SYMBOLS or not self.image <= _MOST_IMAGE:
            raise LoweringError(
                f"ONNX Runtime differs from torch in {self.symbols} of {self.of} integers and by"
                f" {self.image:.2g} in a pixel: these networks cannot be exported to ONNX; leave"
                " it out with --no-onnx"
            )


def require_onnx(*modules: str) -> None:
    """Fails before work is spent.

    Raises:
        CodecFileError: a library is missing; says what to install.
    """
    from importlib.util import find_spec

    for module in modules:
        if find_spec(module) is None:
            raise CodecFileError(f"ONNX needs {module}, which is not installed: {HINT}")


def write_onnx(codec: Codec, folder: Path) -> None:
    """Writes `encoder.onnx`, `context_decoder.onnx` and `decoder.onnx`, in fp32."""
    folder.mkdir(parents=True)
    shapes = tensor_shapes(codec.design, *_TRACED)
    for name, module in exported_networks(folded(codec)).items():
        inputs, outputs = module.network.inputs, output_names(name, module.network)
        examples = tuple(torch.zeros(1, *shapes[value]) for value in inputs)
        sizes = {
            value: {2: f"{value}_height", 3: f"{value}_width"}
            for value in (*inputs, *outputs)
            if value != "level"
        }
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that sizes are traced is what is wanted
            content = io.BytesIO()
            torch.onnx.export(
                module,
                examples,
                content,  # type: ignore[arg-type]
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=sizes,
                dynamo=False,
                training=torch.onnx.TrainingMode.PRESERVE,
            )
        (folder / f"{name}.onnx").write_bytes(content.getvalue())


def onnx_runner(folder: Path) -> Runner:
    """Runs the networks that `write_onnx` wrote, each operator in the thread that calls.

    Raises:
        CodecFileError: a file is missing or damaged, or ONNX Runtime is not installed.
    """
    require_onnx("onnxruntime")
    sessions = {name: _session(folder / f"{name}.onnx") for name in NETWORKS}

    def run(name: str, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        session = sessions[name]
        names = [each.name for each in session.get_inputs()]
        given = {n: np.ascontiguousarray(v) for n, v in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(value) for value in session.run(None, given))

    return run


def difference(
    run: Runner, codec: Codec, crop: Callable[[int, int], Tensor], quality: float = 3.25
) -> Difference:
    """Compares ONNX Runtime with the codec on windows of several sizes.

    Args:
        run: of `onnx_runner`.
        codec: that was exported.
        crop: of a size, height and width in pixels: shape (1, 3, height, width).
        quality: of all of them.
    """
    deployed, differing, count, largest = DeployedCodec(codec, run), 0, 0, 0.0
    for size in _CHECKED:
        image = crop(*size)
        ours = codec.analyse(image, quality)
        theirs = deployed.analyse(image, quality)
        for one, other in zip(ours, theirs, strict=True):
            differing += int((one != other).sum())
            count += one.numel()
        pair = codec.decode(*ours, quality), deployed.decode(*ours, quality)
        largest = max(largest, float((pair[0] - pair[1]).abs().max()))
    return Difference(differing, count, largest)


def _session(file: Path) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except OSError as problem:
        raise CodecFileError(f"{file}: {problem.strerror}; export it again") from None
    except Exception as problem:  # ONNX Runtime's own have no common base
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise CodecFileError(f"{file}: no network that ONNX Runtime can run: {reason}") from None
