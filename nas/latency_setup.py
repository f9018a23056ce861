"""From options of `nas latency` to backends, campaigns and files."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency.lowering import default_cache
from latency.measure import validation
from latency.measure.backend import Backend, Device, MeasureError, require_precision
from latency.measure.campaign import (
    Effort,
    Plan,
    heat,
    plan_space,
    run,
    space_blocks,
    whole_networks,
)
from latency.measure.coding import measure_coding
from latency.measure.filling import Filled, fill
from latency.measure.host import Host
from latency.measure.journal import Journal
from latency.merge import merge_tables
from latency.oracle import LatencyOracle
from latency.pool import lower_all
from latency.table import Cpu, LatencyTable, TableError
from latency.table_files import find_table, load_table, save_table, shipped_tables
from nas.display.live import track
from nas.experiment import require_name
from search_spaces.blocks import Precision
from search_spaces.load import load_space

_SEED = 0
_HEAT_SECONDS = 600.0  # sustained speed is reached after about ten minutes
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
    made = _backend(kind, device, threads)
    chosen = precision or made.precisions[0]
    return Target(device, output or Path(f"{device}.yaml"), made, chosen)  # type: ignore[arg-type]


def _backend(kind: str, device: str, threads: int) -> Backend:
    if kind == "host":
        return Host(default_cache().parent / "onnx", threads)
    from latency.measure.coreml import CoreMLPhone

    return CoreMLPhone(device, default_cache().parent / "coreml")


def ready(target: Target) -> Device:
    """The device, once it is sure that it can be measured into the table that is there.

    Raises:
        MeasureError: there is no such device, or it does not run the precision.
        TableError: the table is of another chip or compute unit, or not measured.
    """
    require_precision(target.backend, target.precision)
    device = target.backend.describe()
    if target.file.is_file():
        table = load_table(target.file)
        require_same(table, device)
        if table.provenance != "measured":
            raise TableError(f"{target.file}: is analytic; choose another --output")
    return device


def planned(target: Target, space_name: Path, networks: int) -> Plan:
    """What has to be timed for a space; lowers what nobody lowered before.

    Raises:
        SpaceError, LoweringError: the space cannot be used.
    """
    space = load_space(space_name)
    blocks = space_blocks(space)
    track("lowering", lower_all(blocks))
    return plan_space(space, blocks, target.precision, networks, _SEED)


def measure(target: Target, device: Device, plan: Plan, effort: Effort, speed: str) -> Filled:
    """Measures what the plan still misses and writes the table, merged into the one there.

    Raises:
        MeasureError: a package could not be measured.
        TableError: the table there is of another speed.
    """
    cpu = coding_costs(target)
    journal = Journal(target.samples, header(target, device, speed))
    if speed == "sustained":
        track("heating, seconds", heat(plan, target.backend, _HEAT_SECONDS))
    track("measuring", run(plan, target.backend, journal, effort, _SEED))
    command = " ".join(["nas", *map(shlex.quote, sys.argv[1:])])
    filled = fill(plan, journal, target.device, device, cpu, speed, command)
    table = filled.table
    if target.file.is_file():
        table = merge_tables(load_table(target.file), table)
    save_table(table, target.file)
    return Filled(table, filled.unmeasured)


def validate(
    target: Target, space_name: Path, networks: int, rounds: int, seed: int, save: bool
) -> dict[str, Any]:
    """Predicts whole networks, measures them, and says how far off the table was.

    Args:
        target: the table and its device.
        space_name: that networks are drawn from.
        networks: how many.
        rounds: in which each is visited.
        seed: of the draw; not that of a campaign, whose networks made the table.
        save: writes the error, and a margin from it, into the table.

    Raises:
        TableError, MissingRowError: the table cannot be used, or lacks a block.
        MeasureError: nothing can be measured.
    """
    file = target.file if target.file.is_file() else find_table(target.device)
    table, device = load_table(file), target.backend.describe()
    warning = require_same(table, device)
    drawn = whole_networks(load_space(space_name), networks, seed, target.precision)
    predictions = validation.predict(drawn, LatencyOracle(table, target.precision))
    samples = target.file.with_suffix(f".{target.precision}.validation.jsonl")
    journal = Journal(samples, header(target, device, table.speed))
    track("measuring", validation.run(predictions, target.backend, journal, rounds, seed))
    document = validation.report(predictions, journal, table.margin_percent)
    if save and not document["void"]:
        save_table(_validated(table, document), file)
    about = {"device": table.device, "table": str(file), "precision": target.precision}
    return {**about, "seed": seed, "warning": warning, **document}


def _validated(table: LatencyTable, document: Mapping[str, Any]) -> LatencyTable:
    """With the error that was found, and a margin that 95 % of the networks are inside."""
    error = round(document["mean_absolute_error_percent"], 2)
    margin = math.ceil(10 * document["p95_error_percent"]) / 10
    return table.model_copy(update={"held_out_error_percent": error, "margin_percent": margin})


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
