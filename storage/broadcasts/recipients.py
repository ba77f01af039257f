"""Whom a broadcast is for: who is in its groups and among its single cases, who of them gets it and when, and why not.

Of a group a broadcast takes the memberships that stood at its preview, so a later member is never added, and one who was
taken out since is skipped (`messages/audience.py`).  One that has its hour is a rule, and takes those who are in when that
hour comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    update,
)

from storage.broadcasts.content import Content, body_of, broadcast, by_language, content_of
from storage.contacts import consent
from storage.database import Transaction
from storage.messages import audience
from storage.programme import routing
from storage.rules import quiet_hours
from storage.rules.channels import Channel
from storage.rules.hours_and_limits import Rules
from storage.schema import (
    Moment,
    Number,
    broadcast_audience,
    broadcasts,
    cases,
    consent_events,
    memberships,
    messages,
)

_whom_of_it = audience.of(bindparam("number", type_=Number))

_whom_in_range = audience.of(
    bindparam("number", type_=Number), after=bindparam("after", type_=Integer), upto=bindparam("upto", type_=Integer)
)

_ALL_ZONES, ZONES = (
    select(cases.c.time_zone).distinct().join(whom, whom.c.case_id == cases.c.id)
    for whom in (_whom_of_it, _whom_in_range)
)


def first_leaves(tx: Transaction, number: int, *, hold_s: int) -> datetime:
    """When a broadcast begins if it is confirmed now: after the hold, or when the first of its zones reads its time."""
    held_until = tx.now + timedelta(seconds=hold_s)
    send_at = broadcast(tx, number).send_at
    if send_at is None:
        return held_until
    zones = zones_of(tx, number) or {tx.rules.time_zone}
    return max(held_until, min(quiet_hours.instant(datetime.fromisoformat(send_at), zone) for zone in zones))


_twin, _written = cases.alias("twin"), messages.alias("written")


def select_recipients(
    rules: Rules, content: Content, *, after: audience.Bound = None, upto: audience.Bound = None
) -> Select[Any]:
    """Each case of the audience with its words, its gateway and the reason to skip it, or NULL.

    This is the one definition, which the preview counts and the expansion writes.
    """
    number, frozen_at, channel = content.number, content.frozen_at, content.channel
    key, address = cases.c[channel.key_of_case], cases.c[channel.of_case]
    whom = audience.of(number, after=after, upto=upto)
    texted_already = exists().where(
        _written.c.broadcast_id == number,
        _written.c.channel == channel.name,
        _written.c[channel.key_column] == key,
        _written.c.state != "withheld",
    )
    same_phone = exists().where(
        _twin.c[channel.key_of_case] == key,
        _twin.c.status == "open",
        ~_has_no_gateway(rules, _twin, channel),
        audience.is_in(_twin.c.id, number),
        or_(and_(_twin.c.two_way, ~cases.c.two_way), and_(_twin.c.two_way == cases.c.two_way, _twin.c.id < cases.c.id)),
    )
    language = by_language({name: literal(name, Text()) for name, _ in content.texts}, content.language)
    body = by_language({name: body_of(words) for name, words in content.texts}, content.language)
    said_start = exists().where(
        consent.about(channel, key), consent_events.c.kind == "start", consent_events.c.at > frozen_at
    )
    said = consent.said_last(key, channel)
    is_held = said.in_(consent.HOLDING) if channel.needs_consent else false()
    reason = case(
        (whom.c.stays == 0, "left"),
        (cases.c.status == "closed", "closed"),
        (address.is_(None), channel.no_address),
        (is_held, case((said == "doubt", "doubt"), else_="stopped")),
        (_has_no_gateway(rules, cases, channel), "gateway-unknown"),
        (or_(cases.c.modified_at > frozen_at, said_start), "changed"),
        (func.trim(body) == "", "text-blank"),
        (func.length(body) > channel.limit, "text-too-long"),
        (or_(same_phone, texted_already), "same-phone"),
        else_=null(),
    )
    return (
        select(
            cases.c.id.label("case_id"),
            *_address_of(channel),
            cases.c.time_zone,
            language.label("language"),
            body.label("body"),
            routing.by_case(rules, cases, channel).label("gateway"),
            reason.label("reason"),
        )
        .join(whom, whom.c.case_id == cases.c.id)
        .order_by(cases.c.id)
    )


def _address_of(channel: Channel) -> Sequence[ColumnElement[Any]]:
    """The columns of a message that say whom it is to, of each case."""
    nothing = {name: null() for name in ("phone", "phone_key", "address")}
    own = {channel.key_column: cases.c[channel.key_of_case]}
    if channel.by_phone:
        own["phone"] = cases.c[channel.of_case]
    return [column.label(name) for name, column in (nothing | own).items()]


def _has_no_gateway(rules: Rules, whose: FromClause, channel: Channel) -> ColumnElement[bool]:
    """Whether a case is set to a gateway that this programme does not have."""
    if not rules.gateways:
        return literal(False, Boolean())
    return routing.by_case(rules, whose, channel).not_in(sorted(rules.gateways))


def verdicts(tx: Transaction, number: int) -> Sequence[Row[Any]]:
    """How many recipients there are for each reason not to text them; None are those who get it."""
    each = select_recipients(tx.rules, content_of(tx, number)).order_by(None).subquery()
    return tx.execute(select(each.c.reason, func.count().label("n")).group_by(each.c.reason)).all()


def due(
    rules: Rules,
    channel: Channel,
    hold_until: datetime,
    send_at: str | None,
    zone: ColumnElement[Any],
    zones: Iterable[str],
) -> tuple[ColumnElement[datetime], ...]:
    """When each recipient's message may leave and when it dies, by the recipient's own zone.

    After the hold, or at the broadcast's time as that zone's clock shows it, in the hours of the day.  A case without a
    zone goes by the programme's clock, and the gate reads the zones of its number.
    """
    at = None if send_at is None else datetime.fromisoformat(send_at)

    def leaves(name: str) -> datetime:
        return hold_until if at is None else max(hold_until, quiet_hours.instant(at, name))

    base = leaves(rules.time_zone)
    hours = rules.hours if channel.keeps_quiet_hours else None
    waves = {name: leaves(name) for name in zones}
    due = [(zone == name, quiet_hours.next_allowed(from_, (name,), hours)) for name, from_ in waves.items()]
    life = timedelta(hours=rules.expiry_h)
    dies = [(zone == name, from_ + life) for name, from_ in waves.items()]
    return _moment(due, base), _moment(dies, base + life)


def _moment(waves: Sequence[tuple[ColumnElement[bool], datetime]], base: datetime) -> ColumnElement[datetime]:
    otherwise = literal(base, Moment())
    return case(*((zone, literal(at, Moment())) for zone, at in waves), else_=otherwise) if waves else otherwise


def zones_of(tx: Transaction, number: int) -> set[str]:
    """The zones by which recipients go: their own, or the programme's."""
    return valid_zones(tx, tx.execute(_ALL_ZONES, {"number": number}).scalars())


def valid_zones(tx: Transaction, named: Iterable[str | None]) -> set[str]:
    """The zones that these names mean; a name that is none means the programme's own."""
    return {name if name and quiet_hours.valid_zone(name) else tx.rules.time_zone for name in named}


def recount(tx: Transaction, number: int) -> None:
    """Write down how many it is for, and how many of them can be texted."""
    counted = {row.reason: row.n for row in verdicts(tx, number)}
    counts = {"recipients": sum(counted.values()), "sendable": counted.get(None, 0)}
    tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(**counts))


def freeze(tx: Transaction, number: int) -> None:
    """Let the recipients be those of this moment."""
    newest = tx.scalar(select(func.coalesce(func.max(memberships.c.id), 0)))
    of_it = broadcast_audience.c.broadcast_id == number
    tx.execute(update(broadcast_audience).where(of_it).values(frozen_at=tx.now))
    of_groups = and_(of_it, broadcast_audience.c.group_id.is_not(None))
    tx.execute(update(broadcast_audience).where(of_groups).values(frozen_through=newest))
    recount(tx, number)
