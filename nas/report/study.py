"""A study as the page reads it: columns by trial, prices by device, what a block takes.

Columns instead of records keep a page of thousands of trials small, and let it find the front of
another budget or device in a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nas.record.entries import study_document
from nas.record.records import StudyRecord, Trial
from nas.record.store import TrialStore
from nas.report import importance, progress
from nas.report.devices import Devices, recorded_devices

Columns = dict[str, list[Any]]


def study(
    store: TrialStore,
    devices: Devices | None = None,
    peers: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> dict[str, Any]:
    """What the page shows of one study, JSON-ready.

    Args:
        store: of the study.
        devices: its trials priced on several devices; default as they are recorded.
        peers: name of another codec -> its rate-distortion points on the same crops.

    Returns:
        What `entries.study_document` says of the whole study, its `trials` as `counts`, of its
        `front` the trials' numbers, and

        - `trials`: columns by trial, finished ones: `trial`, `key`, `fidelity`, `state`, `seconds`,
          `started`, `weights` (where a supernet's are inherited), and every figure by name, None
          where a trial has none;
        - `metrics` and `prices`: the names of those that are trained and that are not, and
          `integers` among them;
        - `choices`: `names`, `options` of each, and `rows`, an index an option or None;
        - `latency`: device -> `<stage>_ms` -> a column; `held_factor` and `provenance` by device;
        - `rd`: trial -> rate-distortion points; `errors`: trial -> text; `pictures`: trial -> file;
        - `blocks`: `names`, `signatures`, `rows` (trial -> stage -> [name, signature] by index) and
          `ms` (device -> of every signature);
        - `volume`: hypervolume by results and hours; `importance`: objective -> choice -> share.
    """
    record, trials = store.record(), store.trials()
    ended = [trial for trial in trials if trial.ended]
    devices = devices or recorded_devices(record, ended)
    whole = study_document(store)
    scored = [trial for trial in ended if trial.scored]
    return {
        **{name: x for name, x in whole.items() if name != "dominated"},
        "front": [best["trial"] for best in whole["front"]],
        "counts": whole["trials"],
        "directions": _directions(record, scored),
        "provenance": dict(devices.provenance),
        "held_factor": dict(devices.held_factor),
        "stages": list(devices.stages),
        "unpriced": devices.missing,
        "metrics": _numeric([trial.metrics for trial in ended]),
        "prices": _prices(ended, devices),
        "integers": _integers([{**trial.price, **trial.metrics} for trial in scored]),
        "trials": _columns(ended, devices),
        "choices": _choices(ended),
        "latency": devices.latency,
        "blocks": devices.blocks,
        "rd": {t.number: t.metrics["rd_points"] for t in scored if t.metrics.get("rd_points")},
        "errors": {t.number: t.error for t in ended if t.error},
        "pictures": {
            t.number: t.metrics["reconstruction"] for t in scored if t.metrics.get("reconstruction")
        },
        "peers": dict(peers or {}),
        "volume": progress.volume(record, scored, whole["hypervolume"]),
        "importance": importance.by_objective(record, scored),
        "outside": whole["proposals"]["over_budget"],
    }


def _numeric(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names under which any record holds a number, in their order."""
    names: dict[str, None] = {}
    for one in records:
        names |= dict.fromkeys(
            name
            for name, x in one.items()
            if isinstance(x, (int, float)) and not isinstance(x, bool)
        )
    return list(names)


def _integers(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose every number is whole by its nature: 2.0 is none."""
    return [
        name
        for name in _numeric(records)
        if all(isinstance(one[name], int) for one in records if one.get(name) is not None)
    ]


def _prices(trials: Sequence[Trial], devices: Devices) -> list[str]:
    """Of what is no device's latency: sizes, or all that a user's own oracle says."""
    latencies = {name for columns in devices.latency.values() for name in columns}
    return [name for name in _numeric([trial.price for trial in trials]) if name not in latencies]


def _columns(trials: Sequence[Trial], devices: Devices) -> Columns:
    columns: Columns = {
        "trial": [t.number for t in trials],
        "key": [t.key for t in trials],
        "fidelity": [t.fidelity for t in trials],
        "state": ["scored" if t.scored else t.state for t in trials],
        "seconds": [t.seconds for t in trials],
        "started": [t.started for t in trials],
    }
    if any("weights" in t.metrics for t in trials):
        columns["weights"] = [t.metrics.get("weights") for t in trials]
    for name in _numeric([t.metrics for t in trials]):
        columns.setdefault(name, [t.metrics.get(name) for t in trials])
    for name in _prices(trials, devices):
        columns.setdefault(name, [t.price.get(name) for t in trials])
    return columns


def _choices(trials: Sequence[Trial]) -> dict[str, Any]:
    options: dict[str, dict[Any, int]] = {}
    for trial in trials:
        for name, choice in trial.choices.items():
            known = options.setdefault(name, {})
            known.setdefault(choice, len(known))
    names = list(options)
    return {
        "names": names,
        "options": [list(options[name]) for name in names],
        "rows": [
            [options[n][t.choices[n]] if n in t.choices else None for n in names] for t in trials
        ],
    }


def _directions(record: StudyRecord, trials: Sequence[Trial]) -> dict[str, str]:
    """Of the objectives, and of what is better when it is smaller in any study."""
    timed = {name: "minimize" for t in trials[:1] for name in t.price if name != "latency"}
    return {**timed, **record.objectives}
