"""How many trainings every searcher needs for how much of the true hypervolume.

    python experiments/benchmarks/search_efficiency.py [--table TABLE.json] [--seeds 20]

On the synthetic problem (`synthetic_problem.py`: 2.2 million architectures, 7 % of them inside the
budget, the front known) a seed draws an instance of its own, the same for all searchers, in the
variants `trained` and `priced`. On a table of trained architectures (`trained_table.py`) only those
of the table may be asked for, and a seed is that of the searcher. They are few in their space, and
samplers propose hardly one of them: with `-nearest` behind its name a searcher is given the nearest
one of the table instead of what it proposes, and is told so.

A search is worth the true hypervolume of the front that its recorded, noisy values choose, as a
share of the exact front's. Evaluations to a share are counted to the first time it is reached; a
search that does not reach it counts as longer than all that do. Evaluations at lower fidelities
count as their share of a full one: the funnel's 1,000 trainings, 980 of them at 0.3, count as 314.
With `-supernet` behind its name a searcher begins with scores by inherited weights (`supernet.py`)
that count as what they took beside a training; what the supernet took is published there.

Over the budget nothing is trained: Optuna's samplers get this for nothing. `+charged` counts what
they proposed over the budget as trainings too.

Every run is written to `--out` as it ends, and the same command goes on where it was stopped. The
published instances are 0 to 19; settings of the searchers were chosen on 1000 and above.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from search_settings import Nearest, Setting, Synthetic, Table
from search_summary import NEAREST, OURS, SUPERNET, Run, goals, printed, summary
from synthetic_problem import VARIANTS

from nas.searchers.choice import make_searcher
from nas.searchers.problem import Ask, Searcher
from search_spaces.files import write_atomically

SHARES = (0.90, 0.95, 0.99)
CHECKPOINTS = (10, 20, 25, 40, 50, 80, 100, 200, 400, 1000)
FUNNEL, REFUSALS = 1000, 20  # trainings of the funnel; proposals of an Optuna ask, at most
SEARCHERS = (
    OURS, "nsga2-gaussian-process", "nsga2-plain", "random", "optuna-nsga2", "optuna-tpe", "funnel",
    *(f"{name}{NEAREST}" for name in ("nsga2-plain", "optuna-nsga2", "optuna-tpe")),
    f"{OURS}{SUPERNET}",
)  # fmt: skip


def main() -> None:
    arguments = _arguments()
    names = [f"synthetic-{variant}" for variant in VARIANTS] if arguments.synthetic else []
    names += [str(arguments.table)] if arguments.table else []
    runs: list[Run] = json.loads(arguments.out.read_text())["runs"] if _goes_on(arguments) else []
    done = {_identity(run) for run in runs}
    for run in _running(list(_wanted(arguments, names, done)), arguments.processes):
        runs.append(run)
        print(f"{run['setting']} seed {run['seed']} {run['searcher']}", flush=True)
        write_atomically(arguments.out, json.dumps(_document(runs, arguments), indent=1) + "\n")
    document = _document(runs, arguments)
    write_atomically(arguments.out, json.dumps(document, indent=1) + "\n")
    print("\n".join(printed(document["summary"], document["goals"])))


def _wanted(arguments: argparse.Namespace, names: list[str], done: set[Any]) -> Iterator[Run]:
    for name, seed, workers in product(names, range(arguments.seeds), arguments.workers):
        evaluations = arguments.evaluations if name.startswith("synth") else arguments.of_table
        for searcher in arguments.searchers:
            if not _applies(searcher, name):
                continue
            length = FUNNEL if searcher == "funnel" and name.startswith("synth") else evaluations
            run = {"setting": name, "seed": arguments.first + seed, "searcher": searcher}
            run |= {"workers": workers, "evaluations": min(length, arguments.longest)}
            if _identity(run) not in done:
                yield run


def _applies(searcher: str, name: str) -> bool:
    """Whether a searcher is one for a setting: some are for tables, and not all have a supernet."""
    if searcher.endswith(SUPERNET):
        return not name.startswith("synth") and bool(Table.read(Path(name)).supernet)
    return NEAREST not in searcher or not name.startswith("synth")


def _identity(run: Run) -> tuple[Any, ...]:
    return tuple(
        Path(str(run[n])).stem for n in ("setting", "seed", "searcher", "workers", "evaluations")
    )


def _running(wanted: list[Run], processes: int) -> Iterator[Run]:
    if processes == 1:
        yield from map(searched, wanted)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(searched, run) for run in wanted]):
            yield future.result()


@lru_cache(maxsize=2)
def _setting(name: str, seed: int) -> Setting:
    if name.startswith("synthetic-"):
        return Synthetic(seed, name.removeprefix("synthetic-"))
    return Table.read(Path(name))


def searched(wanted: Run) -> Run:
    """One search to its end: the share after every training, at the checkpoints and levels."""
    setting = _setting(wanted["setting"], wanted["seed"])
    searcher = _searcher(wanted, setting)
    spent, shares, charged = _search(searcher, setting, wanted)
    trained = {"facts": setting.facts()} if isinstance(setting, Synthetic) else {}
    return {
        **wanted,
        "setting": Path(wanted["setting"]).stem,
        **_levels(spent, shares, wanted["evaluations"]),
        **({"charged": _levels(charged, shares, wanted["evaluations"])} if charged else {}),
        **trained,
    }


def _searcher(wanted: Run, setting: Setting) -> Searcher:
    name, problem = wanted["searcher"], setting.problem(wanted["seed"])
    if name.endswith(NEAREST):
        assert isinstance(setting, Table)
        whole = setting.whole_problem(wanted["seed"])
        return Nearest(make_searcher(name.removesuffix(NEAREST), whole), setting)
    if name == "nsga2-gaussian-process":
        return make_searcher(OURS, problem, model="gp")
    if name.endswith(SUPERNET):
        assert isinstance(setting, Table)
        rungs = (setting.inherited_share, 1.0)
        return make_searcher(name.removesuffix(SUPERNET), problem, fidelities=rungs)
    if name.endswith("-rungs"):
        fidelities = setting.fidelities if isinstance(setting, Table) else (0.3, 1.0)
        return make_searcher(name.removesuffix("-rungs"), problem, fidelities=fidelities)
    return make_searcher(name, problem, trials=wanted["evaluations"])


def _search(
    searcher: Searcher, setting: Setting, wanted: Run
) -> tuple[list[float], list[float], list[float]]:
    """Trainings spent and share reached after each of them; trainings with refusals charged."""
    running: deque[Ask] = deque()
    codes: list[tuple[int, ...]] = []
    recorded: list[Sequence[float]] = []
    spent, shares, charged = [0.0], [0.0], [0.0]
    budget, refused = float(wanted["evaluations"]), 0
    while spent[-1] < budget - 1e-9:
        while len(running) < wanted["workers"]:
            before = searcher.over_budget
            ask = searcher.ask()
            if ask is None:
                break
            refused += min(searcher.over_budget - before, REFUSALS)
            running.append(ask)
        if not running:
            break
        ask = running.popleft()
        values = setting.evaluate(ask, wanted["seed"])
        searcher.tell(ask, values)
        spent.append(spent[-1] + ask.fidelity)
        charged.append(spent[-1] + refused)
        if ask.fidelity == 1:
            codes.append(ask.architecture.code)
            recorded.append(values)
            shares.append(setting.reached(np.array(codes), np.array(recorded)))
        else:
            shares.append(shares[-1])
    refuses = wanted["searcher"] in ("optuna-nsga2", "optuna-tpe")
    return spent, shares, charged if refuses else []


def _levels(spent: list[float], shares: list[float], evaluations: int) -> dict[str, Any]:
    """Shares at the checkpoints; evaluations to each level, None where it was not reached."""
    steps = list(zip(spent, shares, strict=True))
    return {
        "share": {
            str(count): round([share for at, share in steps if at <= count + 1e-9][-1], 4)
            for count in CHECKPOINTS
            if count <= evaluations
        },
        "to": {
            f"{level:.0%}": next(
                (round(at, 2) for at, share in steps if share >= level and at <= evaluations), None
            )
            for level in SHARES
        },
    }


def _document(runs: list[Run], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "searchers": list(arguments.searchers),
        "seeds": [min(run["seed"] for run in runs), max(run["seed"] for run in runs)],
        "machine": f"{platform.machine()} {platform.system()}, one thread a search",
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("numpy", "scikit-learn", "pymoo", "optuna")},
        "command": "python experiments/benchmarks/search_efficiency.py",
        "goals": goals(runs),
        "summary": summary(runs),
        "runs": runs,
    }


def _goes_on(arguments: argparse.Namespace) -> bool:
    return bool(arguments.out.is_file() and not arguments.smoke)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--table", type=Path, help="of trained architectures, JSON")
    parser.add_argument("--no-synthetic", dest="synthetic", action="store_false")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed and instance")
    parser.add_argument("--searchers", nargs="+", default=list(SEARCHERS))
    parser.add_argument("--evaluations", type=int, default=400, help="on the synthetic problem")
    parser.add_argument("--of-table", type=int, default=80, help="evaluations on the table")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="evaluations at a time")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="hardly anything, for a test")
    out = Path(__file__).parents[1] / "results" / "search_efficiency.json"
    parser.add_argument("--out", type=Path, default=out)
    arguments = parser.parse_args()
    arguments.longest = 10**9
    if arguments.smoke:
        arguments.seeds, arguments.longest, arguments.of_table = 1, 16, 16
    return arguments


if __name__ == "__main__":
    main()
