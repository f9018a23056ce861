"""From an experiment's file to what prices architectures, and to the limits that they must hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.protocol import Direction
from latency.oracle import LatencyOracle
from latency.table import LatencyTable
from latency.table_files import load_table
from nas.experiment_file import ExperimentError, ExperimentFile
from nas.plugin import all_settings, construct
from nas.pricing.devices import DevicePricer
from nas.pricing.own_oracle import OwnPricer
from nas.pricing.price import BudgetError, Pricer
from search_spaces.hints import did_you_mean
from search_spaces.space import SearchSpace
from search_spaces.yaml_files import import_object

DEVICE = "iphone-17-pro-max"
DEFAULT_LIMITS = {"encode_ms": 230.0, "decode_ms": 150.0}
DEFAULT_LABEL = "oracle"

Limits = Mapping[str, Mapping[str, float]]


def stated_budget(document: ExperimentFile) -> Limits:
    """The budget as written, or the default one; without limits by default where an own oracle
    prices."""
    default = {DEFAULT_LABEL: {}} if document.oracle else {DEVICE: DEFAULT_LIMITS}
    return default if document.budget is None else document.budget


def device_pricer(
    document: ExperimentFile, space: SearchSpace, tables: Mapping[str, LatencyTable]
) -> DevicePricer:
    """What prices by tables, at the stated precision and margin.

    Raises:
        ExperimentError: a device or a precision that there is none of.
        SpaceError: the space's builder fails.
    """
    if document.oracle_settings:
        raise ExperimentError("oracle_settings: there is no oracle of your own; name it in oracle")
    devices = [table.device for table in tables.values()]
    if len(set(devices)) < len(devices):
        raise ExperimentError("budget: two of its tables are for the same device; keep one")
    margins = document.margin
    if not isinstance(margins, dict):
        margins = {} if margins is None else dict.fromkeys(devices, margins)
    for name in margins:
        if name not in devices:
            raise ExperimentError(f"margin.{name}: {instead(name, devices)}")
    for table in tables.values():
        if document.precision not in table.precisions:
            raise ExperimentError(
                f"precision: {table.device} has no latencies in {document.precision}; it has"
                f" {', '.join(table.precisions)}"
            )
    oracles = {
        table.device: LatencyOracle(table, document.precision, margins.get(table.device))
        for table in tables.values()
    }
    return DevicePricer(space, oracles)


def own_pricer(document: ExperimentFile, space: SearchSpace, folder: Path) -> OwnPricer:
    """What prices by the user's own oracle.

    Raises:
        ExperimentError: there is no such oracle, its settings are wrong, or it gives no prices.
    """
    path, labels = str(document.oracle), list(stated_budget(document))
    if len(labels) > 1:
        raise ExperimentError(
            f"budget: {' and '.join(labels)} are several, and an oracle of your own goes with one"
        )
    if document.margin is not None:
        raise ExperimentError("margin: an oracle of your own has none; leave the key out")
    keys = ("oracle", "oracle_settings")
    oracle = construct(path, folder, document.oracle_settings, keys, ExperimentError)
    try:
        return OwnPricer(space, oracle, path, labels[0])
    except BudgetError as problem:
        raise ExperimentError(str(problem)) from None


def load_tables(document: ExperimentFile, folder: Path) -> dict[str, LatencyTable]:
    """Name in the budget -> table; none where an own oracle prices.

    Raises:
        TableError: there is no such table, or it is not one.
    """
    names = [] if document.oracle else stated_budget(document)
    return {name: load_table(_beside(name, folder)) for name in names}


def table_files(tables: Mapping[str, LatencyTable], folder: Path) -> dict[str, str]:
    """Device -> absolute path of its table, of those that are not shipped."""
    return {
        table.device: str((folder / name).resolve())
        for name, table in tables.items()
        if is_path(name)
    }


def device_limits(
    document: ExperimentFile, pricer: Pricer, tables: Mapping[str, LatencyTable]
) -> dict[str, Mapping[str, float]]:
    """Device or label -> metric -> hard limit.

    Raises:
        ExperimentError: a limit of something that the pricer does not state.
    """
    if isinstance(pricer, DevicePricer):
        valid = {f"{stage}_ms": pricer.metrics[f"{stage}_ms"] for stage in pricer.stages}
    else:
        valid = dict(pricer.metrics)
    budget = stated_budget(document)
    for label, limits in budget.items():
        for name, most in limits.items():
            if name not in valid and document.budget is None:
                raise ExperimentError(f"budget: is missing; state limits of {', '.join(valid)}")
            if name not in valid:
                raise ExperimentError(f"budget.{label}.{name}: {instead(name, valid)}")
            _require_upper(f"budget.{label}.{name}", valid[name])
            if tables:
                _require_positive(f"budget.{label}.{name}", most)
    return {tables[name].device if tables else name: held for name, held in budget.items()}


def other_limits(
    document: ExperimentFile, pricer: Pricer, scores: Mapping[str, Direction]
) -> dict[str, float]:
    """Metric -> hard limit of what is no device's latency.

    Args:
        document: the experiment's.
        pricer: states the metrics that limits may be of.
        scores: the evaluator's metrics, for messages.

    Raises:
        ExperimentError: a limit that cannot be held before training, or of an unknown metric.
    """
    for name, most in document.limits.items():
        key = f"limits.{name}"
        if name in pricer.figures:
            _require_upper(key, pricer.metrics[name])
        elif name in pricer.metrics:
            raise ExperimentError(f"{key}: is a device's latency; those limits stand under budget")
        elif name in scores:
            raise ExperimentError(
                f"{key}: is known after training only, and limits are held before; there are"
                f" {', '.join(pricer.figures)}; make it an objective"
            )
        else:
            raise ExperimentError(f"{key}: {instead(name, pricer.figures)}")
        if isinstance(pricer, DevicePricer):
            _require_positive(key, most)
    return dict(document.limits)


def pricing_identity(
    document: ExperimentFile, tables: Mapping[str, LatencyTable], folder: Path
) -> dict[str, Any]:
    """What prices and limits depend on, JSON-ready; of later keys only what is not their default.

    Studies that were recorded before there was such a key then go on.
    """
    identity: dict[str, Any] = {
        "budget": stated_budget(document),
        "margin": document.margin,
        "latency": {name: _digest(table) for name, table in tables.items()},
    }
    if document.limits:
        identity["limits"] = document.limits
    if document.oracle:
        made = import_object(document.oracle, folder, "oracle", ExperimentError)
        identity["oracle"] = document.oracle
        identity["oracle_settings"] = all_settings(made, document.oracle_settings)
    return identity


def instead(name: str, valid: Sequence[str] | Mapping[str, Any]) -> str:
    """What an unknown name was likely meant to be, else what there is."""
    listed = f"it has {', '.join(valid)}" if valid else "it has none"
    return did_you_mean(name, valid).removeprefix("; ") or listed


def _require_upper(key: str, way: Direction) -> None:
    if way == "maximize":
        raise ExperimentError(f"{key}: more of it is better, and a limit is an upper one")


def _require_positive(key: str, most: float) -> None:
    if most <= 0:
        raise ExperimentError(f"{key}: input should be greater than 0 (got {most:g})")


def _digest(table: LatencyTable) -> str:
    return hashlib.sha256(table.model_dump_json().encode()).hexdigest()[:12]


def _beside(name: str, folder: Path) -> str:
    return str(folder / name) if is_path(name) else name


def is_path(name: str) -> bool:
    """Whether a device is given by its table's file, not by a shipped name."""
    return name.endswith((".yaml", ".yml"))
