"""A study's results under another device or budget: priced anew, never trained again.

What a search never trained because it was over the budget of then is not in the record. It is
counted, so that a front says how much of the present budget it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.oracle import LatencyOracle
from latency.table_files import load_table
from nas.named import holds_no_code, is_named
from nas.pricing.budget import SAMPLES, Gate
from nas.pricing.devices import DevicePricer
from nas.pricing.price import Values
from nas.record.entries import document_of, entry
from nas.record.records import StudyRecord, Trial
from nas.record.sound import require_number
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from search_spaces.load import load_space
from search_spaces.space import Codes, SearchSpace, SpaceError

Limits = Mapping[str, float]


@dataclass(frozen=True)
class Retargeted:
    """A study as it would stand under another budget.

    Attributes:
        record: with the present device, limits and provenance.
        trials: every trial, as it was recorded.
        names: of the prices.
        prices: of the present device, shape (N, K).
        held: what the limits are held against, in the order of the gate's, shape (N, L).
        inside: which are inside the budget, shape (N,).
    """

    record: StudyRecord
    trials: Sequence[Trial]
    names: Sequence[str]
    prices: Values
    held: Values
    inside: NDArray[np.bool_]

    def entry(self, row: int) -> dict[str, Any]:
        """As `entries.entry`, with the present device's prices."""
        (device,) = self.record.limits
        latency = dict(zip(self.names, self.prices[row].tolist(), strict=True))
        return {**entry(self.trials[row]), **latency, "latency": {device: latency}}

    def document(self, study: str) -> dict[str, Any]:
        """As `entries.study_document`, of the full results inside the budget."""
        rows = [row for row in np.flatnonzero(self.inside) if self.trials[row].scored]
        nothing_proposed = {"proposed": 0, "over_budget": 0}  # against this budget
        return document_of(
            study,
            self.record,
            [self.trials[row] for row in rows],
            nothing_proposed,
            [self.entry(row) for row in rows],
        )


def recorded_space(record: StudyRecord, stated: str | None = None) -> SearchSpace:
    """The space that a study was recorded in.

    Args:
        record: the study's.
        stated: where it is now, as for `load_space`; default where it was.

    Raises:
        StudyError: it is not there, it has changed, or it is of code that only the record names.
        SpaceError: it cannot be read.
    """
    source = stated or record.about.get("space_file")
    if source is None:
        raise StudyError("the study does not say where its space is; name it with --space")
    if stated is None and not (is_named(source) or holds_no_code(str(source))):
        raise StudyError(
            f"the study was recorded in {source}, which may run code and was never named here;"
            " name it with --space"
        )
    try:
        space = load_space(str(source))
    except SpaceError as problem:
        raise SpaceError(f"{problem}; --space says where it is now") from None
    if record.description and space.description() != record.description:
        raise StudyError(
            f"{source} has changed since the study was recorded: nas search goes on with a space"
            " that has grown; --space names another file"
        )
    return space


def device_gate(
    record: StudyRecord,
    space: SearchSpace,
    device: str | None,
    stated: Limits,
    margin_percent: float | None = None,
) -> Gate:
    """The budget on a device.

    Args:
        record: states precision and margin, and the limits that are not stated.
        space: of the study.
        device: a shipped name or a table's path; default the study's first.
        stated: `<stage>_ms`, or a size, to its limit.
        margin_percent: default the study's, where it is one for all devices, else the table's.

    Raises:
        TableError: there is no such table.
        StudyError: it has no latencies in the study's precision, or a limit is of no such stage.
    """
    if "oracle" in record.identity:
        raise StudyError("a study with an oracle of its own has no devices to choose from")
    table = load_table(device or table_source(record, next(iter(record.limits))))
    precision = record.identity.get("precision", "fp16")
    if precision not in table.precisions:
        raise StudyError(f"{table.device} has no latencies in {precision}, the study's precision")
    margin = record.identity.get("margin") if margin_percent is None else margin_percent
    if isinstance(margin, dict):
        margin = margin.get(table.device)
    pricer = DevicePricer(space, {table.device: LatencyOracle(table, precision, margin)})
    timed = [f"{stage}_ms" for stage in pricer.stages]
    known = {**_limits(record, table.device), **record.other_limits, **stated}
    for name in known:
        if name not in (*timed, *pricer.figures):
            raise StudyError(f"no limit {name!r}; there are {', '.join([*timed, *pricer.figures])}")
    held = {name: most for name, most in known.items() if name in timed}
    others = {name: most for name, most in known.items() if name not in timed}
    return Gate(pricer, {table.device: held}, others)


def retargeted(record: StudyRecord, trials: Sequence[Trial], gate: Gate) -> Retargeted:
    """Prices recorded trials anew.

    Args:
        record: the study's.
        trials: all of it.
        gate: of one device, from `device_gate`.
    """
    present = replace(
        record,
        limits=gate.limits,
        other_limits={limit.name: limit.most for limit in gate.flat_limits if not limit.device},
        provenance=gate.pricer.provenance,
    )
    names = [name for name in gate.pricer.metrics if name not in gate.pricer.figures]
    codes = codes_of(trials, record, gate.space)
    held = gate.held(codes)
    return Retargeted(present, trials, names, gate.prices(codes, names), held, gate.within(held))


