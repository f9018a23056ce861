"""Whether decoder-only ranks carry over to joint training.

    python experiments/benchmarks/rank_carry_over.py [DECODER.json JOINT.json]

Takes two results of `rank_fidelity.py` over the same architectures (same space, same draw), one of
each kind of training, and prints Kendall's tau of decoder-only BD-rates, from short and from long
trainings, with those of long joint trainings; means over seeds, with a 95 % interval from drawing
architectures anew. Writes `experiments/results/rank_carry_over.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rank_statistics import bd_rates, survivors, with_interval

from search_spaces.files import write_atomically

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    arguments = _arguments()
    decoder, joint = (json.loads(file.read_text()) for file in (arguments.decoder, arguments.joint))
    result = {
        "tau_with_long_joint_trainings": carried(decoder, joint),
        "architectures": len(_shared(decoder, joint)),
        "steps": {"decoder": decoder["steps"], "joint": joint["steps"]},
        "command": "python experiments/benchmarks/rank_carry_over.py DECODER.json JOINT.json",
    }
    write_atomically(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def carried(decoder: dict[str, Any], joint: dict[str, Any]) -> dict[str, Any]:
    """Tau by metric and by length of the decoder-only trainings."""
    numbers = _shared(decoder, joint)
    found: dict[str, Any] = {}
    for metric in ("psnr", "lpips"):
        truth = _mean(joint, numbers, joint["steps"][1], metric)
        found[metric] = {
            f"decoder_only_{steps}_steps": with_interval(
                [(_mean(decoder, numbers, steps, metric), truth)]
            )
            for steps in decoder["steps"]
        }
    return found


def _shared(decoder: dict[str, Any], joint: dict[str, Any]) -> list[int]:
    """Architectures that failed in neither."""
    if (decoder["space"], decoder["drawn"]) != (joint["space"], joint["drawn"]):
        raise SystemExit("the two results are not of the same architectures")
    return [n for n in survivors(decoder["runs"], decoder["drawn"]) if n in
            survivors(joint["runs"], joint["drawn"])]  # fmt: skip


def _mean(result: dict[str, Any], numbers: list[int], steps: int, metric: str) -> Any:
    return bd_rates(result["runs"], numbers, result["seeds"], steps, metric).mean((1, 2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for kind in ("decoder", "joint"):
        default = RESULTS / f"rank_fidelity_{kind}.json"
        parser.add_argument(kind, nargs="?", type=Path, default=default)
    parser.add_argument("--out", type=Path, default=RESULTS / "rank_carry_over.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
