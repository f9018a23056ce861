"""The experiment file: read, validated whole and once, before anything is spent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, TypeAdapter, ValidationError

from evaluators.protocol import Direction
from latency.oracle import LatencyOracle
from latency.table import LatencyTable
from latency.table_files import load_table
from nas.plugin import EvaluatorSpec, accepted, all_settings
from search_spaces.blocks import Precision
from search_spaces.load import find_space, load_space
from search_spaces.space import SearchSpace
from search_spaces.yaml_files import import_object, parse, read_yaml

DEVICE = "iphone-17-pro-max"
DEFAULT_LIMITS = {"encode_ms": 230.0, "decode_ms": 150.0}
DEFAULT_BUDGET = {DEVICE: DEFAULT_LIMITS}
DEFAULT_OBJECTIVES = ["bd_rate_lpips", "decode_ms"]
SAMPLE = "sample"
_SHARED = ("data", "device", "precision", "anchor")  # settings of the evaluator at the top level

_Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
_Percent = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ExperimentError(ValueError):
    """An experiment that cannot be run; the message names file and key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Searcher(_Strict):
    population: Annotated[int, Field(ge=2)] = 12


class _ExperimentFile(_Strict):
    study: _Name
    space: StrictStr | dict[str, Any]
    budget: Annotated[
        dict[str, Annotated[dict[str, _Milliseconds], Field(min_length=1)]], Field(min_length=1)
    ] = DEFAULT_BUDGET
    objectives: Annotated[list[StrictStr], Field(min_length=1, max_length=3)] = DEFAULT_OBJECTIVES
    searcher: _Searcher = _Searcher()
    evaluator: StrictStr = "evaluators.proxy:ProxyEvaluator"
    data: StrictStr | None = None
    device: StrictStr | None = None
    anchor: StrictStr | None = None
    precision: Precision = "fp16"
    margin: _Percent | dict[str, _Percent] | None = None
    proxy: dict[str, Any] = {}
    trials: Annotated[int, Field(ge=1)] | None = None
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


@dataclass(frozen=True)
class Experiment:
    """One search, ready to be set up.

    Attributes:
        file: where it was read from.
        study: name of the record that it fills.
        space: what is searched.
        space_file: absolute path of the space, or of the experiment that holds it; for the workers.
        limits: device -> metric -> hard limit in ms; the first device's figures are the flat ones.
        oracles: device -> what prices architectures on it.
        objectives: one to three metrics, each with the direction that is better.
        population: of the searcher.
        evaluator: what scores a candidate.
        trials: candidates to train in the whole study, or None.
        hours: longest time to search, or None.
        workers: evaluations at a time, or None for one a core.
        seed: of searcher and evaluations.
        identity: all that a result depends on beside the space, JSON-ready; a study is recorded
            under one.
    """

    file: Path
    study: str
    space: SearchSpace
    space_file: Path
    limits: Mapping[str, Mapping[str, float]]
    oracles: Mapping[str, LatencyOracle]
    objectives: Mapping[str, Direction]
    population: int
    evaluator: EvaluatorSpec
    trials: int | None
    hours: float | None
    workers: int | None
    seed: int
    identity: Mapping[str, Any]


def load_experiment(file: Path) -> Experiment:
    """Reads and checks an experiment with everything that it names.

    Args:
        file: YAML; paths in it are relative to its folder.

    Raises:
        ExperimentError: not the schema, or it names an objective, an evaluator or a setting that
            does not exist.
        SpaceError: the space cannot be used.
        TableError: a device has no usable latency table.
    """
    document = parse(_ExperimentFile, read_yaml(file, ExperimentError), str(file), ExperimentError)
    if document.trials is None and document.hours is None:
        raise ExperimentError(f"{file}: trials: is missing; state trials, hours or both")
    folder = file.resolve().parent
    try:
        return _experiment(document, file, folder)
    except ExperimentError as error:
        raise ExperimentError(f"{file}: {error}") from None


def require_name(name: str, where: str) -> None:
    """Fails unless `name` may name a study, and so a folder.

    Raises:
        ExperimentError: it may not.
    """
    try:
        TypeAdapter(_Name).validate_python(name)
    except ValidationError:
        raise ExperimentError(
            f"{where}: {name!r} is not a name of letters, digits, dots, dashes and underscores"
        ) from None


def _experiment(document: _ExperimentFile, file: Path, folder: Path) -> Experiment:
    inline = isinstance(document.space, dict)
    space_file = file.resolve() if inline else find_space(str(document.space), folder).resolve()
    space = load_space(space_file)
    stages = tuple(space.design(space.reference).stages)
    tables = {name: load_table(_beside(name, folder)) for name in document.budget}
    evaluator = _evaluator(document, folder)
    return Experiment(
        file=file,
        study=document.study,
        space=space,
        space_file=space_file,
        limits=_limits(document, tables, stages),
        oracles=_oracles(document, tables),
        objectives=_objectives(document, evaluator, stages),
        population=document.searcher.population,
        evaluator=evaluator,
        trials=document.trials,
        hours=document.hours,
        workers=None if document.workers == "auto" else document.workers,
        seed=document.seed,
        identity=_identity(document, tables, folder),
    )