def retarget_document(store: TrialStore, gate: Gate) -> dict[str, Any]:
    """The front under another budget, JSON-ready.

    Returns:
        As `entries.study_document` of the full results inside the budget, and `retargeted`:
        `device`, `limits`, `outside` (trained, and outside the present budget), `nearest` (the
        trained one that comes nearest, and what limits are held against of it; only where the front
        is empty) and `unknown_share` (of `unknown_share`).
    """
    record, trials = store.record(), store.trials()
    found = retargeted(record, trials, gate)
    document = found.document(store.name)
    scored = sum(trial.scored for trial in trials)
    document["retargeted"] = {
        "device": next(iter(gate.limits)),
        "limits": {limit.name: limit.most for limit in gate.flat_limits},
        "outside": scored - document["trials"]["complete"],
        "nearest": None if document["front"] else _nearest(gate, found),
        "unknown_share": unknown_share(record, gate),
    }
    return document


def sweep_document(
    store: TrialStore, gate: Gate, name: str, limits: Sequence[float]
) -> dict[str, Any]:
    """The best architecture for each limit, JSON-ready.

    Args:
        store: of the study.
        gate: of one device; its limit called `name` is not held.
        name: of one of its limits.
        limits: of it, ascending.

    Returns:
        `study`, `device`, `name`, `objective` (the first one that is trained: what is best),
        `direction`, `limits` (the others), `provenance` and `rows`: `limit`, `inside` (trained ones
        inside it) and `best` (an entry, or None).

    Raises:
        StudyError: all objectives are priced.
    """
    record = store.record()
    trained = [n for n in record.objectives if n not in gate.pricer.metrics]
    if not trained:
        raise StudyError(
            f"{', '.join(record.objectives)}: nothing of it is trained, so none is best"
        )
    objective, sign = trained[0], 1.0 if record.objectives[trained[0]] == "minimize" else -1.0
    scored = [trial for trial in store.trials() if trial.scored]
    for trial in scored:
        require_number(store.name, trial.number, trial.metrics, objective)
    found = retargeted(record, scored, gate)
    column = [limit.name for limit in gate.flat_limits].index(name)
    others = np.delete(found.held <= [limit.most for limit in gate.flat_limits], column, axis=1)
    best_first = sorted(
        np.flatnonzero(others.all(axis=1)),
        key=lambda row: (sign * found.trials[row].metrics[objective], found.trials[row].number),
    )
    costs = found.held[best_first, column]
    rows = []
    for most in limits:
        inside = np.flatnonzero(costs <= most)
        best = found.entry(best_first[inside[0]]) if len(inside) else None
        rows.append({"limit": most, "inside": len(inside), "best": best})
    return {
        "study": store.name,
        "device": next(iter(gate.limits)),
        "name": name,
        "objective": objective,
        "direction": record.objectives[objective],
        "limits": {x.name: x.most for x in gate.flat_limits if x.name != name},
        "provenance": gate.pricer.provenance,
        "rows": rows,
    }


def codes_of(trials: Sequence[Trial], record: StudyRecord, space: SearchSpace) -> Codes:
    """Canonical codes in the present space, shape (N, P)."""
    grown = bool(record.grown)  # then a code means something else since
    codes = [space.encode(trial.choices) if grown else trial.code for trial in trials]
    try:
        made = np.array(codes, dtype=np.int64).reshape(len(trials), len(space.names))
        strange = np.flatnonzero(~space.valid(made))
    except (ValueError, OverflowError, IndexError):
        raise StudyError(
            "trials are recorded with codes of another length than the space's"
        ) from None
    if len(strange):
        number = trials[strange[0]].number
        raise StudyError(f"trial {number} is recorded with a code that is none of the space's")
    return made


def unknown_share(record: StudyRecord, gate: Gate, count: int = SAMPLES) -> float | None:
    """Of what is inside the present budget, the share that the study's own budget had refused.

    Estimated from uniformly drawn architectures; None where none of them is inside, or where the
    study's own tables are not there any more.
    """
    try:
        limits = {table_source(record, device): held for device, held in record.limits.items()}
        gates = [device_gate(record, gate.space, d, held) for d, held in limits.items()]
    except ValueError:
        return None
    codes = gate.space.sample(np.random.default_rng(0), count)
    codes = codes[gate.feasible(codes)]
    if not len(codes):
        return None
    known = np.all([one.feasible(codes) for one in gates], axis=0)
    return float(1 - known.mean())


def table_source(record: StudyRecord, device: str) -> str:
    """A shipped name, or the table's file that the study was recorded with."""
    return str(record.about.get("tables", {}).get(device, device))


def _limits(record: StudyRecord, device: str) -> Limits:
    """Of the device itself if the study had it, else of its first one."""
    return record.limits.get(device) or next(iter(record.limits.values()))


def _nearest(gate: Gate, found: Retargeted) -> dict[str, Any] | None:
    """The trained one whose limit that is exceeded most is exceeded least; None without any."""
    scored = [row for row, trial in enumerate(found.trials) if trial.scored]
    if not scored:
        return None
    best = scored[int(gate.excess(found.held[scored]).argmin())]
    pairs = zip(gate.flat_limits, found.held[best].tolist(), strict=True)
    return {"trial": found.trials[best].number, **{limit.name: value for limit, value in pairs}}
