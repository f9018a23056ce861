"""Damaged inputs through the program in a process of their own, for `fuzz.py`.

A child that dies or hangs takes one input with it: the parent knows which, and goes on behind it.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

MEMORY_BYTES = 1 << 30  # that an input may take beyond what the libraries do
_HANGING_SECONDS = 180.0  # of waiting, on a machine that may be busy with something else
_SHOWN = 2000  # characters of what a faulty run printed


@dataclass(frozen=True)
class Case:
    """One input: a command line, and the files that it is about.

    Attributes:
        kind: of damage.
        arguments: of the program.
        files: by path below the working directory.
        whole: what the error says of an input that was read whole, where the command ends then.
        check: what is wrong with an input that was taken, if anything.
    """

    kind: str
    arguments: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    whole: str | None = None
    check: Callable[[Path], str | None] | None = None


@dataclass(frozen=True)
class Place:
    """Where inputs run.

    Attributes:
        root: nothing in it changes but what is below `work` and `cache`.
        work: the working directory, empty before every input.
        cache: of libraries and of lowered blocks.
        seconds: of the processor that an input may take.
    """

    root: Path
    work: Path
    cache: Path
    seconds: float = 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        number: of the input in its format.
        kind: of damage.
        verdict: `accepted`, `refused`, or the fault in words.
        seconds: of the processor that it took; of one that hangs or dies, by the clock.
        printed: of a faulty one, what it printed last.
    """

    number: int
    kind: str
    verdict: str
    seconds: float
    printed: str = ""

    @property
    def faulty(self) -> bool:
        return self.verdict not in ("accepted", "refused")


Make = Callable[[int], Case]


def outcomes(make: Make, numbers: Sequence[int], place: Place) -> Iterator[Outcome]:
    """Runs inputs in forked children, in order; slow ones a second time, alone.

    Args:
        make: the input of a number, the same one every time.
        numbers: of the inputs.
        place: where they run.
    """
    left = list(numbers)
    while left:
        done = 0
        for outcome in _batch(make, left, place):
            done += 1
            slow = outcome.seconds > place.seconds and not outcome.faulty
            yield _again(make, outcome, place) if slow else outcome
        left = left[done:]


def _again(make: Make, first: Outcome, place: Place) -> Outcome:
    """The first one in a child may have had something to load."""
    second = next(_batch(make, [first.number], place))
    if second.seconds > place.seconds and not second.faulty:
        return Outcome(first.number, first.kind, "too slow", min(first.seconds, second.seconds))
    return second


