"""`jumbe backup` and `jumbe restore`: a copy that is known to hold, and the way back that sends nothing twice."""

from __future__ import annotations

from pathlib import Path

import click

from storage.console import CLI, as_json, count_of, named_database, open_database, show_one, working
from storage.database import Database
from storage.programme import settings as settings_module

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--to", required=True, type=FILE, help="The file to write; one that stands there is replaced at the end.")
@as_json
def backup(to: Path, *, json_: bool) -> None:
    """Write a verified copy of the database to a file, while web and worker go on."""
    from storage.upkeep import backups

    db = open_database()
    with working(f"backing up to {to}", json_=json_):
        made = backups.make(db, to)
    if json_:
        told = {"file": str(made.file), "size": made.size, "revision": made.revision}
        show_one(told | {"lines": made.lines, "head": made.head}, json_=True)
        return
    end = f"the head of the audit log is {made.head}" if made.head else "the audit log is empty"
    click.echo(f"{made.file} holds the database, {made.size:,} bytes, verified; {end}. Note the head elsewhere")


@click.command()
@click.argument("file", required=False, type=FILE)
@click.option("--yes", is_flag=True, help="Also where something happened since the backup; the old file is kept.")
@click.option("--check", is_flag=True, help="Restore into a copy that goes again: FILE holds, and nothing is changed.")
@click.option("--fence", is_flag=True, help="No FILE: another tool restored the database, hold back what was open.")
@as_json
def restore(file: Path | None, *, yes: bool, check: bool, fence: bool, json_: bool) -> None:
    """Put a backup in the place of the database; what was open in it is not sent before the gateway was asked."""
    from bot.worker.worker import only_one
    from storage.upkeep import backups

    if (file is None) != fence:
        raise click.UsageError("say the FILE of a backup, or --fence after another tool restored the database")
    db = named_database(settings_module.read())
    if check and file is not None:
        _check(db, file, json_=json_)
        return
    with only_one(db.file), working(f"restoring {file or db.shown}", json_=json_):
        done = backups.put_fence_up(db, by=CLI) if file is None else backups.restore(db, file, yes=yes, by=CLI)
    if json_:
        kept = str(done.kept) if done.kept else None
        show_one({"database": db.shown, "backed_up_at": done.backed_up_at, "kept": kept, **done.held}, json_=True)
        return
    click.echo(f"{db.shown} is as it was on {done.backed_up_at:%Y-%m-%d %H:%M:%S} UTC")
    if done.kept:
        click.echo(f"what stood there is kept in {done.kept}")
    click.echo(
        f"held back: {count_of(done.held['messages'], 'message')}, of which the gateway is asked first;"
        f" halted: {count_of(done.held['halted'], 'broadcast')}; ended: {count_of(done.held['questions'], 'question')};"
        f" set aside: {count_of(done.held['texts'], 'text')}. Start web and worker, and see 'jumbe doctor'"
    )


def _check(db: Database, file: Path, *, json_: bool) -> None:
    from storage.upkeep import backups

    with working(f"trying {file}", json_=json_):
        found = backups.check(db, file, by=CLI)
    if json_:
        told = {"file": str(file), "backed_up_at": found.backed_up_at, "revision": found.revision}
        show_one(told | {"lines": found.lines, "head": found.head, **found.held}, json_=True)
        return
    click.echo(
        f"{file} can be restored: it is of {found.backed_up_at:%Y-%m-%d %H:%M:%S} UTC, {count_of(found.lines or 0, 'line')} of"
        f" the audit log hold, and {count_of(found.held['messages'], 'message')} would be held back. Nothing was changed"
    )
