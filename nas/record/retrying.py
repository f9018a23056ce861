"""A storage that is away for a while: what a driver wants of it is tried again until it is back.

A database that is restarted, a file that somebody holds locked, a disk that is full: none of them
may end a search whose evaluations are running. What was tried again may have been carried out the
first time, when only the answer was lost: who writes recognises what it wrote itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.engine import ExceptionContext

from nas.record.storage import AwayError, StudyError, shown

RETRY_SECONDS = 300.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0

_Result = TypeVar("_Result")


class LostError(StudyError):
    """A storage stayed away for longer than anybody waits."""


class PatientStorage:
    """An Optuna storage whose calls outlast its absence, once somebody searches.

    Who only reads gets an error at once, and so does who is being stopped.
    """

    def __init__(self, storage: RDBStorage, url: str) -> None:
        """Not patient yet."""
        self.engine = storage.engine
        self._storage = storage
        self._url = url
        self._seconds = 0.0
        self._say: Callable[[str], None] = lambda _: None
        # Optuna tries to create a trial five times, blindly; an error of ours goes through it.
        if not sqlalchemy.event.contains(self.engine, "handle_error", _require_there):
            sqlalchemy.event.listen(self.engine, "handle_error", _require_there)

    def __getattr__(self, name: str) -> Any:
        """A method of the storage, tried again while that is away; creating a trial is not."""
        method = getattr(self._storage, name)
        return method if name == "create_new_trial" else partial(self.patiently, method)

    def be_patient(self, say: Callable[[str], None]) -> None:
        """From now on, what is away is waited for.

        Args:
            say: is told once that the storage is away, and once that it is back.
        """
        self._seconds, self._say = RETRY_SECONDS, say

    def patiently(self, action: Callable[..., _Result], *arguments: Any) -> _Result:
        """What an action returns.

        Args:
            action: recognises what it did itself in an attempt before.
            arguments: of it.

        Raises:
            AwayError: the storage is away, and nobody is patient.
            LostError: it stayed away for `RETRY_SECONDS`.
        """
        stopped = isinstance(sys.exception(), KeyboardInterrupt | GeneratorExit)
        try:
            return action(*arguments)
        except AwayError as problem:
            if not self._seconds or stopped:
                raise
            reason = str(problem)
        return self._wait(reason, partial(action, *arguments))

    def _wait(self, reason: str, action: Callable[[], _Result]) -> _Result:
        start, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        where = f"storage {shown(self._url)}"
        self._say(f"{where}: {reason}; trying again for {self._seconds:.0f} s")
        while time.monotonic() + pause < start + self._seconds:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            try:
                result = action()
            except AwayError as problem:
                reason = str(problem)
            else:
                self._say(f"{where}: back after {time.monotonic() - start:.0f} s")
                return result
        self._seconds = 0.0  # what is still to be written on the way out shall not wait as well
        raise LostError(
            f"{where}: {reason}; it stayed away. What finished is recorded, the same command goes"
            " on from there"
        )


def _require_there(context: ExceptionContext) -> None:
    """Turns errors that may pass into `AwayError`; SQLAlchemy calls it with everything raised.

    Also with the user's Ctrl-C, which is no error of the database and cuts the connection too.
    """
    problem = context.sqlalchemy_exception
    passing = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
    if problem is not None and (context.is_disconnect or isinstance(problem, passing)):
        said = str(context.original_exception).strip() or type(problem).__name__
        raise AwayError(said.splitlines()[0])
