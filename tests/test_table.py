"""Latency tables: what is accepted, what is refused, and what a missing row says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from latency.ops import Op
from latency.table import (
    SHIPPED,
    MissingRowError,
    TableError,
    load_table,
    save_table,
    shipped_tables,
)

OPS = (Op("relu", ((1, 4, 8, 8),), (), ((1, 4, 8, 8),), (), "fp16"),)
OTHER = (Op("round", ((1, 4, 8, 8),), (), ((1, 4, 8, 8),), (), "fp16"),)
ROW = {
    "block": "relu(width=4)",
    "ops": [OPS[0].text],
    "precision": "fp16",
    "samples_ms": [0.5, 0.4, 0.9],
    "median_ms": 0.5,
}


def measured(rows: list[dict[str, Any]]) -> dict[str, Any]:
    document = yaml.safe_load((SHIPPED / "iphone-17-pro-max.yaml").read_text())
    del document["model"]
    return {**document, "device": "test-phone", "provenance": "measured", "rows": rows}


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
    with pytest.raises(MissingRowError, match="w8a8"):
        load_table("iphone-17-pro-max").price_ms("relu(width=4)", OPS, "w8a8")


def test_rows_of_two_precisions_stand_side_by_side(tmp_path: Path) -> None:
    row_w8a8 = {**ROW, "precision": "w8a8", "samples_ms": [0.2], "median_ms": 0.2}
    table = load_table(written(tmp_path, measured([ROW, row_w8a8])))
    assert table.price_ms("relu", OPS) == 0.5
    assert table.price_ms("relu", OPS, "w8a8") == 0.2


REFUSED = {
    "negative sample": ({"samples_ms": [-0.5]}, "rows[0].samples_ms[0]"),
    "zero sample": ({"samples_ms": [0.0]}, "rows[0].samples_ms[0]"),
    "NaN sample": ({"samples_ms": [float("nan")]}, "rows[0].samples_ms[0]"),
    "no samples": ({"samples_ms": []}, "rows[0].samples_ms"),
    "samples as text": ({"samples_ms": ["0.5"]}, "rows[0].samples_ms[0]"),
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
    row = {key: value for key, value in ROW.items() if key != "samples_ms"}
    with pytest.raises(TableError, match=r"rows\[0\]\.samples_ms: is missing"):
        load_table(written(tmp_path, measured([row])))


def test_duplicate_row_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"rows\[1\] \(also relu\): the same operations as rows\[0\]"
    ):
        load_table(written(tmp_path, measured([ROW, {**ROW, "block": "also relu"}])))


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"schema_version: .*got 2"):
        load_table(written(tmp_path, {**measured([ROW]), "schema_version": 2}))


def test_misspelt_header_key_names_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"dispatch_msec.*did you mean 'dispatch_ms'"):
        load_table(written(tmp_path, {**measured([ROW]), "dispatch_msec": 1.0}))


def test_measured_table_may_not_hold_a_model(tmp_path: Path) -> None:
    model = {"ms_per_megabyte": 0.1, "ms_per_gmac": 0.1}
    with pytest.raises(TableError, match="a measured one has none"):
        load_table(written(tmp_path, {**measured([ROW]), "model": model}))


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
