"""`jumbe db`: make the database, bring its schema up or down; `jumbe audit`: who did what, and whether the log holds.

Only `db upgrade` and `demo` create a database.
"""

from __future__ import annotations

import sys

import click

from storage import audit as log
from storage.console import as_json, named_database, open_database, show, show_one, verified, working
from storage.database import Database
from storage.errors import Misconfigured
from storage.programme import settings
from storage.upkeep import migrate


@click.group()
def db() -> None:
    """Make the database, and bring its schema up or down."""


@db.command()
@click.argument("revision", default="head")
@click.option("--yes", is_flag=True, help="Do not ask for a backup first, where one should be made.")
def upgrade(revision: str, *, yes: bool) -> None:
    """Make the database if there is none, and bring its schema to this release."""
    database = named_database(settings.read())
    if (why := migrate.needs_backup(database)) is not None:
        if sys.stdin.isatty() and not yes:
            click.confirm(f"{why}: go on without a new one ('jumbe backup --to FILE')?", abort=True)
        else:
            click.echo(f"jumbe: {why}: 'jumbe backup --to FILE' makes one", err=True)
    click.echo(f"{database.shown} is at revision {migrate.upgrade(database, revision)}")


@db.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask; going below a revision drops its tables.")
def downgrade(revision: str, *, yes: bool) -> None:
    """Take the schema back to an older revision; 'base' drops everything."""
    database = _existing()
    if not yes:
        click.confirm(f"Take {database.shown} back to {revision}? Data of newer tables is lost", abort=True)
    click.echo(f"{database.shown} is at revision {migrate.downgrade(database, revision) or 'base'}")


@db.command()
def current() -> None:
    """Say which revision the database is at."""
    click.echo(_existing().revision() or "base")


def _existing() -> Database:
    database = named_database(settings.read())
    if database.file is not None and not database.file.exists():
        raise Misconfigured([f"there is no database at {database.file}: make one with 'jumbe db upgrade'"])
    return database


@click.group()
def audit() -> None:
    """Who did what: every line, and whether nobody touched one."""


@audit.command("verify")
@click.option("--head", "noted", help="A head that was noted before, whole or its first 12 digits.")
@as_json
@click.pass_context
def verify_audit(ctx: click.Context, noted: str | None, *, json_: bool) -> None:
    """Find an edited, deleted, swapped or inserted line, or with a noted head a cut end; exit 1 if there is one."""
    with working("verifying the audit log", json_=json_):
        found = log.verify(open_database().reading, noted)
    told = verified(found)
    if json_:
        shown = {"holds": found.breach is None, "lines": found.holds, "head": found.last.hash if found.last else None}
        broken = found.broken.id if found.broken else None
        show_one(
            shown | {"breach": found.breach, "broken": broken, "forgotten": found.forgotten, "says": told}, json_=True
        )
    else:
        click.echo(told if found.breach is None else f"jumbe: {told}", err=found.breach is not None)
    ctx.exit(0 if found.breach is None else 1)


@audit.command("list")
@click.option(
    "--limit", type=click.IntRange(1, 2**31 - 1), metavar="N", default=50, show_default=True, help="The newest so many."
)
@as_json
def list_audit(limit: int, *, json_: bool) -> None:
    """The newest lines: who did what, when, through which door, by what."""
    with open_database().reading() as tx:
        records = [
            {name: row._mapping[name] for name in _OF_A_LINE} | {"person": row.person or "system"}
            for row in log.list_last(tx, limit)
        ]
    show(records, json_=json_, columns=("id", "at", "person", "door", "source", "verb", "subject_id", "facts"))


_OF_A_LINE = ("id", "at", "person_id", "door", "source", "verb", "subject", "subject_id", "facts", "hash")
