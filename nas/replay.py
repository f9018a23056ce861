"""From the record to a searcher that knows it.

A study that one driver at a time has searched is replayed: the searcher is told the same outcomes
between the same asks and must propose the same again. Where several drivers searched at once there
is no such order; then what was asked for is adopted, and outcomes are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from evaluators.protocol import Direction
from nas.pareto import RunningFront
from nas.pricing.budget import Gate
from nas.progress import Identity, Passed, Progress
from nas.record.records import Claim, Trial
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from nas.searchers.problem import Ask, Searcher
from search_spaces.space import Architecture


def replay(
    searcher: Searcher, gate: Gate, store: TrialStore, objectives: Mapping[str, Direction]
) -> Progress:
    """Brings a new searcher to where the recorded one was.

    Args:
        searcher: new.
        gate: of the space.
        store: acquired.
        objectives: in the searcher's order.

    Raises:
        StudyError: the record cannot be read, or the searcher proposes something else.
    """
    record = store.record()
    progress = Progress(Passed(objectives), RunningFront(objectives, record.flat_limits))
    if store.shared():
        catch_up(searcher, gate, store, progress)
    else:
        _replay(searcher, gate, store.trials(), record.since, progress)
    progress.failures_in_a_row = 0
    return progress


def catch_up(searcher: Searcher, gate: Gate, store: TrialStore, progress: Progress) -> None:
    """Takes in what other drivers have claimed and found since."""
    trials = store.trials()
    for trial in trials:
        if progress.seen.get(trial.number) or trial.withdrawn:
            continue
        if trial.number not in progress.seen:
            searcher.adopt(_ask(gate, trial))
            progress.identities.add(trial.identity)
        progress.seen[trial.number] = trial.state != "running"
        if trial.told is not None:
            _tell(searcher, gate, trial, progress)
    progress.lost = _lost(trials)
    standings = store.lease.standings()  # who lives sees to its own lost attempts
    gone = {t.owner for t in trials if standings.get(t.owner, "gone") == "gone"}
    left = {t.identity: t for t in trials if t.abandoned or (t.lost and t.owner in gone)}
    # What runs here another driver may have given up: then it is recorded once more in the end.
    ours = {claim.identity for claim in (*progress.again, *progress.running.values())}
    known = {t.identity for t in trials if not t.void} | ours
    for identity, trial in left.items():
        if identity not in known:
            progress.again.append(_claim_again(gate, trial))


def claimed(gate: Gate, ask: Ask, index: int, told_before: int) -> Claim:
    """An ask with its price.

    Args:
        gate: prices it.
        ask: of the searcher.
        index: among the searcher's asks.
        told_before: outcomes that the searcher had been told.
    """
    price = gate.price(ask.architecture)
    return Claim(
        ask=index,
        told_before=told_before,
        architecture=ask.architecture,
        price=price.as_record(),
        blocks=price.blocks(),
        overshoot=gate.overshoot(price),
        fidelity=ask.fidelity,
    )


def _replay(
    searcher: Searcher, gate: Gate, trials: Sequence[Trial], since: int, progress: Progress
) -> None:
    """Ask by ask.

    Args:
        searcher: new.
        gate: of the space.
        trials: all that are recorded.
        since: the first ask that the searcher answered in the present space; what was asked before
            is not proposed again, its outcomes are told all the same.
        progress: new; brought up to date.

    Raises:
        StudyError: the searcher proposes something else than was recorded.
    """
    outcomes = sorted((t for t in trials if t.told is not None), key=lambda t: t.told or 0)
    ended = {t.identity for t in trials if t.ended}
    for trial in sorted({t.ask: t for t in trials}.values(), key=lambda t: t.ask):
        if trial.ask < since:
            searcher.adopt(_ask(gate, trial))
        else:
            for outcome in outcomes[progress.told : trial.told_before]:
                _tell(searcher, gate, outcome, progress)
            _require_same(searcher.ask(), trial)
        progress.identities.add(trial.identity)
        progress.own_asks = trial.ask + 1
        if trial.identity not in ended:
            progress.again.append(_claim_again(gate, trial))
    for outcome in outcomes[progress.told :]:
        _tell(searcher, gate, outcome, progress)
    progress.seen = {trial.number: True for trial in trials}
    progress.lost = _lost(trials)


def _lost(trials: Sequence[Trial]) -> Counter[Identity]:
    return Counter(trial.identity for trial in trials if trial.lost)


def _tell(searcher: Searcher, gate: Gate, trial: Trial, progress: Progress) -> None:
    searcher.tell(_ask(gate, trial), trial.values)
    progress.count(trial.state, trial.fidelity, trial.values, trial.price, trial.metrics)


def _ask(gate: Gate, trial: Trial) -> Ask:
    return Ask(_architecture(gate, trial), trial.fidelity)


def _claim_again(gate: Gate, trial: Trial) -> Claim:
    return claimed(gate, _ask(gate, trial), trial.ask, trial.told_before)


def _architecture(gate: Gate, trial: Trial) -> Architecture:
    """By its choices: a code means something else once the space has grown."""
    return gate.space.architecture(gate.space.encode(trial.choices))


def _require_same(ask: Ask | None, trial: Trial) -> None:
    if ask is None or (ask.architecture.key, ask.fidelity) != trial.identity:
        raise StudyError(
            f"trial {trial.number} was recorded as {trial.key}, the searcher now proposes"
            f" {ask.architecture.key if ask else 'nothing'}: prices or versions have changed"
            " since; start a new study with --study"
        )
