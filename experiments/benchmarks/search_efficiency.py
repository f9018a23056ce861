"""How many trainings every searcher needs for how much of the true hypervolume.

    python experiments/benchmarks/search_efficiency.py [--table TABLE.json] [--seeds 20]

On the synthetic problem (`synthetic_problem.py`: 2.2 million architectures, 7 % of them inside the
budget, the front known) a seed draws an instance of its own, the same for all searchers, in the
variants `trained` and `priced`. On a table of trained architectures (`trained_table.py`) only those
of the table may be asked for, and a seed is that of the searcher.

A search is worth the true hypervolume of the front that its recorded, noisy values choose, as a
share of the exact front's. Evaluations to a share are counted to the first time it is reached; a
search that does not reach it counts as longer than all that do. Evaluations at lower fidelities
count as their share of a full one: the funnel's 1,000 trainings, 980 of them at 0.3, count as 314.
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
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from synthetic_problem import VARIANTS, SyntheticProblem, Values, first_front

from nas.pareto import hypervolume
from nas.searchers.choice import make_searcher
from nas.searchers.problem import Ask, Problem, Searcher
from search_spaces.files import write_atomically
from search_spaces.load import load_space
from search_spaces.space import Codes, SearchSpace

SHARES = (0.90, 0.95, 0.99)
CHECKPOINTS = (10, 20, 25, 40, 50, 80, 100, 200, 400, 1000)
COLUMNS, COLUMNS_OF_TABLE = ["50", "100", "200", "400"], ["10", "20", "40", "80"]  # printed
FUNNEL, REFUSALS = 1000, 20  # trainings of the funnel; proposals of an Optuna ask, at most
OURS = "nsga2"
SEARCHERS = (
    OURS, "nsga2-gaussian-process", "nsga2-plain", "random", "optuna-nsga2", "optuna-tpe", "funnel",
)  # fmt: skip
Run = dict[str, Any]


class Setting(Protocol):
    """What is searched, and what it is in truth."""

    def problem(self, seed: int) -> Problem:
        """What a searcher is given."""
        ...

    def evaluate(self, ask: Ask, seed: int) -> Sequence[float]:
        """Objectives of one training."""
        ...

    def reached(self, codes: Codes, recorded: Values) -> float:
        """Share of the true hypervolume that the recorded front has in truth."""
        ...


@dataclass(frozen=True)
class Synthetic(SyntheticProblem):
    """With more noise at lower fidelities."""

    def evaluate(self, ask: Ask, seed: int) -> Sequence[float]:
        return self.trained(ask.architecture, seed, ask.fidelity)


@dataclass(frozen=True)
class Table:
    """Architectures that were really trained, at several fidelities.

    Attributes:
        content: of the file.
    """

    content: dict[str, Any]

    @cached_property
    def space(self) -> SearchSpace:
        return load_space(self.content["space"])

    @cached_property
    def rows(self) -> dict[tuple[int, ...], dict[str, Any]]:
        return {tuple(row["code"]): row for row in self.content["trained"]}

    @cached_property
    def fidelities(self) -> list[float]:
        """Ascending, the last one 1."""
        return sorted(float(share) for share in self.content["trained"][0]["rungs"])

    @cached_property
    def values(self) -> Values:
        """Of all rows in full, minimised, shape (N, 2)."""
        return np.array([self._values(row, 1.0) for row in self.rows.values()])

    @cached_property
    def reference(self) -> Values:
        """The worst that is not among the worst tenth, shape (2,)."""
        return np.asarray(np.quantile(self.values, 0.9, axis=0))

    def problem(self, seed: int) -> Problem:
        ways = ("minimize",) * len(self.content["objectives"])
        return Problem(self.space, ways, self.feasible, self.prices, (), seed)

    def feasible(self, codes: Codes) -> Any:
        return np.array([code in self.rows for code in map(tuple, codes.tolist())], dtype=bool)

    def prices(self, codes: Codes) -> Values:
        empty: dict[str, Any] = {"prices": {}}
        rows = [self.rows.get(code, empty)["prices"] for code in map(tuple, codes.tolist())]
        names = self.content["objectives"]
        priced = [name in self.content["trained"][0]["prices"] for name in names]
        # What is not in the table has a price too, so that it is not taken for one to be trained.
        default = [0.0 if known else np.nan for known in priced]
        values = [[row.get(n, d) for n, d in zip(names, default, strict=True)] for row in rows]
        return np.array(values, dtype=float).reshape(len(codes), len(names))

    def evaluate(self, ask: Ask, seed: int) -> Sequence[float]:
        return self._values(self.rows[ask.architecture.code], ask.fidelity)

    def reached(self, codes: Codes, recorded: Values) -> float:
        whole = hypervolume(first_front(self.values), self.reference)
        return hypervolume(first_front(recorded), self.reference) / whole

    def _values(self, row: dict[str, Any], fidelity: float) -> list[float]:
        nearest = min(self.fidelities, key=lambda share: abs(share - fidelity))
        metrics = next(m for share, m in row["rungs"].items() if float(share) == nearest)
        return [float({**metrics, **row["prices"]}[name]) for name in self.content["objectives"]]


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
            length = FUNNEL if searcher == "funnel" and name.startswith("synth") else evaluations
            run = {"setting": name, "seed": arguments.first + seed, "searcher": searcher}
            run |= {"workers": workers, "evaluations": min(length, arguments.longest)}
            if _identity(run) not in done:
                yield run


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
    return Table(json.loads(Path(name).read_text()))


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
    if name == "nsga2-gaussian-process":
        return make_searcher(OURS, problem, model="gp")
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
    return spent, shares, charged if wanted["searcher"].startswith("optuna") else []


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


def summary(runs: list[Run]) -> list[dict[str, Any]]:
    """By setting, workers and searcher: medians over the seeds, with 95 % intervals."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = (run["setting"], run["workers"], run["evaluations"])
        groups.setdefault((*key, run["searcher"]), []).append(run)
        if "charged" in run:
            charged = {**run, **run["charged"]}
            groups.setdefault((*key, f"{run['searcher']}+charged"), []).append(charged)
    return [
        {"setting": setting, "workers": workers, "evaluations": evaluations, "searcher": searcher}
        | {"seeds": len(group)}
        | {"share": {n: _median([r["share"][n] for r in group]) for n in group[0]["share"]}}
        | {"to": {n: _median([_or_longer(r["to"][n]) for r in group]) for n in group[0]["to"]}}
        for (setting, workers, evaluations, searcher), group in groups.items()
    ]


