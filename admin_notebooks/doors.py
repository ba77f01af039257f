"""`jumbe desk`: serve the notebooks, and say who may sign in to them."""

from __future__ import annotations

from types import ModuleType

import click

from storage import people
from storage.console import CLI, open_database
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
def password(phone: str, *, made_up: bool) -> None:
    """Let a person sign in at the desk; asks for the password twice."""
    db = open_database()
    passwords = _installed().passwords
    with db.reading() as tx:
        person = people.person(tx, phone)
    typed = passwords.made_up() if made_up else click.prompt("Password", hide_input=True, confirmation_prompt=True)
    hashed = passwords.hashed(typed, person)
    with db.transaction() as tx:
        people.set_password(tx, people.person(tx, phone), hashed, by=CLI)
    click.echo(f"{person.name} may sign in" + (f" with  {typed}  (it is not kept: note it now)" if made_up else ""))


def _installed() -> ModuleType:
    """The server's module; raises Misconfigured where what it is made of is not installed."""
    try:
        from admin_notebooks import serve
    except ImportError as fault:
        raise Misconfigured(
            [f"the desk needs {fault.name}, which is not installed: pip install 'jumbe[desk]'"]
        ) from None
    return serve
