"""`jumbe people`, `broadcasts`, `messages` and `gateways`: what the bot works with, on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import click
from sqlalchemy import Row

from storage.broadcasts import approvals, content, previews, progress
from storage.broadcasts import broadcasts as b
from storage.console import CLI, as_json, open_database, people_of, printable, show, show_one
from storage.contacts import groups as g
from storage.contacts import people as p
from storage.database import Transaction
from storage.errors import Problem
from storage.messages import lookups, states
from storage.operations import confirmations
from storage.operations import operations as o
from storage.programme import rate_limits
from storage.rules import numbers
from storage.rules.sensitive_words import found_in
from storage.sheets import exports

NUMBER = click.IntRange(0, 2**31 - 1)
"""What a row's number may be: PostgreSQL's integer."""

OPERATION = click.IntRange(0, 2**63 - 1)
"""What the number of an operation may be, and so of a broadcast."""


@click.group()
def people() -> None:
    """Supervisors and other staff: who may do what."""


def _shorts(typed: str | None) -> list[str] | None:
    return None if typed is None else [word.strip() for word in typed.split(",") if word.strip()]


@people.command("add")
@click.option("--name", required=True)
@click.option("--phone", required=True)
@click.option("--role", required=True, help="lead, supervisor, helper or viewer")
@click.option("--groups", "shorts", help="Short names, with commas between.")
@click.option("--language")
@as_json
def add_person(name: str, phone: str, role: str, shorts: str | None, language: str | None, *, json_: bool) -> None:
    """Register a person who may text commands."""
    with open_database().transaction() as tx:
        row = p.add(tx, name, phone, role, shorts=_shorts(shorts) or (), language=language, by=CLI)
        show_one(_person(tx, row), json_=json_)


@people.command("list")
@as_json
def list_people(*, json_: bool) -> None:
    """Everybody who may text commands."""
    with open_database().reading() as tx:
        show([_person(tx, row) for row in p.list_all(tx)], json_=json_)


@people.command("change")
@click.argument("phone")
@click.option("--role")
@click.option("--groups", "shorts", help="All their groups, with commas between.")
@click.option("--language")
@as_json
def change_person(phone: str, role: str | None, shorts: str | None, language: str | None, *, json_: bool) -> None:
    """Change a person's role, groups or language."""
    with open_database().transaction() as tx:
        p.change(tx, p.person(tx, phone), role=role, shorts=_shorts(shorts), language=language, by=CLI)
        show_one(_person(tx, p.person(tx, phone)), json_=json_)


@people.command("remove")
@click.argument("phone")
def remove_person(phone: str) -> None:
    """End a person's access."""
    with open_database().transaction() as tx:
        row = p.person(tx, phone)
        p.remove(tx, row, by=CLI)
    click.echo(f"{printable(row.name)} may not text commands any more")


def _person(tx: Transaction, row: Row[Any]) -> dict[str, Any]:
    own = "all" if row.role == "lead" else [group.short for group in p.groups_of(tx, row)]
    return {"name": row.name, "phone": row.phone, "role": row.role, "groups": own, "language": row.language_code}


@click.group()
def broadcasts() -> None:
    """Texts to groups and single cases."""


@broadcasts.command("list")
@as_json
def list_broadcasts(*, json_: bool) -> None:
    """Every broadcast, newest first."""
    with open_database().reading() as tx:
        show([_broadcast(tx, row.id) for row in progress.list_all(tx)], json_=json_)


@broadcasts.command("show")
@click.argument("number", type=OPERATION)
@as_json
def show_broadcast(number: int, *, json_: bool) -> None:
    """One broadcast and how far it is."""
    with open_database().reading() as tx:
        show_one(_broadcast(tx, number), json_=json_)


@broadcasts.command("halt")
@click.argument("number", type=OPERATION)
@as_json
def halt_broadcast(number: int, *, json_: bool) -> None:
    """Stop what has not left yet."""
    with open_database().transaction() as tx:
        b.halt(tx, number, by=CLI)
        show_one(_broadcast(tx, number), json_=json_)


