"""Expanding a broadcast to a group into messages.

The floor is one `INSERT .. SELECT` by hand, with the same rows in the end: it knows who was stopped, closed, has no number or
shares one.  The peer is a loop over the objects of an ORM with one commit.  Beside the rate it is measured how long the
writer was held at most by one transaction: a webhook waits for that.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, registry

from storage.broadcasts import content, expansion
from storage.database import Database
from storage.schema import broadcasts as broadcasts_table
from storage.schema import cases, consent_events, memberships, messages
from tests.benchmarks import ground
from tests.benchmarks.ground import RULES, TEXTS, Programme
from tests.benchmarks.measuring import Comparison, Rounds, in_turn, spending

Open = Callable[[str], AbstractContextManager[Database]]
"""A fresh database with a launched broadcast, under this name."""

BY_HAND: Final = """
INSERT INTO messages (direction, phone, phone_key, body, kind, state, reason, gateway, case_id, broadcast_id, language, priority,
    due_at, expires_at, created_at, attempts, answered)
SELECT 'out', phone, phone, body, 'broadcast', CASE WHEN reason IS NULL THEN 'queued' ELSE 'withheld' END, reason, gateway,
    id, :number, language, 5, :due, :dies, :now, 0, :no
FROM (
    SELECT c.id, c.contact_phone_number AS phone, coalesce(nullif(c.contact_backend_id, ''), 'twilio') AS gateway,
        CASE WHEN lower(coalesce(c.language_code, '')) = 'sw' THEN 'sw' ELSE 'en' END AS language,
        CASE WHEN lower(coalesce(c.language_code, '')) = 'sw'
            THEN 'Habari ' || CASE WHEN trim(c.name) <> '' THEN c.name ELSE 'rafiki' END || :sw
            ELSE 'Hello ' || CASE WHEN trim(c.name) <> '' THEN c.name ELSE 'friend' END || :en END AS body,
        CASE WHEN m.removed_at IS NOT NULL THEN 'left'
            WHEN c.status = 'closed' THEN 'closed'
            WHEN c.contact_phone_number IS NULL THEN 'no-number'
            WHEN (SELECT kind FROM consent_events e WHERE e.phone = c.contact_phone_number ORDER BY e.id DESC LIMIT 1)
                IN ('stop', 'doubt') THEN 'stopped'
            WHEN EXISTS (SELECT 1 FROM cases o WHERE o.contact_phone_number = c.contact_phone_number AND o.status = 'open'
                AND o.id < c.id AND EXISTS (SELECT 1 FROM memberships om WHERE om.group_id = m.group_id
                AND om.case_id = o.id AND om.removed_at IS NULL)) THEN 'same-phone' END AS reason
    FROM memberships m JOIN cases c ON c.id = m.case_id WHERE m.group_id = :group
) AS each_member
"""


class Case: ...


class Message: ...


class Consent: ...


_mappers = registry()
_mappers.map_imperatively(Case, cases)
_mappers.map_imperatively(Message, messages)
_mappers.map_imperatively(Consent, consent_events)


def ours(db: Database) -> tuple[float, float, float]:
    """Expand by ranges as the worker does: seconds by the clock and of CPU, and the longest that the writer was held."""
    longest, more, pace = 0.0, True, expansion.Pace()
    with spending() as spent:
        while more:
            with db.transaction() as tx:
                began = time.perf_counter()
                with pace.kept() as many:
                    more = expansion.expand_next(tx, many)
            longest = max(longest, time.perf_counter() - began)
    return spent.clock_s, spent.cpu_s, longest


def by_hand(db: Database, number: int, group: int) -> tuple[float, float]:
    """One statement; seconds by the clock and of CPU."""
    with db.reading() as tx:
        row = content.broadcast(tx, number)
    values = {
        "number": number, "group": group, "no": False, "en": TEXTS["en"].partition("}")[2], "sw": TEXTS["sw"].partition("}")[2],
    }  # fmt: skip
    moments = {"due": row.hold_until, "dies": row.expires_at, "now": row.launched_at}
    if db.is_sqlite:
        moments = {name: f"{at:%Y-%m-%d %H:%M:%S.%f}" for name, at in moments.items()}
    with spending() as spent, db.transaction() as tx:
        tx.execute(text(BY_HAND), values | moments)
    return spent.clock_s, spent.cpu_s


def by_loop(db: Database, number: int, group: int, many: int) -> tuple[float, float]:
    """An object for each of the first members, and a question for each; seconds by the clock and of CPU."""
    with db.reading() as tx:
        row = content.broadcast(tx, number)
    with spending() as spent, Session(db.engine) as session, session.begin():
        members = session.scalars(
            select(Case).join(memberships, memberships.c.case_id == cases.c.id)
            .where(memberships.c.group_id == group).order_by(cases.c.id).limit(many)
        )  # fmt: skip
        for member in list(members):
            case: Any = member
            last = session.scalars(
                select(Consent).where(consent_events.c.phone == case.contact_phone_number)
                .order_by(consent_events.c.id.desc()).limit(1)
            ).first()  # fmt: skip
            stopped = last is not None and last.kind != "start"  # type: ignore[attr-defined]
            language = "sw" if case.language_code == "sw" else "en"
            message: Any = Message()
            message.direction, message.phone, message.kind = "out", case.contact_phone_number, "broadcast"
            message.body = TEXTS[language].replace("{name|friend}", case.name).replace("{name|rafiki}", case.name)
            message.state, message.reason = ("withheld", "stopped") if stopped else ("queued", None)
            message.gateway, message.case_id, message.broadcast_id = "twilio", case.id, number
            message.language, message.priority = language, 5
            message.due_at, message.expires_at, message.created_at = row.hold_until, row.expires_at, row.launched_at
            session.add(message)
    return spent.clock_s, spent.cpu_s


def written(db: Database, number: int) -> Counter[tuple[Any, ...]]:
    """What stands there: how many by state, reason, language and length of text."""
    kinds = (messages.c.state, messages.c.reason, messages.c.language, func.length(messages.c.body))
    with db.reading() as tx:
        rows = tx.execute(select(*kinds, func.count()).where(messages.c.broadcast_id == number).group_by(*kinds))
        return Counter({tuple(row[:4]): row[4] for row in rows})


def _compare(
    engine: str, fresh: Open, number: int, group: int, dice: random.Random, *, rounds: int, members: int, loop: int
) -> list[Comparison]:
    # One process does all the work on SQLite; on PostgreSQL its server does most of it, so the clock counts.
    which = 1 if engine == "SQLite" else 0

    def expanded(seen: Rounds) -> None:
        with fresh("expanded") as db:
            *took, longest = ours(db)
            seen.note("ours", members / took[which])
            seen.note("held", longest * 1000)
            seen.note("rows", hash(frozenset(written(db, number).items())))

    def floor(seen: Rounds) -> None:
        with fresh("by-hand") as db:
            seen.note("floor", members / by_hand(db, number, group)[which])
            seen.note("floor rows", hash(frozenset(written(db, number).items())))

    def peer(seen: Rounds) -> None:
        with fresh("by-loop") as db:
            seen.note("loop", loop / by_loop(db, number, group, loop)[which])

    found = in_turn(rounds, dice, {"ours": expanded, "floor": floor, "loop": peer}, warm=False)
    assert set(found.seen["rows"]) == set(found.seen["floor rows"]), "the floor wrote other rows"
    what, unit = f"expanding {members:,} members, {engine}", "members per s" + (" of CPU" if which else "")
    return [
        Comparison(what, unit, found["ours"], "one INSERT .. SELECT", found["floor"], at_least=0.5),
        Comparison(what, unit, found["ours"], "a loop of an ORM", found["loop"], at_least=30 if which else 10),
        Comparison(what, "ms the writer was held at most", found["held"], at_most=50),
    ]


def on_sqlite(folder: Path, dice: random.Random, *, rounds: int, members: int, loop: int) -> list[Comparison]:
    """The rows of SQLite."""
    programme = Programme(folder, members, dice)
    number = programme.launched()
    return _compare(
        "SQLite", lambda name: closing(programme.copy(name)), number, programme.group, dice,
        rounds=rounds, members=members, loop=loop,
    )  # fmt: skip


def on_postgresql(address: str, dice: random.Random, *, rounds: int, members: int, loop: int) -> list[Comparison]:
    """The rows of PostgreSQL: one database, out of which the messages are taken before each measurement."""
    with closing(Database(address, RULES)) as db:
        group = ground.fill(db, members, dice)
        number = ground.launch(db, group)

        @contextmanager
        def fresh(_name: str) -> Any:
            unexpanded = broadcasts_table.update().values(state="expanding", expanded_through=0, expanded_at=None)
            with db.transaction() as tx:
                tx.execute(text("TRUNCATE messages CASCADE"))
                tx.execute(unexpanded)
            with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE"))
            yield db

        return _compare("PostgreSQL", fresh, number, group, dice, rounds=rounds, members=members, loop=loop)
