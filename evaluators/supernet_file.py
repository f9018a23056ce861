"""A supernet as one file; of decoders, with the encoder and entropy model whose latents they read.

A safetensors file. Its metadata say which space it belongs to and how it was trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from evaluators.protocol import SetupError
from evaluators.supernet import Supernet
from search_spaces.blocks import Design
from search_spaces.codec.model import Codec, is_of_decoder
from search_spaces.files import write_tensors
from search_spaces.json_text import parse_json
from search_spaces.space import SearchSpace

_FORMAT = "nas-supernet 1"
_SUPERNET, _SHARED = "supernet.", "shared."
_DECODERS, _CODECS = "decoders", "codecs"
_NEXT = "nas supernet EXP.yaml"


def save_supernet(
    supernet: Supernet,
    codec: Codec | None,
    space: SearchSpace,
    about: Mapping[str, Any],
    file: Path,
) -> None:
    """Writes a supernet atomically.

    Args:
        supernet: trained.
        codec: whose shared part its decoders were trained behind; None where codecs are whole.
        space: of its networks.
        about: how it was trained, JSON-ready.
        file: by custom `.safetensors`.
    """
    tensors = {f"{_SUPERNET}{name}": value for name, value in supernet.state_dict().items()}
    shared = {} if codec is None else codec.state_dict()
    shared = {n: v for n, v in shared.items() if not is_of_decoder(n)}
    tensors |= {f"{_SHARED}{name}": value for name, value in shared.items()}
    metadata = {
        "format": _FORMAT,
        "space": space.name,
        "space_key": space_key(space),
        "shares": _CODECS if supernet.whole else _DECODERS,
        "about": json.dumps(dict(about), sort_keys=True),
    }
    contents = {name: value.cpu().contiguous() for name, value in tensors.items()}
    write_tensors(file, contents, metadata)


def load_supernet(file: Path, space: SearchSpace, whole: bool = False) -> Supernet:
    """Reads what `save_supernet` wrote, onto the CPU.

    The weights are those of the file, mapped into memory: all processes of a machine share them.

    Args:
        file: of it.
        space: of its networks.
        whole: whether whole codecs are wanted.

    Raises:
        SetupError: it is no such file, damaged, of another space, or shares something else.
    """
    with _opened(file) as content:
        _require_space(file, content.metadata(), space)
        _require_sharing(file, content.metadata(), whole)
    supernet = Supernet(space, whole)
    _fill(supernet, _tensors(file, _SUPERNET), file)
    return supernet.eval()


def load_shared_part(file: Path, design: Design) -> Codec:
    """A codec with the encoder, entropy model and linear decoder of a supernet's file.

    Args:
        file: that `save_supernet` wrote.
        design: of the codec.

    Raises:
        SetupError: as `load_supernet`, or the design has another encoder.
    """
    codec = Codec(design)
    own = {n: v for n, v in codec.state_dict().items() if is_of_decoder(n)}
    _fill(codec, {**_tensors(file, _SHARED), **own}, file)
    return codec.eval()


def supernet_about(file: Path) -> dict[str, Any]:
    """How a supernet was trained, `space`, whose it is, and what it `shares`.

    Raises:
        SetupError: it is no such file.
    """
    with _opened(file) as content:
        metadata = content.metadata()
    try:
        about = _About.model_validate(parse_json(metadata["about"]))
        named = {"space": metadata["space"], "shares": metadata.get("shares", _DECODERS)}
    except (KeyError, ValueError):
        raise SetupError(
            f"supernet {file}: what it says of its training is damaged; train one: {_NEXT}"
        ) from None
    return {**about.model_dump(exclude_none=True), **named}


class _Watched(BaseModel):
    """How some networks stood at a step."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    step: int
    seconds: float
    psnr: dict[str, float]
    bpp: dict[str, float] | None = None


class _Recipe(BaseModel):
    """How it was trained: of interest is how long."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    steps: int


class _About(BaseModel):
    """What `save_supernet` was told."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    recipe: _Recipe
    levels: list[int]
    seconds: float
    curve: Annotated[list[_Watched], Field(min_length=1)]
    trained_apart: dict[str, int]

    @model_validator(mode="after")
    def _of_the_same_networks(self) -> _About:
        names = self.curve[0].psnr.keys()
        for entry in self.curve:
            if entry.psnr.keys() != names or (entry.bpp or entry.psnr).keys() != names:
                raise ValueError("networks differ from step to step")
        return self


def space_key(space: SearchSpace) -> str:
    """Names the architectures of a space, and so what a supernet of it holds."""
    described = {n: v for n, v in space.description().items() if n != "reference"}
    content = json.dumps(described, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _tensors(file: Path, prefix: str) -> dict[str, Tensor]:
    with _opened(file) as content:
        names = [name for name in content.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name.removeprefix(prefix): content.get_tensor(name) for name in names}


def _opened(file: Path) -> Any:
    try:
        content: Any = safe_open(file, "pt")
    except (OSError, SafetensorError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not a safetensors file"
        raise SetupError(f"supernet {file}: {reason or problem}; train one: {_NEXT}") from None
    if (content.metadata() or {}).get("format") != _FORMAT:
        raise SetupError(f"supernet {file}: no supernet of this version (expected {_FORMAT!r})")
    return content


def _require_space(file: Path, metadata: Mapping[str, str], space: SearchSpace) -> None:
    if metadata.get("space_key") != space_key(space):
        before = " as it was before" if metadata.get("space") == space.name else ""
        raise SetupError(
            f"supernet {file}: of the space {metadata.get('space')!r}{before}, not of"
            f" {space.name!r}; train one: {_NEXT}"
        )


def _require_sharing(file: Path, metadata: Mapping[str, str], whole: bool) -> None:
    shares = metadata.get("shares", _DECODERS)
    if (shares == _CODECS) != whole:
        training = "joint" if shares == _CODECS else "decoder"
        raise SetupError(f"supernet {file}: shares {shares}; set training: {training}")


def _fill(module: Any, tensors: Mapping[str, Tensor], file: Path) -> None:
    wanted = module.state_dict()
    wrong = sorted(wanted.keys() ^ tensors.keys())
    wrong += [n for n in wanted.keys() & tensors.keys() if wanted[n].shape != tensors[n].shape]
    if wrong:
        raise SetupError(
            f"supernet {file}: tensor {wrong[0]!r} is missing, unknown or of another size"
        )
    module.load_state_dict(tensors, assign=True)
