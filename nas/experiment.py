"""The experiment file: read, validated whole and once, before anything is spent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.protocol import Direction, Evaluator, without_later_defaults
from latency.table import LatencyTable
from nas.experiment_file import DEFAULT_OBJECTIVES as DEFAULT_OBJECTIVES
from nas.experiment_file import FUNNEL, ExperimentFile, SearcherFile
from nas.experiment_file import ExperimentError as ExperimentError
from nas.experiment_file import require_name as require_name
from nas.named import remember
from nas.plugin import EvaluatorSpec, accepted, all_settings
from nas.pricing.own_oracle import RESERVED
from nas.pricing.price import Code, Pricer
from nas.pricing.setup import DEFAULT_LIMITS as DEFAULT_LIMITS
from nas.pricing.setup import (
    device_limits,
    device_pricer,
    instead,
    load_tables,
    other_limits,
    own_pricer,
    pricing_identity,
    table_files,
)
from nas.resources import Needs
from nas.searchers.choice import SEARCHERS, Model
from nas.searchers.problem import FULL
from search_spaces.document import flatten
from search_spaces.load import load_space, space_source
from search_spaces.space import SearchSpace, SpaceError
from search_spaces.yaml_files import import_object, parse, read_yaml

SAMPLE = "sample"
_SHARED = (
    "data",
    "device",
    "precision",
    "anchor",
    "supernet",
)  # settings of the evaluator at the top level
_FULL = (FULL,)


@dataclass(frozen=True)
class Experiment:
    """One search, ready to be set up.

    Attributes:
        file: where it was read from.
        study: name of the record that it fills.
        space: what is searched.
        space_file: what `load_space` finds the space by in any process: absolute path of its file,
            or of the experiment that holds it; or an import path.
        pricer: what prices architectures.
        table_files: device -> absolute path of its table, of those that are not shipped.
        limits: device, or label of an own oracle -> metric -> hard limit; the first device's
            figures are the flat ones.
        other_limits: metric -> hard limit of what is no device's latency.
        objectives: one to three metrics, each with the direction that is better.
        searcher: name of what proposes architectures.
        population: of the searcher.
        model: that chooses among the searcher's children.
        kmacs_per_pixel: that the funnel's sample lies between; None for all.
        fidelities: ascending shares of the full training, the last one 1.
        start: codes to begin with.
        warm_start: study whose results are taken over, or None.
        plateau: results without growth of the hypervolume after which the search ends, or None.
        evaluator: what scores a candidate.
        trials: candidates to train in the whole study, or None.
        hours: longest time to search, or None.
        workers: evaluations at a time, or None for as many as the machine or the cluster takes.
        needs: of an evaluation.
        seed: of searcher and evaluations.
        identity: all that a result depends on beside the space, JSON-ready; a study is recorded
            under one.
    """

    file: Path
    study: str
    space: SearchSpace
    space_file: str
    pricer: Pricer
    table_files: Mapping[str, str]
    limits: Mapping[str, Mapping[str, float]]
    other_limits: Mapping[str, float]
    objectives: Mapping[str, Direction]
    searcher: str
    population: int
    model: Model
    kmacs_per_pixel: tuple[float, float] | None
    fidelities: tuple[float, ...]
    start: tuple[Code, ...]
    warm_start: str | None
    plateau: int | None
    evaluator: EvaluatorSpec
    trials: int | None
    hours: float | None
    workers: int | None
    needs: Needs
    seed: int
    identity: Mapping[str, Any]


def load_experiment(file: Path) -> Experiment:
    """Reads and checks an experiment with everything that it names, code of the user's too.

    Args:
        file: YAML, named by the user; paths in it are relative to its folder.

    Raises:
        ExperimentError: not the schema, or it names an objective, an evaluator or a setting that
            does not exist.
        SpaceError: the space cannot be used.
        TableError: a device has no usable latency table.
    """
    document = parse(ExperimentFile, read_yaml(file, ExperimentError), str(file), ExperimentError)
    if document.trials is None and document.hours is None:
        raise ExperimentError(f"{file}: trials: is missing; state trials, hours or both")
    folder = file.resolve().parent
    try:
        experiment = _experiment(document, file, folder)
    except ExperimentError as error:
        raise ExperimentError(f"{file}: {error}") from None
    remember(file.resolve(), experiment.space_file)
    return experiment


def _experiment(document: ExperimentFile, file: Path, folder: Path) -> Experiment:
    inline = isinstance(document.space, dict)
    source = str(file.resolve()) if inline else space_source(str(document.space), folder)
    space = load_space(source)
    tables = load_tables(document, folder)
    spec = _evaluator(document, folder)
    evaluator = spec.build(ExperimentError)
    pricer: Pricer = (
        own_pricer(document, space, folder)
        if document.oracle
        else device_pricer(document, space, tables)
    )
    return Experiment(
        file=file,
        study=document.study,
        space=space,
        space_file=source,
        pricer=pricer,
        table_files=table_files(tables, folder),
        limits=device_limits(document, pricer, tables),
        other_limits=other_limits(document, pricer, evaluator.metrics),
        objectives=_objectives(document, evaluator, pricer),
        searcher=_searcher(document, evaluator),
        population=document.searcher.population,
        model=document.searcher.model,
        kmacs_per_pixel=_band(document, pricer),
        fidelities=_fidelities(document, evaluator),
        start=_start(document, space),
        warm_start=document.warm_start,
        plateau=document.plateau,
        evaluator=spec,
        trials=document.trials,
        hours=document.hours,
        workers=None if document.workers == "auto" else document.workers,
        needs=document.needs(getattr(evaluator, "device", None)),
        seed=document.seed,
        identity=_identity(document, tables, folder),
    )


def _evaluator(document: ExperimentFile, folder: Path) -> EvaluatorSpec:
    known = accepted(import_object(document.evaluator, folder, "evaluator", ExperimentError))
    settings = dict(document.proxy)
    shared = {"data": _data(document.data, folder), "device": document.device}
    files = ("anchor", "experiments/train_anchor.py"), ("supernet", "nas supernet EXP.yaml")
    for name, source in files:
        stated = getattr(document, name)
        shared[name] = str(_named_file(name, stated, folder, source)) if stated else None
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


def _named_file(key: str, stated: str, folder: Path, source: str = "") -> Path:
    """A file that candidates begin from."""
    file = (folder / stated).resolve()
    if not file.is_file():
        raise ExperimentError(f"{key}: no file {file}; {source} makes one")
    return file


def _file_digest(key: str, stated: str | None, folder: Path) -> str | None:
    if stated is None:
        return None
    return hashlib.sha256(_named_file(key, stated, folder).read_bytes()).hexdigest()[:12]


def _data(data: str | None, folder: Path) -> str | None:
    return data if data in (None, SAMPLE) else str((folder / data).resolve())


def _objectives(
    document: ExperimentFile, evaluator: Evaluator, pricer: Pricer
) -> dict[str, Direction]:
    names, stated = document.objectives, "objectives" in document.model_fields_set
    scores = evaluator.metrics
    for name in pricer.figures if document.oracle else ():
        if name in scores:
            raise ExperimentError(f"oracle: {name!r} is a metric of the evaluator too; rename one")
    valid = {**scores, **pricer.metrics}
    for name in names:
        if name not in valid and not stated:
            raise ExperimentError(f"objectives: is missing; choose from {', '.join(valid)}")
        if name not in valid:
            raise ExperimentError(f"objectives: unknown {name!r}; {instead(name, valid)}")
        if name in RESERVED:
            raise ExperimentError(f"objectives: records hold something else under {name!r}; rename")
    if len(set(names)) < len(names):
        raise ExperimentError("objectives: one stands twice")
    scored = [name for name in names if name in scores]
    if getattr(evaluator, "stops_early", False) and len(scored) > 1:
        raise ExperimentError(
            f"objectives: {' and '.join(scored)} are two, and what is stopped early may be good in"
            " one of them; keep one beside prices, or leave stop_early and decoder_first out"
        )
    return {name: valid[name] for name in names}


def _searcher(document: ExperimentFile, evaluator: Evaluator) -> str:
    name = document.searcher.name
    if name not in SEARCHERS:
        raise ExperimentError(f"searcher.name: unknown {name!r}; {instead(name, SEARCHERS)}")
    if name == FUNNEL and not _has_fidelities(evaluator):
        raise ExperimentError(
            f"searcher.name: the funnel trains partially first, and {document.evaluator} has no"
            " fidelities"
        )
    if name == FUNNEL and (document.trials or 0) < 2:
        raise ExperimentError("trials: the funnel must know how many there are, two or more")
    return name


def _band(document: ExperimentFile, pricer: Pricer) -> tuple[float, float] | None:
    band = document.searcher.kmacs_per_pixel
    if band is None:
        return None
    if "kmacs_per_pixel" not in pricer.metrics:
        raise ExperimentError("searcher.kmacs_per_pixel: your own oracle states none")
    if not band[0] < band[1]:
        raise ExperimentError(f"searcher.kmacs_per_pixel: from low to high, not {band}")
    return band[0], band[1]


def _fidelities(document: ExperimentFile, evaluator: Evaluator) -> tuple[float, ...]:
    fidelities = tuple(document.fidelities)
    if list(fidelities) != sorted(set(fidelities)) or fidelities[-1] != 1:
        raise ExperimentError(f"fidelities: must ascend to 1, not {list(fidelities)}")
    if fidelities != _FULL and document.searcher.name == FUNNEL:
        raise ExperimentError("fidelities: the funnel has its own; leave the key out")
    if fidelities != _FULL and not _has_fidelities(evaluator):
        raise ExperimentError(f"fidelities: {document.evaluator} has none; leave the key out")
    return fidelities


def _has_fidelities(evaluator: Evaluator) -> bool:
    return bool(getattr(evaluator, "has_fidelities", False))


def _start(document: ExperimentFile, space: SearchSpace) -> tuple[Code, ...]:
    codes = []
    for i, choices in enumerate(document.start):
        try:
            flat = flatten(choices, f"start[{i}]")
        except SpaceError as problem:
            raise ExperimentError(str(problem)) from None
        try:
            codes.append(space.architecture(space.encode(flat)).code)
        except SpaceError as problem:
            raise ExperimentError(f"start[{i}]: {problem}") from None
    return tuple(codes)


def _identity(
    document: ExperimentFile, tables: Mapping[str, LatencyTable], folder: Path
) -> dict[str, Any]:
    """Of keys that came later, only what is not their default: older studies then go on."""
    made = import_object(document.evaluator, folder, "evaluator", ExperimentError)
    settings = all_settings(made, document.proxy)
    later = document.model_dump(include={"fidelities", "start", "warm_start"})
    later["supernet"] = _file_digest("supernet", document.supernet, folder)
    default = {"fidelities": list(_FULL), "start": [], "warm_start": None, "supernet": None}
    return {
        "objectives": document.objectives,
        "precision": document.precision,
        "anchor": _file_digest("anchor", document.anchor, folder),
        "searcher": _searcher_identity(document.searcher),
        "evaluator": document.evaluator,
        "data": document.data or SAMPLE,
        "proxy": {k: v for k, v in without_later_defaults(settings).items() if k not in _SHARED},
        "seed": document.seed,
        **pricing_identity(document, tables, folder),
        **{name: value for name, value in later.items() if value != default[name]},
    }


def _searcher_identity(searcher: SearcherFile) -> dict[str, Any]:
    usual = SearcherFile()
    stated = {n: x for n, x in searcher.model_dump().items() if x != getattr(usual, n)}
    return {"population": searcher.population, **stated}
