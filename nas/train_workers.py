"""A full training on several workers, through Ray Train: one process a GPU, or a few cores each."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluators.devices import torch_device
from evaluators.full_job import Job, Report
from evaluators.full_run import run_job
from evaluators.protocol import EvaluationError, SetupError
from evaluators.together import Place
from nas.ray_cluster import WorkerError, ray_cluster
from search_spaces.files import write_atomically

_POLL_SECONDS = 0.5
_RAY_TRAIN = {
    # A minute is the default: on a machine that is busy it starts over and over.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
_KNOWN: dict[str, Callable[[str], Exception]] = {
    "SetupError": SetupError,
    "EvaluationError": EvaluationError,
    "OSError": OSError,
}


def train_on_workers(
    job: Job, count: int, report: Report, logs: Path, address: str | None = None
) -> None:
    """Trains on `count` workers; arguments and errors else as of `run_job`.

    Args:
        job: of the training; its folder is seen by all workers.
        count: of the workers; each has a GPU where the job's device is CUDA.
        report: is told how far it is.
        logs: folder for Ray's own log; absolute.
        address: of a running cluster to join; default: a local one.

    Raises:
        SetupError: the batch cannot be shared among the workers.
        WorkerError: a worker was lost.
    """
    Place(0, count).of_batch(job.recipe.batch)
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    for name, value in _RAY_TRAIN.items():
        os.environ.setdefault(name, value)
    gpu = torch_device(job.device).type == "cuda"
    with (
        ray_cluster(logs, count, address),
        tempfile.TemporaryDirectory(dir=logs, prefix="train-") as name,
        _told(Path(name) / "events", report),
    ):
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job, "folder": name},
            scaling_config=ScalingConfig(num_workers=count, use_gpu=gpu),
            run_config=RunConfig(name="training", storage_path=f"{name}/ray"),
        )
        try:
            trainer.fit()
        except Exception as problem:
            raise _reason(Path(name), problem) from None


def _work(given: dict[str, Any]) -> None:
    """One worker."""
    import torch
    from ray import train
    from ray.train.torch import get_device

    context, folder = train.get_context(), Path(given["folder"])
    place = Place(context.get_world_rank(), context.get_world_size())
    logging.getLogger().setLevel(logging.WARNING)
    job: Job = replace(given["job"], device=str(get_device()))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    with (folder / "events").open("a", encoding="utf-8", buffering=1) as file:
        try:
            run_job(job, lambda event: print(json.dumps(event), file=file), place)
        except Exception as problem:
            kind = "OSError" if isinstance(problem, OSError) else type(problem).__name__
            content = {"kind": kind, "message": str(problem)}
            write_atomically(folder / f"error-{place.rank}.json", json.dumps(content))
            raise


def _reason(folder: Path, problem: Exception) -> Exception:
    """What a worker said before it ended, of those that ended first."""
    files = sorted(folder.glob("error-*.json"), key=lambda file: file.stat().st_mtime)
    said = [json.loads(file.read_text()) for file in files]
    for error in said:
        if error["kind"] in _KNOWN:
            return _KNOWN[error["kind"]](error["message"])
    first = said[0]["message"] if said else str(problem)
    return WorkerError(f"a worker was lost: {(first.strip().splitlines() or ['no reason'])[0]}")


@contextmanager
def _told(file: Path, report: Report) -> Iterator[None]:
    """Passes on, inside the context, what the first worker writes line by line."""
    file.touch()
    ended = threading.Event()

    def follow() -> None:
        with file.open(encoding="utf-8") as events:
            rest = ""
            while True:
                last = ended.is_set()
                rest += events.read()
                *lines, rest = rest.split("\n")
                for line in lines:
                    report(json.loads(line))
                if last:
                    return
                ended.wait(_POLL_SECONDS)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
