"""The `nas` program: thin commands, one-line errors, exit codes.

0 done, 1 it ran and failed, 2 the request was wrong, 130 stopped by the user. Everything heavy is
imported inside the commands, so that `nas --help` answers at once.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from nas import __version__
from nas.commands import (
    ablate,
    codec,
    compare,
    confirm,
    export,
    latency,
    read,
    report,
    retarget,
    search,
    supernet,
    train,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="nas")
def cli() -> None:
    """Searches learned image codecs that stay inside a latency budget on a phone."""


for command in (
    *search.COMMANDS,
    *supernet.COMMANDS,
    *confirm.COMMANDS,
    *ablate.COMMANDS,
    *read.COMMANDS,
    *report.COMMANDS,
    *retarget.COMMANDS,
    *latency.COMMANDS,
    *export.COMMANDS,
    *train.COMMANDS,
    *codec.COMMANDS,
    *compare.COMMANDS,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Runs the program; every foreseeable error is one line on stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(100_000, 50, 100)  # a large record is all alive: nothing there to collect
    atexit.register(gc.freeze)  # nor at the end, when the memory is given back anyway
    try:
        sys.exit(cli.main(prog_name="nas", standalone_mode=False) or 0)
    except click.ClickException as problem:
        _fail(" ".join(problem.format_message().split()), 2)
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped; what finished is recorded, the same command goes on from there", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as problem:
        if problem.filename is None:
            raise
        # Whoever asks for a path may be told that there can be none: too long, in a circle, closed.
        _fail(f"{str(problem.filename)[:200]}: {problem.strerror}", _exit_code_of_system(problem))
    except Exception as problem:
        code = _exit_code(problem)
        if code is None:
            raise
        _fail(" ".join(str(problem).split()), code)


def _exit_code(problem: Exception) -> int | None:
    """2 for a wrong request, 1 for a run that failed, None for a defect of this program."""
    from evaluators.protocol import EvaluationError, SetupError
    from latency.lowering import LoweringError
    from latency.measure.backend import MeasureError
    from latency.table import MissingRowError, TableError
    from nas.comparison.layout import ComparisonError
    from nas.experiment import ExperimentError
    from nas.picture_files import OutputError, PictureFileError
    from nas.pricing.budget import BudgetError
    from nas.ray_cluster import WorkerError
    from nas.record.retrying import LostError
    from nas.record.storage import StudyError
    from nas.search import SearchError
    from search_spaces.codec.saved import CodecFileError
    from search_spaces.space import SpaceError

    wrong = (ExperimentError, SpaceError, SetupError, StudyError, BudgetError, CodecFileError)
    wrong_files = (TableError, MissingRowError, MeasureError, PictureFileError, ComparisonError)
    failed = (EvaluationError, SearchError, WorkerError, OutputError, LostError)
    if isinstance(problem, failed):
        return 1
    return 2 if isinstance(problem, (*wrong, *wrong_files, LoweringError)) else None


def _exit_code_of_system(problem: OSError) -> int:
    """1 where a disk is full or fails, 2 where another path is to be given."""
    failed = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE)
    return 1 if problem.errno in failed else 2


def _fail(message: str, code: int) -> NoReturn:
    print(f"nas: {message}", file=sys.stderr)
    sys.exit(code)


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
