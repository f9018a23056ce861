"""From a recorded trial to a full training of its architecture: where it begins, what was asked.

A folder holds one training. What is asked for again goes on or is finished; what is asked for
otherwise is refused, and what is not stated again stays as it was.
"""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.full_job import Job
from evaluators.full_recipe import FullRecipe
from evaluators.perceptual import weights_file
from evaluators.photos import find_photos
from evaluators.protocol import SetupError
from evaluators.proxy import ProxyEvaluator
from nas.experiment import ExperimentError
from nas.folders import study_folder
from nas.record.storage import StudyError
from search_spaces.codec.family import build_design
from search_spaces.codec.saved import CODEC_FILE, load_codec
from search_spaces.json_text import parse_json
from search_spaces.space import Choice

if TYPE_CHECKING:
    from nas.experiment import Experiment
    from nas.record.records import Trial

SAMPLE = "sample"
TRIAL, ANCHOR, SCRATCH = "trial", "anchor", "scratch"
_DEFAULTS: Mapping[str, Any] = {"steps": 4000, "photographs": 1000, "seed": 0}
_LIBRARIES = ("nas-codecs", "torch", "ray", "lpips", "pytorch-msssim", "numpy")


@dataclass(frozen=True)
class Request:
    """What a command line asks for; None where it states nothing.

    Attributes:
        start: `trial`, `anchor`, `scratch` or a codec file: the weights to begin from.
        data: a folder of photographs, or `sample`.
        photographs: of the folder, at most.
        hours: that all of it may take.
        seed: of every random choice.
        recipe: fields of `FullRecipe`.
        device: where torch runs.
        checkpoint_minutes: between two checkpoints.
        scored_crops: held-back crops that are scored at the end, at most.
        vgg_crops: of them, that LPIPS-vgg sees too.
        out: folder of the results.
    """

    start: str | None = None
    data: str | None = None
    photographs: int | None = None
    hours: float | None = None
    seed: int | None = None
    recipe: Mapping[str, Any] | None = None
    device: str = "auto"
    checkpoint_minutes: float = 5.0
    scored_crops: int = 24
    vgg_crops: int = 8
    out: Path | None = None


def results_folder(study: str, trial: int) -> Path:
    """Where a trial's full training is, unless another folder is stated."""
    return study_folder(study) / f"train-{trial}"


def finished(folder: Path) -> dict[str, Any] | None:
    """The metrics of a training that is finished; None of one that is not.

    Raises:
        SetupError: they cannot be read.
    """
    return _json(folder / "metrics.json")


def make_job(experiment: Experiment, trial: Trial, request: Request) -> Job:
    """The training that is asked for, checked against what its folder holds.

    Raises:
        ExperimentError: the study's space holds no codecs of the family.
        StudyError: the folder holds another training, or files that are none.
        SetupError: photographs, weights or a codec file cannot be used.
        CodecFileError: what to begin from is no codec file.
    """
    folder = request.out or results_folder(experiment.study, trial.number)
    plan = _json(folder / "recipe.json")
    _require_free(folder, plan)
    known = plan["asked"] if plan else {}
    choices = _choices(experiment, trial)
    asked = _asked(experiment, trial, request, known)
    start = _start_file(asked["from"], experiment, trial)
    data = _resolved(asked["data"], experiment)
    begun = (folder / "checkpoint.safetensors").is_file()
    asked["from_sha256"] = known.get("from_sha256") if begun else _checked(start, choices, asked)
    asked["photographs_sha256"] = _digest_of_photos(data, asked["photographs"])
    _require_same(folder, known, asked)
    for backbone in ("alex", "vgg"):
        weights_file(backbone)
    recipe = _recipe(asked)
    kept = study_folder(experiment.study) / "shared"
    return Job(
        choices=choices,
        start=None if start is None else str(start.resolve()),
        data=data,
        photographs=asked["photographs"],
        photo_folder=str((kept / f"full-{asked['photographs_sha256']}-{recipe.crop}").resolve()),
        recipe=recipe,
        hours=asked["hours"],
        seed=asked["seed"],
        device=request.device,
        folder=str(folder.resolve()),
        checkpoint_seconds=60 * request.checkpoint_minutes,
        scored_crops=request.scored_crops,
        vgg_crops=request.vgg_crops,
        about=_about(asked),
    )


def _recipe(asked: Mapping[str, Any]) -> FullRecipe:
    """Of what is asked for; where hours are, the steps are planned later."""
    fields = {name: asked[name] for name in FullRecipe.__dataclass_fields__}
    return FullRecipe(**{**fields, "steps": fields["steps"] or 1})


