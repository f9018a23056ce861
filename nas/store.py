"""The record: one study in an Optuna storage, written by the driver only.

A trial is claimed (RUNNING) when it is asked for and finished once: COMPLETE, FAILED, or PRUNED
when its evaluator gave it up early. The driver owns a study by a lease that it renews; whoever
opens the study after its owner is gone abandons the claims that were left (FAILED, `abandoned`), so
that they are asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.growth import require_description
from nas.lease import Lease
from nas.records import Claim, State, StudyRecord, Trial
from nas.storage import StudyError, create_storage, one_line_errors, open_storage, shown
from search_spaces.space import SearchSpace


class TrialStore:
    """One study's record."""

    def __init__(self, storage: BaseStorage, url: str, name: str, study_id: int) -> None:
        self.name = name
        self.url = url
        self._storage = storage
        self.study_id = study_id
        self.lease = Lease(storage, url, name, study_id)

    @classmethod
    def open(cls, url: str, name: str) -> TrialStore:
        """An existing study, for reading.

        Raises:
            StudyError: no such storage or study.
        """
        storage = open_storage(url)
        with one_line_errors(url):
            try:
                return cls(storage, url, name, storage.get_study_id_from_name(name))
            except KeyError:
                raise StudyError(_no_study(url, name, studies(url))) from None

    @classmethod
    def create(cls, url: str, name: str, record: StudyRecord) -> TrialStore:
        """A new study, or the existing one when it was recorded under the same identity.

        One that holds no trials yet is made anew.

        Raises:
            StudyError: the storage cannot be written, or the study differs; says in what.
        """
        storage = create_storage(url)
        ways = [StudyDirection[way.upper()] for way in record.objectives.values()]
        with one_line_errors(url):
            if name in (study.study_name for study in storage.get_all_studies()):
                store = cls(storage, url, name, storage.get_study_id_from_name(name))
                if storage.get_n_trials(store.study_id):
                    recorded = store.record()
                    _require_same(name, recorded.identity, record.identity)
                    require_description(name, recorded, record.description)
                    return store
                store.lease.require_no_other()
                storage.delete_study(store.study_id)
            store = cls(storage, url, name, storage.create_new_study(ways, name))
            for field in fields(StudyRecord):
                storage.set_study_user_attr(store.study_id, field.name, getattr(record, field.name))
        return store

    def record(self) -> StudyRecord:
        """What the study was recorded under.

        Raises:
            StudyError: it was not written by this program.
        """
        with one_line_errors(self.url):
            attributes = self._storage.get_study_user_attrs(self.study_id)
        if "identity" not in attributes:
            raise StudyError(f"study {self.name!r} in {shown(self.url)} was not recorded by nas")
        names = [field.name for field in fields(StudyRecord) if field.name in attributes]
        return StudyRecord(**{name: attributes[name] for name in names})

    def trials(self) -> list[Trial]:
        """Every trial, abandoned ones included, in the order of their claims."""
        with one_line_errors(self.url):
            frozen = self._storage.get_all_trials(self.study_id, deepcopy=False)
        return [_trial(trial) for trial in frozen if "ask" in trial.user_attrs]

    def proposals(self) -> tuple[int, int]:
        """How many architectures the searcher proposed, and how many of them were over budget."""
        with one_line_errors(self.url):
            attributes = self._storage.get_study_user_attrs(self.study_id)
        proposed, over_budget = attributes.get("proposals", (0, 0))
        return proposed, over_budget

    def acquire(self) -> None:
        """Takes the study for this process and abandons the claims of owners that are gone.

        Raises:
            StudyError: another process is searching it, or the storage cannot be written.
        """
        self.lease.acquire()
        for trial in self.trials():
            if trial.state == "running":
                self.fail(trial.number, "abandoned: its search was stopped", abandoned=True)

    def count(self, proposed: int, over_budget: int) -> None:
        """Records how many architectures the searcher proposed since the space last grew."""
        with one_line_errors(self.url):
            grown = self._storage.get_study_user_attrs(self.study_id).get("grown") or [{}]
            before = grown[-1].get("proposals", (0, 0))
            total = [before[0] + proposed, before[1] + over_budget]
            self._storage.set_study_user_attr(self.study_id, "proposals", total)

    def set_grown(self, grown: Mapping[str, Any], description: Mapping[str, Any]) -> None:
        """Records that the space has grown; what was read from the storage before is read anew."""
        history = [*self.record().grown, {**grown, "proposals": self.proposals()}]
        with one_line_errors(self.url):
            # In this order: stopped in between, the space grows once more, by the same.
            self._storage.set_study_user_attr(self.study_id, "grown", history)
            self._storage.set_study_user_attr(self.study_id, "description", description)
        self._storage = open_storage(self.url)

    def claim(self, space: SearchSpace, claim: Claim) -> int:
        """Records an ask as RUNNING; returns the trial's number."""
        choices = claim.architecture.choices
        options = {p.name: CategoricalDistribution(p.choices) for p in space.parameters}
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(choices),
            distributions={name: options[name] for name in choices},
            user_attrs=_claim_attributes(claim, self.lease.owner),
            system_attrs={"constraints": list(claim.overshoot)},
        )
        with one_line_errors(self.url):
            trial_id = self._storage.create_new_trial(self.study_id, template)
            return self._storage.get_trial_number_from_id(trial_id)

    def complete(
        self,
        number: int,
        values: Sequence[float],
        metrics: Mapping[str, Any],
        told: int,
        seconds: float,
    ) -> None:
        """Finishes a trial as COMPLETE, in one step as seen by readers.

        Raises:
            StudyError: it is finished already.
        """
        attributes = {"metrics": dict(metrics), "told": told, "seconds": seconds}
        self._finish(number, TrialState.COMPLETE, values, attributes)

    def stop(
        self, number: int, metrics: Mapping[str, Any], reason: str, seconds: float | None
    ) -> None:
        """Finishes a trial as PRUNED, with what was known of it.

        Raises:
            StudyError: it is finished already.
        """
        attributes = {"metrics": dict(metrics), "error": reason, "seconds": seconds}
        self._finish(number, TrialState.PRUNED, None, attributes)

    def fail(
        self, number: int, error: str, seconds: float | None = None, abandoned: bool = False
    ) -> None:
        """Finishes a trial as FAILED with a one-line reason.

        Raises:
            StudyError: it is finished already.
        """
        attributes = {"error": error, "abandoned": abandoned, "seconds": seconds}
        self._finish(number, TrialState.FAIL, None, attributes)

    def _finish(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
    ) -> None:
        with one_line_errors(self.url):
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
            try:
                for name, value in attributes.items():
                    self._storage.set_trial_user_attr(trial_id, name, value)
                self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                raise StudyError(
                    f"study {self.name!r}: trial {number} was finished by another process;"
                    " run one search a study at a time"
                ) from None


