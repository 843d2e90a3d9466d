"""Options and output shared by the commands."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from three_regime.system.places import expanded


class UserPath(click.Path):
    """A path that expands `~` even where the shell does not, as in ``--out=~/x``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return super().convert(expanded(value), param, ctx)


FILE = UserPath(path_type=Path, dir_okay=False)
FOLDER = UserPath(path_type=Path, file_okay=False)
PATH = UserPath(path_type=Path)


BASE = click.option(
    "--base",
    type=FILE,
    show_default="config.yaml beside the Snakefile, of this folder or else of the checkout",
    help="The base configuration.",
)


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--configfile`` and ``--base``; the command receives `configfiles`, the base first, then the overlays.

    Without ``--base`` they are those that the `workflow` command reads here.
    """

    @click.option(
        "--configfile", "overlays", multiple=True, type=FILE, help="Overlay on the base; repeatable, later ones win."
    )
    @BASE
    @functools.wraps(command)
    def with_files(overlays: tuple[Path, ...], base: Path | None, **options: object) -> None:
        from three_regime.workflow.arguments import base_file, refuse_unread

        if base is None:
            base = base_file()
            refuse_unread(base, overlays)
        command(configfiles=[base, *overlays], **options)

    return with_files


def plugin_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The repeatable option ``--plugin``, with this help; the command receives `named`."""
    return click.option("--plugin", "named", multiple=True, help=f"{text}; repeatable.")


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def echo_json(value: Any) -> None:
    """Print value objects as JSON: paths and enumerations as strings, non-finite numbers as null."""
    from pydantic import TypeAdapter

    click.echo(TypeAdapter(Any).dump_json(value, indent=1, fallback=str))
