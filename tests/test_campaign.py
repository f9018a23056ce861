"""Filling a table: what is planned, measured, kept when it breaks off, and concluded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from latency.lowering import lower
from latency.measure import campaign, validation
from latency.measure.backend import Device, MeasureError, Package
from latency.measure.campaign import Effort, Plan, plan_space, run, space_blocks
from latency.measure.filling import Filled, fill
from latency.measure.journal import Journal
from latency.measure.packages import repeat
from latency.oracle import LatencyOracle
from latency.table import Cpu, MissingRowError
from search_spaces.blocks import Block
from search_spaces.codec import blocks, coding_blocks
from search_spaces.space import SearchSpace

CPU = Cpu(
    encode_ns_per_symbol=1.0, decode_ns_per_symbol=1.0, ns_per_mac=1.0, cores=1, source="a test"
)
DEVICE = Device("chip", "build 1", "cpu", {"library": "1"})
EFFORT = Effort(error_percent=1.5, fewest_rounds=4, most_rounds=9)
FACTOR, DISPATCH_MS = 0.97, 0.3


def true_ms(block: Block) -> float:
    return 0.5 + crc32(repr(sorted(op.text for op in lower(block))).encode()) % 1000 / 100


@dataclass
class Clockwork:
    """A device of known times: a network takes a little less than its blocks, a start 0.3 ms."""

    noise: Callable[[str], float] = lambda name: 0.002
    visits: list[str] = field(default_factory=list)
    breaks_off_after: int | None = None

    def describe(self) -> Device:
        return DEVICE

    def sample_ms(self, package: Package, runs: int) -> list[float]:
        if len(self.visits) == self.breaks_off_after:
            raise KeyboardInterrupt
        number = self.visits.count(package.name)
        self.visits.append(package.name)
        whole = package.name.startswith(("encode", "decode"))
        exact = (FACTOR if whole else 1.0) * sum(map(true_ms, package.network.blocks))
        exact = DISPATCH_MS if package.name == "dispatch" else DISPATCH_MS + exact
        rng = np.random.default_rng(crc32(f"{package.name} {number}".encode()))
        return list(exact * (1 + self.noise(package.name) * rng.standard_normal(runs)))


@pytest.fixture(scope="module")
def plan(tiny: SearchSpace) -> Plan:
    return plan_space(tiny, space_blocks(tiny), "fp32", networks=6, seed=0)


def journal(folder: Path, **header: str) -> Journal:
    return Journal(folder / "samples.jsonl", {"device": "clockwork", **header})


def measured(plan: Plan, backend: Clockwork, folder: Path) -> Filled:
    kept = journal(folder)
    for _ in run(plan, backend, kept, EFFORT):
        pass
    return fill(plan, kept, "clockwork", backend.describe(), CPU, "burst", "nas latency measure")


def test_plan_covers_every_block_of_a_space_once(plan: Plan, tiny: SearchSpace) -> None:
    needed = {tuple(op.text for op in lower(block)) for block in space_blocks(tiny)}
    assert [row.ops for row in plan.rows] == list(dict.fromkeys(row.ops for row in plan.rows))
    assert {row.ops for row in plan.rows} == needed
    assert len({network.name for network in plan.networks}) == 6
    assert plan.packages == 2 * len(plan.rows) + 7
    assert plan.seconds(EFFORT) > 0


def test_rows_are_slopes_and_starting_is_no_part_of_them(plan: Plan, tmp_path: Path) -> None:
    table = measured(plan, Clockwork(), tmp_path).table
    for row, planned in zip(table.rows, plan.rows, strict=True):
        assert row.median_ms == pytest.approx(true_ms(planned.block), rel=0.02)
        assert len(row.once_ms) == len(row.repeated_ms) >= EFFORT.fewest_rounds
    assert table.dispatch_ms == pytest.approx(DISPATCH_MS, rel=0.01)
    assert table.network_factor == pytest.approx(FACTOR, rel=0.01)
    assert len(table.network_ratios) == 6
    assert table.provenance == "measured"
    assert table.margin_percent < 3


def test_unsure_rows_are_visited_more_often_and_sure_ones_are_not(
    plan: Plan, tmp_path: Path
) -> None:
    noisy = plan.rows[0]
    backend = Clockwork(noise=lambda name: 0.3 if name == noisy.repeated.name else 0.0005)
    measured(plan, backend, tmp_path)
    assert backend.visits.count(noisy.repeated.name) > EFFORT.fewest_rounds
    assert backend.visits.count(noisy.repeated.name) <= EFFORT.most_rounds
    assert backend.visits.count(plan.rows[1].repeated.name) == EFFORT.fewest_rounds
    assert backend.visits.count("dispatch") == EFFORT.fewest_rounds


def test_rounds_are_interleaved_and_both_packages_of_a_row_are_neighbours(
    plan: Plan, tmp_path: Path
) -> None:
    backend = Clockwork()
    measured(plan, backend, tmp_path)
    first = backend.visits[: plan.packages]
    second = backend.visits[plan.packages : 2 * plan.packages]
    assert sorted(first) == sorted(second)
    assert first != second
    for row in plan.rows:
        places = [first.index(row.once.name), first.index(row.repeated.name)]
        assert abs(places[0] - places[1]) == 1


@pytest.mark.parametrize("visits", [1, 100, 333])
def test_a_campaign_that_broke_off_goes_on_and_ends_with_the_same_table(
    plan: Plan, tmp_path: Path, visits: int
) -> None:
    whole = measured(plan, Clockwork(), tmp_path / "whole").table
    broken = Clockwork(breaks_off_after=visits)
    with pytest.raises(KeyboardInterrupt):
        measured(plan, broken, tmp_path / "broken")
    again = Clockwork(visits=broken.visits)
    assert measured(plan, again, tmp_path / "broken").table == whole
    assert len(again.visits) == sum(1 for _ in lines(tmp_path / "whole")) - 1


def lines(folder: Path) -> list[str]:
    return (folder / "samples.jsonl").read_text().splitlines()


def test_progress_counts_down_to_nothing(plan: Plan, tmp_path: Path) -> None:
    events = list(run(plan, Clockwork(), journal(tmp_path), EFFORT))
    done = [event[0] for event in events]
    assert done == list(range(1, len(events) + 1))
    assert events[-1][1] == 0


def test_too_few_samples_are_no_table(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="too few samples"):
        fill(plan, journal(tmp_path), "clockwork", DEVICE, CPU, "burst", "command")


def test_a_row_that_noise_drowns_is_named_and_left_out(plan: Plan, tmp_path: Path) -> None:
    drowned = plan.rows[2]

    class Backwards(Clockwork):
        def sample_ms(self, package: Package, runs: int) -> list[float]:
            if package.name == drowned.repeated.name:
                return [0.01] * runs
            return super().sample_ms(package, runs)

    filled = measured(plan, Backwards(), tmp_path)
    assert filled.unmeasured == (drowned.block.signature,)
    assert drowned.ops not in {tuple(row.ops) for row in filled.table.rows}


def test_samples_of_another_system_never_mix(plan: Plan, tmp_path: Path) -> None:
    journal(tmp_path, os_build="1").add("a", 0, [1.0])
    with pytest.raises(MeasureError, match=r"begun with os_build '1', now '2'") as caught:
        journal(tmp_path, os_build="2")
    assert "samples.jsonl" in str(caught.value)


def test_a_line_that_was_cut_off_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.add("a", 0, [1.0, 3.0, 2.0])
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"package": "b", "rou')
    again = journal(tmp_path)
    assert again.rounds_ms("a") == {0: 2.0}
    again.add("b", 0, [4.0])
    assert journal(tmp_path).rounds_ms("b") == {0: 4.0}


@pytest.mark.parametrize(
    "content",
    [
        "no journal\n",
        "[1]\n",
        '{"device": "clockwork"}\n{"package": 3}\n',
        '{"device": "clockwork"}\n{"package": "a", "round": 0, "runs_ms": [NaN]}\n',
        '{"device": "clockwork"}\n{"package": "a", "round": 0, "runs_ms": [-1]}\n',
        '{"device": "clockwork"}\n{"package": "a", "round": 0, "runs_ms": []}\n',
        '{"device": "clockwork"}\n{"package": "a", "round": "x", "runs_ms": [1]}\n',
    ],
)
def test_what_is_no_journal_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text(content)
    with pytest.raises(MeasureError, match="no journal of samples"):
        journal(tmp_path)
    assert file.read_text() == content


def test_blocks_that_do_not_fit_behind_themselves_stand_side_by_side() -> None:
    chained = repeat(blocks.Scale(4, 8), lower(blocks.Scale(4, 8)), 3)
    assert chained.inputs == ("input_0_0",)
    assert chained.outputs == ("copy_2",)
    analysis = coding_blocks.Analysis(32)
    side_by_side = repeat(analysis, lower(analysis), 3)
    assert len(set(side_by_side.inputs)) == 6
    assert side_by_side.outputs == ("copy_0", "copy_1", "copy_2")


def test_validation_finds_the_error_that_is_there(
    plan: Plan, tiny: SearchSpace, tmp_path: Path
) -> None:
    table = measured(plan, Clockwork(), tmp_path).table
    off = table.model_copy(update={"network_factor": 1.05 * table.network_factor})
    off = off.model_copy(update={"network_ratios": [off.network_factor]})
    networks = campaign.whole_networks(tiny, 12, 5, "fp32")
    kept = journal(tmp_path / "validation")
    reports = {}
    for name, each in {"right": table, "off": off}.items():
        predictions = validation.predict(networks, LatencyOracle(each, "fp32"))
        for _ in validation.run(predictions, Clockwork(), kept, rounds=3, seed=5):
            pass
        reports[name] = validation.report(predictions, kept, each.margin_percent)
    assert reports["right"]["mean_absolute_error_percent"] < 1
    assert reports["off"]["mean_absolute_error_percent"] == pytest.approx(5, abs=0.6)
    assert reports["off"]["within_10_percent"] == 100
    assert reports["off"]["within_5_percent"] < 100
    assert not reports["right"]["void"]
    assert reports["right"]["repeatability_percent"] < 1
    assert reports["right"]["rank_correlation"] > 0.95
    assert json.dumps(reports, allow_nan=False)


def test_a_noisy_machine_makes_a_validation_void(
    plan: Plan, tiny: SearchSpace, tmp_path: Path
) -> None:
    table = measured(plan, Clockwork(), tmp_path).table
    networks = campaign.whole_networks(tiny, 8, 5, "fp32")
    predictions = validation.predict(networks, LatencyOracle(table, "fp32"))
    kept = journal(tmp_path / "validation")
    for _ in validation.run(predictions, Clockwork(noise=lambda name: 0.2), kept, 4, 5):
        pass
    assert validation.report(predictions, kept, 10.0)["void"]


def test_validation_of_a_block_without_a_row_is_an_error(
    plan: Plan, tiny: SearchSpace, tmp_path: Path
) -> None:
    table = measured(plan, Clockwork(), tmp_path).table
    fewer = table.model_copy(update={"rows": table.rows[:2]})
    with pytest.raises(MissingRowError, match="clockwork has no latency for"):
        validation.predict(
            campaign.whole_networks(tiny, 2, 5, "fp32"), LatencyOracle(fewer, "fp32")
        )


def test_validation_networks_are_not_those_of_the_campaign(tiny: SearchSpace) -> None:
    names = [{n.name for n in campaign.whole_networks(tiny, 20, s, "fp32")} for s in (0, 1)]
    assert len(names[0] & names[1]) < 20
