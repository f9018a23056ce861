"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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


def show(document: Mapping[str, Any] | list[Any], table: RenderableType, as_json: bool) -> None:
    """Prints one document on stdout, as JSON or as a table."""
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
