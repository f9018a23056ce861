"""The search: read this first.

    searcher.ask ─ claim ─ worker ─ record ─ searcher.tell ─ ask at once: no barrier

What was recorded is replayed first: the searcher is told the same results between the same asks
and must propose the same architectures again, so that a search that was killed goes on as if it
had not been.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evaluators.protocol import Direction
from nas.budget import Gate
from nas.folders import log_file
from nas.records import Claim, Trial
from nas.storage import StudyError
from nas.store import TrialStore
from nas.tasks import Outcome
from nas.workers import Workers
from search_spaces.space import Architecture

FAILURES_IN_A_ROW = 20


class SearchError(RuntimeError):
    """The search cannot go on; everything that finished is recorded."""


class Searcher(Protocol):
    """Proposes architectures and learns from results; deterministic in its asks and tells."""

    proposed: int
    over_budget: int

    def ask(self) -> Architecture | None:
        """An architecture never asked for before, inside the budget; None when none is left."""
        ...

    def adopt(self, architecture: Architecture) -> None:
        """Counts an architecture as asked for, before anything is asked."""
        ...

    def tell(self, architecture: Architecture, values: Sequence[float]) -> None:
        """Takes in finite objective values."""
        ...


@dataclass
class Progress:
    """Where the study stands.

    Attributes:
        asked: architectures asked for in the whole study.
        told: results that the searcher was told: the complete trials.
        failed: evaluations that failed, abandoned ones not counted.
        stopped: evaluations that were given up early.
        failures_in_a_row: since the last result.
        again: abandoned asks that must be evaluated before anything new is asked.
        running: trial number -> its claim.
        passed: of every complete trial its price and the milestones that it passed.
        exhausted: nothing new is left inside the budget.
    """

    asked: int = 0
    told: int = 0
    failed: int = 0
    stopped: int = 0
    failures_in_a_row: int = 0
    again: list[Claim] = field(default_factory=list)
    running: dict[int, Claim] = field(default_factory=dict)
    passed: list[tuple[Mapping[str, Any], Mapping[str, float]]] = field(default_factory=list)
    exhausted: bool = False

    def bar(self, price: Mapping[str, Any], objectives: Collection[str]) -> dict[str, float]:
        """The best milestones among complete trials that are no worse in any priced objective."""
        priced = [name for name in objectives if name in price]
        best: dict[str, float] = {}
        for other, milestones in self.passed:
            if all(other[name] <= price[name] for name in priced):
                best |= {n: max(v, best.get(n, v)) for n, v in milestones.items()}
        return best


def run_search(
    searcher: Searcher,
    gate: Gate,
    store: TrialStore,
    workers: Workers,
    objectives: Mapping[str, Direction],
    logs: Path,
    trials: int | None = None,
    hours: float | None = None,
) -> Generator[Progress]:
    """Searches until enough is asked, time is up or nothing is left; yields after every event.

    Closing the iterator stops the running evaluations and leaves them to be asked again.

    Args:
        searcher: new; the record is replayed into it.
        gate: prices what is asked.
        store: acquired; written here only.
        workers: started and prepared.
        objectives: in the searcher's order.
        logs: folder of the log files, absolute.
        trials: architectures to ask for in the whole study.
        hours: from now on.

    Raises:
        StudyError: the record cannot be replayed or written.
        SearchError: one evaluation after the other fails.
    """
    progress = replay(searcher, gate, store.trials(), store.record().since)
    deadline = time.monotonic() + hours * 3600 if hours else float("inf")
    try:
        yield progress
        while True:
            while workers.free > 0 and time.monotonic() < deadline:
                claim = _next(searcher, gate, progress, trials)
                if claim is None:
                    break
                number = store.claim(gate.space, claim)
                progress.running[number] = claim
                bar = progress.bar(claim.price, objectives)
                log = log_file(logs, number)
                workers.submit(number, claim.architecture.code, log, bar=bar)
            if not progress.running:
                return
            for number, outcome in workers.wait():
                _record(searcher, store, objectives, progress, number, outcome)
            store.lease.renew()
            yield progress
    finally:
        workers.cancel()
        # Should the storage be gone too, whoever opens it next abandons these claims.
        with suppress(StudyError):
            for number in progress.running:
                store.fail(number, "abandoned: its search was stopped", abandoned=True)


def replay(searcher: Searcher, gate: Gate, trials: Sequence[Trial], since: int = 0) -> Progress:
    """Brings a new searcher to where the recorded one was.

    Args:
        searcher: new.
        gate: of the space.
        trials: all that are recorded.
        since: the first ask in the present space; what was asked before it grew is not proposed
            again, its results are told all the same.

    Raises:
        StudyError: it proposes something else than was recorded.
    """
    results = sorted((t for t in trials if t.state == "complete"), key=lambda t: t.told or 0)
    finished = {trial.ask for trial in trials if trial.state != "running" and not trial.abandoned}
    asks = {trial.ask: trial for trial in trials}
    progress = Progress(
        failed=sum(t.state == "failed" and not t.abandoned for t in trials),
        stopped=sum(t.state == "stopped" for t in trials),
        passed=[(t.price, t.metrics.get("milestones", {})) for t in results],
    )
    for index, trial in sorted(asks.items()):
        architecture = _architecture(gate, trial)
        if index < since:
            searcher.adopt(architecture)
        else:
            _tell(searcher, gate, results[progress.told : trial.told_before])
            progress.told = max(progress.told, trial.told_before)
            _require_same(searcher.ask(), trial)
        progress.asked = index + 1
        if index not in finished:
            progress.again.append(_claim(gate, index, trial.told_before, architecture))
    _tell(searcher, gate, results[progress.told :])
    progress.told = len(results)
    return progress


def _next(searcher: Searcher, gate: Gate, progress: Progress, trials: int | None) -> Claim | None:
    if progress.again:
        return progress.again.pop(0)
    if progress.exhausted or (trials is not None and progress.asked >= trials):
        return None
    architecture = searcher.ask()
    if architecture is None:
        progress.exhausted = True
        return None
    progress.asked += 1
    return _claim(gate, progress.asked - 1, progress.told, architecture)


def _claim(gate: Gate, index: int, told_before: int, architecture: Architecture) -> Claim:
    price = gate.price(architecture)
    return Claim(
        ask=index,
        told_before=told_before,
        architecture=architecture,
        price=price.as_record(),
        blocks=price.blocks(),
        overshoot=gate.overshoot(price),
    )


def _record(
    searcher: Searcher,
    store: TrialStore,
    objectives: Mapping[str, Direction],
    progress: Progress,
    number: int,
    outcome: Outcome,
) -> None:
    """Writes a result first and tells it then: what the searcher knows is always on record."""
    claim = progress.running.pop(number)
    if outcome.stopped:
        store.stop(number, outcome.metrics or {}, outcome.error or "", outcome.seconds)
        progress.stopped += 1
        progress.failures_in_a_row = 0
    elif outcome.metrics is None:
        store.fail(number, outcome.error or "failed", outcome.seconds)
        progress.failed += 1
        _count_failure(progress, outcome)
    else:
        known = {**outcome.metrics, **claim.price}
        values = [float(known[name]) for name in objectives]
        store.complete(number, values, outcome.metrics, progress.told, outcome.seconds)
        searcher.tell(claim.architecture, values)
        progress.told += 1
        progress.failures_in_a_row = 0
        progress.passed.append((claim.price, outcome.metrics.get("milestones", {})))
    store.count(searcher.proposed, searcher.over_budget)


def _count_failure(progress: Progress, outcome: Outcome) -> None:
    progress.failures_in_a_row += 1
    if progress.failures_in_a_row >= FAILURES_IN_A_ROW:
        raise SearchError(
            f"{FAILURES_IN_A_ROW} evaluations failed one after the other; the last: {outcome.error}"
        )


def _tell(searcher: Searcher, gate: Gate, results: Sequence[Trial]) -> None:
    for trial in results:
        searcher.tell(_architecture(gate, trial), trial.values or ())


def _architecture(gate: Gate, trial: Trial) -> Architecture:
    """By its choices: a code means something else once the space has grown."""
    return gate.space.architecture(gate.space.encode(trial.choices))


def _require_same(architecture: Architecture | None, trial: Trial) -> None:
    if architecture is None or architecture.key != trial.key:
        raise StudyError(
            f"trial {trial.number} was recorded as {trial.key}, the searcher now proposes"
            f" {architecture.key if architecture else 'nothing'}: prices or versions have changed"
            " since; start a new study with --study"
        )
