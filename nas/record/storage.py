"""Opening an Optuna storage, with one-line errors for what can be wrong with one."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL

LOCK_SECONDS = 5
_CONNECT_SECONDS = 10
# A connection whose other end is gone without a word is given up after about this long.
_SILENCE_SECONDS = 30
_ATTEMPTS = 10


class StudyError(ValueError):
    """A storage or a study that cannot be used; says what, where and what next."""


class AwayError(Exception):
    """A storage cannot be used now, and may be later: unreachable, locked, full; says why."""


def create_storage(url: str) -> RDBStorage:
    """Opens a storage for writing; an SQLite file and its folder are made when missing.

    Args:
        url: SQLAlchemy URL, such as `sqlite:///runs/nas.db`.

    Raises:
        StudyError: not a URL, locked, unreachable, or not a database.
    """
    file = sqlite_file(url)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise StudyError(
                f"storage {url}: cannot make {file.parent}: {problem.strerror}"
            ) from None
    return _open(url)


def open_storage(url: str) -> RDBStorage:
    """Opens a storage that exists.

    Raises:
        StudyError: there is none, or it cannot be read.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise StudyError(
            f"storage {url}: there is no such file yet; start a study: nas search EXP.yaml"
        )
    return _open(url)


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """Turns what a storage raises into a `StudyError`."""
    try:
        yield
    except AwayError as problem:
        reason = str(problem)
        raise StudyError(f"storage {shown(url)}: {reason}; {_next_step(reason)}") from None
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as problem:
        cause = problem.__cause__ or problem
        reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
        raise StudyError(f"storage {shown(url)}: {reason}; {_next_step(reason)}") from None
    except StudyError:
        raise
    except (LookupError, ValueError, TypeError) as problem:  # what no row of Optuna's is
        reason = " ".join(str(problem).split())[:200]
        raise StudyError(
            f"storage {shown(url)}: a damaged row: {reason}; check --storage"
        ) from None
    except (ImportError, RuntimeError) as problem:
        reason = str(problem).strip().splitlines()[0]
        raise StudyError(f"storage {shown(url)}: {_explained(reason, url, problem)}") from None


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for other databases and for URIs."""
    parsed = _parsed(url)
    name = parsed.database or ""
    plain = parsed.get_backend_name() == "sqlite" and name not in ("", ":memory:")
    return Path(name) if plain and not name.startswith("file:") else None


def shown(url: str) -> str:
    """The URL without its password."""
    return _parsed(url).render_as_string(hide_password=True)


def _open(url: str) -> RDBStorage:
    optuna.logging.set_verbosity(logging.ERROR)
    with one_line_errors(url):
        arguments = _engine_arguments(_parsed(url))
        for _ in range(_ATTEMPTS - 1):
            try:
                return RDBStorage(url, engine_kwargs=arguments)
            except sqlalchemy.exc.SQLAlchemyError as problem:
                # Two drivers that begin at once both make the tables; the later one finds them.
                if not _being_made(problem):
                    raise
            time.sleep(0.2)
        return RDBStorage(url, engine_kwargs=arguments)


def _engine_arguments(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": LOCK_SECONDS}}
    if url.get_dialect().driver not in ("psycopg", "psycopg2"):
        return {"pool_pre_ping": True}
    patience = {
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": _SILENCE_SECONDS,
        "tcp_user_timeout": 1000 * _SILENCE_SECONDS,
    }
    return {"pool_pre_ping": True, "connect_args": patience}


def _being_made(problem: Exception) -> bool:
    reason = str(problem)
    return "alembic_version" in reason or "already exists" in reason or "version_info" in reason


def _parsed(url: str) -> URL:
    try:
        return sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        hidden = re.sub(r":[^:@/]+@", ":***@", url)
        raise StudyError(
            f"storage {hidden!r} is not an SQLAlchemy URL such as sqlite:///runs/nas.db"
        ) from None


def _explained(reason: str, url: str, problem: Exception) -> str:
    """What is said of drivers that are missing and of tables of another Optuna, and what to do."""
    if isinstance(problem, ImportError) and _parsed(url).get_backend_name() == "postgresql":
        return f"{reason} pip install 'nas-codecs[postgresql]'"
    if "storage upgrade" in reason:
        return (
            f"its tables are of an older Optuna than {optuna.__version__}; copy it, then upgrade:"
            f" optuna storage upgrade --storage {shown(url)}"
        )
    if "updating optuna" in reason:
        return f"its tables are of a newer Optuna than {optuna.__version__}: upgrade nas-codecs"
    return reason


def _next_step(reason: str) -> str:
    if "locked" in reason:
        return "another process is writing; stop it or wait, then try again"
    if "readonly" in reason or "read-only" in reason:
        return "make the file and its folder writable or choose another --storage"
    if "full" in reason or "No space" in reason:
        return "make room on its disk, then try again"
    return "check --storage"
