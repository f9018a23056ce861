"""Where a study's artefacts are."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")


def study_folder(study: str) -> Path:
    """Pictures, logs and what the evaluations share."""
    return RUNS / study


def log_folder(study: str) -> Path:
    """Log files, a file a trial; absolute."""
    return (study_folder(study) / "logs").resolve()


def log_file(logs: Path, trial: int) -> Path:
    """Where a trial's evaluation writes."""
    return logs / f"trial-{trial:04d}.log"
