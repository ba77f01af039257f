"""`jumbe settings` and `jumbe doctor`: what is set, and whether all is well."""

from __future__ import annotations

import shutil
import textwrap

import click

from storage import settings as told_settings
from storage.console import as_json, printable, show
from storage.database import Database


@click.command()
@as_json
def settings(*, json_: bool) -> None:
    """Every setting: its value now, its default, what it means."""
    show(told_settings.table(told_settings.read()), json_=json_, columns=("name", "value", "meaning"))


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, *, json_: bool) -> None:
    """Look at everything that can be wrong, and say how to mend it; exit 1 if anything is."""
    from bot import health
    from bot.intake import spool_of

    told = told_settings.read()
    db = Database(told.database_url, told.rules())
    found = [*health.examine(db), health.spooled(spool_of(db, told.spool))]
    gateway = ", ".join(told.gateway_names)
    shown = gateway or "no gateway is set, so web and worker will not start"
    found.append(("gateway", bool(gateway), shown))
    if json_:
        show([{"about": n, "well": w, "says": s} for n, w, s in found], json_=True)
    else:
        for name, well, says in found:
            _tell(name, says, well=well)
    ctx.exit(0 if all(well for _, well, _ in found) else 1)


_ABOUT = 10
"""Characters before the sentence: the name, and whether it is well."""


def _tell(name: str, says: str, *, well: bool) -> None:
    """One thing and its whole sentence, wrapped: its end is what to do."""
    begin = f"{name:<{_ABOUT}}{'yes' if well else 'no':<5}"
    width = max(60, shutil.get_terminal_size().columns - 1)
    told = textwrap.fill(
        printable(says), width, initial_indent=begin, subsequent_indent=" " * len(begin),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    click.echo(told)
