"""The enumerating half of `space_throughput.py`: speed and memory, on a part and on the whole.

`generate_grid` makes a dictionary of every combination of choices, and then a `Configuration` of
each that is not forbidden. Its speed on the whole space is measured if that ends within a limit, in
a process of its own; otherwise all that is reported is that it did not end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from ConfigSpace.util import generate_grid
from configspace_peer import Translation, some_code, translate
from in_turn import Task, compared, measured

from search_spaces.load import load_space
from search_spaces.space import Choice, Codes, SearchSpace

MEMORY_BYTES = 12 * 2**30
REPEATS = 5


def enumerated(space: SearchSpace, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both on a part of the space; each on the whole where it can."""
    part, fixed = part_of(space, arguments.part)
    peer = translate(part, some_code(part), False, arguments.seed)
    same_grid(peer)
    tasks: dict[str, Task] = {
        "ours": lambda: len(part.enumerate()),
        "configspace": lambda: len(generate_grid(peer.theirs)),
    }
    speeds = measured(tasks, min(REPEATS, arguments.repeats))
    speeds["ours"] |= _memory(part.enumerate)
    speeds["configspace"] |= _memory(lambda: generate_grid(peer.theirs))
    sizes = {"size": part.size, "product": peer.theirs.estimate_size(), "fixed": fixed}
    return {"part": {**sizes, **compared(speeds)}, "whole": _whole(space, arguments)}


def same_grid(peer: Translation) -> Codes:
    """ConfigSpace's enumeration as codes; it has to be ours."""
    codes, ours = peer.codes(generate_grid(peer.theirs)), peer.ours.enumerate()
    assert len(codes) == len(ours) == peer.ours.size, "enumerations differ in length"
    assert {*map(tuple, codes.tolist())} == {*map(tuple, ours.tolist())}, "other members"
    return codes


def part_of(space: SearchSpace, most: int) -> tuple[SearchSpace, list[str]]:
    """A space with some parameters fixed as in its reference, those first that others hang on.

    Args:
        space: with a reference.
        most: members that are few enough.

    Returns:
        The part and the names of what is fixed.
    """
    part, fixed = space, dict[str, Choice]()
    for column in space.rules.order:
        name, when = space.names[column], space.rules.conditions.get(column)
        settled = when is None or fixed.keys() >= {*when.names}
        if part.size > most and settled and name in space.reference.choices:
            fixed[name] = space.reference.choices[name]
            part = _with_fixed(space, fixed)
    return part, list(fixed)


def _with_fixed(space: SearchSpace, fixed: Mapping[str, Choice]) -> SearchSpace:
    reference = space.reference.choices.items()
    return replace(
        space,
        parameters=tuple(p for p in space.parameters if p.name not in fixed),
        fixed={**space.fixed, **fixed},
        reference_choices={name: choice for name, choice in reference if name not in fixed},
    )


def _whole(space: SearchSpace, arguments: argparse.Namespace) -> dict[str, Any]:
    if space.size > arguments.whole:
        return {"size": space.size, "skipped": f"more than {arguments.whole} members"}
    tasks: dict[str, Task] = {"ours": lambda: len(space.enumerate())}
    ours = measured(tasks, min(REPEATS, arguments.repeats))["ours"]
    ours |= {"seconds": space.size / ours["per_s"], **_memory(space.enumerate)}
    theirs = _whole_grid(arguments) if arguments.limit_seconds else {"skipped": "no time given"}
    return {"size": space.size, "ours": ours, "configspace": theirs}


def _memory(enumerate_: Callable[[], Any]) -> dict[str, float]:
    """Bytes a member: what the result holds on to, and the peak on the way; as allocated."""
    tracemalloc.start()
    found = enumerate_()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes_a_member": kept / len(found), "peak_bytes_a_member": peak / len(found)}


def _whole_grid(arguments: argparse.Namespace) -> dict[str, Any]:
    """What became of `generate_grid` on the whole space."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_grid_process, args=(sender, arguments.space, arguments.seed))
    process.start()
    sender.close()
    limits = {"limit_seconds": arguments.limit_seconds, "limit_bytes": MEMORY_BYTES}
    try:
        outcome = receiver.recv() if receiver.poll(arguments.limit_seconds) else None
    except EOFError:
        outcome = {"ended": False, "because": "its process died"}
    process.terminate()
    process.join()
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {**(outcome or {"ended": False, "because": "out of time"}), **limits, "peak_rss": peak}


def _grid_process(sender: Connection, name: str, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    space = load_space(name)
    peer = translate(space, some_code(space), False, seed)
    started = perf_counter()
    try:
        count = len(generate_grid(peer.theirs))
    except MemoryError:
        sender.send({"ended": False, "because": "out of memory"})
        return
    seconds = perf_counter() - started
    sender.send({"ended": True, "count": count, "seconds": seconds, "per_s": count / seconds})
