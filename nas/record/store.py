"""The record: one study in an Optuna storage, written by the driver only.

A trial is claimed (RUNNING) when it is asked for and finished once: COMPLETE, FAILED, or PRUNED
when its evaluator gave it up early or when it was evaluated below full fidelity (Optuna compares
what is COMPLETE, and scores of different fidelities must not meet). A driver holds a lease that it
renews; claims of drivers that are gone are abandoned (FAILED), so that they are asked for again.
Several drivers may search a study: of two claims of one evaluation the later one is withdrawn.
A driver that was taken for gone, and is not, claims what it found out once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from nas.named import is_named
from nas.record import lease
from nas.record.formats import FORMAT, require_readable
from nas.record.formats import KEY as FORMAT_KEY
from nas.record.growth import require_description
from nas.record.optuna_trials import OUTCOME, VOID, is_ours, to_optuna, to_trial
from nas.record.records import Claim, StudyRecord, Trial, Void
from nas.record.retrying import PatientStorage
from nas.record.sound import require_sound, require_sound_record, sound
from nas.record.storage import StudyError, create_storage, one_line_errors, open_storage, shown
from nas.record.trial_rows import no_collection, read_rows
from nas.record.trial_writes import create_once, finish_once
from nas.searchers.problem import FULL
from search_spaces.space import SearchSpace

_BEING_MADE_SECONDS = 2.0  # another driver may have made the study and not described it yet
PROPOSALS = "proposals"


class TrialStore:
    """One study's record."""

    def __init__(self, storage: RDBStorage, url: str, name: str, study_id: int) -> None:
        self.name = name
        self.url = url
        self._storage = PatientStorage(storage, url)
        self.study_id = study_id
        self.lease = lease.Lease(self._storage, url, name, study_id)
        self._say: Callable[[str], None] = lambda _: None
        self._claims: dict[int, tuple[SearchSpace, Claim]] = {}
        self._trials: dict[int, Trial] = {}
        self._unfinished = 0  # trials with smaller ids than this change no more

    @classmethod
    def open(cls, url: str, name: str) -> TrialStore:
        """An existing study, for reading.

        Raises:
            StudyError: no such storage or study.
        """
        storage = open_storage(url)
        with one_line_errors(url):
            try:
                store = cls(storage, url, name, storage.get_study_id_from_name(name))
            except KeyError:
                raise StudyError(_no_study(url, name, studies(url))) from None
            require_readable(name, storage.get_study_user_attrs(store.study_id))
        return store

    @classmethod
    def create(cls, url: str, name: str, record: StudyRecord) -> TrialStore:
        """A new study, or the existing one when it was recorded under the same identity.

        One that holds no trials yet is made anew.

        Raises:
            StudyError: the storage cannot be written, or the study differs; says in what.
        """
        storage = create_storage(url)
        with one_line_errors(url):
            store = cls._made(storage, url, name, record)
            if store is None:
                store = cls(storage, url, name, storage.get_study_id_from_name(name))
                require_readable(name, storage.get_study_user_attrs(store.study_id))
                if not store._same(record):
                    store.lease.require_no_other()
                    storage.delete_study(store.study_id)
                    return cls.create(url, name, record)
        return store

    @classmethod
    def _made(
        cls, storage: RDBStorage, url: str, name: str, record: StudyRecord
    ) -> TrialStore | None:
        """A new study; None when there is one of that name."""
        ways = [StudyDirection[way.upper()] for way in record.objectives.values()]
        try:
            store = cls(storage, url, name, storage.create_new_study(ways, name))
        except DuplicatedStudyError:
            return None
        storage.set_study_user_attr(store.study_id, FORMAT_KEY, FORMAT)
        # The identity last: who sees it sees the others too.
        for field in sorted(fields(StudyRecord), key=lambda field: field.name == "identity"):
            storage.set_study_user_attr(store.study_id, field.name, getattr(record, field.name))
        return store

    def _same(self, record: StudyRecord) -> bool:
        """Whether this study may go on as `record`; False where it is empty and another one.

        Raises:
            StudyError: it holds trials and differs.
        """
        empty = not self._storage.get_n_trials(self.study_id)
        deadline = time.monotonic() + _BEING_MADE_SECONDS
        while empty and not self._identified() and time.monotonic() < deadline:
            time.sleep(0.05)
        if empty and not self._identified():
            return False
        recorded = self.record()
        try:
            _require_same(self.name, recorded.identity, record.identity)
            require_description(self.name, recorded, record.description)
        except StudyError:
            if empty:
                return False
            raise
        return True

    def _identified(self) -> bool:
        return "identity" in self._storage.get_study_user_attrs(self.study_id)

    def record(self) -> StudyRecord:
        """What the study was recorded under.

        Raises:
            StudyError: it was not written by this program.
        """
        with one_line_errors(self.url):
            attributes = self._storage.get_study_user_attrs(self.study_id)
        if "identity" not in attributes:
            raise StudyError(f"study {self.name!r} in {shown(self.url)} was not recorded by nas")
        require_sound_record(self.name, attributes)
        names = [field.name for field in fields(StudyRecord) if field.name in attributes]
        return StudyRecord(**{name: attributes[name] for name in names})

    def trials(self) -> list[Trial]:
        """Every trial, abandoned ones included, in the order of their claims."""
        with one_line_errors(self.url), no_collection(), sound(self.name):
            engine, since = self._storage.engine, self._unfinished
            rows = self._storage.patiently(read_rows, engine, self.study_id, since)
            found = [require_sound(self.name, to_trial(row)) for row in filter(is_ours, rows)]
            self._trials |= {trial.number: trial for trial in found}
        running = [row.trial_id for row in rows if row.state in ("RUNNING", "WAITING")]
        self._unfinished = min(
            running, default=max([self._unfinished, *(r.trial_id for r in rows)])
        )
        return [self._trials[number] for number in sorted(self._trials)]

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            StudyError: there is none of that number; says which there are.
        """
        known = {trial.number: trial for trial in self.trials()}
        if number not in known:
            there = f"0 to {max(known)}" if known else "none yet"
            raise StudyError(f"study {self.name!r} has no trial {number}; it has {there}")
        return known[number]

    def experiment_file(self, stated: Path | None = None) -> Path:
        """The experiment that the study was recorded from.

        Args:
            stated: where it is now; default where it was.

        Raises:
            StudyError: it is not there, or only the record names it: it may run code.
        """
        file = stated or Path(str(self.record().about.get("file", "")))
        if not file.is_file():
            raise StudyError(
                f"study {self.name!r} was recorded from {file}, which is not there; name the file"
                " with --experiment"
            )
        if stated is None and not is_named(file):
            raise StudyError(
                f"study {self.name!r} was recorded from {file}, which may run code and was never"
                " named here; name it with --experiment"
            )
        return file

    def proposals(self) -> tuple[int, int]:
        """How many architectures the searchers proposed, and how many of them were over budget."""
        with one_line_errors(self.url):
            attributes = self._storage.get_study_user_attrs(self.study_id)
        counts = [v for k, v in attributes.items() if k.startswith(PROPOSALS)]
        with sound(self.name):
            return sum(int(count[0]) for count in counts), sum(int(count[1]) for count in counts)

    def acquire(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Joins the study's drivers and abandons the claims of those that are gone.

        Where a claim's owner may be gone or not, this waits until that is known. From then on the
        storage may be away for a while.

        Args:
            say: takes what people should know, a line each.

        Raises:
            StudyError: the storage cannot be written.
        """
        self._say = say
        self.lease.renew(force=True)
        with one_line_errors(self.url):  # what is written from now on is in this one
            self._storage.set_study_user_attr(self.study_id, FORMAT_KEY, FORMAT)
        self._wait_for_unknown()
        self.abandon()
        self.shared()
        self._storage.be_patient(say)

    def _wait_for_unknown(self) -> None:
        if owners := self._unknown():
            host, process, _ = min(owners).rsplit(":", 2)
            self._say(
                f"{self.name}: process {process} on {host} may still be at it; waiting up to"
                f" {lease.LEASE_SECONDS:.0f} s for a sign of life"
            )
        while self._unknown():
            time.sleep(min(1.0, lease.LEASE_SECONDS / 10))
            self.lease.renew()

    def _unknown(self) -> set[str]:
        """Owners of running claims of whom it is not known whether they live."""
        unknown = {o for o, standing in self.lease.standings().items() if standing == "unknown"}
        return unknown and unknown & {t.owner for t in self.trials() if t.state == "running"}

    def abandon(self) -> None:
        """Gives up what drivers that are gone had claimed."""
        known = self.lease.standings().items()
        living = {self.lease.owner, *(o for o, standing in known if standing != "gone")}
        self._abandon([t for t in self.trials() if t.owner not in living])

    def give_up(self) -> None:
        """Gives up what this driver has claimed: also a claim that it was stopped at recording."""
        self._abandon([t for t in self.trials() if t.owner == self.lease.owner])

    def _abandon(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            if trial.state == "running":
                with suppress(StudyError):  # another driver was quicker
                    self.fail(trial.number, "abandoned: its search was stopped", void="abandoned")

    def shared(self) -> bool:
        """Whether several drivers search the study now or did once; then it is so for good."""
        with one_line_errors(self.url):
            known = self._storage.get_study_user_attrs(self.study_id).get("shared", False)
            if not known and self.lease.others():
                self._storage.set_study_user_attr(self.study_id, "shared", True)
                return True
        return bool(known)

    def count(self, proposed: int, over_budget: int) -> None:
        """Records how many architectures this driver's searcher proposed in the present space."""
        with one_line_errors(self.url):
            grown = len(self._storage.get_study_user_attrs(self.study_id).get("grown") or [])
            # Who replays the record proposes the same again; who joins others does not.
            driver = f" {self.lease.owner}" if self.shared() else ""
            name = f"{PROPOSALS}{f' {grown}' if grown else ''}{driver}"
            self._storage.set_study_user_attr(self.study_id, name, [proposed, over_budget])

    def set_warm(self, warm: Mapping[str, Any]) -> None:
        """Records that another study's results were taken over, all of them."""
        with one_line_errors(self.url):
            self._storage.set_study_user_attr(self.study_id, "warm", dict(warm))

    def set_grown(self, grown: Mapping[str, Any], description: Mapping[str, Any]) -> None:
        """Records that the space has grown."""
        history = [*self.record().grown, dict(grown)]
        with one_line_errors(self.url):
            # In this order: stopped in between, the space grows once more, by the same.
            self._storage.set_study_user_attr(self.study_id, "grown", history)
            self._storage.set_study_user_attr(self.study_id, "description", description)

    def claim(self, space: SearchSpace, claim: Claim) -> int:
        """Records an ask as RUNNING; returns the trial's number."""
        number = self._add(space, claim, TrialState.RUNNING)
        self._claims[number] = space, claim
        return number

    def take_over(
        self,
        space: SearchSpace,
        claim: Claim,
        values: Sequence[float],
        metrics: Mapping[str, Any],
        seconds: float | None,
        origin: Mapping[str, Any],
    ) -> int:
        """Records a result of another study in one step; returns the trial's number.

        Args:
            space: of this study.
            claim: told as the outcome that its `ask` names.
            values: in the order of the objectives.
            metrics: as the evaluator returned them.
            seconds: that the evaluation took.
            origin: `study` and `trial` that it comes from.
        """
        known = {"metrics": dict(metrics), "told": claim.ask, "seconds": seconds}
        state, shown, attributes = _scored(claim.fidelity, values, known)
        return self._add(space, claim, state, {**attributes, "origin": dict(origin)}, shown)

    def _add(
        self,
        space: SearchSpace,
        claim: Claim,
        state: TrialState,
        attributes: Mapping[str, Any] | None = None,
        values: Sequence[float] | None = None,
    ) -> int:
        token, owner = uuid4().hex, self.lease.owner
        template = to_optuna(space, claim, owner, state, attributes or {}, values, token)
        with one_line_errors(self.url):
            return create_once(self._storage, self.study_id, template, self._unfinished)

    def withdraw(self, number: int, claim: Claim) -> bool:
        """Gives a claim up when another driver had claimed the same evaluation before.

        Returns:
            Whether it was given up. Numbers follow the order of claims, and whoever has the higher
            one sees the lower one.
        """
        same = [t for t in self.trials() if t.identity == claim.identity and not t.void]
        if all(trial.number >= number for trial in same):
            return False
        self.fail(number, "withdrawn: another driver claimed it before", void="withdrawn")
        return True

    def complete(
        self,
        number: int,
        values: Sequence[float],
        metrics: Mapping[str, Any],
        told: int,
        seconds: float | None,
        fidelity: float = FULL,
    ) -> int | None:
        """Finishes a trial with its result, in one step as seen by readers.

        Returns:
            The number that it is recorded under: another one when this driver was taken for gone
            meanwhile. None when another driver evaluates the same again by now; what that finds
            out counts.

        Raises:
            StudyError: it is finished already.
        """
        known = {"metrics": dict(metrics), "told": told, "seconds": seconds}
        return self._finish(number, *_scored(fidelity, values, known))

    def stop(
        self,
        number: int,
        metrics: Mapping[str, Any],
        reason: str,
        told: int,
        seconds: float | None,
    ) -> int | None:
        """Finishes a trial that was given up early, with what was known of it.

        Returns:
            As `complete`.

        Raises:
            StudyError: it is finished already.
        """
        known = {"metrics": dict(metrics), "error": reason, "told": told, "seconds": seconds}
        return self._finish(number, TrialState.PRUNED, None, known)

    def fail(
        self,
        number: int,
        error: str,
        told: int | None = None,
        seconds: float | None = None,
        void: Void | None = None,
    ) -> int | None:
        """Finishes a trial as FAILED with a one-line reason.

        Args:
            number: of the trial.
            error: why.
            told: position among the outcomes that the searcher was told.
            seconds: that it took.
            void: the claim came to nothing, and says nothing of the architecture.

        Returns:
            As `complete`.

        Raises:
            StudyError: it is finished already.
        """
        attributes: dict[str, Any] = {"error": error, "seconds": seconds}
        attributes |= {"told": told} if told is not None else {}
        attributes |= {void: True} if void else {}
        return self._finish(number, TrialState.FAIL, None, attributes, VOID if void else OUTCOME)

    def _finish(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        kind: str = OUTCOME,
    ) -> int | None:
        with one_line_errors(self.url):
            outcome = kind, attributes
            done = finish_once(self._storage, self.study_id, number, state, values, outcome)
        space, claim = self._claims.pop(number, (None, None))
        if done or (kind == VOID and self.trial(number).void):
            return number
        if kind == VOID or space is None or claim is None or not self.trial(number).abandoned:
            raise StudyError(f"study {self.name!r}: trial {number} was finished by another process")
        again = self._claim_again(number, space, claim)
        return None if again is None else self._finish(again, state, values, attributes)

    def _claim_again(self, number: int, space: SearchSpace, claim: Claim) -> int | None:
        """Claims what another driver has given up as a dead one's; None when it is taken by now."""
        self.lease.renew(force=True)
        self.shared()
        again = self.claim(space, claim)
        taken = self.withdraw(again, claim)
        what = "another driver evaluates it anew" if taken else f"recorded as trial {again}"
        self._say(f"{self.name}: another driver gave trial {number} up as a dead one's; {what}")
        return None if taken else again


def _scored(
    fidelity: float, values: Sequence[float], known: Mapping[str, Any]
) -> tuple[TrialState, Sequence[float] | None, Mapping[str, Any]]:
    """State, values and attributes of a result; below full fidelity Optuna sees no values."""
    if fidelity == FULL:
        return TrialState.COMPLETE, values, known
    return TrialState.PRUNED, None, {**known, "values": list(values)}


def studies(url: str) -> list[str]:
    """Names of the studies in a storage, oldest first.

    Raises:
        StudyError: no such storage.
    """
    storage = open_storage(url)
    with one_line_errors(url):
        return [study.study_name for study in storage.get_all_studies()]


def _require_same(name: str, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    # Keys that are at their default are left out.
    for key in {**wanted, **recorded}:
        if recorded.get(key) != wanted.get(key):
            raise StudyError(
                f"study {name!r} was recorded with {key} {recorded.get(key)!r}, the experiment has"
                f" {wanted.get(key)!r}; choose another name with --study"
            )


def _no_study(url: str, name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it holds {', '.join(known) or 'none'}"
    return f"no study {name!r} in {shown(url)}; {hint}"