def goals(runs: list[Run]) -> list[dict[str, Any]]:
    """How many times fewer evaluations than the best baseline ours takes to 95 %."""
    found = []
    lines = summary(runs)
    for ours in (line for line in lines if line["searcher"] == OURS):
        same = [x for x in lines if all(x[n] == ours[n] for n in ("setting", "workers"))]
        others = [x for x in same if _is_baseline(x["searcher"])]
        goal: dict[str, Any] = {n: ours[n] for n in ("setting", "workers", "seeds")}
        if others:
            best = min(others, key=_rank)
            goal |= {"baseline": best["searcher"], "fewer": _fewer(runs, ours, best)}
        for funnel in (x for x in same if x["searcher"] == "funnel" and "100" in ours["share"]):
            last = list(funnel["share"])[-1]
            goal |= {
                "ours_at_100": ours["share"]["100"],
                f"funnel_at_{last}": funnel["share"][last],
            }
        found.append(goal)
    return found


def _rank(line: dict[str, Any]) -> tuple[float, float]:
    """The smaller, the better: by evaluations to 95 %, then by what was reached in the end."""
    reached = list(line["share"].values())[-1]["median"]
    return _or_longer(line["to"]["95%"]["median"]), -float(reached)


def _is_baseline(searcher: str) -> bool:
    return searcher in ("nsga2-plain", "random", "optuna-nsga2", "optuna-tpe")


def _fewer(runs: list[Run], ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Median of the paired ratios; theirs counts its whole length where it did not get there."""
    needed: list[dict[int, float]] = []
    for line in (ours, theirs):
        of_line = [
            r for r in runs if all(r[n] == line[n] for n in ("setting", "workers", "searcher"))
        ]
        needed.append({r["seed"]: r["to"]["95%"] or float(r["evaluations"]) for r in of_line})
    ratios = [needed[1][seed] / count for seed, count in needed[0].items() if seed in needed[1]]
    medians = {"ours": _or_longer(ours["to"]["95%"]["median"])}
    medians["theirs"] = _or_longer(theirs["to"]["95%"]["median"])
    longest = float(theirs["evaluations"])
    return {
        "paired": _median(ratios),
        "of_medians": min(medians["theirs"], longest) / min(medians["ours"], longest),
        "at_least": medians["theirs"] > longest,
    }


def _or_longer(evaluations: float | None) -> float:
    return np.inf if evaluations is None else evaluations


def _median(values: Sequence[float]) -> dict[str, float | None]:
    """Median and its 95 % interval, bootstrapped; None for longer than what was run."""
    numbers = np.sort(np.asarray(values, dtype=float))
    draws = np.random.default_rng(0).integers(len(numbers), size=(2000, len(numbers)))
    medians = np.sort(_middle(np.sort(numbers[draws], axis=1)))
    low, high = medians[[50, 1949]]
    known = {"median": _middle(numbers[None])[0], "low": low, "high": high}
    return {name: round(float(x), 4) if np.isfinite(x) else None for name, x in known.items()}


def _middle(ordered: Values) -> Values:
    """Of every row, the larger of the two middle ones; infinity is no problem. (N, M) -> (N,)."""
    return np.asarray(ordered[:, ordered.shape[1] // 2])


def printed(lines: list[dict[str, Any]], found: list[dict[str, Any]]) -> Iterator[str]:
    """One table, at most 100 columns wide."""
    for setting, workers in dict.fromkeys((x["setting"], x["workers"]) for x in lines):
        rows = [x for x in lines if (x["setting"], x["workers"]) == (setting, workers)]
        counts = COLUMNS if setting.startswith("synth") else COLUMNS_OF_TABLE
        counts = [n for n in counts if n in rows[0]["share"]]
        yield f"\n{setting}, {workers} at a time: median share of the true hypervolume [95 %]"
        head = "".join(f"{'at ' + n:>7}" for n in counts)
        yield f"{'searcher':23}{head}" + "".join(f"{'to ' + n:>16}" for n in rows[0]["to"])
        for row in rows:
            shares = (row["share"].get(n, {"median": None})["median"] for n in counts)
            at = "".join(f"{'' if share is None else format(share, '.3f'):>7}" for share in shares)
            yield f"{row['searcher']:23}{at}" + "".join(map(_interval, row["to"].values()))
    yield ""
    for goal in found:
        yield json.dumps(goal)


def _interval(of: dict[str, float | None]) -> str:
    middle, low, high = ("-" if x is None else f"{x:g}" for x in of.values())
    return f"{f'{middle} [{low}, {high}]':>16}"


def _document(runs: list[Run], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "searchers": list(arguments.searchers),
        "seeds": [arguments.first, arguments.first + arguments.seeds - 1],
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
