"""The search: read this first.

    searcher.ask ─ claim ─ worker ─ record ─ searcher.tell ─ ask at once: no barrier

What was recorded is replayed first (`nas.replay`), so that a search that was killed goes on as if
it had not been. Other drivers may search the same study: what they ask for is adopted, what they
find out is told, and of two claims of one evaluation the later one is withdrawn. An evaluation that
a machine ended is asked again a stated number of times, each attempt a trial of its own.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evaluators.protocol import Direction
from nas.folders import log_file
from nas.pricing.budget import Gate
from nas.progress import Progress
from nas.record.records import Claim, objective_values
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from nas.replay import catch_up, claimed
from nas.searchers.problem import Searcher
from nas.tasks import Outcome
from nas.workers import Workers

FAILURES_IN_A_ROW = 20


class SearchError(RuntimeError):
    """The search cannot go on; everything that finished is recorded."""


@dataclass(frozen=True)
class Ending:
    """When a search ends; whichever comes first.

    Attributes:
        trials: evaluations to ask for in the whole study.
        hours: from the start on.
        plateau: full results in a row that did not improve the front.
    """

    trials: int | None = None
    hours: float | None = None
    plateau: int | None = None


@dataclass(frozen=True)
class Search:
    """What a search works with.

    Attributes:
        searcher: the record was replayed into it.
        gate: prices what is asked.
        store: acquired.
        workers: started and prepared.
        objectives: in the searcher's order.
        logs: folder of the log files, absolute.
        ending: when to stop asking.
        retries: further attempts at an evaluation that a machine ended.
    """

    searcher: Searcher
    gate: Gate
    store: TrialStore
    workers: Workers
    objectives: Mapping[str, Direction]
    logs: Path
    ending: Ending
    retries: int = 2


def run_search(search: Search, progress: Progress) -> Generator[Progress]:
    """Searches until enough is asked, time is up or nothing is left; yields after every event.

    Closing the iterator stops the running evaluations and leaves them to be asked again.

    Args:
        search: what it works with.
        progress: where the study stands, from `nas.replay.replay`.

    Raises:
        StudyError: the record cannot be read or written.
        SearchError: one evaluation after the other fails.
    """
    hours = search.ending.hours
    deadline = time.monotonic() + hours * 3600 if hours else float("inf")
    try:
        yield progress
        while True:
            while search.workers.free > 0 and time.monotonic() < deadline:
                if not _start_next(search, progress):
                    break
            if not progress.running:
                return
            for number, outcome in search.workers.wait():
                _record(search, progress, number, outcome)
            if search.store.lease.renew():
                _count(search)
            yield progress
    finally:
        search.workers.cancel()
        # Should the storage be gone too, whoever opens it next abandons these claims.
        with suppress(StudyError):
            _count(search)
            search.store.give_up()


def _count(search: Search) -> None:
    search.store.count(search.searcher.proposed, search.searcher.over_budget)


def _start_next(search: Search, progress: Progress) -> bool:
    """Starts one evaluation; False when there is none to start now."""
    shared = search.store.shared()
    if shared:
        search.store.abandon()
        catch_up(search.searcher, search.gate, search.store, progress)
    claim = _next(search, progress)
    if claim is None:
        return False
    number = search.store.claim(search.gate.space, claim)
    progress.seen[number] = True
    if shared and search.store.withdraw(number, claim):
        return True
    progress.identities.add(claim.identity)
    progress.running[number] = claim
    search.workers.submit(
        number,
        claim.architecture.code,
        log_file(search.logs, number),
        bar=progress.passed.bar(claim.price),
        fidelity=claim.fidelity,
    )
    return True


def _next(search: Search, progress: Progress) -> Claim | None:
    if progress.again:
        return progress.again.pop(0)
    if progress.asked >= (search.ending.trials or float("inf")):
        return None
    if progress.front.since_growth >= (search.ending.plateau or float("inf")):
        progress.ended = f"the last {progress.front.since_growth} results did not improve the front"
        return None
    if progress.running and progress.idle == progress.told:
        return None
    ask = search.searcher.ask()
    if ask is None:
        progress.idle = progress.told
        progress.ended = "" if progress.running else "nothing new is left inside the budget"
        return None
    progress.own_asks += 1
    return claimed(search.gate, ask, progress.own_asks - 1, progress.told)


def _record(search: Search, progress: Progress, number: int, outcome: Outcome) -> None:
    """Writes an outcome first and tells it then: what the searcher knows is always on record."""
    claim, store, told = progress.running.pop(number), search.store, progress.told
    if outcome.lost and progress.lost[claim.identity] < search.retries:
        store.fail(number, outcome.error or "lost", seconds=outcome.seconds, void="lost")
        progress.lost[claim.identity] += 1
        progress.again.append(claim)
        return
    metrics, reason, seconds = outcome.metrics or {}, outcome.error or "failed", outcome.seconds
    state, values = outcome.state, None
    if state == "complete":
        values = objective_values(metrics, claim.price, search.objectives)
        recorded = store.complete(number, values, metrics, told, seconds, claim.fidelity)
    elif state == "stopped":
        recorded = store.stop(number, metrics, reason, told, seconds)
    else:
        recorded = store.fail(number, reason, told, seconds)
    if recorded is None:  # another driver evaluates it again: that will be told
        return
    progress.seen[recorded] = True
    search.searcher.tell(claim.wanted, values)
    progress.count(state, claim.fidelity, values, claim.price, metrics)
    if progress.failures_in_a_row >= FAILURES_IN_A_ROW:
        raise SearchError(
            f"{FAILURES_IN_A_ROW} evaluations failed one after the other; the last: {reason}"
        )
