"""The benchmark of inherited weights, as short as it can be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from search_spaces.load import load_space

BENCHMARKS = Path(__file__).parents[1] / "experiments/benchmarks"


def test_supernet_benchmark_goes_from_a_table_to_its_figures(tmp_path: Path) -> None:
    space, rng = load_space("tiny"), np.random.default_rng(0)
    metrics = ("bd_rate_psnr", "bd_rate_ms_ssim", "bd_rate_lpips", "psnr", "lpips")
    rows = []
    for i, code in enumerate(np.unique(space.sample(rng, 3), axis=0).tolist()):
        score = {name: float(rng.normal()) for name in metrics}
        score |= {"learned_gain_db": 0.1, "train_seconds": 30.0, "bd_rate_psnr": -float(i)}
        rungs = {"0.5": score, "1": score}
        choices = dict(space.architecture(code).choices)
        row = {
            "code": code,
            "choices": choices,
            "rungs": rungs,
            "prices": {"kmacs_per_pixel": float(sum(code)), "decode_ms": 10.0 + i},
        }
        rows.append(score | row)
    table = {"space": "tiny", "steps": 4, "batch": 2, "crops": 4, "fidelities": [0.5, 1.0]}
    table |= {"objectives": ["bd_rate_psnr", "decode_ms"]}
    (tmp_path / "table.json").write_text(json.dumps({**table, "trained": rows}))
    command = [
        *(sys.executable, str(BENCHMARKS / "supernet.py"), "--table", "table.json"),
        *("--long", "2", "--longer", "2", "--supernet-steps", "8", "--shared-steps", "10"),
        *("--folder", "work", "--out", "supernet_tiny.json"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    result = json.loads((tmp_path / "supernet_tiny.json").read_text())
    assert result["architectures"] == {"long": 2, "table": 3}
    stages = [run["stage"] for run in result["runs"]]
    recorded = (tmp_path / "work/supernet-tiny.jsonl").read_text().splitlines()
    assert len(recorded) == len(stages)  # to go on from
    assert {stage: stages.count(stage) for stage in stages} == {
        "inherited": 3,
        "fine-tuned": 2,
        "fine-tuned longer": 2,
        "long": 2,
        "parents": 2,
    }
    steps = {"table": 4, "long": 8, "fine-tuned": 0, "fine-tuned longer": 2, "supernet": 8}
    assert result["steps"] == steps
    assert result["cost"]["alone_seconds"] > 30
    taus = result["tau_with_long"]["bd_rate_psnr"]
    assert set(taus) >= {"inherited", "fine-tuned", "table, whole", "table, short", "kMACs"}
    command = [
        *(sys.executable, str(BENCHMARKS / "supernet_funnel.py"), "--table", "table.json"),
        *("--scored", "6", "--kept", "2", "--crops", "2", "--supernet-steps", "8"),
        *("--shared-steps", "10", "--folder", "work", "--out", "funnel.json"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    funnel = json.loads((tmp_path / "funnel.json").read_text())
    assert len(funnel["trained"]) == 2
    assert funnel["trainings_paid_for"]["with_supernet"] >= 0
    assert set(funnel["share_of_tables_hypervolume"]) >= {"funnel", "random, once_it_is_there"}
