"""What an evaluation needs of a machine: how many run at a time, and limits that bite."""

from __future__ import annotations

import contextlib
import faulthandler
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TextIO

TIMED_OUT = "Timeout ("  # how the interpreter's watchdog begins its last words


@dataclass(frozen=True)
class Needs:
    """Of one evaluation; a core each beside.

    Attributes:
        gpus: a share of one, or several; None takes one where there are any and `device` allows.
        device: that the evaluator is told to run on; None if it takes none.
        memory_bytes: that its process may allocate, what it shares with others not counted; None
            leaves it to the machine.
        seconds: that it may take; None for as long as it likes.
        retries: further attempts after one that a machine ended.
    """

    gpus: float | None = None
    device: str | None = None
    memory_bytes: int | None = None
    seconds: float | None = None
    retries: int = 2

    def on(self, nodes: Sequence[Mapping[str, float]]) -> Needs:
        """The same with `gpus` settled, on a cluster whose nodes have these resources."""
        may = self.device is not None and self.device.partition(":")[0] in ("auto", "cuda")
        there = may and any(node.get("GPU", 0) >= 1 for node in nodes)
        return replace(self, gpus=float(there)) if self.gpus is None else self

    @property
    def options(self) -> dict[str, Any]:
        """Of a Ray task."""
        options = {"num_cpus": 1, "num_gpus": self.gpus, "memory": self.memory_bytes}
        return {name: value for name, value in options.items() if value}

    def at_a_time(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Evaluations that fit on nodes with these resources."""
        wanted = {"CPU": 1, "GPU": self.gpus or 0, "memory": self.memory_bytes or 0}
        return sum(
            min(int(node.get(name, 0) / share + 1e-9) for name, share in wanted.items() if share)
            for node in nodes
        )

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return (
            "1 core" + gpus + (f", {self.memory_bytes / 2**30:g} GB" if self.memory_bytes else "")
        )


@contextlib.contextmanager
def limited(memory_bytes: int | None, seconds: float | None, log: TextIO) -> Iterator[None]:
    """Holds this process to its limits inside the context.

    The kernel refuses memory beyond the limit (Linux; elsewhere it is not held), which raises
    MemoryError or what a library makes of it. A process beyond its time is ended by a thread that
    needs nothing of the interpreter, wherever it hangs, and its stack is written to the log.

    Args:
        memory_bytes: that the process may have allocated for itself alone.
        seconds: from now on.
        log: an open file.
    """
    with contextlib.ExitStack() as stack:
        if memory_bytes:
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            allowed = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_DATA, (soft, hard))
        if seconds:
            faulthandler.dump_traceback_later(seconds, exit=True, file=log)
            stack.callback(faulthandler.cancel_dump_traceback_later)
        yield