@broadcasts.command("pause")
@click.argument("number", type=OPERATION)
@as_json
def pause_broadcast(number: int, *, json_: bool) -> None:
    """Let nothing more leave until it is resumed."""
    with open_database().transaction() as tx:
        b.pause(tx, number, by=CLI)
        show_one(_broadcast(tx, number), json_=json_)


@broadcasts.command("resume")
@click.argument("number", type=OPERATION)
@as_json
def resume_broadcast(number: int, *, json_: bool) -> None:
    """Let a paused one go on."""
    with open_database().transaction() as tx:
        b.resume(tx, number, by=CLI)
        show_one(_broadcast(tx, number), json_=json_)


@broadcasts.command("launch")
@click.option("--group", "shorts", multiple=True, required=True, help="Short name; may be said again.")
@click.option("--text", required=True)
@click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
@as_json
def launch_broadcast(shorts: Sequence[str], text: str, *, yes: bool, json_: bool) -> None:
    """Preview a text to groups, ask, and let it go after the hold."""
    db = open_database()
    with db.transaction() as tx:
        ids = [g.group(tx, short).id for short in shorts]
        number = previews.draft(tx, {tx.rules.language: text}, group_ids=ids, words=f"launch {text}", by=CLI)
        preview = previews.preview(tx, number)
    skipped = ", ".join(f"{n} {reason}" for reason, n in preview.skipped.items()) or "nobody"
    if not json_:
        click.echo(f"{number}: {people_of(preview.recipients)}, {preview.parts} SMS each; skipped: {skipped}")
        click.echo(f'"{printable(preview.samples[0])}"')
    if found := found_in([text], db.rules.health_words):
        click.echo(f"Look twice: it says {', '.join(found)}, which others may read or a network act on.", err=True)
    if not preview.recipients or not (yes or click.confirm("Send?")):
        with db.transaction() as tx:
            b.drop(tx, number)
            o.decide(tx, number, "dropped", by=CLI)
        if not preview.recipients:
            raise Problem("broadcast-nobody", number=number)
        raise Problem("broadcast-not-confirmed", number=number)
    with db.transaction() as tx:
        _confirm(tx, number)
        show_one(_broadcast(tx, number), json_=json_)


def _confirm(tx: Transaction, number: int) -> None:
    """Launch, or ask a lead for the second ok where the broadcast is large: the command line is one person as well."""
    confirmations.add(tx, number, by=CLI)
    if not approvals.needs_second(tx, content.broadcast(tx, number)):
        approvals.go(tx, number, by=CLI)
        return
    from bot.commands.broadcasts import ask_leads

    approvals.wait_for_second(tx, number, by=CLI)
    if not ask_leads(tx, number, by=CLI):
        raise Problem("broadcast-no-second", number=number, limit=tx.rules.second_person_above)


def _broadcast(tx: Transaction, number: int) -> dict[str, Any]:
    so_far = progress.progress(tx, number)
    operation = o.operation(tx, number)
    assert operation is not None
    return {
        "id": number,
        "group": ", ".join(group.short for group in progress.groups_of(tx, number)) or None,
        "state": _state(operation, so_far.row),
        "text": content.text_of(tx, number),
        "recipients": so_far.row.recipients,
        "counts": dict(so_far.states),
        "asked_by": p.named(tx, operation.person_id),
        "created_at": operation.asked_at,
        **({"send_at": so_far.row.send_at} if so_far.row.send_at else {}),
    }


def _state(operation: Row[Any], row: Row[Any]) -> str:
    return str(operation.state if operation.state == "seconding" else row.state)


@click.group()
def messages() -> None:
    """Every text in and out."""


_COLUMNS = (
    "id",
    "direction",
    "phone",
    "body",
    "state",
    "gateway",
    "gateway_id",
    "broadcast_id",
    "reason",
    "created_at",
)


