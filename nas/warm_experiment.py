"""An experiment that goes on from a study's results under another budget: a file like any other.

It trains as the old one did, and takes its results over; or it scores by a supernet, and begins
with the old front.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evaluators.settings import ProxySettings
from nas.experiment_file import FUNNEL, ExperimentError, ExperimentFile
from nas.pricing.budget import Gate
from nas.pricing.setup import is_path
from nas.record.storage import StudyError
from nas.record.store import TrialStore
from nas.retarget import codes_of, retargeted, table_source
from search_spaces.files import write_atomically
from search_spaces.yaml_files import parse, parse_yaml, read_yaml

_WRITTEN = "written by nas retarget --search"
_TUNED_STEPS = 0.1  # of a training from scratch
_HEAD = f"# {{}} under another budget; {_WRITTEN}\n"


@dataclass(frozen=True)
class Inheriting:
    """How architectures are scored without training them from scratch.

    Attributes:
        supernet: file of `nas supernet`, of the study's space.
        tuned: how many of the best are trained briefly from its weights.
    """

    supernet: Path
    tuned: int


def write_warm_experiment(
    store: TrialStore,
    gate: Gate,
    device: str | None,
    margin_percent: float | None,
    more: int,
    stated: Path | None = None,
    inheriting: Inheriting | None = None,
) -> Path:
    """Writes the experiment of a new study that begins with an old one's results.

    Args:
        store: of the old one.
        gate: of the present budget, of one device.
        device: a shipped name or a table's path, as stated; None for the old study's.
        margin_percent: as stated.
        more: trials beyond those that are taken over; architectures to score by a supernet.
        stated: the old study's experiment, if it is not where it was.
        inheriting: scores by a supernet's weights.

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
    study = _name(store.name, known, gate, inheriting)
    changes: dict[str, Any] = {
        "study": study,
        "budget": {str(Path(name).resolve()) if is_path(name) else name: dict(limits)},
        "limits": {limit.name: limit.most for limit in gate.flat_limits if not limit.device},
    }
    changes |= {"margin": margin_percent} if margin_percent is not None else {}
    if inheriting is None:
        complete = [trial for trial in store.trials() if trial.state == "complete"]
        taken = int(gate.feasible(codes_of(complete, record, gate.space)).sum())
        whole = {**content, **changes, "warm_start": store.name, "trials": taken + more}
    else:
        taken = inheriting.tuned
        whole = {**content, **changes, **_inherited(content, store, gate, inheriting, more)}
        whole.pop("warm_start", None)
        if whole.get("searcher", {}).get("name") == FUNNEL:
            del whole["searcher"]  # it has fidelities of its own
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


def _inherited(
    content: Mapping[str, Any], store: TrialStore, gate: Gate, inheriting: Inheriting, more: int
) -> dict[str, Any]:
    """Keys that score by a supernet: all by inherited weights, the best trained briefly."""
    best = retargeted(store.record(), store.trials(), gate).document(store.name)["front"]
    given = dict(content.get("proxy", {}))
    kept = {n: x for n, x in given.items() if n not in ("stop_early", "decoder_first", "parents")}
    share = min(inheriting.tuned / more, 0.5)
    steps = int(given.get("steps", ProxySettings.steps))
    tuning = {"steps": max(1, round(steps * _TUNED_STEPS)), "inherited": share, "fine_tuned": 1.0}
    return {
        "evaluator": "evaluators.inherited:SupernetEvaluator",
        "supernet": str(inheriting.supernet.resolve()),
        "proxy": {**kept, **tuning},
        "fidelities": [share, 1.0],
        "start": [dict(one["choices"]) for one in best],
        "trials": more + inheriting.tuned,
    }


def _trials_before(target: Path, taken: int) -> int:
    """Of the same experiment, when it was asked for before: so many more again.

    Raises:
        StudyError: the file is somebody else's.
    """
    text = target.read_text(encoding="utf-8", errors="replace")
    if _WRITTEN not in text.partition("\n")[0]:
        raise StudyError(f"{target} is there already and is not ours; move it out of the way")
    return int(parse_yaml(text, target, ExperimentError).get("trials", taken))


def _name(study: str, device: str, gate: Gate, inheriting: Inheriting | None) -> str:
    """Of the study and what it was given: the same budget goes on with the same study."""
    kind = ["supernet"] if inheriting else []
    limits = [f"{limit.name.split('_')[0]}{limit.most:g}" for limit in gate.flat_limits]
    return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join([study, device, *limits, *kind]))[:80]
