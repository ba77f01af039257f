"""A programme to measure on: cases in several languages and zones, some of them stopped, one group, its supervisor.

It is written by plain inserts, because filling it is not what is measured; the rows are as the verbs would leave them.
"""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert, select

from storage import audit
from storage.audit import Actor
from storage.broadcasts import broadcasts, expansion, previews
from storage.bulk import insert_many
from storage.contacts import groups, people
from storage.database import Database, stamp
from storage.rules.hours_and_limits import Rules
from storage.schema import cases, consent_events, memberships
from storage.upkeep import migrate

BY: Final = Actor("cli", None, "a benchmark")
SUPERVISOR: Final = "254711000001"
FIRST: Final = 254_720_000_000
TEXTS: Final = {
    "en": "Hello {name|friend}, your visit to the clinic is tomorrow. Bring your card.",
    "sw": "Habari {name|rafiki}, kesho ni siku yako ya kliniki. Njoo na kadi yako.",
}
RULES: Final = Rules(
    name="Demo clinic", time_zone="Africa/Nairobi", country="KE", hours=None, language="en",
    default_gateway="twilio", gateways=frozenset({"twilio"}),
)  # fmt: skip
CHUNK: Final = 10_000


def phone_of(n: int) -> str:
    """The number of the n-th case."""
    return str(FIRST + n)


def fill(db: Database, members: int, dice: random.Random) -> int:
    """A new programme with so many cases, all of them in the group `all`; returns the group's row id."""
    migrate.upgrade(db)
    with db.transaction() as tx:
        stamp(tx, rehearsal=False)
        group = int(groups.create(tx, "all", None, by=BY).id)
        people.add(tx, "Lena", "254711000000", "lead", by=BY)
        people.add(tx, "Samuel", SUPERVISOR, "supervisor", shorts=["all"], by=BY)
        line = audit.record(tx, "groups.add", "group", group, facts={"added": members}, by=BY)
    long_ago = datetime(2026, 1, 5, tzinfo=UTC)
    for start in range(0, members, CHUNK):
        numbers = range(start, min(start + CHUNK, members))
        with db.transaction() as tx:
            insert_many(tx, cases, [case_row(n, long_ago, dice) for n in numbers])
            ids = {
                row.case_id: row.id for row in tx.execute(select(cases.c.case_id, cases.c.id).where(cases.c.id > start))
            }
            joined = [
                {"group_id": group, "case_id": ids[f"j-{n}"], "added_at": long_ago, "added_entry": line}
                for n in numbers
            ]
            insert_many(tx, memberships, joined)
            stopped = [
                {"phone": phone_of(n), "phone_key": phone_of(n), "kind": "stop", "words": "STOP", "door": "sms", "at": long_ago}
                for n in numbers if n % 100 == 7
            ]  # fmt: skip
            if stopped:
                tx.execute(insert(consent_events), stopped)
    return group


def case_row(n: int, at: datetime, dice: random.Random) -> dict[str, Any]:
    """The row of the n-th case."""
    name = dice.choice(("Ama", "Kofi", "Wanjiru", "Otieno", "Zawadi", "Juma"))
    return {
        "case_id": f"j-{n}", "case_id_key": f"j-{n}", "external_id": f"p-{n}", "external_id_key": f"p-{n}",
        "name": name, "name_key": name.lower(), "status": "open",
        "contact_phone_number": phone_of(n), "phone_key": phone_of(n), "contact_phone_number_is_verified": True, "two_way": True, "claimed_at": at,
        "time_zone": dice.choice((None, "Africa/Nairobi", "Africa/Kampala")), "language_code": dice.choice((None, "en", "sw")),
        "properties": {}, "created_at": at, "modified_at": at,
    }  # fmt: skip


def launch(db: Database, group: int) -> int:
    """A broadcast to the group that may leave at once; returns its number."""
    with db.transaction() as tx:
        number = previews.draft(tx, TEXTS, group_ids=[group], by=BY)
        broadcasts.launch(tx, number, hold_s=0, by=BY)
    return number


def expand(db: Database) -> None:
    """Write all messages of what is launched."""
    more = True
    while more:
        with db.transaction() as tx:
            more = expansion.expand_next(tx)


class Programme:
    """One filled SQLite file, of which each measurement gets a copy of its own."""

    def __init__(self, folder: Path, members: int, dice: random.Random) -> None:
        self.folder = folder
        self.members = members
        self.file = folder / f"ground-{members}.db"
        with closing(Database(f"sqlite:///{self.file}", RULES)) as db:
            self.group = fill(db, members, dice)

    def launched(self, *, expanded: bool = False) -> int:
        """Launch a broadcast to everybody in the file itself, so that every copy made from now on has it."""
        with closing(Database(f"sqlite:///{self.file}", RULES)) as db:
            number = launch(db, self.group)
            if expanded:
                expand(db)
        return number

    def copy(self, name: str = "copy") -> Database:
        """A copy of the file; the one of the same name before it is overwritten."""
        path = self.folder / f"{name}.db"
        for end in ("", "-wal", "-shm", "-spool"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        shutil.copy(self.file, path)
        return Database(f"sqlite:///{path}", RULES)
