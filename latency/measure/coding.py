"""What entropy coding and the scale decoder take on this machine's CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from latency.measure.host import cores
from latency.table import Cpu

_SEED = 0
_REPEATS = 9
_LATENTS, _HYPER, _WIDTH, _SIZE = 192, 48, 128, 32


def measure_coding() -> Cpu:
    """Times the codec family's own coder and integer scale decoder, one thread each."""
    import torch

    from search_spaces.codec import entropy
    from search_spaces.codec.coding_blocks import ScaleDecoder as Block
    from search_spaces.codec.scale_decoder import ScaleDecoder

    rng = np.random.default_rng(_SEED)
    log_scales = rng.uniform(-2.5, 1.5, (_LATENTS, _SIZE, _SIZE))
    indices = entropy.scale_indices(log_scales)
    drawn = rng.laplace(0.0, np.exp(log_scales))
    symbols = np.rint(drawn).astype(np.int32)
    data = _written(symbols, indices)
    encode_ns = _median_ns(lambda: _written(symbols, indices)) / symbols.size
    decode_ns = _median_ns(lambda: entropy.Reader(data).read(indices)) / symbols.size
    block = Block(latent_channels=_LATENTS, hyper_channels=_HYPER, width=_WIDTH, grouped=False)
    with torch.random.fork_rng(devices=[]):
        module = ScaleDecoder(_LATENTS, _HYPER, _WIDTH)
    module.freeze()
    hyper = rng.integers(-3, 4, (_HYPER, _SIZE // 2, _SIZE // 2)).astype(np.int32)
    mac_ns = _median_ns(lambda: module.indices(hyper, 3)) / block.macs
    return Cpu(
        encode_ns_per_symbol=round(encode_ns, 3),
        decode_ns_per_symbol=round(decode_ns, 3),
        ns_per_mac=round(mac_ns, 5),
        cores=cores(),
        source="Measured here, one thread: this package's coder and scale decoder on a tile of"
        f" {_LATENTS} random latents; the cores are taken to code different tiles.",
    )


def _written(symbols: object, indices: object) -> bytes:
    from search_spaces.codec import entropy

    writer = entropy.Writer()
    writer.write(symbols, indices)  # type: ignore[arg-type]
    return writer.to_bytes()


def _median_ns(run: Callable[[], object]) -> float:
    run()
    taken = []
    for _ in range(_REPEATS):
        start = time.thread_time_ns()
        run()
        taken.append(time.thread_time_ns() - start)
    return statistics.median(taken)
