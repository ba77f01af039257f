"""The last look before a message leaves: consent, halts, hours, expiry, limits, and the token of its gateway."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)

from storage.bulk import execute_many
from storage.contacts import consent
from storage.database import Transaction
from storage.messages import audience, leases, openings
from storage.messages.states import kind_of, move
from storage.operations import codes
from storage.programme import rate_limits
from storage.rules import quiet_hours
from storage.rules.channels import CHANNELS, Channel
from storage.schema import Moment, attempts, broadcasts, cases, messages, programme
from storage.schema import codes as codes_table

log = logging.getLogger(__name__)

LOOK_AGAIN = timedelta(minutes=5)
"""Until a text is looked at again that waits for the answer of its phone."""

A_MOMENT = timedelta(milliseconds=200)
"""Until a text is looked at again whose broadcast is still held."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """One message that is now `sending`: the call to the gateway must follow, once."""

    id: int
    attempt_id: str
    address: str
    body: str
    validity_s: int | None
    attempts: int
    segments: int
    own_number: str | None = None
    """Ours by which it leaves, where its gateway has several."""
    stays: bool = False
    """Whether no other gateway may take it over."""


_whose = cases.alias("whose")

STAYS = or_(
    exists().where(
        attempts.c.message_id == messages.c.id, or_(attempts.c.state == "unknown", attempts.c.reason == "absent")
    ),
    exists().where(_whose.c.id == messages.c.case_id, _whose.c.contact_backend_id == messages.c.gateway),
)
"""Never goes by another gateway: what was in doubt once, for late evidence of it comes from its own gateway only, and what
its case is set to."""

_SEND = (
    update(messages)
    .where(
        messages.c.id == bindparam("row"), messages.c.state == "claimed", messages.c.lease_owner == bindparam("owner")
    )
    .values(
        state="sending",
        attempt_id=bindparam("attempt"),
        attempts=messages.c.attempts + 1,
        lease_until=bindparam("until", type_=Moment),
        handed_over_at=bindparam("now", type_=Moment),
        settled_at=bindparam("now", type_=Moment),
        segments=bindparam("parts"),
        own_number=bindparam("ours", type_=Text),
    )
)


def hand_over(
    tx: Transaction, ids: Sequence[int], owner: str, *, rate_per_s: float, at_most: int | None = None
) -> tuple[list[HandOver], list[int]]:
    """The gate, just before the call: consent, halt, quiet hours and expiry once more, and a token of the gateway.

    Returns what may be sent now, `at_most` so many, each with a fresh attempt id and already `sending`, and the ids that
    still wait for a token.  What may not be sent is moved to the state that says why, and so is a row at which our own code fails: it
    would fail in every batch after this one, and nobody else's text would ever leave.
    """
    rows = _at_the_gate(tx, ids, owner) if ids else []
    passing: list[HandOver] = []
    for row in rows:
        judged = _judged(tx, row)
        if isinstance(judged, HandOver):
            passing.append(judged)
        else:
            move(tx, row.id, "claimed", **judged)
    wishes = [rate_limits.Wish(handed.id, handed.address, handed.own_number) for handed in passing]
    granted = rate_limits.grant(tx, rows[0].gateway, wishes, rate_per_s, at_most=at_most) if passing else {}
    going = [
        handed if (number := granted[handed.id]) == handed.own_number else replace(handed, own_number=number)
        for handed in passing
        if handed.id in granted
    ]
    turns = [openings.Turn(row.id, row.conversation_id) for row in rows if row.conversation_id is not None]
    if held := openings.must_wait(tx, [turn for turn in turns if turn.message_id in granted]):
        for message in sorted(held):
            later = {"state": "queued", "due_at": tx.now + LOOK_AGAIN, "reason": "in-conversation"}
            move(tx, message, "claimed", **later)
        going = [handed for handed in going if handed.id not in held]
    if going:
        same = {"owner": owner, "now": tx.now, "until": tx.now + leases.LEASE}
        execute_many(
            tx,
            _SEND,
            [{"row": h.id, "attempt": h.attempt_id, "parts": h.segments, "ours": h.own_number, **same} for h in going],
        )
    return going, [h.id for h in passing if h.id not in granted]


@lru_cache(maxsize=4)
def _gate(channels: tuple[Channel, ...]) -> Select[Any]:
    """The claimed rows with all that the gate asks: whether stopped, whether halted, in which zone, which code.

    Built once for the channels that there are: building it takes longer than running it.
    """
    m = messages.c
    stopped = {c.name: consent.said_last(m[c.key_column], c) for c in channels}
    moved = {c.name: m[c.key_column].is_distinct_from(cases.c[c.key_of_case]) for c in channels}
    return (
        select(
            *m[
                "id",
                "kind",
                "channel",
                "phone",
                "body",
                "gateway",
                "attempts",
                "created_at",
                "expires_at",
                "own_number",
                "conversation_id",
            ],
            func.coalesce(m.address, m.phone).label("address"),
            _by_channel(stopped).label("said"),
            and_(m.broadcast_id.is_not(None), ~audience.is_in(m.case_id, m.broadcast_id)).label("left"),
            and_(m.broadcast_id.is_not(None), _by_channel(moved)).label("changed"),
            broadcasts.c.state.label("broadcast_state"),
            cases.c.time_zone,
            STAYS.label("stays"),
            codes_table.c.nonce,
            codes_table.c.length,
            codes_table.c.expires_at.label("code_expires_at"),
            programme.c.secret,
        )
        .select_from(messages)
        .join(programme, programme.c.id == 1)
        .outerjoin(broadcasts, broadcasts.c.id == m.broadcast_id)
        .outerjoin(cases, cases.c.id == m.case_id)
        .outerjoin(codes_table, codes_table.c.id == m.code_id)
        .where(
            m.id.in_(bindparam("ids", expanding=True)),
            m.state == "claimed",
            m.lease_owner == bindparam("owner", type_=Text),
        )
        .order_by(m.priority, m.due_at, m.id)
        # Held to the end: a worker that was thought dead must not hand over what another one has claimed since.
        .with_for_update(of=messages)
    )


def _by_channel(each: Mapping[str, ColumnElement[Any]]) -> ColumnElement[Any]:
    """What is asked of a message of each channel; of a single one without a condition."""
    if len(each) == 1:
        return next(iter(each.values()))
    return case(*((messages.c.channel == name, asked) for name, asked in each.items()))


def _at_the_gate(tx: Transaction, ids: Sequence[int], owner: str) -> list[Row[Any]]:
    return list(tx.execute(_gate(tuple(CHANNELS.values())), {"ids": ids, "owner": owner}))


def _judged(tx: Transaction, row: Row[Any]) -> HandOver | dict[str, Any]:
    """What leaves, or the columns that say why it does not; a fault is of this row alone."""
    try:
        return _verdict(tx, row) or _leaving(tx, row)
    except Exception as fault:  # noqa: BLE001  one row's fault must cost no other row anything
        # The type alone: the sentence of a fault may quote a number or a text.
        reference = secrets.token_hex(4)
        log.error("message %s is refused, reference %s: %s", row.id, reference, type(fault).__name__)
        return {"state": "refused", "reason": "fault"}


def _verdict(tx: Transaction, row: Row[Any]) -> dict[str, Any] | None:
    """Why a claimed message may not leave now, as the columns to set; None if it may."""
    kind = kind_of(row)
    if row.broadcast_state in ("halted", "dropped", "expired"):
        return {"state": "cancelled", "reason": "halted"}
    if row.expires_at is not None and row.expires_at <= tx.now:
        return {"state": "expired", "reason": "expired"}
    if row.nonce is not None and row.created_at < row.code_expires_at - codes.LIFE:
        # The code was issued anew since for other words, and must not leave under the old ones.
        return {"state": "cancelled", "reason": "replaced"}
    if row.broadcast_state in ("previewed", "held", "scheduled"):
        # Its hold is over by the clock, and a worker is about to end it: nothing leaves before the state says so.
        return {"state": "queued", "due_at": tx.now + A_MOMENT, "reason": None}
    if row.broadcast_state == "paused":
        # It was claimed when its broadcast was paused, and goes back to wait with the others.
        return {"state": "queued", "due_at": tx.now + LOOK_AGAIN, "reason": "paused"}
    if kind.needs_consent and row.said == "stop":
        return {"state": "withheld", "reason": "stopped"}
    if kind.needs_consent and row.said == "doubt":
        # It waits for the answer to our question, and dies with its own time if none comes.
        return {"state": "queued", "due_at": tx.now + LOOK_AGAIN, "reason": "doubt"}
    if row.left or row.changed:
        # Taken out of the group, or another number, since it was queued: the old number may be a stranger's by now.
        return {"state": "withheld", "reason": "left" if row.left else "changed"}
    if kind.keeps_quiet_hours and tx.rules.hours is not None:
        allowed = quiet_hours.next_allowed(tx.now, _zones(tx, row), tx.rules.hours)
        if row.expires_at is not None and allowed >= row.expires_at:
            return {"state": "expired", "reason": "quiet-hours"}
        if allowed > tx.now:
            return {"state": "queued", "due_at": allowed, "reason": "quiet-hours"}
    return None


def _leaving(tx: Transaction, row: Row[Any]) -> HandOver:
    body = row.body
    if row.nonce is not None:
        body = body.replace(codes.mask(row.length), codes.digits(bytes(row.secret), row.nonce, row.length))
    ends = [row.expires_at]
    if kind_of(row).keeps_quiet_hours and tx.rules.hours is not None:
        # A gateway may queue for hours: told when the day ends, it cannot deliver into the night.
        ends.append(quiet_hours.closes_at(tx.now, _zones(tx, row), tx.rules.hours))
    seconds = [int((end - tx.now).total_seconds()) for end in ends if end is not None]
    return HandOver(
        id=row.id,
        attempt_id=secrets.token_hex(8),
        address=row.address,
        body=body,
        validity_s=max(1, min(seconds)) if seconds else None,
        attempts=row.attempts + 1,
        segments=CHANNELS[row.channel].count(body).parts,
        own_number=row.own_number,
        stays=row.stays,
    )


def _zones(tx: Transaction, row: Row[Any]) -> tuple[str, ...]:
    return quiet_hours.zones_of(row.time_zone, row.phone or "", home_zone=tx.rules.time_zone)