def _limits(
    document: _ExperimentFile, tables: Mapping[str, LatencyTable], stages: Sequence[str]
) -> dict[str, Mapping[str, float]]:
    valid = [f"{stage}_ms" for stage in stages]
    for device, limits in document.budget.items():
        for name in limits:
            if name not in valid and "budget" not in document.model_fields_set:
                raise ExperimentError(f"budget: is missing; state limits of {', '.join(valid)}")
            if name not in valid:
                raise ExperimentError(f"budget.{device}.{name}: {_instead(name, valid)}")
    limits_by_device = {tables[name].device: limits for name, limits in document.budget.items()}
    if len(limits_by_device) < len(document.budget):
        raise ExperimentError("budget: two of its tables are for the same device; keep one")
    return dict(limits_by_device)


def _oracles(
    document: _ExperimentFile, tables: Mapping[str, LatencyTable]
) -> dict[str, LatencyOracle]:
    """An oracle a device, at the stated precision and margin."""
    devices = [table.device for table in tables.values()]
    margins = document.margin
    if not isinstance(margins, dict):
        margins = {} if margins is None else dict.fromkeys(devices, margins)
    for name in margins:
        if name not in devices:
            raise ExperimentError(f"margin.{name}: {_instead(name, devices)}")
    for table in tables.values():
        if document.precision not in table.precisions:
            raise ExperimentError(
                f"precision: {table.device} has no latencies in {document.precision}; it has"
                f" {', '.join(table.precisions)}"
            )
    return {
        table.device: LatencyOracle(table, document.precision, margins.get(table.device))
        for table in tables.values()
    }


def _evaluator(document: _ExperimentFile, folder: Path) -> EvaluatorSpec:
    known = accepted(import_object(document.evaluator, folder, "evaluator", ExperimentError))
    settings = dict(document.proxy)
    shared = {"data": _data(document.data, folder), "device": document.device}
    shared["anchor"] = str(_anchor(document, folder)) if document.anchor else None
    # Of an evaluator that knows no precision, only the prices depend on it.
    shared["precision"] = document.precision if "precision" in known else None
    for name, value in shared.items():
        if name in settings:
            raise ExperimentError(f"proxy.{name}: belongs at the top level, beside study")
        if value is not None and name not in known:
            raise ExperimentError(f"{name}: {document.evaluator} takes none; leave the key out")
        if value is not None:
            settings[name] = value
    return EvaluatorSpec(document.evaluator, str(folder), settings)


def _anchor(document: _ExperimentFile, folder: Path) -> Path:
    """The codec file that candidates begin from."""
    file = (folder / str(document.anchor)).resolve()
    if not file.is_file():
        raise ExperimentError(f"anchor: no file {file}; experiments/train_anchor.py makes one")
    return file


def _file_digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _data(data: str | None, folder: Path) -> str | None:
    return data if data in (None, SAMPLE) else str((folder / data).resolve())


def _objectives(
    document: _ExperimentFile, spec: EvaluatorSpec, stages: Sequence[str]
) -> dict[str, Direction]:
    names, stated = document.objectives, "objectives" in document.model_fields_set
    evaluator = spec.build(ExperimentError)
    valid: dict[str, Direction] = dict(evaluator.metrics)
    scored = [name for name in names if name in valid]
    valid |= dict.fromkeys(price_metrics(stages), "minimize")
    for name in names:
        if name not in valid and not stated:
            raise ExperimentError(f"objectives: is missing; choose from {', '.join(valid)}")
        if name not in valid:
            raise ExperimentError(f"objectives: unknown {name!r}; {_instead(name, valid)}")
    if len(set(names)) < len(names):
        raise ExperimentError("objectives: one stands twice")
    if getattr(evaluator, "stops_early", False) and len(scored) > 1:
        raise ExperimentError(
            f"objectives: {' and '.join(scored)} are two, and what is stopped early may be good in"
            " one of them; keep one beside prices, or leave stop_early and decoder_first out"
        )
    return {name: valid[name] for name in names}


def price_metrics(stages: Sequence[str]) -> tuple[str, ...]:
    """Metrics that need no training, all to be minimised."""
    timed = tuple(f"{stage}_ms" for stage in stages)
    return (*timed, "network_ms", "coding_ms", "parameters", "kmacs_per_pixel")


def _identity(
    document: _ExperimentFile,
    tables: Mapping[str, LatencyTable],
    folder: Path,
) -> dict[str, Any]:
    made = import_object(document.evaluator, folder, "evaluator", ExperimentError)
    settings = all_settings(made, document.proxy)
    return {
        "objectives": document.objectives,
        "budget": document.budget,
        "precision": document.precision,
        "anchor": _file_digest(_anchor(document, folder)) if document.anchor else None,
        "margin": document.margin,
        "latency": {name: _digest(table) for name, table in tables.items()},
        "searcher": document.searcher.model_dump(),
        "evaluator": document.evaluator,
        "data": document.data or SAMPLE,
        "proxy": {k: v for k, v in settings.items() if k not in _SHARED},
        "seed": document.seed,
    }


def _digest(table: LatencyTable) -> str:
    return hashlib.sha256(table.model_dump_json().encode()).hexdigest()[:12]


def _beside(name: str, folder: Path) -> str:
    return str(folder / name) if name.endswith((".yaml", ".yml")) else name


def _instead(name: str, valid: Sequence[str] | Mapping[str, Any]) -> str:
    close = get_close_matches(name, list(valid), n=1)
    return f"did you mean {close[0]!r}?" if close else f"it has {', '.join(valid)}"
