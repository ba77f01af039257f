"""`jumbe audit`: what is wrong with the memberships, and the log of who did what.

The log's own commands are the store's; the audit of the memberships needs the desk's libraries, and they are loaded only
when it is asked for.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from admin_notebooks.desk import Desk
from admin_notebooks.sheets import writer
from storage.console import as_json, open_database, show, working
from storage.errors import Misconfigured, Problem
from storage.upkeep.commands import audit as log

MISSING = "the audit needs the desk's libraries: pip install 'jumbe[desk]'"


@click.group(commands=log.commands, invoke_without_command=True, no_args_is_help=True)
@click.option("--group", "short", help="Of one group; else of every group.")
@click.option("--since", help="What was sent, and who came and went, since this day, such as 2026-11-03.")
@click.option("--to", "path", help="Write the whole report to this .html or .xlsx.")
@click.option("--all", "everything", is_flag=True, help="Of every group.")
@click.option("--numbers", is_flag=True, help="Show phone numbers whole in the report.")
@as_json
@click.pass_context
def audit(
    ctx: click.Context,
    short: str | None,
    since: str | None,
    path: str | None,
    *,
    everything: bool,
    numbers: bool,
    json_: bool,
) -> None:
    """Who is in the groups and should be looked at; with a word after it, who did what, and whether the log holds."""
    if ctx.invoked_subcommand is not None:
        return
    if not (short or everything or path):
        raise click.UsageError("say --group SHORT or --all")
    _audit(short, since, path, numbers=numbers, json_=json_)


def _audit(short: str | None, since: str | None, path: str | None, *, numbers: bool, json_: bool) -> None:
    try:
        from admin_notebooks import checks, reports
    except ImportError as error:
        raise Misconfigured([MISSING]) from error
    if path is not None:
        if Path(path).suffix.lower() not in reports.ENDINGS:
            raise Problem("report-ending", path=path)
        writer.check_writable(path)
    desk = Desk(open_database(), notebook="command line")
    if path is None:
        with working("auditing", json_=json_):
            found = checks.as_frame(checks.findings(desk, short, since=_day(since)))
        show(found.to_dict("records"), json_=json_, columns=("check", "count", "needs", "found"))
        return
    with working("auditing", json_=json_):
        report = reports.make(desk, short, since=_day(since), numbers=numbers)
        reports.save(report, path)
    told = checks.as_frame(report.findings).to_dict("records")
    if json_:
        show(told, json_=True)
    else:
        click.echo(f"wrote {path}: {reports.says(report)}")


def _day(since: str | None) -> str | None:
    """A day or a moment as typed; raises Problem `moment-shape`."""
    if since is None:
        return None
    try:
        datetime.fromisoformat(since)
    except ValueError:
        raise Problem("moment-shape", typed=since) from None
    return since