def studies(url: str) -> list[str]:
    """Names of the studies in a storage, oldest first.

    Raises:
        StudyError: no such storage.
    """
    storage = open_storage(url)
    with one_line_errors(url):
        return [study.study_name for study in storage.get_all_studies()]


def _claim_attributes(claim: Claim, owner: str) -> dict[str, Any]:
    return {
        "ask": claim.ask,
        "told_before": claim.told_before,
        "key": claim.architecture.key,
        "code": list(claim.architecture.code),
        "choices": dict(claim.architecture.choices),
        "price": dict(claim.price),
        "blocks": dict(claim.blocks),
        "owner": owner,
    }


_STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}


_SCORED = (TrialState.COMPLETE, TrialState.PRUNED)
_REASONED = (TrialState.FAIL, TrialState.PRUNED)


def _trial(frozen: FrozenTrial) -> Trial:
    attributes, complete = frozen.user_attrs, frozen.state == TrialState.COMPLETE
    return Trial(
        number=frozen.number,
        state=_STATES[frozen.state],
        ask=attributes["ask"],
        told_before=attributes["told_before"],
        told=attributes["told"] if complete else None,
        key=attributes["key"],
        code=tuple(attributes["code"]),
        choices=attributes["choices"],
        price=attributes["price"],
        blocks=attributes["blocks"],
        values=tuple(frozen.values) if complete else None,
        metrics=attributes["metrics"] if frozen.state in _SCORED else {},
        error=attributes.get("error") if frozen.state in _REASONED else None,
        abandoned=bool(attributes.get("abandoned")) and frozen.state == TrialState.FAIL,
        seconds=attributes.get("seconds") if frozen.state.is_finished() else None,
        started=frozen.datetime_start.isoformat(timespec="seconds")
        if frozen.datetime_start
        else "",
    )


def _require_same(name: str, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if recorded.get(key) != value:
            raise StudyError(
                f"study {name!r} was recorded with {key} {recorded.get(key)!r}, the experiment has"
                f" {value!r}; choose another name with --study"
            )


def _no_study(url: str, name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it holds {', '.join(known) or 'none'}"
    return f"no study {name!r} in {shown(url)}; {hint}"
