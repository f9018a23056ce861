"""Short trainings from which longer ones go on: the rungs of a search.

A short training begins as a longer one does: distortion alone. Where the two part (`branch_step`
of its recipe) it leaves a checkpoint, and the longer one goes on from there. A checkpoint that is
gone is made again, so that a score hangs on architecture, seed and fidelities alone, not on which
files are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluators.checkpoint import load_checkpoint, save_checkpoint
from evaluators.run import Recipe, Run


@dataclass(frozen=True)
class Branch:
    """Where a training parts from longer ones.

    Attributes:
        recipe: of the training.
        file: its checkpoint.
    """

    recipe: Recipe
    file: Path


def begun(
    new: Callable[[Recipe], Run], take_step: Callable[[Run], None], branches: Sequence[Branch]
) -> Run:
    """A run that goes on from where the longest shorter training parted.

    Args:
        new: a run of a recipe at its start; each call may use the same codec.
        take_step: of a run.
        branches: of shorter trainings, ascending, and of this one.
    """
    *shorter, own = branches
    if not shorter:
        return new(own.recipe)
    last = shorter[-1]
    if not last.file.is_file():
        run = begun(new, take_step, shorter)
        while run.step < last.recipe.branch_step:
            take_step(run)
        save_checkpoint(last.file, run)
    run = new(own.recipe)
    load_checkpoint(last.file, run, last.recipe)
    return run


def leave(run: Run, branches: Sequence[Branch]) -> None:
    """Writes a run's own checkpoint when it is where longer trainings part from it."""
    if branches and run.step == branches[-1].recipe.branch_step:
        save_checkpoint(branches[-1].file, run)
