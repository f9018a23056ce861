"""Fits the analytic latency tables to published networks, and anchors the newest on the paper.

python experiments/benchmarks/fit_analytic_table.py iphone_latency.csv

Needs `timm` (not a dependency) to build the networks; two to three minutes on one core. One model
is fitted to iPhone 12 and divided by one speed-up a phone: fitted to published rows for iPhone 15
Pro, by arXiv 2605.05148's 100 ms for 12 MP for iPhone 16 Pro. Prints errors on networks held out;
writes experiments/results/.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coefficient_fit import (
    FORMS,
    SEED,
    costs,
    errors,
    fit,
    halves,
    held_out,
    one_family,
    predict_ms,
)
from later_phones import IPHONE_12, Phone, against, later, macs_price, report
from paper_like_decoder import PAPER_MS, TILES, PaperLikeDecoder, decoder_ops
from published_networks import Timed, lowered, read

from latency.analytic import AnalyticModel
from latency.ops import Op

RESULT = Path(__file__).parents[1] / "results" / "analytic_fit.json"
CSV_NAME = "iphone_latency.csv"


def main(table: Path) -> None:
    torch.set_num_threads(1)
    rows, left_out = read(table)
    ops = lowered(rows)
    oldest, reports, phones = _fitted(rows, ops)
    decoder = decoder_ops()
    scale = TILES * phones["iphone-12"].run_ms(decoder, "fp16") / PAPER_MS
    for name in ("iphone-16-pro", "iphone-17-pro-max"):  # no faster: an assumption
        phones[name] = phones["iphone-12"].faster(scale, later())
    held_out = {
        "iphone-12": oldest["held_out"]["one_family"]["sum"],
        "iphone-15-pro": reports["iPhone 15 Pro"]["one_network_held_out"]["all"],
    }
    result = {
        "iPhone 12": oldest,
        **reports,
        "paper_like_decoder": _anchor(decoder, oldest["coefficients"]),
        "tables": {
            name: {**_table(phone, decoder), "held_out": held_out.get(name)}
            for name, phone in phones.items()
        },
        "rows_left_out": left_out,
        **_provenance(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(_summary(result))


def _fitted(
    rows: Sequence[Timed], ops: dict[str, tuple[Op, ...]]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Phone]]:
    """What was found on iPhone 12, on later phones, and the phones that rows were fitted to."""
    oldest = _iphone_12([row for row in rows if row.device.startswith("iPhone 12")], ops)
    dispatch_ms, ms_per_megabyte, ms_per_gmac = oldest["coefficients"]["sum"]
    model = AnalyticModel(
        ms_per_megabyte=ms_per_megabyte, ms_per_gmac=ms_per_gmac, precisions=IPHONE_12
    )
    phone = Phone(dispatch_ms, model)
    peer = macs_price(oldest["coefficients"]["macs_linear"], ops)
    quantised = {row.network for row in rows if row.precision == "w8a8"}
    reports: dict[str, Any] = {}
    for device in ("iPhone 15 Pro", "iPhone 14 Pro"):
        used = [r for r in rows if r.device.startswith(device) and r.network in quantised]
        reports[device] = report(used, phone, ops, peer)
    pro = phone.faster(reports["iPhone 15 Pro"]["speed_up"], later())
    others = [row for row in rows if row.device.startswith("iPhone 14 Pro")]
    reports["iPhone 14 Pro"]["by_the_table_of_iphone_15_pro"] = against(others, pro, ops)
    return oldest, reports, {"iphone-12": phone, "iphone-15-pro": pro}


def _iphone_12(rows: Sequence[Timed], ops: dict[str, tuple[Op, ...]]) -> dict[str, Any]:
    networks = [costs(ops[row.network]) for row in rows]
    measured_ms = np.array([row.latency_ms for row in rows])
    coefficients = {name: fit(name, networks, measured_ms) for name in FORMS}
    splits = {
        "random_halves": halves(len(rows)),
        "one_family": one_family([row.network for row in rows]),
    }
    return {
        "rows": [{"network": r.network, "device": r.device, "ms": r.latency_ms} for r in rows],
        "units": "ms, ms per megabyte, ms per GMAC, ms per operation (fp16)",
        "coefficients": {name: c.tolist() for name, c in coefficients.items()},
        "fit": {
            name: errors(predict_ms(name, c, networks), measured_ms)
            for name, c in coefficients.items()
        },
        "held_out": {
            kind: {name: held_out(name, networks, measured_ms, split) for name in FORMS}
            for kind, split in splits.items()
        },
    }


def _anchor(ops: Sequence[Op], coefficients: dict[str, list[float]]) -> dict[str, Any]:
    """How much faster than iPhone 12 a phone is that runs the decoder in the paper's time."""
    decoder = costs(ops)
    iphone_12_ms = {
        name: TILES * float(predict_ms(name, np.array(c), [decoder])[0])
        for name, c in coefficients.items()
    }
    return {
        "kmacs_per_pixel": float(decoder[:, 1].sum()) * 1e6 / 512**2,
        "parameters": sum(parameter.numel() for parameter in PaperLikeDecoder().parameters()),
        "iphone_12_ms": iphone_12_ms,
        "iphone_16_pro_ms": PAPER_MS,
        "speed_up": {name: ms / PAPER_MS for name, ms in iphone_12_ms.items()},
    }


def _table(phone: Phone, decoder: Sequence[Op]) -> dict[str, Any]:
    no_faster = phone.faster(1.0, later(mac_speed_up=1.0))
    return {
        "dispatch_ms": phone.dispatch_ms,
        **phone.model.model_dump(),
        "paper_like_decoder_ms": {
            precision: TILES * phone.run_ms(decoder, precision)
            for precision in phone.model.precisions
        },
        "paper_like_decoder_ms_by_bytes_of_w8a8_alone": TILES * no_faster.run_ms(decoder, "w8a8"),
    }


def _summary(result: dict[str, Any]) -> str:
    lines = ["held-out mean error on iPhone 12, %: random halves, unseen family"]
    splits = result["iPhone 12"]["held_out"].values()
    for name in FORMS:
        each = [f"{split[name]['mean_absolute_percent']:7.1f}" for split in splits]
        lines.append(f"  {name:24}" + "".join(each))
    for device in ("iPhone 15 Pro", "iPhone 14 Pro"):
        found = result[device]
        lines.append(f"{device}: {found['speed_up']:.3f} times faster; one network held out, %")
        peer = found["macs_linear_one_network_held_out"]
        for kind, by in (("bytes + MACs", found["one_network_held_out"]), ("MACs alone", peer)):
            each = [f"{p} {e['mean_absolute_percent']:.1f}" for p, e in by.items()]
            lines.append(f"  {kind:24}{', '.join(each)}")
    for name, table in result["tables"].items():
        each = [f"{p} {ms:.1f}" for p, ms in table["paper_like_decoder_ms"].items()]
        lines.append(f"{name}: paper-like decoder, ms: {', '.join(each)}")
    return "\n".join(lines) + "\n"


def _provenance() -> dict[str, Any]:
    libraries = ("torch", "coremltools", "timm", "numpy", "scipy")
    return {
        "machine": f"{platform.machine()} {platform.system()}, one thread",
        "versions": {name: version(name) for name in libraries},
        "python": platform.python_version(),
        "seed": SEED,
        "command": f"python experiments/benchmarks/fit_analytic_table.py {CSV_NAME}",
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: fit_analytic_table.py CSV")
    main(Path(sys.argv[1]))
