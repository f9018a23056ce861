"""Fits the analytic latency model to published iPhone 12 networks; anchors it on a newer phone.

python experiments/benchmarks/fit_analytic_table.py iphone_latency.csv

Needs `timm` (not a dependency) to build the networks; two minutes on one core. Prints the held-out
error of four models, the coefficients on iPhone 12, and the scale that brings a decoder like the
one of arXiv 2605.05148 to that paper's 100 ms for 12 MP. Writes experiments/results/.
"""

from __future__ import annotations

import csv
import json
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import spearmanr
from torch import Tensor, nn

from latency.analytic import is_free, moved_bytes
from latency.lowering import lower_module
from latency.ops import Op

RESULT = Path(__file__).parents[1] / "results" / "analytic_fit.json"
SEED, SPLITS = 0, 50
TILES, PAPER_MS = 48, 100.0
# Blocks of each scale of the paper-like decoder: (stride, channels, how many).
SCALES = ((32, 352, 3), (16, 256, 4), (8, 128, 4), (4, 64, 2))

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Form = Callable[[Floats, Floats], float]  # coefficients, (megabytes, GMACs) by op -> ms

# Name -> (number of coefficients, what they predict).
FORMS: dict[str, tuple[int, Form]] = {
    "macs_linear": (2, lambda c, ops: c[0] + c[1] * ops[:, 1].sum()),
    "bytes_linear": (2, lambda c, ops: c[0] + c[1] * ops[:, 0].sum()),
    "sum": (3, lambda c, ops: c[0] + (ops @ c[1:]).sum()),
    "roofline": (3, lambda c, ops: c[0] + (ops * c[1:]).max(axis=1).sum()),
}
START_MS = {"macs_linear": (0.2, 0.2), "bytes_linear": (0.2, 0.02)}


def main(table: Path) -> None:
    torch.set_num_threads(1)
    rows = [row for row in csv.DictReader(table.open()) if row["device"].startswith("iPhone 12")]
    networks = [_costs(_published(row)) for row in rows]
    measured_ms = np.array([float(row["latency_ms"]) for row in rows])
    families = np.array([row["network"].split("-")[0] for row in rows])
    coefficients = {name: _fit(name, networks, measured_ms) for name in FORMS}
    splits = {"random_halves": _halves(len(rows)), "one_family": _families(families)}
    held_out = {
        kind: {name: _errors(name, networks, measured_ms, split) for name in FORMS}
        for kind, split in splits.items()
    }
    decoder = lower_module(_Decoder(), [(SCALES[0][1], 16, 16)], "paper-like decoder")
    result = {
        "networks": [row["network"] for row in rows],
        "held_out": held_out,
        "coefficients": {name: c.tolist() for name, c in coefficients.items()},
        "units": "ms, ms per megabyte, ms per GMAC (fp16)",
        "paper_like_decoder": _anchor(decoder, coefficients),
        **_provenance(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


def _published(row: dict[str, str]) -> tuple[Op, ...]:
    """A published network as it is deployed: branches merged, classifier included."""
    try:
        import timm
        from timm.utils.model import reparameterize_model
    except ImportError as error:
        sys.exit(f"needs timm to build the published networks: pip install timm ({error})")
    network = reparameterize_model(timm.create_model(row["timm_or_tv"]).eval())
    size = int(row["input"])
    return lower_module(network, [(3, size, size)], row["network"])


def _costs(ops: Sequence[Op]) -> Floats:
    """(megabytes, GMACs) of every operation that is not free, shape (ops, 2)."""
    pairs = zip(ops, [None, *ops[:-1]], strict=True)
    costs = [
        (moved_bytes(op) / 1e6, op.macs / 1e9) for op, before in pairs if not is_free(op, before)
    ]
    return np.array(costs)


def _predict(name: str, coefficients: Floats, networks: Sequence[Floats]) -> Floats:
    return np.array([FORMS[name][1](coefficients, ops) for ops in networks])


def _fit(name: str, networks: Sequence[Floats], measured_ms: Floats) -> Floats:
    """Coefficients, all positive, of least relative error (robust: published rows disagree)."""

    def residuals(logarithms: Floats) -> Floats:
        return np.log(_predict(name, np.exp(logarithms), networks) / measured_ms)

    start = np.log(START_MS.get(name, (0.2, 0.02, 0.2)))
    return np.exp(least_squares(residuals, start, loss="soft_l1", f_scale=0.1).x)


def _halves(count: int) -> list[Mask]:
    """Masks of the networks that are held out, by random halves."""
    rng = np.random.default_rng(SEED)
    return [rng.permutation(count) >= count // 2 for _ in range(SPLITS)]


def _families(families: NDArray[np.str_]) -> list[Mask]:
    """Masks of the networks that are held out, one family after the other."""
    return [families == family for family in np.unique(families)]


def _errors(
    name: str, networks: Sequence[Floats], measured_ms: Floats, splits: Sequence[Mask]
) -> dict[str, float]:
    """Errors on the networks that were held out of the fit."""
    predicted, truth = [], []
    for held_out in splits:
        train = [ops for ops, out in zip(networks, held_out, strict=True) if not out]
        test = [ops for ops, out in zip(networks, held_out, strict=True) if out]
        predicted.append(_predict(name, _fit(name, train, measured_ms[~held_out]), test))
        truth.append(measured_ms[held_out])
    errors = np.abs(np.concatenate(predicted) / np.concatenate(truth) - 1)
    ranks = [spearmanr(p, t).statistic for p, t in zip(predicted, truth, strict=True)]
    return {
        "mean_absolute_percent": 100 * float(errors.mean()),
        "p95_percent": 100 * float(np.quantile(errors, 0.95)),
        "within_10_percent": float((errors <= 0.1).mean()),
        "rank_correlation": float(np.mean(ranks)),
    }


class _Decoder(nn.Module):
    """The paper's decoder as far as it is published: chains of 3x3, 1x1, 1x1 at four scales."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (_, channels, count) in enumerate(SCALES):
            layers += [_ConvScale311(channels) for _ in range(count)]
            after = SCALES[i + 1][1] * 4 if i + 1 < len(SCALES) else 3 * 16
            factor = 2 if i + 1 < len(SCALES) else 4
            layers += [nn.Conv2d(channels, after, 1), nn.PixelShuffle(factor)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.layers(x)
        return image


class _ConvScale311(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.path(x)
        return out


def _anchor(ops: Sequence[Op], coefficients: dict[str, Floats]) -> dict[str, object]:
    """How much faster than iPhone 12 a phone is that runs the decoder in the paper's time."""
    costs = _costs(ops)
    iphone_12_ms = {
        name: TILES * float(_predict(name, c, [costs])[0]) for name, c in coefficients.items()
    }
    return {
        "kmacs_per_pixel": float(costs[:, 1].sum()) * 1e6 / 512**2,
        "parameters": sum(parameter.numel() for parameter in _Decoder().parameters()),
        "iphone_12_ms": iphone_12_ms,
        "iphone_16_pro_ms": PAPER_MS,
        "speed_up": {name: ms / PAPER_MS for name, ms in iphone_12_ms.items()},
    }


def _provenance() -> dict[str, object]:
    libraries = ("torch", "coremltools", "timm", "numpy", "scipy")
    return {
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "versions": {name: version(name) for name in libraries},
        "python": platform.python_version(),
        "seed": SEED,
        "command": "python experiments/benchmarks/fit_analytic_table.py iphone_latency.csv",
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: fit_analytic_table.py CSV")
    main(Path(sys.argv[1]))
