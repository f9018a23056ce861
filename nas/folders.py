"""Where a study's artefacts are."""

from __future__ import annotations

from pathlib import Path

from nas.experiment_file import require_name

RUNS = Path("runs")


def study_folder(study: str) -> Path:
    """Pictures, logs and what the evaluations share.

    Raises:
        ExperimentError: a record calls its study what would be a folder elsewhere.
    """
    require_name(study, "study")
    return RUNS / study


def log_folder(study: str) -> Path:
    """Log files, a file a trial; absolute."""
    return (study_folder(study) / "logs").resolve()


def log_file(logs: Path, trial: int) -> Path:
    """Where a trial's evaluation writes."""
    return logs / f"trial-{trial:04d}.log"
