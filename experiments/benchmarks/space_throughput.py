"""Our spaces beside ConfigSpace's: counted, drawn, enumerated, checked, and their neighbours.

    python experiments/benchmarks/space_throughput.py [--space pico_decoder] [--quick]

Both hold the same space (`configspace_peer.py` translates it), in one process, on one thread, in
turn. Before anything is timed, each draws architectures that the other has to find valid, both
judge the same random codes, and both enumerate a part of the space and a small conditional one: a
disagreement ends the run. ConfigSpace gets its constraints twice, as relations and as memberships;
it is measured with those that it draws faster with.

Each side is measured in its own terms, matrices of codes here and `Configuration` objects there,
and once more as dictionaries of choices. `generate_grid`, its one exact count and its enumeration,
holds the product of all choices before it drops what is forbidden: it is measured on a part of the
space, and on the whole in a process of its own that a time limit may end. Medians are printed and
written to `experiments/results/space_throughput.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ConfigSpace.util
import numpy as np
from configspace_peer import Translation, some_code, translate
from in_turn import Speeds, Task, compared, measured
from scipy.stats import chisquare
from space_enumeration import enumerated, same_grid

from search_spaces.files import write_atomically
from search_spaces.load import load_space
from search_spaces.operators import neighbours
from search_spaces.space import Codes, Parameter, SearchSpace

GOALS_OF = "pico_decoder"
FULL = {"samples": 100_000, "checked": 20_000, "repeats": 11, "part": 20_000, "whole": 10**7}
QUICK = {"samples": 2_000, "checked": 500, "repeats": 1, "part": 500, "whole": 10**7}
COMPARED = (
    "sample_one_at_a_time",
    "sample_as_dictionaries",
    "check",
    "neighbourhoods",
)
CONDITIONAL = (
    Parameter("depth", (0, 1, 2), ordered=True),
    Parameter("width", (16, 32, 64), ordered=True, when="depth > 0"),
    Parameter("block", ("residual", "inverted"), when="depth > 0"),
    Parameter("kernel", (3, 5, 7), ordered=True, when="block == 'inverted'"),
    Parameter("heads", ("every", "last")),
)
CONSTRAINTS = ("kernel < 7 or width < 64", "depth == 0 or heads == 'last' or width <= 32")


def main() -> None:
    arguments = _arguments()
    space = load_space(arguments.space)
    peers = {
        name: translate(space, some_code(space), name == "relations", arguments.seed)
        for name in ("relations", "memberships")
    }
    agreed = [_agree(peer, arguments.checked, arguments.seed) for peer in peers.values()]
    speeds = _sampling(space, peers, arguments)
    faster = max(peers, key=lambda name: speeds[f"configspace_{name}"]["per_s"])
    result = {
        "space": space.name,
        "size": space.size,
        "agreement": agreed[0],
        "configspace_constraints": faster,
        "count": _counting(space, peers[faster], arguments.repeats),
        "sample": compared(speeds, "ours", f"configspace_{faster}"),
        **_others(space, peers[faster], arguments),
        "uniformity": _uniformity(space, arguments),
        "enumerate": enumerated(space, arguments),
    }
    result["count"]["configspace_exact"] = _exact_counts(result["enumerate"])
    result["goals"] = _goals(result)
    _print(result)
    text = json.dumps({**result, **_provenance(arguments)}, indent=1)
    write_atomically(arguments.out, text + "\n")


def _agree(peer: Translation, count: int, seed: int) -> dict[str, int]:
    """Whether both mean the same: each judges what the other draws, and codes at random."""
    space, rng = peer.ours, np.random.default_rng(seed)
    codes = space.sample(rng, count)
    configurations = peer.theirs.sample_configuration(count)
    drawn = peer.codes(configurations)
    some = _random_codes(space, rng, count)
    judged = space.valid(some)
    assert peer.valid(peer.vectors(codes)).all(), "ConfigSpace refuses what we draw"
    assert space.valid(drawn).all(), "we refuse what ConfigSpace draws"
    assert (peer.valid(peer.vectors(some)) == judged).all(), "random codes are judged differently"
    for configuration, code in zip(configurations[:1000], drawn, strict=False):
        assert dict(configuration) == space.decode(code), "other choices behind the same code"
    return {"drawn_by_each": count, "random_codes": count, "of_these_valid": int(judged.sum())}


def _random_codes(space: SearchSpace, rng: np.random.Generator, count: int) -> Codes:
    return space.canonical(rng.integers(0, space.cardinalities, (count, len(space.names))))


def _sampling(
    space: SearchSpace, peers: Mapping[str, Translation], arguments: argparse.Namespace
) -> Speeds:
    rng, count = np.random.default_rng(arguments.seed), arguments.samples
    tasks: dict[str, Task] = {"ours": lambda: len(space.sample(rng, count))}
    for name, peer in peers.items():
        draw = peer.theirs.sample_configuration
        tasks[f"configspace_{name}"] = lambda draw=draw: len(draw(count))
    return measured(tasks, arguments.repeats)


def _others(space: SearchSpace, peer: Translation, arguments: argparse.Namespace) -> dict[str, Any]:
    """What else both can do, by name."""
    rng = np.random.default_rng(arguments.seed)
    few, draw = arguments.samples // 100, peer.theirs.sample_configuration
    codes = _random_codes(space, rng, arguments.checked)
    vectors = peer.vectors(codes)
    pairs: dict[str, tuple[Task, Task]] = {
        "sample_one_at_a_time": (
            lambda: sum(len(space.sample(rng, 1)) for _ in range(few)),
            lambda: sum(1 for _ in range(few) if draw()),
        ),
        "sample_as_dictionaries": (
            lambda: len([space.decode(code) for code in space.sample(rng, few)]),
            lambda: len([dict(configuration) for configuration in draw(few)]),
        ),
        "check": (lambda: len(space.valid(codes)), lambda: len(peer.valid(vectors))),
    }
    found = {
        name: compared(measured({"ours": ours, "configspace": theirs}, arguments.repeats))
        for name, (ours, theirs) in pairs.items()
    }
    return {**found, "neighbourhoods": _neighbourhoods(space, peer, arguments)}


def _neighbourhoods(
    space: SearchSpace, peer: Translation, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Architectures a second whose neighbours are found, and how many neighbours that is.

    Where a step breaks a constraint, ConfigSpace drops it; ours lets later decisions give way.
    """
    codes = space.sample(np.random.default_rng(arguments.seed), arguments.samples // 100)
    given = [ConfigSpace.Configuration(peer.theirs, vector=v) for v in peer.vectors(codes)]
    near = ConfigSpace.util.get_one_exchange_neighbourhood
    tasks: dict[str, Task] = {
        "ours": lambda: len([neighbours(space, code[None]) for code in codes]),
        "ours_all_at_once": lambda: len(codes) if len(neighbours(space, codes)) else 0,
        "configspace": lambda: len([list(near(one, seed=0)) for one in given]),
    }
    ours = [set(map(tuple, neighbours(space, code[None]).tolist())) for code in codes]
    found = [set(map(tuple, peer.codes(list(near(one, seed=0))).tolist())) for one in given]
    return {
        **compared(measured(tasks, arguments.repeats)),
        "neighbours_each_ours": sum(map(len, ours)) / len(codes),
        "neighbours_each_configspace": sum(map(len, found)) / len(codes),
        "of_its_found_by_ours": sum(len(a & b) for a, b in zip(ours, found, strict=True))
        / max(1, sum(map(len, found))),
    }


def _counting(space: SearchSpace, peer: Translation, repeats: int) -> dict[str, Any]:
    """Ours with all it takes, from the text of the rules on; ConfigSpace's without its rules."""
    tasks: dict[str, Task] = {
        "ours": lambda: bool(replace(space).size),
        "configspace_estimate": lambda: bool(peer.theirs.estimate_size()),
    }
    speeds = measured(tasks, repeats)
    return {
        "ours": {"count": space.size, "ms": 1000 / speeds["ours"]["per_s"]},
        "configspace_estimate": {
            "count": peer.theirs.estimate_size(),
            "ms": 1000 / speeds["configspace_estimate"]["per_s"],
        },
        "times_too_large": peer.theirs.estimate_size() / space.size,
    }


def _exact_counts(enumerated: Mapping[str, Any]) -> dict[str, Any]:
    """What `generate_grid` took to count; on the whole only if it ended."""
    part, whole = enumerated["part"], enumerated["whole"].get("configspace", {"ended": False})
    seconds = part["size"] / part["configspace"]["per_s"]
    return {"part": {"count": part["size"], "seconds": seconds}, "whole": whole}


def _uniformity(space: SearchSpace, arguments: argparse.Namespace) -> dict[str, Any]:
    """Chi-squared against equal shares, on a conditional space of a few architectures."""
    small = _variant(space, CONDITIONAL, CONSTRAINTS)
    peer = translate(small, some_code(small), False, arguments.seed)
    _agree(peer, 1000, arguments.seed)
    grid = same_grid(peer)
    drawn = {
        "ours": small.sample(np.random.default_rng(arguments.seed), arguments.checked),
        "configspace": peer.codes(peer.theirs.sample_configuration(arguments.checked)),
    }
    result: dict[str, Any] = {"architectures": len(grid), "draws": arguments.checked}
    for name, codes in drawn.items():
        _, counts = np.unique(np.concatenate([grid, codes]), axis=0, return_counts=True)
        shares = (counts - 1) * len(grid) / len(codes)
        result[name] = {
            "p": float(chisquare(counts - 1).pvalue),
            "rarest_times_fair": float(shares.min()),
            "commonest_times_fair": float(shares.max()),
        }
    return result


def _variant(
    space: SearchSpace, parameters: tuple[Parameter, ...], constraints: tuple[str, ...]
) -> SearchSpace:
    return replace(
        space,
        parameters=parameters,
        constraints=constraints,
        fixed={},
        reference_choices={},
        paired_encoder=(),
    )


def _goals(result: Mapping[str, Any]) -> dict[str, Any]:
    """Reached or not; stated of the one space that they are set for."""
    if result["space"] != GOALS_OF:
        return {}
    samples = result["sample"]["ours"]["per_s"]
    seconds = result["enumerate"]["whole"]["ours"]["seconds"]
    return {
        "samples_per_s": {"goal": 200_000, "reached": samples, "met": samples >= 200_000},
        "enumeration_s": {"goal": 5.0, "reached": seconds, "met": seconds < 5.0},
    }


def _print(result: Mapping[str, Any]) -> None:
    part, whole = result["enumerate"]["part"], result["enumerate"]["whole"]
    print(f"{result['space']}, {result['size']:,} architectures; by a second: ours, ConfigSpace's")
    theirs = f"configspace_{result['configspace_constraints']}"
    _row("sample", result["sample"], theirs)
    for name in COMPARED:
        _row(name.replace("_", " "), result[name], "configspace")
    _row("  the same, at once", result["neighbourhoods"], "configspace", "ours_all_at_once")
    _row(f"enumerate {part['size']:,}", part, "configspace")
    if whole.get("configspace", {}).get("ended"):
        _row(f"{whole['size']:,}, not in turn", whole, "configspace")
    for name in ("count", "uniformity", "goals"):
        print(f"{name}: {json.dumps(result[name])}")
    print(f"enumerate the whole: {json.dumps(whole)}")


def _row(name: str, speeds: Mapping[str, Any], theirs: str, ours: str = "ours") -> None:
    one, other = speeds[ours]["per_s"], speeds[theirs]["per_s"]
    print(f"{name:24} {one:12,.0f} {other:12,.0f} {one / other:8.1f} x")


def _provenance(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "samples": arguments.samples,
        "repeats": arguments.repeats,
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "versions": {name: version(name) for name in ("ConfigSpace", "numpy", "scipy")},
        "python": platform.python_version(),
        "seed": arguments.seed,
        "command": "python experiments/benchmarks/space_throughput.py"
        f" --space {arguments.space} --seed {arguments.seed}"
        + (" --quick" if arguments.quick else f" --limit-seconds {arguments.limit_seconds:g}"),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default=GOALS_OF, help="a shipped space or a file of one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit-seconds", type=float, default=900, help="of generate_grid on all; 0 leaves it out"
    )
    parser.add_argument("--quick", action="store_true", help="seconds; figures mean little")
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/results/space_throughput.json")
    )
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    vars(arguments).update(sizes)
    arguments.limit_seconds *= not arguments.quick
    return arguments


if __name__ == "__main__":
    main()
