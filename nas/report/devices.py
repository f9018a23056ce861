"""What recorded architectures take on several devices, with what each block takes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latency.lowering import LoweringError
from latency.table import MissingRowError
from latency.table_files import shipped_tables
from nas.pricing.budget import Gate
from nas.pricing.devices import DevicePricer
from nas.record.records import StudyRecord, Trial
from nas.retarget import device_gate, retargeted
from search_spaces.space import SearchSpace

Blocks = dict[str, Any]


@dataclass(frozen=True)
class Devices:
    """Trials priced on devices.

    Attributes:
        stages: of the designs.
        latency: device -> `<stage>_ms` -> a column by trial.
        held_factor: device -> what a limit is held against, of the point estimate.
        provenance: device -> how its latencies are known.
        blocks: `names`, `signatures`, `rows` and `ms`, as `report.study` says.
        missing: device -> why it has no prices here.
    """

    stages: Sequence[str]
    latency: Mapping[str, Mapping[str, list[float]]]
    held_factor: Mapping[str, float]
    provenance: Mapping[str, Mapping[str, Any]]
    blocks: Blocks
    missing: Mapping[str, str]


def recorded_devices(record: StudyRecord, trials: Sequence[Trial]) -> Devices:
    """As they were priced when they were asked for."""
    known = {d: p for d, p in record.provenance.items() if trials and d in _latency(trials[0])}
    latency = {
        device: {
            name: [_latency(trial)[device][name] for trial in trials]
            for name in _latency(trials[0])[device]
        }
        for device in known
    }
    first = next(iter(latency.values()), {})
    return Devices(
        stages=[name[: -len("_ms_upper")] for name in first if name.endswith("_ms_upper")],
        latency=latency,
        held_factor={device: _factor(known[device]) for device in known},
        provenance=dict(record.provenance),
        blocks=_blocks(trials, list(known)),
        missing={},
    )


def priced_devices(
    record: StudyRecord, trials: Sequence[Trial], space: SearchSpace, wanted: Sequence[str] = ()
) -> Devices:
    """By the present tables: those of the study's devices, the shipped ones and further ones.

    A device that cannot price all of them is left out, and it is said why.

    Args:
        record: of the study.
        trials: to be priced.
        space: of the study.
        wanted: further devices, by their tables' paths.
    """
    recorded = recorded_devices(record, trials)
    if not trials or not recorded.latency:
        return recorded
    latency, provenance = dict(recorded.latency), dict(recorded.provenance)
    factors, ms = dict(recorded.held_factor), dict(recorded.blocks["ms"])
    missing: dict[str, str] = {}
    for name in (*shipped_tables(), *wanted):
        if name in latency:
            continue  # what it was searched under stands
        try:
            gate = device_gate(record, space, name, {})
            (device,) = gate.limits
            found = retargeted(record, trials, gate)
            ms[device] = _signature_ms(gate, trials, recorded.blocks)
        except (MissingRowError, LoweringError, ValueError) as problem:
            missing[name] = " ".join(str(problem).split())
            continue
        latency[device] = dict(zip(found.names, found.prices.T.tolist(), strict=True))
        provenance[device] = dict(found.record.provenance[device])
        factors[device] = _factor(provenance[device])
    blocks = {**recorded.blocks, "ms": ms}
    return Devices(recorded.stages, latency, factors, provenance, blocks, missing)


def _latency(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    found: Mapping[str, Mapping[str, float]] = trial.price.get("latency", {})
    return found


def _factor(provenance: Mapping[str, Any]) -> float:
    held = provenance["held_against"] == "upper value"
    return 1 + float(provenance.get("margin_percent", 0)) / 100 if held else 1.0


def _blocks(trials: Sequence[Trial], devices: Sequence[str]) -> Blocks:
    """Steps and signatures by index; milliseconds of a signature for the whole image by device."""
    names: dict[str, int] = {}
    signatures: dict[str, int] = {}
    ms: dict[str, dict[int, float]] = {device: {} for device in devices}
    rows: dict[int, dict[str, list[list[int]]]] = {}
    for trial in trials:
        for device, stages in trial.blocks.items():
            for stage, steps in stages.items():
                found = []
                for step, signature, taken in steps:
                    sign = signatures.setdefault(signature, len(signatures))
                    found.append([names.setdefault(step, len(names)), sign])
                    ms.setdefault(device, {})[sign] = taken
                rows.setdefault(trial.number, {})[stage] = found
    return {
        "names": list(names),
        "signatures": list(signatures),
        "rows": rows,
        "ms": {d: [taken.get(i) for i in range(len(signatures))] for d, taken in ms.items()},
    }


def _signature_ms(gate: Gate, trials: Sequence[Trial], blocks: Blocks) -> list[float | None]:
    """Of every signature, whole image; architectures are built until all blocks are known."""
    pricer = gate.pricer
    assert isinstance(pricer, DevicePricer)
    (oracle,) = pricer.oracles.values()
    taken: dict[str, float] = {}
    for trial in trials:
        rows = [row for steps in blocks["rows"].get(trial.number, {}).values() for row in steps]
        if all(blocks["signatures"][sign] in taken for _, sign in rows):
            continue
        design = gate.space.build(trial.choices)
        for stage in design.stages.values():
            for step in stage.network.steps:
                price = design.tiles_per_image * oracle.block_ms(step.block)
                taken[step.block.signature] = price
    return [taken.get(signature) for signature in blocks["signatures"]]
