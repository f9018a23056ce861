"""Two stages of work on many items, so that one item's second runs beside another's first.

first     | 1 | 2 | 3 | 4 |
second        | 1 | 2 | 3 | 4 |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Given = TypeVar("Given")
Between = TypeVar("Between")
Made = TypeVar("Made")


def pipelined(
    first: Callable[[Given], Between],
    second: Callable[[Between], Made],
    given: Iterable[Given],
    threads: int,
) -> Iterator[Made]:
    """Results in the order of what was given, which is drawn only as fast as it is worked off.

    Args:
        first: a stage; torch computes every operator in the thread that calls it.
        second: takes what `first` returned.
        given: items.
        threads: of each stage.
    """
    pending: deque[Future[Made]] = deque()

    def finish(begun: Future[Between]) -> Made:
        return second(begun.result())

    with (
        _one_thread_each(),
        ThreadPoolExecutor(threads) as begin,
        ThreadPoolExecutor(threads) as end,
    ):
        try:
            for item in given:
                pending.append(end.submit(finish, begin.submit(first, item)))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            begin.shutdown(cancel_futures=True)
            end.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Torch computes every operator in the thread that calls it; threads started within inherit.

    How a sum is shared out among threads changes its last digits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
