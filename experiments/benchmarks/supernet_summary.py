"""What `supernet.py` concludes: ranks, gains, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rank_statistics import with_interval

Floats = NDArray[np.float64]
Lines = Sequence[Mapping[str, Any]]

METRICS = ("bd_rate_psnr", "bd_rate_ms_ssim", "bd_rate_lpips")
INHERITED, LONG, PARENTS = "inherited", "long", "parents"
FINE_TUNED, TUNED_LONGER = "fine-tuned", "fine-tuned longer"


def summary(trained: Lines, lines: Mapping[str, Lines], supernet_seconds: float) -> dict[str, Any]:
    """Everything that is published of the runs, JSON-ready.

    Args:
        trained: rows of the table.
        lines: by stage, in the order of the rows; of the later stages as many as were trained.
        supernet_seconds: that the supernet's training took.
    """
    known = {
        stage: {tuple(x["code"]): x for x in of_stage if "error" not in x}
        for stage, of_stage in lines.items()
    }
    rows = {tuple(row["code"]): row for row in trained}
    common = [code for code in known[LONG] if all(code in found for found in known.values())]
    truth = [known[LONG][code] for code in common]
    guesses = {
        **{n: [known[n][code] for code in common] for n in (INHERITED, FINE_TUNED, TUNED_LONGER)},
        "table, whole": [rows[code] for code in common],
        "table, short": [_short(rows[code]) for code in common],
        "table, short, from the nearest": [known[PARENTS][code] for code in common],
        "kMACs": [_kmacs(rows[code]) for code in common],
    }
    every = [code for code in rows if code in known[INHERITED]]
    inherited = [known[INHERITED][code] for code in every]
    return {
        "tau_with_long": {
            metric: {name: _tau(guess, truth, metric) for name, guess in guesses.items()}
            for metric in METRICS
        },
        "tau_with_table": {
            metric: {
                name: _tau(guess, [rows[code] for code in every], metric)
                for name, guess in {
                    "inherited": inherited,
                    "table, short": [_short(rows[code]) for code in every],
                    "kMACs": [_kmacs(rows[code]) for code in every],
                }.items()
            }
            for metric in METRICS
        },
        "architectures": {"long": len(common), "table": len(every)},
        "spread_percent": {m: float(np.std([x[m] for x in truth], ddof=1)) for m in METRICS},
        "learned_gain_db": {
            "inherited": _quantiles(inherited),
            **{n: _quantiles(list(known[n].values())) for n in (FINE_TUNED, TUNED_LONGER)},
            "table, short": _quantiles([_short(rows[code]) for code in every]),
            "table, short, from the nearest": _quantiles(list(known[PARENTS].values())),
            "table, whole": _quantiles([rows[code] for code in every]),
            "long": _quantiles(truth),
        },
        "fine_tuned_at_least_as_good": _at_least_as_good(known[FINE_TUNED], rows),
        "inherited_at_least_as_good": _at_least_as_good(known[INHERITED], rows),
        "worth_of_choices_db": {
            "inherited": worth_of_choices([rows[c] for c in every], inherited),
            "table, whole": worth_of_choices([rows[c] for c in every], [rows[c] for c in every]),
        },
        "cost": _cost(trained, lines, supernet_seconds),
    }


def printed(document: Mapping[str, Any]) -> list[str]:
    """The same for people, within 100 columns."""
    lines = [f"{'tau with long trainings':32}" + "".join(f"{m[8:]:>22}" for m in METRICS)]
    for name in document["tau_with_long"][METRICS[0]]:
        taus = (document["tau_with_long"][metric][name] for metric in METRICS)
        lines.append(f"{name:32}" + "".join(f"{_interval(tau):>22}" for tau in taus))
    lines.append("")
    lines.append(f"{'learned gain, dB':32}{'least':>10}{'median':>10}{'most':>10}")
    for name, q in document["learned_gain_db"].items():
        lines.append(f"{name:32}{q['least']:>10.2f}{q['median']:>10.2f}{q['most']:>10.2f}")
    cost, share = document["cost"], document["fine_tuned_at_least_as_good"]
    lines += [
        "",
        f"fine-tuned at least as good as trained alone: {share['psnr']:.0%} in PSNR,"
        f" {share['bd_rate_psnr']:.0%} in BD-rate",
        f"supernet {cost['supernet_seconds']:.0f} s; a score {cost['inherited_seconds']:.1f} s,"
        f" trained alone {cost['alone_seconds']:.1f} s: even after {cost['even_after']:.0f}",
    ]
    return lines


def worth_of_choices(rows: Lines, scores: Lines) -> dict[str, float]:
    """Main effects on the learned gain: what each choice brings over its parameter's first one.

    Args:
        rows: with `choices`; least squares over all of them, a choice being there or not.
        scores: with `learned_gain_db`, in the same order.
    """
    options: dict[str, set[Any]] = {}
    for row in rows:
        for name, choice in row["choices"].items():
            options.setdefault(name, set()).add(choice)
    names = [(n, c) for n, known in options.items() for c in sorted(known, key=_order)[1:]]
    given = np.array([[row["choices"].get(n) == c for n, c in names] for row in rows], dtype=float)
    gains = np.array([score["learned_gain_db"] for score in scores])
    columns = np.column_stack([np.ones(len(rows)), given])
    worth = np.linalg.lstsq(columns, gains, rcond=None)[0][1:]
    return {f"{n} {c}": round(float(w), 3) for (n, c), w in zip(names, worth, strict=True)}


def _order(choice: Any) -> tuple[bool, Any]:
    return isinstance(choice, str), choice


def _tau(known: Lines, truth: Lines, metric: str) -> dict[str, float] | None:
    values = [np.array([one[metric] for one in side]) for side in (known, truth)]
    return with_interval([(values[0], values[1])]) if len(values[0]) > 1 else None


def _short(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row's metrics at the table's lowest fidelity."""
    found: Mapping[str, Any] = row["rungs"][min(row["rungs"], key=float)]
    return found


