"""Evaluations that no searcher asks for, each once, with results in a file as they come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.tasks import Outcome
from nas.workers import Workers
from search_spaces.files import write_atomically
from search_spaces.json_text import parse_json


@dataclass(frozen=True)
class Job:
    """One evaluation.

    Attributes:
        name: of its result in the file.
        code: of the architecture.
        seed: of the evaluation; None takes the study's.
        log: name of its log file, without ending.
    """

    name: str
    code: tuple[int, ...]
    seed: int | None
    log: str


def run_jobs(
    jobs: Sequence[Job], workers: Workers, file: Path, terms: Mapping[str, Any], logs: Path
) -> Generator[tuple[int, int]]:
    """Evaluates what is not in the file yet; each result is written as it comes.

    What a machine ended and not the candidate is tried again, as in a search.

    Args:
        jobs: what to evaluate.
        workers: started and prepared.
        file: of results; those of other terms are made anew.
        terms: what every result depends on, JSON-ready.
        logs: folder of log files.

    Yields:
        Results there and results to come, after each.
    """
    results = load_results(file, terms)
    todo = dict(enumerate(job for job in jobs if job.name not in results))
    waiting, running, lost = list(todo), 0, Counter[int]()
    while waiting or running:
        while waiting and workers.free > 0:
            job = todo[number := waiting.pop(0)]
            workers.submit(number, job.code, logs / f"{job.log}.log", job.seed)
            running += 1
        for number, outcome in workers.wait():
            running -= 1
            if outcome.lost and lost[number] < workers.setting.needs.retries:
                lost[number] += 1
                waiting.append(number)
                continue
            results[todo[number].name] = _result(outcome)
            content = {"terms": dict(terms), "results": results}
            write_atomically(file, json.dumps(content, indent=1, allow_nan=False) + "\n")
            yield len(results), len(waiting) + running


def load_results(file: Path, terms: Mapping[str, Any]) -> dict[str, Any]:
    """What was evaluated under the same terms before; nothing when the file is not one."""
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        same = content["terms"] == json.loads(json.dumps(dict(terms)))
        return dict(content["results"]) if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _result(outcome: Outcome) -> dict[str, Any]:
    return {"metrics": outcome.metrics, "error": outcome.error, "seconds": outcome.seconds}
