"""CompressAI's `mbt2018_mean` in training, for `proxy_throughput.py`, which runs this file.

It needs numpy 1, hence an interpreter of its own:

    python3 -m venv peer && peer/bin/pip install "torch==VERSION" "numpy<2" compressai

    PYTHON compressai_training.py CROPS.npy BATCH

Answers every line on stdin, a number of steps, with the seconds that they took. A step is that of
CompressAI's own training example: rate and squared error, clipping at 1, Adam at 1e-4, and the
auxiliary loss of its quantiles with an optimiser of its own.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from evaluators.torchvision_operators import declare_missing_operators

declare_missing_operators()
from compressai.losses import RateDistortionLoss  # noqa: E402
from compressai.zoo import mbt2018_mean  # noqa: E402


def main() -> None:
    crops, batch = np.load(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    training = Training(crops, batch)
    versions = {name: version(name) for name in ("compressai", "torch", "numpy")}
    about = {"parameters": training.parameters, "python": platform.python_version(), **versions}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        began = perf_counter()
        for _ in range(int(line)):
            training.step()
        print(perf_counter() - began, flush=True)


class Training:
    """One model of quality 1, N = 128 and M = 192, from scratch."""

    def __init__(self, crops: np.ndarray, batch: int) -> None:
        self.model: Any = mbt2018_mean(1).train()
        self.crops, self.batch = crops, batch
        self.rng = np.random.default_rng(0)
        self.loss = RateDistortionLoss(lmbda=0.0018)
        named = dict(self.model.named_parameters())
        quantiles = [value for name, value in named.items() if name.endswith(".quantiles")]
        self.weights = [value for name, value in named.items() if not name.endswith(".quantiles")]
        self.optimiser = torch.optim.Adam(self.weights, lr=1e-4)
        self.auxiliary = torch.optim.Adam(quantiles, lr=1e-3)
        self.parameters = sum(value.numel() for value in self.weights)

    def step(self) -> None:
        """One optimiser step."""
        chosen = self.crops[self.rng.integers(len(self.crops), size=self.batch)]
        images = torch.from_numpy(chosen).permute(0, 3, 1, 2).float() / 255
        self.optimiser.zero_grad()
        self.auxiliary.zero_grad()
        self.loss(self.model(images), images)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimiser.step()
        self.model.aux_loss().backward()
        self.auxiliary.step()


if __name__ == "__main__":
    main()
