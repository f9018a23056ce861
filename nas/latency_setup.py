"""From options of `nas latency` to backends, campaigns and files."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latency.lowering import default_cache
from latency.measure.backend import Backend, Device, MeasureError
from latency.measure.campaign import Effort, Plan, plan_space, run, space_blocks
from latency.measure.coding import measure_coding
from latency.measure.filling import Filled, fill
from latency.measure.host import Host
from latency.measure.journal import Journal
from latency.merge import merge_tables
from latency.ops import Precision
from latency.pool import lower_all
from latency.table import Cpu, LatencyTable, TableError
from latency.table_files import load_table, save_table, shipped_tables
from nas.display import tracked
from nas.experiment import require_name
from search_spaces.load import load_space
from search_spaces.space import SearchSpace

_SEED = 0
_APPLE = re.compile(r"(iphone|ipad)\b.*")


@dataclass(frozen=True)
class Target:
    """A device to measure, and where its table goes.

    Attributes:
        device: its name in the table.
        file: of the table; its samples lie beside it.
        backend: what runs packages on it.
        precision: of the packages.
    """

    device: str
    file: Path
    backend: Backend
    precision: Precision

    @property
    def samples(self) -> Path:
        """The file that samples are appended to as they come."""
        return self.file.with_suffix(f".{self.precision}.samples.jsonl")


def target(
    device: str,
    output: Path | None,
    backend: str | None,
    precision: str | None,
    threads: int,
) -> Target:
    """What the options of `measure` and `validate` name.

    Args:
        device: a name, or the path of the table that is filled.
        output: of the table; default `DEVICE.yaml` here.
        backend: `host` or `coreml`; default by the device's name.
        precision: default fp16 on a phone, fp32 here.
        threads: of this machine.

    Raises:
        ExperimentError: the device is no name.
        TableError: the table that is to be filled cannot be used.
    """
    if device.endswith((".yaml", ".yml")):
        output = output or Path(device)
        device = load_table(device).device if Path(device).is_file() else Path(device).stem
    require_name(device, "--device")
    kind = backend or ("coreml" if _APPLE.fullmatch(device) else "host")
    default: Precision = "fp32" if kind == "host" else "fp16"
    return Target(
        device,
        output or Path(f"{device}.yaml"),
        _backend(kind, device, threads),
        precision or default,  # type: ignore[arg-type]
    )


def _backend(kind: str, device: str, threads: int) -> Backend:
    if kind == "host":
        return Host(default_cache().parent / "onnx", threads)
    from latency.measure.coreml import CoreMLPhone

    return CoreMLPhone(device, default_cache().parent / "coreml")


def planned(target: Target, space_name: Path, networks: int) -> Plan:
    """What has to be timed for a space; lowers what nobody lowered before.

    Raises:
        SpaceError, LoweringError: the space cannot be used.
    """
    space = load_space(space_name)
    lowered(space)
    return plan_space(space, target.precision, networks, _SEED)


def lowered(space: SearchSpace) -> None:
    """Lowers every block of a space, on all cores."""
    for _ in tracked("lowering", lower_all(space_blocks(space))):
        pass


def measure(target: Target, plan: Plan, effort: Effort, speed: str) -> Filled:
    """Measures what the plan still misses and writes the table, merged into the one there.

    Raises:
        MeasureError: nothing can be measured.
        TableError: the table there is of something else.
    """
    device = target.backend.describe()
    cpu = coding_costs(target)
    journal = Journal(target.samples, header(target, device, speed))
    for _ in tracked("measuring", _visits(plan, target, journal, effort)):
        pass
    command = " ".join(["nas", *map(shlex.quote, sys.argv[1:])])
    filled = fill(plan, journal, target.device, device, cpu, speed, command)
    table = filled.table
    if target.file.is_file():
        table = merge_tables(load_table(target.file), table)
    save_table(table, target.file)
    return Filled(table, filled.unmeasured)


def header(target: Target, device: Device, speed: str) -> dict[str, object]:
    """What every sample of a campaign depends on."""
    return {
        "device": target.device,
        "precision": target.precision,
        "speed": speed,
        "chip": device.chip,
        "os_build": device.os_build,
        "compute_unit": device.compute_unit,
        "library_versions": dict(device.library_versions),
        "reference_ms": device.reference_ms,
    }


def _visits(
    plan: Plan, target: Target, journal: Journal, effort: Effort
) -> Iterator[tuple[int, int]]:
    yield from run(plan, target.backend, journal, effort, _SEED)


def coding_costs(target: Target) -> Cpu:
    """Of entropy coding: measured where this machine is the device, else as stated before.

    Raises:
        MeasureError: nobody has stated them for the device.
    """
    if isinstance(target.backend, Host):
        return measure_coding()
    if target.file.is_file():
        return load_table(target.file).cpu
    if target.device in shipped_tables():
        return load_table(target.device).cpu
    raise MeasureError(
        f"nothing is known of {target.device}'s CPU, which codes the symbols; copy the cpu: part of"
        f" a shipped table into {target.file} (nas latency devices lists them)"
    )


def require_same(table: LatencyTable, device: Device) -> str | None:
    """A warning when the device has another system than its table, else None.

    Raises:
        TableError: it is another chip or compute unit.
    """
    for name in ("chip", "compute_unit"):
        stated, found = getattr(table, name), getattr(device, name)
        if stated != found:
            raise TableError(
                f"{table.device}: its table is for {name} {stated!r}, here is {found!r}"
            )
    if table.os_build != device.os_build:
        return (
            f"{table.device}: its table was measured under {table.os_build}, the device now runs"
            f" {device.os_build}; measure again"
        )
    return None
