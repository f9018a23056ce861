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
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="Evaluations at a time; default one a core."
)
ray_address_option = click.option("--ray-address", metavar="ADDRESS", help="Join this Ray cluster.")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="A row an entry on stdout.")
milliseconds = click.FloatRange(min=0, min_open=True)


def limit_options(
    encode_default: str, decode_default: str, others: str, metavar: str
) -> Callable[[_Command], _Command]:
    """The options `--encode-ms`, `--decode-ms` and `--limit`, which is for `parsed_limits`.

    Args:
        encode_default: what holds without the first, for people.
        decode_default: what holds without the second.
        others: help of the third.
        metavar: of the third.
    """

    def decorated(command: _Command) -> _Command:
        for option in (
            click.option("--limit", "limits", multiple=True, metavar=metavar, help=others),
            click.option(
                "--decode-ms",
                type=milliseconds,
                help=f"Limit of decoding; default {decode_default}.",
            ),
            click.option(
                "--encode-ms",
                type=milliseconds,
                help=f"Limit of encoding; default {encode_default}.",
            ),
        ):
            command = option(command)
        return command

    return decorated


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