def _kmacs(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """More multiply-adds taken as better."""
    return dict.fromkeys(METRICS, -row["prices"]["kmacs_per_pixel"])


def _quantiles(lines: Lines) -> dict[str, float]:
    gains = np.array([line["learned_gain_db"] for line in lines])
    return {"least": gains.min(), "median": float(np.median(gains)), "most": gains.max()}


def _at_least_as_good(
    ours: Mapping[Any, Mapping[str, Any]], alone: Mapping[Any, Mapping[str, Any]]
) -> dict[str, float]:
    """Shares of architectures. BD-rates are against references trained alike: a figure of ranks;
    PSNR at one level, of one encoder and so one rate, compares the decoders themselves."""
    both = [(ours[code], alone[code]) for code in ours if code in alone]
    return {
        "psnr": float(np.mean([a["psnr"] >= b["psnr"] for a, b in both])),
        "lpips": float(np.mean([a["lpips"] <= b["lpips"] for a, b in both])),
        "bd_rate_psnr": float(np.mean([a["bd_rate_psnr"] <= b["bd_rate_psnr"] for a, b in both])),
    }


def _cost(trained: Lines, lines: Mapping[str, Lines], supernet_seconds: float) -> dict[str, float]:
    inherited = float(np.median([line["cpu_seconds"] for line in lines[INHERITED]]))
    scoring = inherited  # a training is scored as well
    alone = float(np.median([row["train_seconds"] for row in trained])) + scoring
    return {
        "supernet_seconds": supernet_seconds,
        "inherited_seconds": inherited,
        "fine_tuned_seconds": float(np.median([x["cpu_seconds"] for x in lines[FINE_TUNED]])),
        "alone_seconds": alone,
        "even_after": supernet_seconds / max(alone - inherited, 1e-9),
    }


def _interval(tau: Mapping[str, float] | None) -> str:
    return "-" if tau is None else f"{tau['tau']:.2f} ({tau['low']:.2f} to {tau['high']:.2f})"
