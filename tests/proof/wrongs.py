"""The code broken on purpose, one promise at a time: what the virtual days must find.

Each is what a system of this kind really does somewhere: what a dead worker was sending is sent again, a timeout counts as
*not sent*, the last receipt wins, quiet hours go by the programme's clock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock

from sqlalchemy import Integer, bindparam, select, update

from bot.gateways.base import Unknown
from bot.inbound import intake, opt_outs
from bot.worker import dispatcher
from storage import schema
from storage.audit import Actor
from storage.broadcasts import broadcasts, expansion, progress
from storage.contacts import cases, consent
from storage.messages import gate, inbox, leases, outbox, reconciliation, states
from storage.programme import routing
from storage.rules import quiet_hours
from storage.schema import messages as table
from storage.upkeep import restore

Wrong = Callable[[], AbstractContextManager[Any]]
WRONGS: dict[str, Wrong] = {}


def wrong(name: str) -> Callable[[Callable[[], AbstractContextManager[Any]]], Wrong]:
    def keep(make: Wrong) -> Wrong:
        WRONGS[name] = make
        return make

    return keep


@wrong("a dead worker's texts are sent again")
def _() -> AbstractContextManager[Any]:
    ends = leases.end_leases

    def again(tx: Any, **named: Any) -> tuple[int, int]:
        ended = ends(tx, **named)
        doubtful = (table.c.state == "unknown", table.c.reason == "process-died")
        tx.execute(update(table).where(*doubtful).values(state="queued"))
        return ended

    return mock.patch.object(leases, "end_leases", again)


@wrong("no answer counts as not sent")
def _() -> AbstractContextManager[Any]:
    settled = dispatcher._settled

    def unsent(handed: Any, result: Any, *more: Any) -> Any:
        found = settled(handed, result, *more)
        return replace(found, state="queued", reason="unreachable") if isinstance(result, Unknown) else found

    return mock.patch.object(dispatcher, "_settled", unsent)


@wrong("another gateway takes over after no answer")
def _() -> AbstractContextManager[Any]:
    settled = dispatcher._settled

    def over(handed: Any, result: Any, now: Any, instead: str | None) -> Any:
        found = settled(handed, result, now, instead)
        if instead is None or not isinstance(result, Unknown):
            return found
        return replace(found, state="queued", reason="unreachable", due_at=now, gateway=instead)

    return mock.patch.object(dispatcher, "_settled", over)


@wrong("what is in doubt at a gateway that is gone goes by another")
def _() -> AbstractContextManager[Any]:
    def again(tx: Any, there: Any) -> int:
        doubtful = (table.c.state == "unknown", table.c.gateway.not_in(list(there)))
        return int(
            tx.execute(update(table).where(*doubtful).values(state="queued", gateway=next(iter(there)))).rowcount
        )

    return mock.patch.object(reconciliation, "leave_gone", again)


@wrong("a case's own gateway is not asked")
@contextlib.contextmanager
def _() -> Iterator[None]:
    def by_case(rules: Any, whose: Any, *_channel: Any) -> Any:
        return routing.by_number(rules, whose.c.contact_phone_number)

    expansion._insertion.cache_clear()
    with mock.patch.object(routing, "by_case", by_case):
        yield
    expansion._insertion.cache_clear()


@wrong("absent at the first look")
@contextlib.contextmanager
def _() -> Iterator[None]:
    with (
        mock.patch.object(reconciliation, "GRACE", timedelta(0)),
        mock.patch.object(reconciliation, "APART", timedelta(0)),
        mock.patch.object(reconciliation, "AGAIN", (timedelta(seconds=1),) * 4),
    ):
        yield


@wrong("stop is not asked at the gate")
def _() -> AbstractContextManager[Any]:
    kinds = {name: replace(kind, needs_consent=False) for name, kind in states.KINDS.items()}
    return mock.patch.dict(states.KINDS, kinds)


@wrong("quiet hours are not asked at the gate")
@contextlib.contextmanager
def _() -> Iterator[None]:
    kinds = {name: replace(kind, keeps_quiet_hours=False) for name, kind in states.KINDS.items()}
    states._kind_on.cache_clear()
    with mock.patch.dict(states.KINDS, kinds):
        yield
    states._kind_on.cache_clear()


@wrong("quiet hours by the programme's clock")
def _() -> AbstractContextManager[Any]:
    return mock.patch.object(quiet_hours, "zones_of", lambda _zone, _phone, *, home_zone: (home_zone,))


@wrong("an offset of today's for ever")
def _() -> AbstractContextManager[Any]:
    """Quiet hours by a clock that is never put forward or back."""
    from zoneinfo import ZoneInfo

    real, found = quiet_hours.next_allowed, {}

    def fixed(at: Any, zones: Sequence[str], hours: Any) -> Any:
        zone = zones[0]
        offset = found.setdefault(zone, at.astimezone(ZoneInfo(zone)).utcoffset())
        return real(at + offset, ("UTC",), hours) - offset

    return mock.patch.object(quiet_hours, "next_allowed", fixed)


@wrong("the gateway is not told when the day ends")
def _() -> AbstractContextManager[Any]:
    return mock.patch.object(quiet_hours, "closes_at", lambda *_: None)


@wrong("the last receipt wins")
def _() -> AbstractContextManager[Any]:
    anything = {state: moves | {"sent", "undelivered"} for state, moves in states.MOVES.items()}
    return mock.patch.dict(states.MOVES, anything)


@wrong("two at once to one phone")
def _() -> AbstractContextManager[Any]:
    now, by = bindparam("now", type_=schema.Moment), bindparam("by")
    due = (table.c.direction == "out", table.c.state == "queued", table.c.due_at <= now, table.c.gateway == by)
    turn = select(table.c.id).where(*due).order_by(table.c.priority, table.c.due_at, table.c.id)
    claim = (
        update(table)
        .where(table.c.id.in_(turn.limit(bindparam("many", type_=Integer))))
        .values(state="claimed", lease_owner=bindparam("owner"), lease_until=bindparam("until", type_=schema.Moment))
        .returning(table.c.id, table.c.priority, table.c.due_at)
    )
    return mock.patch.multiple(outbox, _IS_DUE=turn.limit(1), _CLAIM=claim)


@wrong("what a dead worker was sending stays so")
def _() -> AbstractContextManager[Any]:
    return mock.patch.object(leases, "end_leases", lambda _tx, **_named: (0, 0))


@wrong("a halt is forgotten at the gate")
@contextlib.contextmanager
def _() -> Iterator[None]:
    verdict = gate._verdict

    def forgetful(tx: Any, row: Any) -> Any:
        said = verdict(tx, row)
        return None if said and said["reason"] == "halted" else said

    def halted(tx: Any, number: int, *, by: Any) -> Any:
        """Marks the broadcast and leaves its texts to the gate."""
        del by
        tx.execute(update(schema.broadcasts).where(schema.broadcasts.c.id == number).values(state="halted"))
        return progress.progress(tx, number)

    with mock.patch.object(gate, "_verdict", forgetful), mock.patch.object(broadcasts, "halt", halted):
        yield


@wrong("a text counts each time it comes")
def _() -> AbstractContextManager[Any]:
    record, n = inbox.record_inbound, [0]

    def each(tx: Any, *, gateway_id: str, **named: Any) -> Any:
        n[0] += 1
        return record(tx, gateway_id=f"{gateway_id}/{n[0]}", **named)

    return mock.patch.object(inbox, "record_inbound", each)


@wrong("200 before the text is kept")
def _() -> AbstractContextManager[Any]:
    from bot.gateways.base import Forged

    take = intake.take

    def well(*told: Any) -> int:
        try:
            status = take(*told)
        except Forged:
            return 403
        except BaseException:  # noqa: BLE001  a process that answered before it died
            return 200
        return status

    return mock.patch.object(intake, "take", well)


@wrong("an upload commits row by row")
def _() -> AbstractContextManager[Any]:
    save = cases.save

    def one_by_one(tx: Any, wanted: Any, **named: Any) -> list[int]:
        ids: list[int] = []
        for each in wanted:
            ids += save(tx, [each], **named)
            driver = tx.connection.connection.dbapi_connection
            driver.execute("COMMIT")
            driver.execute("BEGIN IMMEDIATE")
        return ids

    return mock.patch.object(cases, "save", one_by_one)


@wrong("any text opts in again")
def _() -> AbstractContextManager[Any]:
    heard = opt_outs.hear_consent

    def welcome(tx: Any, row: Any, sender: Any) -> Any:
        said = heard(tx, row, sender)
        if consent.newest(tx, row.phone) == "stop" and consent.heard_in(tx, row.phone, row.id) is None:
            by = Actor("sms", None, f"message {row.id}")
            consent.hear(tx, row.phone, "start", words=row.body, message_id=row.id, by=by)
        return said

    return mock.patch.object(opt_outs, "hear_consent", welcome)


@wrong("a receipt pauses nothing")
def _() -> AbstractContextManager[Any]:
    return mock.patch.object(intake, "_act_on", lambda *_told, **_named: None)


@wrong("a backup comes back without its fence")
def _() -> AbstractContextManager[Any]:
    def nothing(tx: Any, backed_up_at: Any, **_named: Any) -> dict[str, int]:
        tx.execute(update(schema.programme).values(backed_up_at=backed_up_at, restored_at=tx.now))
        return {}

    return mock.patch.object(restore, "put_up", nothing)
