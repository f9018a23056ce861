"""Times packages on an iPhone or iPad, from a Mac.

coremltools builds its model runner app, installs it on the device and talks to it through Xcode's
`devicectl`: a package is compiled here and sent, each run sends its inputs and fetches its outputs
as files, and the app times the run alone. The device must be unlocked, in developer mode and
connected by cable.

Only whole packages are timed. coremltools also states a time for each operation; these are the
time of the whole times an estimated weight, so no measurements.

**None of this was run on a device: none was at hand.** Packages are made and checked for their
operations on Linux; the exchange with the app is tested against answers written by hand after
coremltools 9.0. Two things to know when a device is there: between runs pass seconds in which files
are copied, so the clocks of the device may have fallen; and the app keeps what it was sent, so
delete it from the device when a campaign has filled its storage.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.conversion import LoweringError, model_of, network_module, one_line, quiet
from latency.lowering import cache_file
from latency.measure.backend import Device, MeasureError, Package, require_precision
from latency.table_files import load_table, shipped_tables
from search_spaces.blocks import Precision

# Of packages in the folder: raised when other ones are made of the same network.
_FORMAT = 1
_SEED = 0
_ATTEMPTS = 3
# Core ML's names, as tables have them, and those of coremltools.
_COMPUTE_UNITS = {
    "all": "ALL",
    "cpuAndGPU": "CPU_AND_GPU",
    "cpuAndNeuralEngine": "CPU_AND_NE",
    "cpuOnly": "CPU_ONLY",
}
_NONE_THERE = (
    "none is connected; plug it in, unlock it and trust this Mac, until"
    " `xcrun devicectl list devices` shows it as connected"
)


@dataclass
class CoreMLPhone:
    """An iPhone or iPad that is connected to this Mac.

    Which model is connected cannot be read: that it is the one named `device` is taken on trust.

    Attributes:
        device: its name in the table.
        folder: keeps the packages (`.mlpackage`); safe to share between processes.
        compute_unit: `all`, `cpuAndGPU`, `cpuAndNeuralEngine` or `cpuOnly`.
        team: Apple development team that signs the app; default from NAS_DEVELOPMENT_TEAM.
    """

    device: str
    folder: Path
    compute_unit: str = "cpuAndNeuralEngine"
    team: str | None = field(default_factory=lambda: os.environ.get("NAS_DEVELOPMENT_TEAM"))
    _prepared: Any = field(default=None, init=False, repr=False)
    _build: Path | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.compute_unit not in _COMPUTE_UNITS:
            known = ", ".join(_COMPUTE_UNITS)
            raise MeasureError(f"no compute unit {self.compute_unit!r}; Core ML has {known}")

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The neural engine has no fp32."""
        return ("fp16", "w8", "w8a8")

    def describe(self) -> Device:
        """What is connected; see `Backend.describe`."""
        phone = self._connected()
        system = "iPadOS" if phone.type.value == "ipad" else "iOS"
        known = self.device in shipped_tables()
        return Device(
            chip=load_table(self.device).chip if known else "unknown",
            os_build=f"{system} {phone.os_version} ({phone.os_build_number})",
            compute_unit=self.compute_unit,
            library_versions={name: version(name) for name in ("coremltools", "torch")},
        )

    def sample_ms(self, package: Package, runs: int) -> list[float]:
        """Runs of a package as the device timed them; see `Backend.sample_ms`.

        A visit that fails is made again with an app that was started anew, twice at most.
        """
        require_precision(self, package.precision)
        model = self._opened(self._translated(package))
        reason = ""
        for _ in range(_ATTEMPTS):
            phone = self._phone()
            with quiet(), _scratch(phone):
                try:
                    return asyncio.run(_visit(model, phone, runs))
                except Exception as problem:  # of any kind: coremltools has none of its own
                    reason = one_line(problem)
                self._close()
        raise MeasureError(
            f"{package.name} did not run on {self.device}, tried {_ATTEMPTS} times: {reason};"
            " what was measured before is kept"
        )

    def _connected(self) -> Any:
        """The one device that is there, as coremltools describes it."""
        phones = self._list()
        if len(phones) != 1:
            names = ", ".join(phone.name for phone in phones)
            found = f"several are connected ({names}); unplug the others" if phones else _NONE_THERE
            raise MeasureError(f"measuring {self.device} needs one iPhone or iPad: {found}")
        if phones[0].developer_mode_state != "enabled":
            raise MeasureError(
                f"{phones[0].name} is not in developer mode: turn it on under Settings, Privacy &"
                " Security, Developer Mode"
            )
        return phones[0]

    def _list(self) -> list[Any]:
        try:
            with quiet():
                from coremltools.models.ml_program.experimental import remote_device

                kinds = (remote_device.DeviceType.IPHONE, remote_device.DeviceType.IPAD)
                connected = remote_device.Device.get_connected_devices
                return [phone for kind in kinds for phone in connected(kind)]
        except Exception as problem:
            raise MeasureError(
                f"measuring {self.device} needs a Mac with Xcode 16 or later and the phone"
                f" connected by cable: {_why_no_list(problem)}"
            ) from problem

    def _phone(self) -> Any:
        """The device with the app running on it, prepared once a process while it lives."""
        if self._prepared is None or not self._prepared.session.is_alive():
            self._prepared = _prepare(self._connected(), self._build_folder(), self.team)
            atexit.register(self._prepared.session.stop)
        return self._prepared

    def _build_folder(self) -> Path:
        """Of the app, built once a process."""
        if self._build is None:
            self._build = Path(tempfile.mkdtemp(prefix="nas-coreml-"))
            atexit.register(shutil.rmtree, self._build, ignore_errors=True)
        return self._build

    def _close(self) -> None:
        """Ends the app, and with it whatever is loaded."""
        self._prepared.session.stop()
        self._prepared = None
        # What a failed visit loaded says so when it is collected: here, where nobody hears it.
        gc.collect()

    def _opened(self, file: Path) -> Any:
        with quiet():
            import coremltools

            unit = coremltools.ComputeUnit[_COMPUTE_UNITS[self.compute_unit]]
            return coremltools.models.MLModel(str(file), compute_units=unit, skip_model_load=True)

    def _translated(self, package: Package) -> Path:
        """The kept file of a package, made once."""
        file = self.folder / f"{_identity(package)}.mlpackage"
        if not file.is_dir():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                _make(package, file)
            except LoweringError as problem:
                raise MeasureError(f"{package.name}: {problem}") from problem
            except OSError as problem:
                raise MeasureError(
                    f"cannot keep packages in {self.folder}: {problem.strerror}; set NAS_CACHE_DIR"
                    " to a folder that can be written"
                ) from problem
        return file


