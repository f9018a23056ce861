"""Searches on clusters whose machines fail, come, go, and lack what an evaluation needs."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nas.record.records import Trial
from nas.record.store import TrialStore
from nas.resources import Needs

EXAMPLES = Path(__file__).parent.parent / "experiments"
FAULTY = "./toy.py:FaultyEvaluator"
FIRST_POPULATION = {"population": 12}  # which are asked for does not hang on what finishes first


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without cores; machines are added by tests."""
    with toy.simulated_cluster(0) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def steady() -> Iterator[str]:
    with toy.ray_cluster() as address:
        yield address


def node(cluster: Any, **options: Any) -> Any:
    return cluster.add_node(**{"num_cpus": 1, "object_store_memory": 10**8, **options})


def trials(folder: Path) -> list[Trial]:
    return TrialStore.open(f"sqlite:///{folder}/runs/nas.db", "toy").trials()


def search(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return toy.nas(folder, "search", "experiment.yaml", "--ray-address", address, *arguments)


def begun(folder: Path, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nas", "search", "experiment.yaml", "--ray-address", address]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def searched_with_fault(folder: Path, address: str, fault: str, **limits: Any) -> list[Trial]:
    """Trials of a search whose first architecture, of depth 1, has a fault."""
    first = {"searcher": FIRST_POPULATION, "start": [{"depth": 1, "width": 8, "mixing": "none"}]}
    toy.write_experiment(folder, evaluator=FAULTY, proxy={fault: 1}, **first, **limits)
    done = search(folder, address)
    assert done.returncode == 0, done.stderr
    return trials(folder)


def attempts(recorded: list[Trial], depth: int) -> set[tuple[str | None, ...]]:
    """What became of each architecture of a depth, attempt by attempt."""
    by_key: dict[str, list[str | None]] = {}
    for trial in recorded:
        if trial.choices["depth"] == depth:
            by_key.setdefault(trial.key, []).append("lost" if trial.lost else trial.state)
    return {tuple(states) for states in by_key.values()}


def test_what_a_machine_ended_is_tried_again_and_each_attempt_recorded(
    tmp_path: Path, steady: str
) -> None:
    faults = {"killed_once_depth": 2, "full_once_depth": 3, "exiting_depth": 4}
    toy.write_experiment(
        tmp_path,
        evaluator=FAULTY,
        proxy=faults,
        trials=24,
        workers=2,
        retries=1,
        searcher={"population": 24},
    )
    done = search(tmp_path, steady)
    assert done.returncode == 0, done.stderr
    recorded = trials(tmp_path)
    assert attempts(recorded, 2) == attempts(recorded, 3) == {("lost", "complete")}
    assert attempts(recorded, 4) == {("lost", "failed")}
    full = next(trial for trial in recorded if trial.choices["depth"] == 3 and trial.lost)
    assert "No space left on device" in (full.error or "")
    ended = [trial for trial in recorded if trial.ended]
    assert len(ended) == len({trial.identity for trial in ended}) == 24
    document = toy.json_of(tmp_path, "front", "toy")
    assert document["trials"]["lost"] == sum(trial.lost for trial in recorded) > 0
    # A driver that begins anew knows the attempts and what came of them.
    again = search(tmp_path, steady, "--trials", "26")
    assert again.returncode == 0, again.stderr
    assert len([trial for trial in trials(tmp_path) if trial.ended]) == 26


def test_what_hangs_is_ended_at_its_time_limit_and_its_log_says_where(
    tmp_path: Path, steady: str
) -> None:
    limits = {"trials": 8, "workers": 2, "retries": 1, "trial_minutes": 0.05}
    recorded = searched_with_fault(tmp_path, steady, "hanging_depth", **limits)
    assert attempts(recorded, 1) == {("lost", "failed")}
    hung = next(trial for trial in recorded if trial.choices["depth"] == 1)
    assert (hung.error or "").startswith("beyond its 3 s; ")
    log = tmp_path / f"runs/toy/logs/trial-{hung.number:04d}.log"
    assert "toy.py" in log.read_text()
    assert "in evaluate" in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel holds no such limit elsewhere")
def test_what_takes_more_memory_than_its_limit_is_refused_it(tmp_path: Path, steady: str) -> None:
    limits = {"trials": 6, "workers": 1, "retries": 0, "memory_gb": 1.5}
    recorded = searched_with_fault(tmp_path, steady, "greedy_depth", **limits)
    assert attempts(recorded, 1) == {("failed",)}
    greedy = next(trial for trial in recorded if trial.choices["depth"] == 1)
    assert "Unable to allocate 3.00 GiB" in (greedy.error or "")
    assert {trial.state for trial in recorded if trial.choices["depth"] != 1} == {"complete"}


def test_node_that_lacks_something_is_named_before_anything_is_evaluated(
    tmp_path: Path, cluster: Any
) -> None:
    toy.write_experiment(tmp_path)
    node(cluster)
    node(cluster, env_vars={"TOY_MISSES": "a camera"})
    done = search(tmp_path, cluster.address)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("nas: node ")
    assert line.endswith(": a camera is not installed")
    assert toy.trained(tmp_path) == []


def test_search_follows_nodes_that_come_and_survives_one_that_is_lost(
    tmp_path: Path, cluster: Any
) -> None:
    toy.write_experiment(tmp_path, trials=24, workers="auto", proxy={"seconds": 1.0})
    first = node(cluster)
    process = begun(tmp_path, cluster.address)
    toy.wait_until(lambda: len(toy.trained(tmp_path)) >= 2)
    node(cluster, num_cpus=2)
    toy.wait_until(lambda: sum(trial.state == "running" for trial in trials(tmp_path)) == 3)
    cluster.remove_node(first, allow_graceful=False)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    recorded = trials(tmp_path)
    assert Counter(trial.state for trial in recorded if not trial.void) == {"complete": 24}
    assert len({trial.identity for trial in recorded}) == 24


def test_evaluations_take_the_gpus_that_they_need(tmp_path: Path, cluster: Any) -> None:
    toy.write_experiment(tmp_path, trials=8, workers="auto", gpus=0.5, proxy={"seconds": 0.5})
    node(cluster, num_cpus=4, num_gpus=1)
    node(cluster)
    done = search(tmp_path, cluster.address)
    assert done.returncode == 0, done.stderr
    assert "2 workers" in done.stderr
    assert {trial.metrics["gpus"] for trial in trials(tmp_path)} == {"0"}
    toy.write_experiment(tmp_path, study="more", gpus=2)
    done = search(tmp_path, cluster.address)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "nas: no node has what an evaluation needs: 1 core, 2 GPU"


@given(
    st.lists(st.tuples(st.integers(0, 64), st.integers(0, 8), st.integers(0, 256)), max_size=6),
    st.sampled_from([None, 0.0, 0.25, 0.5, 1.0, 2.0]),
    st.sampled_from([None, "cpu", "auto", "cuda:0"]),
    st.sampled_from([None, 1, 7]),
)
def test_no_node_is_asked_for_more_than_it_has(
    sizes: list[tuple[int, int, int]], gpus: float | None, device: str | None, gigabytes: int | None
) -> None:
    nodes = [{"CPU": c, "GPU": g, "memory": m * 2.0**30} for c, g, m in sizes]
    needs = Needs(gpus, device, gigabytes and gigabytes * 2**30).on(nodes)
    options = needs.options
    for one in nodes:
        fitting = needs.at_a_time([one])
        assert fitting <= one["CPU"]
        assert fitting * options.get("num_gpus", 0) <= one["GPU"]
        assert fitting * options.get("memory", 0) <= one["memory"]
        full = (fitting + 1) * options.get("num_gpus", 0) > one["GPU"]
        full |= (fitting + 1) * options.get("memory", 0) > one["memory"]
        assert full or fitting == one["CPU"]
    assert needs.at_a_time(nodes) == sum(needs.at_a_time([one]) for one in nodes)
    has = any(one["GPU"] for one in nodes)
    wanted = 1.0 if has and device in ("auto", "cuda:0") else 0.0
    assert needs.gpus == (wanted if gpus is None else gpus)


def test_example_of_a_cluster_is_what_ray_up_takes() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    content = yaml.safe_load((EXAMPLES / "cluster/aws.yaml").read_text())
    validate_config(prepare_config(content))  # type: ignore[no-untyped-call]
