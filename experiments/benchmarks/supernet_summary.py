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
INHERITED, FINE_TUNED, LONG, PARENTS = "inherited", "fine-tuned", "long", "parents"


def summary(trained: Lines, lines: Mapping[str, Lines], supernet_seconds: float) -> dict[str, Any]:
    """Everything that is published of the runs, JSON-ready.

    Args:
        trained: rows of the table.
        lines: by stage, in the order of the rows; of the later stages as many as were trained.
        supernet_seconds: that the supernet's training took.
    """
    long = {tuple(line["code"]): line for line in lines[LONG] if "error" not in line}
    inherited = {tuple(x["code"]): x for x in lines[INHERITED] if "error" not in x}
    tuned = {tuple(x["code"]): x for x in lines[FINE_TUNED] if "error" not in x}
    rows = {tuple(row["code"]): row for row in trained}
    heirs = {tuple(x["code"]): x for x in lines[PARENTS] if "error" not in x}
    common = [code for code in long if code in inherited and code in tuned and code in heirs]
    truth = [long[code] for code in common]
    guesses = {
        "inherited": [inherited[code] for code in common],
        "fine-tuned": [tuned[code] for code in common],
        "table, whole": [rows[code] for code in common],
        "table, short": [_short(rows[code]) for code in common],
        "table, short, from the nearest": [heirs[code] for code in common],
        "kMACs": [_kmacs(rows[code]) for code in common],
    }
    every = [code for code in rows if code in inherited]
    return {
        "tau_with_long": {
            metric: {name: _tau(known, truth, metric) for name, known in guesses.items()}
            for metric in METRICS
        },
        "tau_with_table": {
            metric: {
                name: _tau(known, [rows[code] for code in every], metric)
                for name, known in {
                    "inherited": [inherited[code] for code in every],
                    "table, short": [_short(rows[code]) for code in every],
                    "kMACs": [_kmacs(rows[code]) for code in every],
                }.items()
            }
            for metric in METRICS
        },
        "architectures": {"long": len(common), "table": len(every)},
        "spread_percent": {m: float(np.std([x[m] for x in truth], ddof=1)) for m in METRICS},
        "learned_gain_db": {
            "inherited": _quantiles([inherited[code] for code in every]),
            "fine-tuned": _quantiles(list(tuned.values())),
            "table, short": _quantiles([_short(rows[code]) for code in every]),
            "table, short, from the nearest": _quantiles(list(heirs.values())),
            "table, whole": _quantiles([rows[code] for code in every]),
            "long": _quantiles(truth),
        },
        "fine_tuned_at_least_as_good": _at_least_as_good(tuned, rows),
        "inherited_at_least_as_good": _at_least_as_good(inherited, rows),
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
