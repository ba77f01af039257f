"""`jumbe settings` and `jumbe doctor`: what is set, and whether all is well."""

from __future__ import annotations

import click

from storage import settings as told_settings
from storage.console import as_json, show
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
    show([{"about": n, "well": w, "says": s} for n, w, s in found], json_=json_)
    ctx.exit(0 if all(well for _, well, _ in found) else 1)
