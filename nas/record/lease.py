"""Who searches a study: a lease a driver in its record, renewed while the driver lives.

A lease says until when it holds, by the clock of its driver's machine. Clocks differ and are set;
what cannot lie is that a lease changes: every driver watches the others' by its own clock that
only runs forward. A driver is gone

- at once when it gave its lease up, or when its process was on this machine and is no more;
- when its lease was seen unchanged for `LEASE_SECONDS` on end. Time in which nobody could look,
  the storage being away, does not count: others could not renew either.

It lives while its lease is seen to change, and while the lease says so and was not watched long.
Of one that had run out when it was first seen nothing is known: who would take its claims waits.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from nas.processes import runs
from nas.record.retrying import PatientStorage
from nas.record.storage import StudyError, one_line_errors

LEASE_SECONDS = 120.0
PREFIX = "nas:lease:"
_RELEASED = 0.0

Standing = Literal["lives", "unknown", "gone"]


class Lease:
    """This process's claim on one study.

    Attributes:
        owner: host, process and a random part; unique to this object.
    """

    def __init__(self, storage: PatientStorage, url: str, study: str, study_id: int) -> None:
        """Takes nothing yet."""
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._storage = storage
        self._url = url
        self._study = study
        self._study_id = study_id
        self._renewed = float("-inf")
        self._watch = Watch()

    def renew(self, force: bool = False) -> bool:
        """Extends the lease when a quarter of it has passed; whether it did."""
        now = time.monotonic()
        due = force or now - self._renewed > LEASE_SECONDS / 4
        if due:
            self._set(time.time() + LEASE_SECONDS)
            self._renewed = now
            self.standings()  # the others are watched too, however seldom anybody asks
        return due

    def release(self) -> None:
        """Gives the study up at once; should the storage be gone too, the lease will run out."""
        with suppress(StudyError):
            self._set(_RELEASED)

    def others(self) -> list[str]:
        """Owners of the other leases that hold."""
        return [owner for owner, standing in self.standings().items() if standing == "lives"]

    def standings(self) -> dict[str, Standing]:
        """What is known of the other drivers, by the owners of their leases."""
        with one_line_errors(self._url):
            attributes = self._storage.get_study_system_attrs(self._study_id)
        leases = {k.removeprefix(PREFIX): v for k, v in attributes.items() if k.startswith(PREFIX)}
        leases.pop(self.owner, None)
        self._watch.look(leases)
        return {owner: self._standing(owner, until) for owner, until in leases.items()}

    def require_no_other(self) -> None:
        """Fails while another process searches the study.

        Raises:
            StudyError: names the process.
        """
        for owner in self.others():
            raise StudyError(
                f"study {self._study!r} is being searched by process {owner.split(':')[1]} on"
                f" {owner.split(':')[0]}; wait for it, stop it, or choose another --study"
            )

    def _standing(self, owner: str, until: float) -> Standing:
        seen = self._watch.seen[owner]
        if until == _RELEASED or _ended(owner) or seen.unchanged_seconds() > LEASE_SECONDS:
            return "gone"
        return "lives" if seen.changed or until > time.time() else "unknown"

    def _set(self, until: float) -> None:
        with one_line_errors(self._url):
            self._storage.set_study_system_attr(self._study_id, PREFIX + self.owner, until)


@dataclass(frozen=True)
class Seen:
    """What was seen of a lease.

    Attributes:
        until: what it says.
        since: when it was first seen to say so, or when watching began anew; monotonic seconds.
        changed: whether it has said something else before.
    """

    until: float
    since: float
    changed: bool = False

    def unchanged_seconds(self) -> float:
        """How long it has been watched without a change."""
        return time.monotonic() - self.since


class Watch:
    """What one process has seen of leases, by its own clock.

    Attributes:
        seen: owner -> what was seen.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self._looked = float("-inf")

    def look(self, leases: Mapping[str, float]) -> None:
        """Takes in what leases say now."""
        now = time.monotonic()
        missed = now - self._looked > LEASE_SECONDS / 2
        self._looked = now
        seen = self.seen
        known = {o: replace(s, since=now) for o, s in seen.items()} if missed else seen
        self.seen = {
            owner: _updated(known.get(owner), until, now) for owner, until in leases.items()
        }


def _updated(before: Seen | None, until: float, now: float) -> Seen:
    if before is None or before.until == until:
        return before or Seen(until, now)
    return Seen(until, now, changed=True)


def _ended(owner: str) -> bool:
    """Whether a driver's process is known to be gone."""
    host, pid, _ = owner.rsplit(":", 2)
    return host == socket.gethostname() and not runs(int(pid))
