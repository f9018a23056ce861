"""Latency tables: what is accepted, what is refused, and what a missing row says."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from latency.merge import merge_tables
from latency.ops import Op
from latency.table import MissingRowError, TableError
from latency.table_files import SHIPPED, load_table, save_table, shipped_tables

OPS = (Op("relu", ((1, 4, 8, 8),), (), ((1, 4, 8, 8),), (), "fp16"),)
OTHER = (Op("round", ((1, 4, 8, 8),), (), ((1, 4, 8, 8),), (), "fp16"),)
ROW = {
    "block": "relu(width=4)",
    "ops": [OPS[0].text],
    "precision": "fp16",
    "repeats": 3,
    "once_ms": [0.6, 0.5, 0.7],
    "repeated_ms": [1.6, 1.3, 2.5],  # a repeat takes 0.5, 0.4 and 0.9
    "median_ms": 0.5,
    "spread_percent": 50.0,
}


def measured(rows: list[dict[str, Any]]) -> dict[str, Any]:
    document = yaml.safe_load((SHIPPED / "iphone-17-pro-max.yaml").read_text())
    del document["model"]
    dispatch = {"median_ms": 0.2, "samples_ms": [0.1, 0.2, 0.4], "spread_percent": 75.0}
    header = {"device": "test-phone", "provenance": "measured", "dispatch": dispatch}
    return {**document, **header, "rows": rows}


def written(folder: Path, document: dict[str, Any]) -> Path:
    file = folder / "table.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.mark.parametrize("name", shipped_tables())
def test_shipped_table_loads_and_says_what_it_rests_on(name: str) -> None:
    table = load_table(name)
    assert table.device == name
    assert table.provenance == "analytic"
    assert any("No phone was at hand" in source for source in table.sources)


def test_saved_table_is_the_same_when_loaded_again(tmp_path: Path) -> None:
    first = load_table(written(tmp_path, measured([ROW])))
    save_table(first, tmp_path / "new" / "again.yaml")
    assert load_table(tmp_path / "new" / "again.yaml") == first
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["again.yaml"]


def test_measured_table_prices_by_row(tmp_path: Path) -> None:
    table = load_table(written(tmp_path, measured([ROW])))
    assert table.price_ms("whatever it is called", OPS) == 0.5


def test_missing_row_names_block_device_rows_nearest_and_command(tmp_path: Path) -> None:
    table = load_table(written(tmp_path, measured([ROW])))
    with pytest.raises(MissingRowError) as caught:
        table.price_ms("relu(width=5)", OTHER)
    message = str(caught.value)
    for part in ("relu(width=5)", "test-phone", "1 row", "nearest: relu(width=4)"):
        assert part in message
    assert "nas latency measure --device test-phone" in message


def test_row_of_another_precision_is_not_used(tmp_path: Path) -> None:
    table = load_table(written(tmp_path, measured([ROW])))
    with pytest.raises(MissingRowError, match="w8a8"):
        table.price_ms("relu(width=4)", OPS, "w8a8")


def test_analytic_model_does_not_guess_another_precision() -> None:
    with pytest.raises(MissingRowError, match="fp32"):
        load_table("iphone-17-pro-max").price_ms("relu(width=4)", OPS, "fp32")


def test_rows_of_two_precisions_stand_side_by_side(tmp_path: Path) -> None:
    times = {"once_ms": [0.3], "repeated_ms": [0.7], "median_ms": 0.2, "spread_percent": 0.0}
    row_w8a8 = {**ROW, **times, "precision": "w8a8"}
    table = load_table(written(tmp_path, measured([ROW, row_w8a8])))
    assert table.price_ms("relu", OPS) == 0.5
    assert table.price_ms("relu", OPS, "w8a8") == 0.2


REFUSED = {
    "negative sample": ({"once_ms": [-0.5]}, "rows[0].once_ms[0]"),
    "zero sample": ({"once_ms": [0.0]}, "rows[0].once_ms[0]"),
    "NaN sample": ({"once_ms": [float("nan")]}, "rows[0].once_ms[0]"),
    "no samples": ({"repeated_ms": []}, "rows[0].repeated_ms"),
    "samples as text": ({"once_ms": ["0.5"]}, "rows[0].once_ms[0]"),
    "unpaired samples": ({"once_ms": [0.5]}, "rows[0].repeated_ms: 3 samples, once_ms has 1"),
    "another spread": ({"spread_percent": 2.0}, "rows[0].spread_percent: is 2.0"),
    "one repeat": ({"repeats": 1}, "rows[0].repeats"),
    "another median": ({"median_ms": 0.7}, "rows[0].median_ms: is 0.7"),
    "microseconds": ({"samples_us": [500.0]}, "rows[0].samples_us: unknown key"),
    "unknown precision": ({"precision": "int4"}, "rows[0].precision"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_row_is_refused_with_file_and_key(tmp_path: Path, name: str) -> None:
    change, place = REFUSED[name]
    file = written(tmp_path, measured([{**ROW, **change}]))
    with pytest.raises(TableError) as caught:
        load_table(file)
    message = str(caught.value)
    assert str(file) in message
    assert place in message
    assert "\n" not in message


def test_row_without_samples_is_refused(tmp_path: Path) -> None:
    row = {key: value for key, value in ROW.items() if key != "once_ms"}
    with pytest.raises(TableError, match=r"rows\[0\]\.once_ms: is missing"):
        load_table(written(tmp_path, measured([row])))


def test_duplicate_row_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"rows\[1\] \(also relu\): the same operations as rows\[0\]"
    ):
        load_table(written(tmp_path, measured([ROW, {**ROW, "block": "also relu"}])))


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"schema_version: .*got 1"):
        load_table(written(tmp_path, {**measured([ROW]), "schema_version": 1}))


def test_misspelt_header_key_names_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"margin_procent.*did you mean 'margin_percent'"):
        load_table(written(tmp_path, {**measured([ROW]), "margin_procent": 1.0}))


def test_measured_table_may_not_hold_a_model(tmp_path: Path) -> None:
    model = yaml.safe_load((SHIPPED / "iphone-17-pro-max.yaml").read_text())["model"]
    with pytest.raises(TableError, match="a measured one has none"):
        load_table(written(tmp_path, {**measured([ROW]), "model": model}))


HEADER_REFUSED = {
    "no dispatch samples": ({"dispatch": {"median_ms": 0.2}}, "dispatch.samples_ms"),
    "another dispatch": (
        {"dispatch": {"median_ms": 0.3, "samples_ms": [0.2]}},
        "dispatch.median_ms: is 0.3",
    ),
    "another factor": (
        {"network_factor": 1.2, "network_ratios": [1.0, 1.1, 1.3]},
        "network_factor: is 1.2",
    ),
    "negative margin": ({"margin_percent": -1.0}, "margin_percent"),
}


@pytest.mark.parametrize("name", HEADER_REFUSED)
def test_header_that_its_samples_do_not_give_is_refused(tmp_path: Path, name: str) -> None:
    change, place = HEADER_REFUSED[name]
    with pytest.raises(TableError) as caught:
        load_table(written(tmp_path, {**measured([ROW]), **change}))
    assert place in str(caught.value)


def test_rows_are_scaled_by_what_whole_networks_took_more(tmp_path: Path) -> None:
    header = {"network_factor": 1.1, "network_ratios": [1.0, 1.1, 1.3]}
    table = load_table(written(tmp_path, {**measured([ROW]), **header}))
    assert table.price_ms("relu", OPS) == pytest.approx(0.55)


def test_measured_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="rows: a measured table has"):
        load_table(written(tmp_path, measured([])))


def test_misspelt_device_names_the_nearest() -> None:
    with pytest.raises(TableError, match="did you mean 'iphone-17-pro-max'"):
        load_table("iphone-17-promax")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"no latency table at .*gone\.yaml"):
        load_table(tmp_path / "gone.yaml")


def test_copy_of_a_shipped_table_loads_from_its_path(tmp_path: Path) -> None:
    file = Path(shutil.copy(SHIPPED / "iphone-17-pro-max.yaml", tmp_path))
    assert load_table(file) == load_table("iphone-17-pro-max")


def saved(folder: Path, rows: list[dict[str, Any]], **header: Any) -> Path:
    """As this package writes it: a row a line."""
    table = load_table(written(folder, {**measured(rows), **header}))
    save_table(table, folder / "saved.yaml")
    return folder / "saved.yaml"


def other_row(block: str = "round(width=4)") -> dict[str, Any]:
    return {**ROW, "block": block, "ops": [OTHER[0].text]}


def test_saved_table_has_one_line_a_row_and_is_yaml(tmp_path: Path) -> None:
    file = saved(tmp_path, [ROW, other_row()])
    lines = [line for line in file.read_text().splitlines() if line.startswith("- {")]
    assert len(lines) == 2
    assert yaml.safe_load(file.read_text())["rows"][1]["block"] == "round(width=4)"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"median_ms": 0.5', '"median_ms": 0.5, "median_ms": 0.5', r"rows\[1\].* stands twice"),
        ('"median_ms": 0.5', '"median_ms": NaN', r"rows\[1\]\.median_ms"),
        ('"median_ms": 0.5', '"median_ms": ', r"rows\[1\] is not JSON"),
        ("}", "", r"rows\[1\] is not JSON"),
        ('"ops": [', '"ops": ' + 100_000 * "[", r"rows\[1\] is not JSON"),
    ],
)
def test_damaged_row_line_is_refused_with_its_number(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = saved(tmp_path, [ROW, other_row()])
    first, second = file.read_text().rsplit("- {", 1)
    file.write_text(first + "- {" + second.replace(old, new, 1))
    with pytest.raises(TableError, match=message) as caught:
        load_table(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_merged_tables_hold_the_rows_of_both_and_the_later_of_what_both_have(
    tmp_path: Path,
) -> None:
    slower = {"once_ms": [1.0], "repeated_ms": [3.0], "median_ms": 1.0, "spread_percent": 0.0}
    old = load_table(written(tmp_path, {**measured([ROW, other_row()]), "date": yesterday()}))
    new = load_table(written(tmp_path, measured([{**ROW, **slower}])))
    for merged in (merge_tables(old, new), merge_tables(new, old)):
        assert merged.price_ms("relu", OPS) == 1.0
        assert merged.price_ms("round", OTHER) == 0.5
        assert merged.date == new.date
        assert merged.stale is None


def test_rows_of_an_older_system_are_kept_and_warned_of(tmp_path: Path) -> None:
    document = {**measured([ROW, other_row()]), "date": yesterday(), "os_build": "iOS 26.0"}
    old = load_table(written(tmp_path, document))
    new = load_table(written(tmp_path, {**measured([ROW]), "os_build": "iOS 26.1"}))
    merged = merge_tables(old, new)
    assert merged.stale is not None
    assert "1 of 2 rows were measured under iOS 26.0" in merged.stale
    save_table(merged, tmp_path / "merged.yaml")
    assert load_table(tmp_path / "merged.yaml").stale == merged.stale


@pytest.mark.parametrize("name", ["device", "chip", "compute_unit", "speed"])
def test_tables_of_different_things_do_not_merge(tmp_path: Path, name: str) -> None:
    one = load_table(written(tmp_path, measured([ROW])))
    other = one.model_copy(update={name: "another"})
    with pytest.raises(TableError, match=rf"cannot merge tables of {name} .* 'another'"):
        merge_tables(one, other)


def test_analytic_tables_do_not_merge() -> None:
    with pytest.raises(TableError, match="only measured tables"):
        merge_tables(load_table("iphone-17-pro-max"), load_table("iphone-17-pro-max"))


def yesterday() -> datetime.date:
    shipped = yaml.safe_load((SHIPPED / "iphone-17-pro-max.yaml").read_text())["date"]
    assert isinstance(shipped, datetime.date)
    return shipped - datetime.timedelta(days=1)