def _batch(make: Make, numbers: Sequence[int], place: Place) -> Iterator[Outcome]:
    """Outcomes of one child, until it has done all, or one of them has ended it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(make, numbers, place, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb", buffering=0) as lines:
            yield from _heard(make, numbers, lines, pid)
    finally:
        _reap(pid)


def _heard(make: Make, numbers: Sequence[int], lines: Any, pid: int) -> Iterator[Outcome]:
    """What the child reports; of an input that ended it, how it ended."""
    buffer, done = b"", 0
    while done < len(numbers):
        began = time.monotonic()
        while b"\n" not in buffer:
            left = _HANGING_SECONDS - (time.monotonic() - began)
            ready = select.select([lines], [], [], max(0.0, left))[0]
            if not ready:
                yield _ended(make, numbers[done], "hangs", time.monotonic() - began)
                return
            if not (more := os.read(lines.fileno(), 1 << 16)):
                verdict = f"the process died: {_reap(pid)}"
                yield _ended(make, numbers[done], verdict, time.monotonic() - began)
                return
            buffer += more
        line, _, buffer = buffer.partition(b"\n")
        yield Outcome(**json.loads(line))
        done += 1


def _ended(make: Make, number: int, verdict: str, seconds: float) -> Outcome:
    return Outcome(number, make(number).kind, verdict, seconds)


_REAPED: dict[int, str] = {}


def _reap(pid: int) -> str:
    """Ends a child, if it is still there; how it ended."""
    if pid not in _REAPED:
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found:
            time.sleep(0.2)
            found, status = os.waitpid(pid, os.WNOHANG)
        if not found:
            os.kill(pid, signal.SIGKILL)
            found, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        _REAPED[pid] = signal.Signals(-code).name if code < 0 else f"exit {code}"
    return _REAPED[pid]


def _child(make: Make, numbers: Sequence[int], place: Place, pipe: int) -> NoReturn:
    try:
        printed = os.memfd_create("printed")
        for descriptor in (1, 2):
            os.dup2(printed, descriptor)
        _limit_memory()
        for number in numbers:
            outcome = _outcome(number, make(number), place, printed)
            os.write(pipe, json.dumps(asdict(outcome)).encode() + b"\n")
    finally:
        os._exit(0)


def _limit_memory() -> None:
    """Whoever asks for more gets `MemoryError`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (used,) = (1024 * int(line.split()[1]) for line in lines if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _outcome(number: int, case: Case, place: Place, printed: int) -> Outcome:
    shutil.rmtree(place.work, ignore_errors=True)
    place.work.mkdir(parents=True)
    os.chdir(place.work)
    for name, content in case.files.items():
        (place.work / name).parent.mkdir(parents=True, exist_ok=True)
        (place.work / name).write_bytes(content)
    before = _listing(place)
    out, err, seconds, code = _run(case.arguments, printed)
    verdict = _verdict(case, code, out, err)
    if _listing(place) != before:
        verdict = f"wrote outside its place: {sorted(_listing(place) ^ before)[0][0]}"
    if verdict == "accepted" and case.check and (wrong := case.check(place.work)):
        verdict = wrong
    outcome = Outcome(number, case.kind, verdict, round(seconds, 4))
    if not outcome.faulty:
        return outcome
    return Outcome(**{**asdict(outcome), "printed": (out + err)[-_SHOWN:]})


def _run(arguments: list[str], printed: int) -> tuple[str, str, float, Any]:
    """Stdout, stderr, seconds, and the exit code or the exception that nobody expected."""
    from nas.cli import main

    os.ftruncate(printed, 0)
    os.lseek(printed, 0, os.SEEK_SET)
    errors = os.memfd_create("errors")
    os.dup2(errors, 2)
    sys.argv = ["nas", *arguments]
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
    )
    began = time.process_time()
    try:
        main()
    except SystemExit as problem:
        code: Any = problem.code or 0
    except BaseException as problem:  # a panic of Rust is no Exception
        code = problem
        traceback.print_exception(problem, limit=-3)
    seconds = time.process_time() - began
    sys.stdout.flush()
    sys.stderr.flush()
    texts = _text(printed), _text(errors)
    os.close(errors)
    return *texts, seconds, code


def _text(descriptor: int) -> str:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    return os.pread(descriptor, min(size, 1 << 20), 0).decode("utf-8", "replace")


def _verdict(case: Case, code: Any, out: str, err: str) -> str:
    if isinstance(code, BaseException):
        return f"traceback: {type(code).__name__}: {' '.join(str(code).split())[:300]}"
    if "Traceback" in out + err or "panicked" in err:
        return "prints a traceback"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    lines = err.splitlines()
    if code and not (lines and all(line.startswith("nas: ") for line in lines)):
        return "its error is not one line"
    if code and not case.whole:
        return "refused"
    return "accepted" if not code or case.whole in lines[-1] else "refused"


def _listing(place: Place) -> set[tuple[str, int, int]]:
    """Every file of the root but those that may change, with size and time."""
    found, left = set(), [str(place.root)]
    while left:
        for entry in os.scandir(left.pop()):
            if entry.path in (str(place.work), str(place.cache)):
                continue
            about = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.path)
                found.add((entry.path, 0, 0))
            else:
                found.add((entry.path, about.st_size, about.st_mtime_ns))
    return found
