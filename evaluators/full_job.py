"""A full training as a job: what any process can make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.full_recipe import FullRecipe
from search_spaces.space import Choice

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """A full training, as what any process can make of it.

    Attributes:
        choices: of the codec.
        start: codec file to begin from; None begins from scratch.
        data: a folder of photographs, or `sample`.
        photographs: of the folder, at most.
        photo_folder: where they are kept decoded.
        recipe: of the training; its steps are planned anew where `hours` is stated.
        hours: that all of it may take, or None.
        seed: of every random choice.
        device: where torch runs.
        folder: of the results.
        checkpoint_seconds: between two checkpoints.
        scored_crops: held-back crops that are scored at the end, at most.
        vgg_crops: of them, that LPIPS-vgg sees too.
        about: what `recipe.json` says beside the recipe.
    """

    choices: Mapping[str, Choice]
    start: str | None
    data: str
    photographs: int
    photo_folder: str
    recipe: FullRecipe
    hours: float | None
    seed: int
    device: str
    folder: str
    checkpoint_seconds: float
    scored_crops: int
    vgg_crops: int
    about: Mapping[str, Any]

    @property
    def recipe_file(self) -> Path:
        """Says that a training has been planned."""
        return Path(self.folder) / "recipe.json"

    @property
    def checkpoint(self) -> Path:
        """Of the training."""
        return Path(self.folder) / "checkpoint.safetensors"