def _why_no_list(problem: Exception) -> str:
    if shutil.which("devicectl") is not None:
        return f"devicectl does not list devices: {one_line(problem)}"
    system = platform.system()
    hint = '; add "$(xcode-select -p)/usr/bin" to PATH' if system == "Darwin" else ""
    return f"devicectl was not found on this machine ({system}){hint}"


def _identity(package: Package) -> str:
    """Names a package by all that it is made of: blocks, their sources and the libraries."""
    network = package.network
    # A block's file in the cache is named by its class, sources and the libraries' versions.
    steps = [(step.name, cache_file(step.block).name, step.inputs) for step in network.steps]
    shapes = [package.input_shapes[name] for name in network.inputs]
    content = (_FORMAT, package.precision, network.inputs, shapes, steps, network.outputs)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _make(package: Package, file: Path) -> None:
    """Writes a package beside its place first, as another process may be writing it too."""
    shapes = [package.input_shapes[name] for name in package.network.inputs]
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".") as folder, _temporaries(folder):
        unfinished = Path(folder) / file.name
        model = model_of(network_module(package.network), shapes, package.precision)
        with quiet():
            model.save(str(unfinished))
        try:
            unfinished.rename(file)
        except OSError:
            if not file.is_dir():  # else another process was faster
                raise


def _prepare(phone: Any, folder: Path, team: str | None) -> Any:
    """Builds, installs and starts the app; the device that it runs on."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials

    if team and not team.isalnum():  # it becomes part of a command
        raise MeasureError(
            f"NAS_DEVELOPMENT_TEAM: {team!r} is no team identifier; it has ten letters and digits"
        )
    credentials = AppSigningCredentials(development_team=team or "")
    try:
        with quiet():
            return asyncio.run(phone.prepare_for_model_debugging(credentials, folder))
    except Exception as problem:
        hint = "unlock it and trust its developer" if team else "set NAS_DEVELOPMENT_TEAM"
        raise MeasureError(
            f"coremltools' model runner does not start on {phone.name}: {one_line(problem)}; {hint}"
        ) from problem


async def _visit(model: Any, phone: Any, runs: int) -> list[float]:
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    benchmarker = MLModelBenchmarker(model, phone)
    measured = await benchmarker.benchmark_predict(_inputs(model), iterations=runs, warmup=True)
    # It has no public way to unload, and what a model calls on its deletion is never awaited.
    await benchmarker._loaded_model.unload()
    return list(measured.samples)


def _inputs(model: Any) -> Mapping[str, NDArray[np.float16]]:
    """Random inputs in fp16. coremltools' own are fp32: converting them would be timed."""
    rng = np.random.default_rng(_SEED)
    shapes = {
        each.name: tuple(each.type.multiArrayType.shape)
        for each in model.get_spec().description.input
    }
    return {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}


@contextmanager
def _scratch(phone: Any) -> Iterator[None]:
    """Deletes what coremltools leaves behind in a visit: compiled models, inputs and outputs."""
    try:
        with tempfile.TemporaryDirectory(prefix="nas-coreml-") as folder, _temporaries(folder):
            yield
    finally:
        for requests in Path(phone.session.working_directory).glob("*/requests"):
            shutil.rmtree(requests.parent, ignore_errors=True)


@contextmanager
def _temporaries(folder: str) -> Iterator[None]:
    """Sends temporary files to a folder: coremltools names none and deletes few."""
    before = tempfile.tempdir
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
