"""CompressAI's entropy coder on the latents of `entropy_coder.py`, which runs this file.

It needs numpy 1, hence an interpreter of its own. Its coder is all that is used, so that torch and
the package's other requirements may be left out:

    python3 -m venv peer
    peer/bin/pip install "numpy<2" && peer/bin/pip install --no-deps compressai

    PYTHON compressai_coder.py LATENTS.npz

Answers every line `CASE live|all` on stdin with a line of JSON: milliseconds, sizes in bytes.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
import types
from collections.abc import Callable, Mapping
from importlib.metadata import version
from time import perf_counter
from typing import Any

import numpy as np

TOTAL_BITS = 16  # of this coder's tables: fixed
BYPASS_BITS = 4  # what lies outside a table is written in digits of so many bits


def main() -> None:
    latents = np.load(sys.argv[1])
    ans, to_cdf = _extensions()
    tables = Tables(latents, to_cdf)
    versions = {name: version(name) for name in ("compressai", "numpy")}
    print(json.dumps({**versions, "python": platform.python_version()}), flush=True)
    for line in sys.stdin:
        case, kind = line.split()
        symbols, indices = latents[f"symbols_{case}"], latents[f"indices_{case}"]
        first = int(latents["dead_below"]) if kind == "live" else 0
        print(json.dumps(_round(ans, tables, symbols, indices, first)), flush=True)


class Tables:
    """The same distributions in this coder's form: cumulative lists, their lengths, offsets."""

    def __init__(self, latents: Mapping[str, Any], to_cdf: Callable[..., list[int]]) -> None:
        limits = latents["limits"].tolist()
        given = np.split(latents["frequencies"], np.cumsum([2 * n + 2 for n in limits])[:-1])
        self.cdfs = [to_cdf((table / table.sum()).tolist(), TOTAL_BITS) for table in given]
        self.sizes = [len(cdf) for cdf in self.cdfs]
        self.offsets = [-limit for limit in limits]
        self.lists = (self.cdfs, self.sizes, self.offsets)


def _round(
    ans: Any, tables: Tables, symbols: np.ndarray, indices: np.ndarray, first: int
) -> dict[str, float]:
    """One measurement of each way, from arrays to arrays and between lists alone."""
    (encode_arrays, (symbol_list, index_list, live)) = _timed(_lists, symbols, indices, first)
    encode, data = _timed(_encode, ans, symbol_list, index_list, tables)
    index_time, index_list = _timed(_index_list, indices, live)
    decode, decoded = _timed(ans.RansDecoder().decode_with_indexes, data, index_list, *tables.lists)
    decode_arrays, whole = _timed(_array, decoded, live, indices.shape)
    expected = np.where(indices >= first, symbols, 0)
    assert (whole == expected).all(), "CompressAI's coder gave other symbols back"
    return {
        "encode_ms": encode + encode_arrays,
        "decode_ms": decode + index_time + decode_arrays,
        "encode_lists_ms": encode,
        "decode_lists_ms": decode,
        # Of eight symbols: what handing over the tables takes, which every call does again.
        "tables_ms": _timed(_encode, ans, [0] * 8, [0] * 8, tables)[0],
        "bytes": len(data),
        "ideal_bytes": _ideal_bits(tables, symbols[live], indices[live]) / 8,
    }


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = perf_counter()
    result = work(*arguments)
    return 1000 * (perf_counter() - started), result


def _lists(symbols: np.ndarray, indices: np.ndarray, first: int) -> Any:
    """Lists of what is to be coded, and where that lies."""
    live = indices >= first if first else ...
    return symbols[live].ravel().tolist(), _index_list(indices, live), live


def _index_list(indices: np.ndarray, live: Any) -> list[int]:
    values: list[int] = indices[live].ravel().tolist()
    return values


def _encode(ans: Any, symbols: list[int], indices: list[int], tables: Tables) -> bytes:
    coder = ans.BufferedRansEncoder()
    coder.encode_with_indexes(symbols, indices, *tables.lists)
    return bytes(coder.flush())


def _array(decoded: list[int], live: Any, shape: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(shape, np.int32)
    whole[live] = np.array(decoded, np.int32).reshape(shape if live is ... else -1)
    return whole


def _ideal_bits(tables: Tables, symbols: np.ndarray, indices: np.ndarray) -> float:
    """Code length under this coder's own 16-bit tables, escapes included."""
    starts = np.cumsum([0, *tables.sizes[:-1]])[indices]
    cdf = np.concatenate(tables.cdfs)
    last = np.array(tables.sizes)[indices] - 2
    value = symbols - np.array(tables.offsets)[indices]
    outside = (value < 0) | (value >= last)
    code = starts + np.where(outside, last, value)
    bits = TOTAL_BITS - np.log2(cdf[code + 1] - cdf[code])
    beyond = np.where(value < 0, -2 * value - 1, 2 * (value - last))[outside]
    digits = np.ceil(np.log2(beyond + 1) / BYPASS_BITS)
    return float(bits.sum() + BYPASS_BITS * (1 + digits).sum())


def _extensions() -> tuple[Any, Callable[..., list[int]]]:
    """The package's two compiled modules, without running the package, which imports torch."""
    spec = importlib.util.find_spec("compressai")
    if spec is None:
        sys.exit(f"{sys.executable} has no compressai; the head of {__file__} says how to get it")
    package = types.ModuleType("compressai")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["compressai"] = package
    from compressai import _CXX, ans  # type: ignore[import-not-found]

    return ans, _CXX.pmf_to_quantized_cdf


if __name__ == "__main__":
    main()
