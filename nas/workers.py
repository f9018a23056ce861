"""Evaluations out, results in: stateless Ray tasks on this machine or on a cluster.

A task gets import paths and codes, never pickled classes, so that a user's own file works wherever
the same files are to be seen. Nothing is retried here: every attempt is the record's business.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from evaluators.protocol import SetupError
from nas import tasks
from nas.ray_cluster import WorkerError, ray_cluster
from nas.searchers.problem import FULL
from nas.tasks import Code, Outcome, Setting


@dataclass(frozen=True)
class Preparation:
    """How far the work before the first evaluation has come, and what it warned of since."""

    lowered: int
    blocks: int
    prepared: bool
    warnings: tuple[str, ...] = ()


class Workers:
    """A Ray cluster, ours or a joined one, as a context manager.

    Attributes:
        count: evaluations that run at a time.
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
        self._running: dict[Any, tuple[int, float]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Workers:
        import ray

        self._stack.enter_context(ray_cluster(self._logs, self.count, self._address))
        if self._address:
            self.count = self._wanted or int(ray.cluster_resources()["CPU"])  # type: ignore[no-untyped-call]
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
        return self.count - len(self._running)

    def prepare(self, unlowered: Mapping[str, Code]) -> Generator[Preparation]:
        """Prepares the evaluator and lowers blocks at the same time.

        Args:
            unlowered: block signature -> code of an architecture that has it.

        Raises:
            SetupError: the evaluator misses something; says what.
            WorkerError: preparing or lowering failed.
        """
        log = self._logs / "prepare.log"
        shared = {self._submit(tasks.prepare, self.setting, str(log)): ""}
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
        reference = self._submit(tasks.evaluate, *arguments)
        self._running[reference] = (trial, time.monotonic())

    def wait(self, timeout_seconds: float = 1.0) -> list[tuple[int, Outcome]]:
        """Trials that ended since, with their outcomes; empty when none did in time."""
        import ray

        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_seconds)
        return [(self._running[reference][0], self._collect(reference)) for reference in ready]

    def cancel(self) -> None:
        """Stops what runs."""
        self._cancel(self._running)
        self._running.clear()

    def _lowering(self, unlowered: Mapping[str, Code]) -> dict[Any, str]:
        file = self.setting.space_file
        return {self._submit(tasks.lower, file, code, s): s for s, code in unlowered.items()}

    def _done(self, pending: dict[Any, str], log: Path) -> Generator[Preparation]:
        """Waits for tasks; the one without a signature is the preparation."""
        import ray

        blocks = sum(signature != "" for signature in pending.values())
        try:
            while pending:
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
                outcomes = [(_get(r, 0.0), pending.pop(r)) for r in ready]
                for outcome, signature in outcomes:
                    _require(outcome, signature, log)
                warnings = [w for o, _ in outcomes for w in (o.metrics or {}).get("warnings", ())]
                left = sum(signature != "" for signature in pending.values())
                yield Preparation(blocks - left, blocks, left == len(pending), tuple(warnings))
        finally:
            self._cancel(pending)

    def _collect(self, reference: Any) -> Outcome:
        _, start = self._running.pop(reference)
        return _get(reference, time.monotonic() - start)

    def _submit(self, task: Any, *arguments: Any) -> Any:
        import ray

        return ray.remote(task).options(num_cpus=1, max_retries=0).remote(*arguments)

    def _cancel(self, references: Mapping[Any, Any]) -> None:
        import ray

        for reference in references:
            with contextlib.suppress(Exception):
                ray.cancel(reference, force=True)


def _get(reference: Any, seconds: float) -> Outcome:
    import ray

    try:
        outcome: Outcome = ray.get(reference)
        return outcome
    except ray.exceptions.RayError as problem:
        return Outcome(None, _lost(problem), type(problem).__name__, seconds)


def _lost(problem: Exception) -> str:
    reasons = {
        "WorkerCrashedError": "its process ended in the middle: killed, out of memory or exited",
        "OutOfMemoryError": "its process was killed because the machine ran out of memory",
    }
    kind = type(problem).__name__
    first = (str(problem).strip().splitlines() or ["no reason given"])[0]
    return reasons.get(kind) or f"its worker was lost: {kind}: {first}"


def _require(outcome: Outcome, signature: str, log: Path) -> None:
    if outcome.error is None:
        return
    if outcome.error_type == SetupError.__name__:
        raise SetupError(outcome.error.removeprefix(f"{outcome.error_type}: "))
    what = f"lowering {signature}" if signature else "preparing the evaluator"
    where = "" if signature else f"; see {log}"
    raise WorkerError(f"{what} failed: {outcome.error}{where}")
