"""How far a latency table is off, on whole networks that no row came from.

    python experiments/benchmarks/oracle_accuracy.py [--table host.yaml] [--space codec]

Measures a table of this machine for the space unless `--table` holds one (`nas latency measure
--device host`; hours for a large space, resumable), draws whole encoders and decoders with another
seed, predicts each from its blocks, and measures it in interleaved rounds. Beside the table stand
straight lines in MACs and in bytes, fitted to the very networks but the one predicted, and the
machine's own repeatability: what two visits of one network differ by. A run whose median
repeatability exceeds 4 % is void. Prints, and writes `experiments/results/oracle_accuracy.json`.

Networks in which blocks lie between unlike neighbours are what such a table cannot know; that is
what this measures. It says nothing of phones: `analytic_fit.json` holds the published networks
that the analytic tables were not fitted on.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from latency.measure.campaign import Effort
from latency.table import LatencyTable
from latency.table_files import load_table
from nas import latency_setup
from search_spaces.files import write_atomically

# nn-Meter's share of networks within 10 % on a mobile CPU (Zhang et al., MobiSys 2021).
ANCHOR_WITHIN_10_PERCENT = 99.0
GOAL_WITHIN_10_PERCENT, GOAL_OVER_REPEATABILITY = 95.0, 1.2


def main() -> None:
    arguments = _arguments()
    known = load_table(arguments.table).device if arguments.table.is_file() else "host"
    target = latency_setup.target(known, arguments.table, "host", None, threads=1)
    if not arguments.table.is_file():
        device = latency_setup.ready(target)
        plan = latency_setup.planned(target, arguments.space, networks=16)
        effort = Effort(fewest_rounds=arguments.rounds, most_rounds=2 * arguments.rounds)
        latency_setup.measure(target, device, plan, effort, "burst")
    found = latency_setup.validate(
        target, arguments.space, arguments.networks, arguments.rounds, arguments.seed, save=False
    )
    result = {
        "space": str(arguments.space),
        "void": found["void"],
        "goals": _goals(found),
        "nn_meter_within_10_percent": ANCHOR_WITHIN_10_PERCENT,
        **{name: value for name, value in found.items() if name not in ("table", "void")},
        "table": _table(load_table(arguments.table)),
        **_provenance(arguments),
    }
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    shown = {name: value for name, value in result.items() if name != "by_network"}
    print(json.dumps(shown, indent=1))


def _goals(found: dict[str, Any]) -> dict[str, bool]:
    return {
        "at least 95 % within 10 %": found["within_10_percent"] >= GOAL_WITHIN_10_PERCENT,
        "error at most 1.2 times repeatability": (
            found["error_over_repeatability"] <= GOAL_OVER_REPEATABILITY
        ),
        "passes nn-Meter's anchor": found["within_10_percent"] >= ANCHOR_WITHIN_10_PERCENT,
        "not void": not found["void"],
    }


def _table(table: LatencyTable) -> dict[str, Any]:
    spreads = sorted(row.spread_percent for row in table.rows)
    return {
        "rows": len(table.rows),
        "median_spread_percent": spreads[len(spreads) // 2],
        "dispatch_ms": table.dispatch_ms,
        "network_factor": table.network_factor,
        "network_ratios": table.network_ratios,
        "reference_ms": table.reference_ms,
        "chip": table.chip,
        "os_build": table.os_build,
        "compute_unit": table.compute_unit,
        "library_versions": dict(table.library_versions),
        "date": table.date.isoformat(),
    }


def _provenance(arguments: argparse.Namespace) -> dict[str, Any]:
    options = f"--space {arguments.space} --networks {arguments.networks}"
    options += f" --rounds {arguments.rounds} --seed {arguments.seed}"
    return {
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "onnxruntime", "numpy", "scipy")},
        "command": f"python experiments/benchmarks/oracle_accuracy.py {options}",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--table", type=Path, default=Path("host.yaml"), help="filled if missing")
    parser.add_argument("--space", type=Path, default=Path("codec"))
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    out = Path(__file__).parents[1] / "results" / "oracle_accuracy.json"
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


if __name__ == "__main__":
    main()
