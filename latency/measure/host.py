"""The machine that this runs on, through ONNX Runtime on its CPU.

Another program that takes cache or clock away slows everything alike for a while. So a reference
workload runs right before and after each package, and a run counts as long as its CPU time is in
reference runs, times what the reference takes when nobody disturbs it. One thread is timed by its
CPU time, several by the clock on the wall.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latency.conversion import network_module
from latency.measure.backend import Device, MeasureError, Package, require_precision
from latency.onnx_runtime import import_onnxruntime
from search_spaces.blocks import Precision
from search_spaces.files import replacing, write_atomically

if TYPE_CHECKING:
    from torch import nn

_SEED = 0
_LIBRARIES = ("onnxruntime", "onnx", "torch", "numpy")
# The reference: convolutions of a codec's middle scales, a few milliseconds on one core.
_REFERENCE_CHANNELS, _REFERENCE_SIZE, _REFERENCE_LAYERS = 48, 64, 4
_REFERENCE_RUNS = 3
_NOMINAL_VISITS = 20


@dataclass
class Host:
    """Times packages here.

    Attributes:
        folder: keeps the translated packages, and what the reference takes when nobody disturbs.
        threads: of ONNX Runtime.
        reference_ms: what one run of the reference counts as; None for what is kept in `folder`.
    """

    folder: Path
    threads: int = 1
    reference_ms: float | None = None
    _reference: Callable[[], float] | None = field(default=None, init=False, repr=False)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """ONNX models keep the weights as torch has them."""
        return ("fp32",)

    def describe(self) -> Device:
        """This machine."""
        return replace(self._machine(), reference_ms=self.nominal_ms())

    def _machine(self) -> Device:
        return Device(
            chip=_chip(),
            os_build=platform.platform(),
            compute_unit=f"cpu, {self.threads} thread{'s' if self.threads > 1 else ''}",
            library_versions={name: _version(name) for name in _LIBRARIES},
        )

    def sample_ms(self, package: Package, runs: int) -> list[float]:
        """Runs of a package, each as if nobody disturbed; see `Backend.sample_ms`."""
        require_precision(self, package.precision)
        run = self._session(self._translated(package))
        run()
        before_ms = self._reference_now_ms()
        taken_ms = [run() for _ in range(runs)]
        # Both references, so that a disturbance that comes or goes meanwhile counts by half.
        slowness = (before_ms + self._reference_now_ms()) / 2 / self.nominal_ms()
        return [taken / slowness for taken in taken_ms]

    def nominal_ms(self) -> float:
        """What the reference takes when nobody disturbs it, in ms; measured once a machine."""
        if self.reference_ms is None:
            identity = repr((self._machine(), _REFERENCE_CHANNELS, _REFERENCE_SIZE))
            name = hashlib.sha256(identity.encode()).hexdigest()[:16]
            self.reference_ms = self._kept_ms(self.folder / f"reference-{name}.json")
        return self.reference_ms

    def _kept_ms(self, file: Path) -> float:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return float(json.loads(file.read_text())["reference_ms"])
        self._reference_now_ms()
        runs_ms = [self._reference_now_ms() for _ in range(_NOMINAL_VISITS)]
        nominal_ms = float(np.quantile(runs_ms, 0.25))
        write_atomically(file, json.dumps({"reference_ms": nominal_ms}))
        return nominal_ms

    def _reference_now_ms(self) -> float:
        if self._reference is None:
            self._reference = self._session(_reference_bytes())
            self._reference()
        return min(self._reference() for _ in range(_REFERENCE_RUNS))

    def _session(self, model: bytes | str) -> Callable[[], float]:
        """Times one run of a model on random inputs, ms."""
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(_SEED)
        inputs = {each.name: _random(rng, tuple(each.shape)) for each in session.get_inputs()}
        clock = time.thread_time if self.threads == 1 else time.perf_counter

        def run() -> float:
            start = clock()
            session.run(None, inputs)
            return 1e3 * (clock() - start)

        return run

    def _translated(self, package: Package) -> str:
        """The file of a package's ONNX model, made once."""
        identity = repr((package.network, dict(package.input_shapes), self._versions()))
        file = self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()}.onnx"
        if not file.is_file():
            model = _package_bytes(package)
            with replacing(file) as partial:
                partial.write_bytes(model)
        return str(file)

    def _versions(self) -> list[str]:
        return [_version(name) for name in ("torch", "onnx")]


def _package_bytes(package: Package) -> bytes:
    """The package as an ONNX model, its weights random as for lowering."""
    import torch

    module = network_module(package.network)
    examples = [torch.zeros((1, *package.input_shapes[name])) for name in package.network.inputs]
    try:
        return _exported(module, examples)
    except Exception as problem:
        reason = (str(problem).strip().splitlines() or ["no reason given"])[0]
        raise MeasureError(f"{package.name} cannot be exported to ONNX: {reason}") from problem


def _exported(module: nn.Module, examples: list[Any]) -> bytes:
    import torch

    content = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # The old exporter takes a tenth of the time of the one that it recommends.
        warnings.simplefilter("ignore")
        # Exported first: the old exporter alone would trace shapes as if they were data.
        kept = torch.onnx.TrainingMode.PRESERVE
        graph = torch.export.export(module.eval(), tuple(examples)).module()
        torch.onnx.export(graph, tuple(examples), content, dynamo=False, training=kept)  # type: ignore[arg-type]
    return content.getvalue()


def _reference_bytes() -> bytes:
    import torch
    from torch import nn

    channels, size = _REFERENCE_CHANNELS, _REFERENCE_SIZE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(_REFERENCE_LAYERS)]
        return _exported(nn.Sequential(*layers), [torch.zeros(1, channels, size, size)])


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)


def _chip() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        raise MeasureError(
            f"measuring on this machine needs {name}: pip install 'nas-codecs[host]'"
        ) from None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
