"""A Ray cluster of this machine, or one that is joined, quiet and without anything left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nas import tasks
from nas.processes import runs

_TEMPORARY = "nas-ray-"
_OBJECT_STORE_BYTES = 128 * 2**20
_STARTS = 3


class WorkerError(RuntimeError):
    """There are no workers, or what every evaluation shares could not be made."""


@contextlib.contextmanager
def ray_cluster(logs: Path, count: int, address: str | None = None) -> Iterator[None]:
    """A cluster inside the context.

    Args:
        logs: folder for Ray's own log; absolute.
        count: cores of a local one.
        address: of a running cluster to join; default: a local one, started and stopped here.

    Raises:
        WorkerError: it cannot be started or joined.
    """
    import ray

    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        _quieten(logs, stack)
        try:
            _begin(_options(count, address, stack))
        except Exception as problem:
            reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            where = f"the cluster at {address}" if address else "a local Ray cluster"
            raise WorkerError(f"cannot use {where}: {reason}") from problem
        stack.callback(ray.shutdown)
        yield


def _begin(options: dict[str, Any]) -> None:
    """Ray gives its own processes half a minute, which a busy machine may need three times.

    It takes SIGTERM for itself and ends the process by it; here that stops as Ctrl-C does.
    """
    import ray

    terminate = signal.getsignal(signal.SIGTERM)
    for attempt in range(_STARTS):
        try:
            ray.init(**options)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)
            return
        except Exception as problem:
            ray.shutdown()
            if attempt == _STARTS - 1 or "timed out during startup" not in str(problem):
                raise


def _options(count: int, address: str | None, stack: contextlib.ExitStack) -> dict[str, Any]:
    common: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address:
        return {**common, "address": address}
    _remove_left_behind()
    folder = tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-", dir=_short_folder())
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return {
        **common,
        "num_cpus": count,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        # Within: Ray opens its own folder to everyone.
        "_temp_dir": f"{folder}/r",
    }


def _quieten(logs: Path, stack: contextlib.ExitStack) -> None:
    """Ray's own messages go to a file: it writes some to the driver's stdout."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    tasks.cap_threads()
    file = stack.enter_context((logs / "ray.log").open("a", encoding="utf-8"))
    # Below `ray`, whose handlers ray.init removes.
    logger = logging.getLogger("ray._private")
    stack.callback(setattr, logger, "handlers", logger.handlers)
    logger.handlers = [logging.StreamHandler(file)]
    logger.propagate = False
    stack.enter_context(contextlib.redirect_stdout(file))


def _short_folder() -> str | None:
    """Sockets live under it, and their paths may have about 100 characters."""
    return "/tmp" if Path("/tmp").is_dir() else None


def _remove_left_behind() -> None:
    """Folders of local clusters whose driver was killed."""
    for folder in Path(_short_folder() or tempfile.gettempdir()).glob(f"{_TEMPORARY}*-*"):
        pid = folder.name.removeprefix(_TEMPORARY).split("-")[0]
        if pid.isdigit() and not runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
