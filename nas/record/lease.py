"""Who searches a study: a lease a driver in its record, renewed while the driver lives."""

from __future__ import annotations

import os
import socket
import time
import uuid

from optuna.storages import BaseStorage

from nas.processes import runs
from nas.record.storage import StudyError, one_line_errors

LEASE_SECONDS = 120.0
PREFIX = "nas:lease:"


class Lease:
    """This process's claim on one study.

    Attributes:
        owner: host, process and a random part; unique to this object.
    """

    def __init__(self, storage: BaseStorage, url: str, study: str, study_id: int) -> None:
        """Takes nothing yet."""
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._storage = storage
        self._url = url
        self._study = study
        self._study_id = study_id
        self._renewed = 0.0

    def renew(self, force: bool = False) -> bool:
        """Extends the lease when a quarter of it has passed; whether it did."""
        now = time.time()
        due = force or now - self._renewed > LEASE_SECONDS / 4
        if due:
            self._set(now + LEASE_SECONDS)
            self._renewed = now
        return due

    def release(self) -> None:
        """Gives the study up at once."""
        self._set(0.0)

    def others(self) -> list[str]:
        """Owners of the other leases that hold."""
        with one_line_errors(self._url):
            attributes = self._storage.get_study_system_attrs(self._study_id)
        leases = {k.removeprefix(PREFIX): v for k, v in attributes.items() if k.startswith(PREFIX)}
        return [o for o, until in leases.items() if o != self.owner and _lives(o, until)]

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

    def _set(self, until: float) -> None:
        with one_line_errors(self._url):
            self._storage.set_study_system_attr(self._study_id, PREFIX + self.owner, until)


def _lives(owner: str, until: float) -> bool:
    """Whether a lease still holds: not run out, and its process not known to be gone."""
    host, pid, _ = owner.rsplit(":", 2)
    if until < time.time():
        return False
    return host != socket.gethostname() or runs(int(pid))
