"""Which codec is exported: fully trained, or as the search left it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.folders import study_folder
from nas.record.storage import StudyError
from nas.train import results_folder
from search_spaces.codec.saved import CODEC_FILE, CodecFileError


@dataclass(frozen=True)
class Source:
    """A codec to export.

    Attributes:
        codec: its file.
        origin: where it is from, in words.
        folder: where its export goes by default.
        warning: what to know of it before it is used, if anything.
    """

    codec: Path
    origin: str
    folder: Path
    warning: str | None = None


def of_trial(storage: str, study: str, trial: int) -> Source:
    """The codec of `nas train`, else the one that the trial was scored with.

    Raises:
        StudyError: no such trial, or it left no codec.
    """
    from nas.record.store import TrialStore

    found = TrialStore.open(storage, study).trial(trial)
    folder = study_folder(study) / f"export-{trial}"
    trained = results_folder(study, trial) / CODEC_FILE
    if trained.is_file():
        return Source(trained, f"trained in full: trial {trial} of {study}", folder)
    named = found.metrics.get("codec")
    if named is None:
        raise StudyError(
            f"trial {trial} of {study} ({found.state}) left no codec; train one:"
            f" nas train {study} {trial}"
        )
    if not Path(str(named)).is_file():
        raise StudyError(
            f"{named}, the codec of trial {trial} of {study}, is gone; train one:"
            f" nas train {study} {trial}"
        )
    warning = (
        f"trial {trial} of {study} was not trained in full: this is the proxy that the search"
        f" scored; train it with `nas train {study} {trial}`, then export again"
    )
    return Source(
        Path(str(named)), f"proxy of the search: trial {trial} of {study}", folder, warning
    )


def of_model(model: Path) -> Source:
    """A codec file, or the folder of a training.

    Raises:
        CodecFileError: there is none.
    """
    file = model / CODEC_FILE if model.is_dir() else model
    if not file.is_file():
        raise CodecFileError(
            f"{model}: no codec file or folder of `nas train`; of a study, give the trial too:"
            f" nas export {model} TRIAL"
        )
    beside = model if model.is_dir() else model.with_suffix("")
    return Source(file, str(model), beside.with_name(f"{beside.name}-export"))
