"""An experiment that goes on from a study's results under another budget: a file like any other."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from nas.experiment_file import ExperimentError, ExperimentFile
from nas.pricing.budget import Gate
from nas.pricing.setup import is_path
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from nas.retarget import codes_of, table_source
from search_spaces.files import write_atomically
from search_spaces.yaml_files import parse, parse_yaml, read_yaml

_WRITTEN = "written by nas retarget --search"
_HEAD = f"# {{}} under another budget; {_WRITTEN}\n"


def write_warm_experiment(
    store: TrialStore,
    gate: Gate,
    device: str | None,
    margin_percent: float | None,
    more: int,
    stated: Path | None = None,
) -> Path:
    """Writes the experiment of a new study that begins with an old one's results.

    Args:
        store: of the old one.
        gate: of the present budget, of one device.
        device: a shipped name or a table's path, as stated; None for the old study's.
        margin_percent: as stated.
        more: trials beyond those that are taken over.
        stated: the old study's experiment, if it is not where it was.

    Returns:
        The file, beside the old study's.

    Raises:
        StudyError: the old study's experiment is not there, or the new one cannot be written.
        ExperimentError: it is none.
    """
    record, file = store.record(), store.experiment_file(stated)
    content = read_yaml(file, ExperimentError)
    parse(ExperimentFile, content, str(file), ExperimentError)
    ((known, limits),) = gate.limits.items()
    name = device or table_source(record, known)
    complete = [trial for trial in store.trials() if trial.state == "complete"]
    taken = int(gate.feasible(codes_of(complete, record, gate.space)).sum())
    study = _name(store.name, known, gate)
    changes = {
        "study": study,
        "budget": {str(Path(name).resolve()) if is_path(name) else name: dict(limits)},
        "limits": {limit.name: limit.most for limit in gate.flat_limits if not limit.device},
        "warm_start": store.name,
        "trials": taken + more,
    }
    changes |= {"margin": margin_percent} if margin_percent is not None else {}
    whole = {**content, **changes}
    if isinstance(whole.get("margin"), dict) and known not in whole["margin"]:
        del whole["margin"]
    # Beside the old one: paths that are relative to it hold there.
    target = file.parent / f"{study}.yaml"
    if target.exists():
        whole["trials"] = _trials_before(target, taken) + more
    text = _HEAD.format(store.name) + yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    try:
        write_atomically(target, text)
    except OSError as problem:
        raise StudyError(f"cannot write {target}: {problem.strerror}") from None
    return target


def _trials_before(target: Path, taken: int) -> int:
    """Of the same experiment, when it was asked for before: so many more again.

    Raises:
        StudyError: the file is somebody else's.
    """
    text = target.read_text(encoding="utf-8", errors="replace")
    if _WRITTEN not in text.partition("\n")[0]:
        raise StudyError(f"{target} is there already and is not ours; move it out of the way")
    return int(parse_yaml(text, target, ExperimentError).get("trials", taken))


def _name(study: str, device: str, gate: Gate) -> str:
    """Of the study and what it was given: the same budget goes on with the same study."""
    limits = [f"{limit.name.split('_')[0]}{limit.most:g}" for limit in gate.flat_limits]
    return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join([study, device, *limits]))[:80]
