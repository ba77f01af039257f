"""`jumbe desk`: serve the notebooks, and say who may sign in to them."""

from __future__ import annotations

import sys
from types import ModuleType

import click

from storage.console import CLI, open_database
from storage.contacts import passwords as store
from storage.contacts import people
from storage.errors import Misconfigured

PORT = 8866


@click.group(invoke_without_command=True)
@click.option("--lab", is_flag=True, help="As notebooks with their code, for leads, instead of pages.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True)
@click.pass_context
def desk(ctx: click.Context, *, lab: bool, port: int) -> None:
    """Serve the notebooks: pages for everybody with a password, on this machine alone."""
    if ctx.invoked_subcommand is not None:
        return
    db = open_database()
    serve = _installed()
    serve.someone_signs_in(db, leads_only=lab)
    click.echo(f"the {'lab' if lab else 'desk'} is at  http://127.0.0.1:{port}/  (stop with Ctrl-C)")
    (serve.serve_lab if lab else serve.serve)(db, port)


@desk.command()
@click.argument("phone")
@click.option("--made-up", is_flag=True, help="Make one up and print it, once.")
@click.option("--forget", is_flag=True, help="Take it away: this person cannot sign in any more.")
def password(phone: str, *, made_up: bool, forget: bool) -> None:
    """Let a person sign in at the desk: the password is asked for twice, or read from a pipe."""
    db = open_database()
    passwords = _installed().passwords
    with db.reading() as tx:
        person = people.person(tx, phone)
    if forget:
        with db.transaction() as tx:
            had = store.forget(tx, person, by=CLI)
        click.echo(f"{person.name} cannot sign in any more" if had else f"{person.name} had no password")
        return
    typed = passwords.made_up() if made_up else _typed()
    hashed = passwords.hashed(typed, person)
    with db.transaction() as tx:
        store.keep(tx, person, hashed, by=CLI)
    told = f" with  {typed}  (it is kept nowhere: note it now)" if made_up else ""
    click.echo(f"{person.name} signs in as {person.name} or by the number {person.phone}{told}")


def _typed() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def _installed() -> ModuleType:
    """The server's module; raises Misconfigured where what it is made of is not installed."""
    try:
        from admin_notebooks.pages import server
    except ImportError as fault:
        raise Misconfigured(
            [f"the desk needs {fault.name}, which is not installed: pip install 'jumbe[desk]'"]
        ) from None
    return server
