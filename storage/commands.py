"""`jumbe db`: make the database, bring its schema up or down.  Only `db upgrade` and `demo` create a database."""

from __future__ import annotations

import click

from storage import migrate, settings
from storage.database import Database
from storage.errors import Misconfigured


def _database() -> Database:
    told = settings.read()
    return Database(told.database_url, told.rules())


@click.group()
def db() -> None:
    """Make the database, and bring its schema up or down."""


@db.command()
@click.argument("revision", default="head")
def upgrade(revision: str) -> None:
    """Make the database if there is none, and bring its schema to this release."""
    database = _database()
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
    database = _database()
    if database.file is not None and not database.file.exists():
        raise Misconfigured([f"there is no database at {database.file}: make one with 'jumbe db upgrade'"])
    return database