@messages.command("list")
@click.option("--state")
@click.option("--to", "phone", help="The person's number, for both directions.")
@click.option("--direction", type=click.Choice(["in", "out"]), metavar="in|out")
@click.option("--limit", type=click.IntRange(1, NUMBER.max), metavar="N", help="The newest so many.")
@as_json
def list_messages(
    state: str | None, phone: str | None, direction: str | None, limit: int | None, *, json_: bool
) -> None:
    """Texts in and out, newest first."""
    if state is not None and state not in (*states.MOVES, "received", "handled", "set_aside"):
        raise Problem(
            "state-unknown", state=state, states=", ".join([*states.MOVES, "received", "handled", "set_aside"])
        )
    with open_database().reading() as tx:
        number = _number(phone, tx.rules.country) if phone else None
        rows = lookups.list_all(tx, state=state, phone=number, direction=direction, at_most=limit)
        hidden = exports.hide_codes(tx)
        records = [
            {name: row._mapping[name] for name in (*_COLUMNS, "channel")} | {"address": row.address or row.phone}
            for row in rows
        ]
        for record, row in zip(records, rows, strict=True):
            if exports.may_hold_a_code(row):
                record["body"] = hidden(row.body)
    show(records, json_=json_, columns=_COLUMNS)


def _number(typed: str, country: str | None) -> str:
    """The number as it is stored; of one that is none (a short code) the digits, of a sender with a name the name."""
    read = numbers.find(typed, country=country)
    return read.digits if read else "".join(c for c in typed if c.isdigit()) or typed.strip()


@messages.command("explain")
@click.argument("number", type=NUMBER)
@as_json
def explain_message(number: int, *, json_: bool) -> None:
    """The life of a message, in words."""
    from bot.explaining import life

    with open_database().reading() as tx:
        steps, zone = life(tx, number), tx.rules.time_zone
    if json_:
        show(steps, json_=True)
        return
    click.echo(f"Times are those of {zone}.")
    for step in steps:  # whole sentences: a table would cut them
        click.echo(f"{step['at'].astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}  {printable(step['what'])}")


@click.group()
def gateways() -> None:
    """The ways by which texts leave, and what stops one."""


@gateways.command("list")
@as_json
def list_gateways(*, json_: bool) -> None:
    """Every gateway, and each of its numbers where it has several: how fast it goes, whether it is paused and why."""
    from bot.health import until

    with open_database().reading() as tx:
        rows: dict[tuple[str, str | None], Any] = {(row.name, None): row for row in rate_limits.list_gateways(tx)}
        rows |= {(row.gateway, row.number): row for row in rate_limits.list_senders(tx)}
        ours = {(name, number) for name, senders in tx.rules.senders.items() for number in senders.numbers}
        names = {*rows, *((name, None) for name in tx.rules.gateways), *ours}
        now = tx.now
    shown = []
    for name, number in sorted(names, key=lambda one: (one[0], one[1] or "")):
        row = rows.get((name, number))
        is_paused = row is not None and row.paused_until is not None and row.paused_until > now
        shown.append(
            {
                "name": name,
                "number": number,
                "speed": f"{rate_limits.speed(row, now):.0%}" if row is not None else "100%",
                "paused_until": until(row.paused_until) if row is not None and is_paused else None,
                "because": row.paused_because if row is not None and is_paused else None,
                "read_up_to": row.swept_until if row is not None and number is None else None,
            }
        )
    show(shown, json_=json_, columns=("name", "number", "speed", "paused_until", "because", "read_up_to"))


@gateways.command("resume")
@click.argument("name")
def resume_gateway(name: str) -> None:
    """Let a paused gateway, and its numbers, try again now."""
    with open_database().transaction() as tx:
        paused = {row.name for row in rate_limits.paused(tx)} | {row.gateway for row in rate_limits.paused_senders(tx)}
        if name not in paused:
            raise Problem("gateway-not-paused", name=name, paused=", ".join(sorted(paused)) or "none")
        rate_limits.resume(tx, name, by=CLI)
    click.echo(f"{name} tries again")
