"""Whether every machine of a cluster has what an evaluation needs, before the first one begins."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evaluators.protocol import SetupError
from nas.tasks import Setting
from search_spaces.files import write_atomically
from search_spaces.load import load_space

_LIBRARIES = ("nas-codecs", "torch", "numpy", "safetensors", "lpips", "constriction")
_SECONDS = 300.0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that evaluations may run on.

    Attributes:
        id: Ray's.
        name: host and address, for people.
        resources: by Ray's names, what it has in all.
    """

    id: str
    name: str
    resources: Mapping[str, float]


def living() -> list[Node]:
    """The nodes of the cluster that is joined."""
    import ray

    return [
        Node(
            node["NodeID"],
            f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})",
            node["Resources"],
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


def require_ready(nodes: Sequence[Node], setting: Setting) -> None:
    """Fails unless every node could evaluate.

    Args:
        nodes: of the joined cluster.
        setting: of the study; a file is written into its folder, and removed.

    Raises:
        SetupError: what a node misses; names it.
    """
    import ray

    folder = Path(setting.directory)
    folder.mkdir(parents=True, exist_ok=True)
    marker, content = folder / f".seen-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    write_atomically(marker, content)
    try:
        asked = {_ask(node, setting, str(marker), content): node for node in nodes}
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS)
        problems = [f"{asked[one].name}: {text}" for one in answered if (text := _answer(one))]
        problems += [f"{asked[one].name}: no answer in {_SECONDS:.0f} s" for one in silent]
    finally:
        marker.unlink(missing_ok=True)
    if problems:
        more = f" (and {len(problems) - 1} other nodes)" if len(problems) > 1 else ""
        raise SetupError(f"node {problems[0]}{more}")


def missing_here(
    setting: Setting, marker: str, content: str, versions: Mapping[str, str | None]
) -> str | None:
    """What this machine misses; None if nothing."""
    for name, wanted in versions.items():
        if (found := _version(name)) != wanted:
            return f"has {name} {found or 'not at all'}, the driver {wanted}; install the same"
    try:
        if Path(marker).read_text(encoding="utf-8") != content:
            raise FileNotFoundError
    except OSError:
        return f"does not see {Path(marker).parent}; put runs/ on a file system that all share"
    try:
        load_space(setting.space_file)
        setting.evaluator.build(SetupError).check()
    except Exception as problem:
        return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    return None


def _ask(node: Node, setting: Setting, marker: str, content: str) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(node.id, soft=False)
    versions = {name: _version(name) for name in _LIBRARIES}
    task = ray.remote(missing_here).options(num_cpus=0, scheduling_strategy=place, max_retries=0)
    return task.remote(setting, marker, content, versions)


def _answer(reference: Any) -> str | None:
    import ray

    try:
        text: str | None = ray.get(reference)
        return text
    except ray.exceptions.RayError as problem:
        lines = [line for line in str(problem).splitlines() if line.strip()]
        return f"cannot run a task: {lines[-1].strip() if lines else type(problem).__name__}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
