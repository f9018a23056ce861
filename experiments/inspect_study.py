"""A study from Python: what is on its front, and what its blocks take.

python experiments/inspect_study.py quickstart [sqlite:///runs/nas.db]
"""

from __future__ import annotations

import sys

from nas import frames
from nas.commands.options import DEFAULT_STORAGE


def main(study: str, url: str = DEFAULT_STORAGE) -> None:
    trials = frames.trials(url, study)
    front = trials[trials.on_front]
    print(front.drop(columns=["error", "started"]).to_string(index=False))

    blocks = frames.blocks(url, study)
    of_front = blocks[blocks.trial.isin(front.trial)]
    shares = of_front.groupby(["device", "stage", "block"]).ms.agg(["count", "mean", "sum"])
    print(shares.sort_values("sum", ascending=False).head(10).to_string())

    points = frames.rd_points(url, study)
    if len(points):
        print(points[points.trial.isin(front.trial)].to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
