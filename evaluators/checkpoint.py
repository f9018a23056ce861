"""A training on disk: weights, averages, the optimiser and every random state, as safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from evaluators.protocol import SetupError
from evaluators.run import Recipe, Run
from search_spaces.files import write_tensors
from search_spaces.json_text import parse_json

_MOMENTS = ("exp_avg", "exp_avg_sq")
_OTHERS = "other."
_STEPS = "steps_taken"  # of one parameter: of a supernet, a step trains only some


def save_checkpoint(
    file: Path, run: Run, others: Mapping[str, Tensor] | None = None, notes: Any = None
) -> None:
    """Writes a run in one step; readers see the old one or the new one.

    Args:
        file: of the checkpoint.
        run: the training.
        others: tensors of whatever trains beside it.
        notes: whatever belongs to the training and is no tensor, JSON-ready.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    tensors = {f"weights.{name}": value for name, value in run.codec.state_dict().items()}
    for i, mean in enumerate(run.averages.values):
        tensors[f"average.{i}"] = mean
    tensors |= optimiser_tensors(run.optimiser, run.trained)
    tensors |= {f"{_OTHERS}{name}": value for name, value in (others or {}).items()}
    tensors["noise"] = run.noise
    about = {
        "step": run.step,
        "rng": run.rng.bit_generator.state,
        "training": _identity(run, run.recipe),
        "notes": notes,
    }
    contents = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_tensors(file, contents, {"run": json.dumps(about)})


def load_checkpoint(
    file: Path, run: Run, recipe: Recipe | None = None
) -> tuple[dict[str, Tensor], Any]:
    """Brings a new run to where the saved one was.

    Args:
        file: that `save_checkpoint` wrote.
        run: at its start.
        recipe: of the saved run, if it is another one's.

    Returns:
        The others and the notes that were saved with it.

    Raises:
        SetupError: the file is damaged, or of another training.
    """
    about, tensors = _read(file)
    if about.get("training") != _identity(run, recipe or run.recipe):
        raise SetupError(f"{file} is a checkpoint of another training; move it away")
    with whole(file):
        _restore(run, about, tensors)
    others = {n.removeprefix(_OTHERS): v for n, v in tensors.items() if n.startswith(_OTHERS)}
    return others, about.get("notes")


@contextmanager
def whole(file: Path) -> Iterator[None]:
    """What a file of the right training lacks, or holds in another shape, as one line.

    Raises:
        SetupError: instead of whatever the parts of a training raise.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as said:
        reason = (str(said).strip().splitlines() or [type(said).__name__])[0]
        raise SetupError(f"{file} is a damaged checkpoint: {reason}; move it away") from None


def _restore(run: Run, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Weights, averages, optimiser and random states."""
    weights = {
        n.removeprefix("weights."): v for n, v in tensors.items() if n.startswith("weights.")
    }
    run.codec.load_state_dict(weights)
    run.step, run.noise = int(about["step"]), tensors["noise"]
    torch.Generator().set_state(run.noise)  # fails for what is no state
    run.rng.bit_generator.state = about["rng"]
    for i, mean in enumerate(run.averages.values):
        if mean.shape != tensors[f"average.{i}"].shape:
            raise ValueError(f"average.{i} has another shape")
        mean.copy_(tensors[f"average.{i}"])
    restore_optimiser(run.optimiser, run.trained, tensors, run.step)


def optimiser_tensors(
    optimiser: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]
) -> dict[str, Tensor]:
    """What Adam remembers of each parameter that it has moved, by the parameter's place."""
    tensors: dict[str, Tensor] = {}
    for i, parameter in enumerate(parameters):
        state = optimiser.state[parameter]
        if state:
            tensors |= {f"{name}.{i}": state[name] for name in _MOMENTS}
            tensors[f"{_STEPS}.{i}"] = torch.as_tensor(state["step"]).reshape(())
    return tensors


def restore_optimiser(
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    tensors: Mapping[str, Tensor],
    step: int,
) -> None:
    """Gives Adam what `optimiser_tensors` returned.

    Args:
        optimiser: at its start.
        parameters: as they were saved.
        tensors: they may hold others.
        step: that each parameter has taken, where `tensors` do not say.
    """
    for i, parameter in enumerate(parameters):
        if f"exp_avg.{i}" in tensors:
            taken = tensors.get(f"{_STEPS}.{i}", torch.tensor(float(step)))
            steps = taken.to(parameter.device).clone()
            # In the parameter's own layout: Adam's kernel walks all of them as they lie in memory.
            moments = {n: torch.empty_like(parameter).copy_(tensors[f"{n}.{i}"]) for n in _MOMENTS}
            optimiser.state[parameter] = {"step": steps, **moments}


def _read(file: Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    try:
        with safe_open(file, "pt") as opened:
            about = parse_json((opened.metadata() or {})["run"])
            if not isinstance(about, dict):
                raise ValueError("its description is no mapping")
            return about, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as problem:
        raise SetupError(f"{file} is no checkpoint: {problem}; move it away") from None


def _identity(run: Run, recipe: Recipe) -> str:
    """What may not differ between two halves of a training, as text."""
    shapes = [(name, list(value.shape)) for name, value in run.codec.named_parameters()]
    return json.dumps([asdict(recipe), run.seed, shapes])
