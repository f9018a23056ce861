"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from search_spaces.blocks import Precision

if TYPE_CHECKING:
    from rich.console import RenderableType

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_STORAGE = "sqlite:///runs/nas.db"

storage_option = click.option(
    "--storage", default=DEFAULT_STORAGE, show_default=True, metavar="URL", help="SQLAlchemy URL."
)
_PRECISIONS = get_args(Precision)


def precision_option(default: str) -> Callable[[_Command], _Command]:
    """The option `--precision`; `default` is what holds without it, for people."""
    return click.option("--precision", type=click.Choice(_PRECISIONS), help=f"Default: {default}.")


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="A row an entry on stdout.")
milliseconds = click.FloatRange(min=0, min_open=True)


def parsed_limits(texts: Iterable[str]) -> dict[str, float]:
    """`name=value` of an option `--limit`.

    Raises:
        click.UsageError: not of that form, or no number above zero.
    """
    parsed = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            parsed[name] = float(milliseconds.convert(value, None, None))  # type: ignore[arg-type]
        except click.BadParameter as problem:
            raise click.UsageError(f"--limit: {text!r}: {problem.message}") from None
    return parsed


def show(
    document: Mapping[str, Any] | list[Any],
    table: RenderableType,
    as_json: bool,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Prints one document on stdout, as a table, as JSON, or its rows as CSV.

    Raises:
        click.UsageError: both JSON and CSV are asked for.
    """
    if rows is not None and as_json:
        raise click.UsageError("--json and --csv: one of them")
    if rows is not None:
        from nas.frames import of_entries

        click.echo(of_entries(rows).to_csv(index=False), nl=False)
        return
    if as_json:
        click.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    print_table(table)


def warn(message: str | None) -> None:
    """One line on stderr, if there is something to say."""
    if message:
        click.echo(f"nas: {message}", err=True)


def print_table(table: RenderableType) -> None:
    """Prints a table on stdout, at least 100 columns wide where there is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, 120))
    console.print(table)
