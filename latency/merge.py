"""Two measured tables of one device become one."""

from __future__ import annotations

from latency.table import LatencyTable, Row, TableError

_SAME = ("device", "chip", "compute_unit", "speed", "provenance")


def merge_tables(first: LatencyTable, second: LatencyTable) -> LatencyTable:
    """The rows of both; where both have one, and for the header, the later table's.

    Rows that were measured under another build of the system than the header's keep it, so that
    the table can warn of them.

    Args:
        first: measured.
        second: measured; counts as the later one when both are of one day.

    Raises:
        TableError: they are not of one device, or not measured.
    """
    for name in _SAME:
        a, b = getattr(first, name), getattr(second, name)
        if a != b:
            raise TableError(f"{first.device}: cannot merge tables of {name} {a!r} and {b!r}")
    if first.provenance != "measured":
        raise TableError(f"{first.device}: only measured tables can be merged")
    older, newer = (second, first) if first.date > second.date else (first, second)
    rows = {_key(row): _of_build(row, older.os_build, newer.os_build) for row in older.rows}
    rows |= {_key(row): row for row in newer.rows}
    return newer.model_copy(update={"rows": list(rows.values())})


def _key(row: Row) -> tuple[str, ...]:
    return (row.precision, *row.ops)


def _of_build(row: Row, own: str, header: str) -> Row:
    build = row.os_build or own
    return row.model_copy(update={"os_build": None if build == header else build})
