"""What runs in a worker process: preparing, lowering, evaluating. Paths and codes in, JSON out."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from evaluators.protocol import EvaluationError, Evaluator, StoppedEarly
from nas.plugin import EvaluatorSpec
from nas.record.records import State
from nas.resources import Needs, limited
from nas.searchers.problem import FULL
from search_spaces.load import load_space
from search_spaces.space import SearchSpace

Code = tuple[int, ...]

# What a machine lacks, not a candidate: another attempt may find it elsewhere or later.
_OF_THE_MACHINE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)
_OUT_OF_MEMORY = ("can't allocate memory", "std::bad_alloc")  # torch raises RuntimeError

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Setting:
    """What every task of a study needs, as paths.

    Attributes:
        space_file: absolute path of the space.
        evaluator: how to make the evaluator.
        directory: the study's folder for what evaluations share, absolute.
        seed: of every evaluation.
        fidelities: that the study evaluates at, ascending.
        needs: of an evaluation.
    """

    space_file: str
    evaluator: EvaluatorSpec
    directory: str
    seed: int
    fidelities: tuple[float, ...] = (FULL,)
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True)
class Outcome:
    """How a task ended: with `metrics`, or with a one-line `error`.

    Attributes:
        metrics: what was returned; None after an error, unless the evaluation was given up early.
        error_type: name of the exception's class; empty without one.
        seconds: that the task took.
        lost: whether the machine ended it and not the candidate: it may be tried again.
    """

    metrics: dict[str, Any] | None
    error: str | None
    error_type: str
    seconds: float
    lost: bool = False

    @property
    def state(self) -> State:
        """What becomes of the trial; `metrics` of a stopped one hold what was known by then."""
        if self.error_type == StoppedEarly.__name__:
            return "stopped"
        return "failed" if self.metrics is None else "complete"


def evaluate(
    setting: Setting, code: Code, log: str, bar: Mapping[str, float], fidelity: float = FULL
) -> Outcome:
    """Scores one architecture; whatever goes wrong becomes the outcome's error."""
    needs = setting.needs
    with _logged(Path(log)) as file, limited(needs.memory_bytes, needs.seconds, file):
        return _outcome(lambda: _metrics(setting, code, bar, fidelity), file)


def prepare(setting: Setting, log: str) -> Outcome:
    """Runs the evaluator's `prepare`; its `warnings` are what was logged as such."""

    def run() -> dict[str, Any]:
        evaluator = _evaluator(setting)
        Path(setting.directory).mkdir(parents=True, exist_ok=True)
        with _warnings() as messages:
            evaluator.prepare(_space(setting.space_file), Path(setting.directory))
        return {"warnings": messages}

    with _logged(Path(log)) as file:
        return _outcome(run, file)


def lower(space_file: str, code: Code, signature: str) -> Outcome:
    """Lowers one block of an architecture into the cache that all processes share."""
    from latency import lowering

    def run() -> dict[str, Any]:
        space = _space(space_file)
        blocks = space.design(space.architecture(code)).accelerator_blocks
        lowering.lower(next(block for block in blocks if block.signature == signature))
        return {}

    return _outcome(run, sys.stderr)


def cap_threads() -> None:
    """One thread a task: workers share the machine, and scores do not depend on their number."""
    for name in _THREADS:
        os.environ[name] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _metrics(
    setting: Setting, code: Code, bar: Mapping[str, float], fidelity: float
) -> dict[str, Any]:
    cap_threads()
    space, evaluator = _space(setting.space_file), _evaluator(setting)
    cap_threads()
    architecture = space.architecture(code)
    heeded: dict[str, Any] = {"bar": bar} if getattr(evaluator, "stops_early", False) else {}
    if setting.fidelities != (FULL,):
        heeded["fidelities"] = tuple(f for f in setting.fidelities if f <= fidelity)
    folder = Path(setting.directory)
    try:
        record = evaluator.evaluate(space, architecture, folder, setting.seed, **heeded)
    except StoppedEarly as given_up:
        raise StoppedEarly(str(given_up), _cleaned(given_up.record)) from None
    for name in evaluator.metrics:
        if name not in record:
            raise EvaluationError(f"the evaluator returned no {name!r}")
    return _cleaned(record)


def _cleaned(record: Mapping[str, Any]) -> dict[str, Any]:
    if bad := _not_finite(record):
        raise EvaluationError(f"{bad} is not a finite number")
    cleaned: dict[str, Any] = json.loads(json.dumps(record, allow_nan=False))
    return cleaned


def _not_finite(value: Any, name: str = "the record") -> str | None:
    """Where a record holds NaN or an infinity; None when nowhere."""
    if isinstance(value, float):
        return None if math.isfinite(value) else name
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = [(f"{name}[{i}]", entry) for i, entry in enumerate(value)]
    found = (_not_finite(entry, str(key)) for key, entry in items)
    return next((key for key in found if key), None)


def _outcome(run: Any, file: TextIO) -> Outcome:
    start = time.monotonic()
    try:
        metrics, error, kind = run(), None, ""
    except StoppedEarly as given_up:
        metrics, error, kind = given_up.record, str(given_up), type(given_up).__name__
    except (Exception, SystemExit) as problem:
        traceback.print_exc(file=file)
        first = (str(problem).strip().splitlines() or ["no reason given"])[0]
        kind = type(problem).__name__
        told = isinstance(problem, EvaluationError)
        metrics, error = None, first if told else f"{kind}: {first}"
        if _of_the_machine(problem):
            error = f"on {socket.gethostname()}: {error}"
            return Outcome(None, error, kind, time.monotonic() - start, lost=True)
    return Outcome(metrics, error, kind, time.monotonic() - start)


def _of_the_machine(problem: BaseException) -> bool:
    """Whether something ran out that another attempt may find."""
    if isinstance(problem, OSError):
        return problem.errno in _OF_THE_MACHINE
    memory = isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError"
    return memory or any(text in str(problem) for text in _OUT_OF_MEMORY)


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[TextIO]:
    """Sends Python's logging and everything written to stdout and stderr to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file, contextlib.ExitStack() as stack:
        for descriptor in (1, 2):
            stack.callback(_restore, os.dup(descriptor), descriptor)
            os.dup2(file.fileno(), descriptor)
        stack.enter_context(contextlib.redirect_stdout(file))
        stack.enter_context(contextlib.redirect_stderr(file))
        stack.enter_context(_logging_to(file))
        print(f"on {socket.gethostname()}, process {os.getpid()}")
        yield file


@contextlib.contextmanager
def _logging_to(file: TextIO) -> Iterator[None]:
    root = logging.getLogger()
    level, handler = root.level, logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects the messages of logged warnings."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger().removeHandler(handler)


def _restore(saved: int, descriptor: int) -> None:
    os.dup2(saved, descriptor)
    os.close(saved)


@lru_cache(maxsize=4)
def _space(file: str) -> SearchSpace:
    return load_space(file)


def _evaluator(setting: Setting) -> Evaluator:
    return setting.evaluator.build(ValueError)