def _choices(experiment: Experiment, trial: Trial) -> dict[str, Choice]:
    """Of the codec that the trial trained, complete."""
    space = experiment.space
    if space.builder is not build_design:
        raise ExperimentError(f"{space.name} builds no codecs of this family; nothing to train")
    architecture = space.architecture(space.encode(trial.choices))
    evaluator = experiment.evaluator.build(ExperimentError)
    if isinstance(evaluator, ProxyEvaluator):
        return evaluator.choices_of(space, architecture)
    return dict(space.all_choices(architecture))


def _asked(
    experiment: Experiment, trial: Trial, request: Request, known: Mapping[str, Any]
) -> dict[str, Any]:
    """All that a result depends on: what is stated, else what is known, else what is usual."""
    usual: dict[str, Any] = {**asdict(FullRecipe(_DEFAULTS["steps"])), **_DEFAULTS}
    usual |= {"from": _usual_start(trial), "hours": None}
    usual["data"] = str(experiment.identity.get("data") or SAMPLE)
    stated: dict[str, Any] = dict(request.recipe or {})
    stated |= {"from": request.start, "data": request.data, "photographs": request.photographs}
    stated |= {"hours": request.hours, "seed": request.seed}
    stated = {name: value for name, value in stated.items() if value is not None}
    of_trial = {"study": experiment.study, "trial": trial.number, "key": trial.key}
    asked = {**usual, **known, **stated, **of_trial}
    if "steps" in stated:
        asked["hours"] = None
    if asked["hours"] is not None:
        asked["steps"] = None
    return asked


def _usual_start(trial: Trial) -> str:
    return TRIAL if Path(str(trial.metrics.get("codec", ""))).is_file() else SCRATCH


def _start_file(start: str, experiment: Experiment, trial: Trial) -> Path | None:
    """The codec file to begin from."""
    if start == SCRATCH:
        return None
    if start == TRIAL:
        kept = trial.metrics.get("codec")
        if kept is None or not Path(kept).is_file():
            raise SetupError(
                f"--from trial: the weights of trial {trial.number} were not kept; give --from"
                " scratch or a codec file"
            )
        return Path(kept)
    if start == ANCHOR:
        anchor = experiment.evaluator.settings.get("anchor")
        if anchor is None:
            raise SetupError("--from anchor: the experiment names none; give a codec file")
        return Path(anchor)
    file = Path(start)
    return file / CODEC_FILE if file.is_dir() else file


def _checked(
    start: Path | None, choices: Mapping[str, Choice], asked: Mapping[str, Any]
) -> str | None:
    """The digest of a codec file that can be begun from."""
    if start is None:
        return None
    codec = load_codec(start)
    if asked["from"] == TRIAL and codec.design != build_design(choices):
        raise SetupError(
            f"{start}: holds another architecture than trial {asked['trial']}; give --from scratch"
        )
    return hashlib.sha256(start.read_bytes()).hexdigest()[:12]


def _resolved(data: str, experiment: Experiment) -> str:
    """Photographs by absolute path: an experiment's are named from its folder, others from here."""
    if data == SAMPLE:
        return data
    if data == experiment.identity.get("data"):
        return str((experiment.file.resolve().parent / data).resolve())
    return str(Path(data).resolve())


def _digest_of_photos(data: str, most: int) -> str:
    found = find_photos(data, most)
    digest = hashlib.sha256()
    for file in (*found.train, *found.held_back):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]


def _require_free(folder: Path, plan: Mapping[str, Any] | None) -> None:
    """Fails where results would overwrite what no training of this program left."""
    if plan is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder} holds something else; give --out another folder")


def _require_same(folder: Path, known: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for name in known:
        if known[name] != asked.get(name):
            raise StudyError(
                f"{folder} holds a training with {name} {_shown(known[name])}, not"
                f" {_shown(asked.get(name))}; give --out another folder, or remove it"
            )


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value}"


def _json(file: Path) -> dict[str, Any] | None:
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or (file.name == "recipe.json" and "asked" not in content):
        raise StudyError(f"{file} cannot be read; move it away")
    return content


def _about(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What `recipe.json` says beside the recipe."""
    import torch

    return {
        "asked": dict(asked),
        "versions": {name: version(name) for name in _LIBRARIES},
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "threads": torch.get_num_threads(),
        },
        "command": shlex.join(["nas", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
