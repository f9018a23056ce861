"""What `search_efficiency.py` concludes from its runs, and how it prints that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from synthetic_problem import Values

COLUMNS, COLUMNS_OF_TABLE = ["50", "100", "200", "400"], ["10", "20", "40", "80"]  # printed
OURS, NEAREST, SUPERNET = "nsga2", "-nearest", "-supernet"
Run = dict[str, Any]


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
    name = searcher.removesuffix(NEAREST)
    return name in ("nsga2-plain", "random", "optuna-nsga2", "optuna-tpe")


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
    """One table, at most 100 columns wide; with the number of seeds where there were fewer."""
    for setting, workers in dict.fromkeys((x["setting"], x["workers"]) for x in lines):
        rows = [x for x in lines if (x["setting"], x["workers"]) == (setting, workers)]
        counts = COLUMNS if setting.startswith("synth") else COLUMNS_OF_TABLE
        counts = [n for n in counts if n in rows[0]["share"]]
        yield f"\n{setting}, {workers} at a time: median share of the true hypervolume [95 %]"
        head = "".join(f"{'at ' + n:>7}" for n in counts)
        yield f"{'searcher':27}{head}" + "".join(f"{'to ' + n:>15}" for n in rows[0]["to"])
        for row in rows:
            shares = (row["share"].get(n, {"median": None})["median"] for n in counts)
            at = "".join(f"{'' if share is None else format(share, '.3f'):>7}" for share in shares)
            fewer = row["seeds"] < max(x["seeds"] for x in rows)
            name = row["searcher"] + (f" ({row['seeds']})" if fewer else "")
            yield f"{name:27}{at}" + "".join(map(_interval, row["to"].values()))
    yield ""
    for goal in found:
        yield json.dumps(goal)


def _interval(of: dict[str, float | None]) -> str:
    middle, low, high = ("-" if x is None else f"{x:.0f}" for x in of.values())
    return f"{f'{middle} [{low}, {high}]':>15}"
