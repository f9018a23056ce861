"""Evaluations out, results in: stateless Ray tasks on this machine or on a cluster.

A task gets import paths and codes, never pickled classes, so that a user's own file works wherever
the same files are to be seen. Nothing is retried here: every attempt is the record's business. What
a machine ended and not the candidate is `lost`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from evaluators.protocol import SetupError
from nas import nodes, tasks
from nas.ray_cluster import WorkerError, ray_cluster
from nas.resources import TIMED_OUT
from nas.searchers.problem import FULL
from nas.tasks import Code, Outcome, Setting

_LOOK_SECONDS = 5.0  # between two looks at the nodes
_SILENT_SECONDS = 60.0


@dataclass(frozen=True)
class Preparation:
    """How far the work before the first evaluation has come, and what it warned of since."""

    lowered: int
    blocks: int
    prepared: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Attempt:
    """An evaluation under way."""

    trial: int
    started: float  # of the monotonic clock
    log: Path
    log_bytes: int  # that the log had before


class Workers:
    """A Ray cluster, ours or a joined one, as a context manager.

    Attributes:
        count: evaluations that run at a time; of a joined cluster it follows what the cluster has,
            unless it was stated.
    """

    def __init__(
        self, setting: Setting, logs: Path, count: int | None = None, address: str | None = None
    ) -> None:
        """Nothing starts before the context is entered.

        Args:
            setting: of the study.
            logs: folder for Ray's own log; absolute.
            count: evaluations at a time; default one a core.
            address: of a running cluster to join; default: a local one, started and stopped here.
        """
        self.setting = setting
        self.count = count or os.cpu_count() or 1
        self._wanted = count
        self._address = address
        self._logs = logs
        self._running: dict[Any, _Attempt] = {}
        self._needs = setting.needs
        self._looked = float("-inf")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Workers:
        with contextlib.ExitStack() as stack:
            stack.enter_context(ray_cluster(self._logs, self.count, self._address))
            self._fit()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.cancel()
        self._stack.close()

    @property
    def free(self) -> int:
        """How many more evaluations may be submitted now."""
        if self._address and time.monotonic() - self._looked > _LOOK_SECONDS:
            self._follow([node.resources for node in nodes.living()])
        return self.count - len(self._running)

    def prepare(self, unlowered: Mapping[str, Code]) -> Generator[Preparation]:
        """Prepares the evaluator and lowers blocks at the same time.

        Args:
            unlowered: block signature -> code of an architecture that has it.

        Raises:
            SetupError: the evaluator misses something, here or on another node; says what.
            WorkerError: preparing or lowering failed.
        """
        log = self._logs / "prepare.log"
        if self._address:
            nodes.require_ready(self._fitting(), self.setting)
        shared = {self._submit(tasks.prepare, self.setting, str(log), **self._needs.options): ""}
        yield from self._done({**shared, **self._lowering(unlowered)}, log)

    def lower(self, unlowered: Mapping[str, Code]) -> Generator[Preparation]:
        """Lowers blocks without preparing; arguments and errors as for `prepare`."""
        yield from self._done(self._lowering(unlowered), self._logs)

    def submit(
        self,
        trial: int,
        code: Code,
        log: Path,
        seed: int | None = None,
        bar: Mapping[str, float] | None = None,
        fidelity: float = FULL,
    ) -> None:
        """Starts an evaluation.

        Args:
            trial: its number.
            code: of the architecture.
            log: where its output goes.
            seed: another than the study's.
            bar: what candidates as cheap have come to, for an evaluator that stops early.
            fidelity: share of the full training.
        """
        setting = self.setting if seed is None else replace(self.setting, seed=seed)
        arguments = (setting, code, str(log), dict(bar or {}), fidelity)
        attempt = _Attempt(trial, time.monotonic(), log, _bytes(log))
        self._running[self._submit(tasks.evaluate, *arguments, **self._needs.options)] = attempt

    def wait(self, timeout_seconds: float = 1.0) -> list[tuple[int, Outcome]]:
        """Trials that ended since, with their outcomes; empty when none did in time."""
        import ray

        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_seconds)
        ended = [(self._running[one].trial, self._collect(one)) for one in ready]
        return ended + [(self._running[one].trial, self._given_up(one)) for one in self._overdue()]

    def cancel(self) -> None:
        """Forgets what runs; it is ended with the context, when Ray ends the processes of a driver.

        Ray (2.60) aborts a driver whose task ends just while it is being cancelled.
        """
        self._running.clear()

    def _lowering(self, unlowered: Mapping[str, Code]) -> dict[Any, str]:
        file = self.setting.space_file
        return {self._submit(tasks.lower, file, code, s): s for s, code in unlowered.items()}

    def _done(self, pending: dict[Any, str], log: Path) -> Generator[Preparation]:
        """Waits for tasks; the one without a signature is the preparation."""
        import ray

        blocks = sum(signature != "" for signature in pending.values())
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
            outcomes = [(_get(r, 0.0), pending.pop(r)) for r in ready]
            for outcome, signature in outcomes:
                _require(outcome, signature, log)
            warnings = [w for o, _ in outcomes for w in (o.metrics or {}).get("warnings", ())]
            left = sum(signature != "" for signature in pending.values())
            yield Preparation(blocks - left, blocks, left == len(pending), tuple(warnings))

    def _collect(self, reference: Any) -> Outcome:
        attempt = self._running.pop(reference)
        outcome = _get(reference, time.monotonic() - attempt.started)
        if outcome.lost and TIMED_OUT in _since(attempt):
            seconds = self.setting.needs.seconds
            return replace(outcome, error=f"beyond its {seconds:g} s; {attempt.log} says where")
        return outcome

    def _overdue(self) -> list[Any]:
        """What should have been ended on its own machine long ago: stopped, or cut off."""
        if not (seconds := self.setting.needs.seconds):
            return []
        latest = time.monotonic() - 2 * seconds - _SILENT_SECONDS
        return [one for one, attempt in self._running.items() if attempt.started < latest]

    def _given_up(self, reference: Any) -> Outcome:
        import ray

        attempt = self._running.pop(reference)
        with contextlib.suppress(Exception):
            ray.cancel(reference, force=True)
        seconds = time.monotonic() - attempt.started
        return Outcome(None, f"no sign of life for {seconds:.0f} s", "Silent", seconds, lost=True)

    def _fit(self) -> None:
        """What evaluations ask the cluster for, and how many of them it takes at a time."""
        have = [node.resources for node in nodes.living()]
        self._needs = self.setting.needs.on(have)
        if not self._needs.at_a_time(have):
            raise WorkerError(f"no node has what an evaluation needs: {self._needs}")
        self._follow(have)

    def _follow(self, have: Sequence[Mapping[str, float]]) -> None:
        """Nodes come and go.

        Args:
            have: resources of those that are there.
        """
        fitting = self._needs.at_a_time(have)
        self.count = self._wanted or (fitting if self._address else min(self.count, fitting))
        self._looked = time.monotonic()

    def _fitting(self) -> list[nodes.Node]:
        return [one for one in nodes.living() if self._needs.at_a_time([one.resources])]

    def _submit(self, task: Any, *arguments: Any, **options: Any) -> Any:
        import ray

        options = {"num_cpus": 1, **options}
        return ray.remote(task).options(max_retries=0, **options).remote(*arguments)


def _get(reference: Any, seconds: float) -> Outcome:
    import ray

    try:
        outcome: Outcome = ray.get(reference)
        return outcome
    except ray.exceptions.RayError as problem:
        return Outcome(None, _lost(problem), type(problem).__name__, seconds, lost=True)


def _bytes(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _since(attempt: _Attempt) -> str:
    """What an attempt wrote into its log."""
    try:
        with attempt.log.open("rb") as file:
            file.seek(attempt.log_bytes)
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _lost(problem: Exception) -> str:
    reasons = {
        "WorkerCrashedError": "its process ended in the middle: killed, out of memory or exited",
        "OutOfMemoryError": "its process was killed because the machine ran out of memory",
        "NodeDiedError": "its node was lost",
    }
    cause = getattr(problem, "cause", None) or problem  # of a task that raised
    kind = type(cause).__name__
    first = (str(cause).strip().splitlines() or ["no reason given"])[0]
    return reasons.get(kind) or f"its worker was lost: {kind}: {first}"


def _require(outcome: Outcome, signature: str, log: Path) -> None:
    if outcome.error is None:
        return
    if outcome.error_type == SetupError.__name__:
        raise SetupError(outcome.error.removeprefix(f"{outcome.error_type}: "))
    what = f"lowering {signature}" if signature else "preparing the evaluator"
    where = "" if signature else f"; see {log}"
    raise WorkerError(f"{what} failed: {outcome.error}{where}")
