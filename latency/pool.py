"""Many blocks lowered at once, on all cores, into the cache that all processes share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from latency.lowering import is_lowered, lower
from search_spaces.blocks import Block

_FEWEST = 8


def lower_all(
    blocks: Sequence[Block], cache: Path | None = None, processes: int | None = None
) -> Iterator[tuple[int, int]]:
    """Lowers what is not on disk yet.

    Args:
        blocks: to be lowered.
        cache: folder of the lowered blocks.
        processes: at a time; default one a core.

    Yields:
        Blocks lowered and blocks left, after each.

    Raises:
        LoweringError: Core ML cannot express one of them.
    """
    missing = [block for block in blocks if not is_lowered(block, cache)]
    # Blocks from a user's own file have no module that another process could import.
    elsewhere = [block for block in missing if _importable(block)]
    here = [block for block in missing if not _importable(block)]
    if len(elsewhere) < _FEWEST:
        here, elsewhere = missing, []
    done = 0
    for block in here:
        lower(block, cache)
        done += 1
        yield done, len(missing) - done
    for _ in _lowered(elsewhere, cache, processes) if elsewhere else ():
        done += 1
        yield done, len(missing) - done


def _lowered(blocks: Sequence[Block], cache: Path | None, processes: int | None) -> Iterator[None]:
    context = get_context("spawn")
    with ProcessPoolExecutor(processes or os.cpu_count(), context, _one_thread) as pool:
        running = [pool.submit(_lower, block, cache) for block in blocks]
        try:
            for finished in as_completed(running):
                yield finished.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _lower(block: Block, cache: Path | None) -> None:
    lower(block, cache)


def _importable(block: Block) -> bool:
    try:
        return find_spec(type(block).__module__) is not None
    except (ImportError, ValueError):
        return False


def _one_thread() -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
