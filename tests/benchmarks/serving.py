"""Inbound through the real web process: texts a second beside RapidSMS, and how long they take while a broadcast goes out.

Both servers are gunicorn with one process of eight threads on SQLite, in WAL with full durability, and both log the text and
tell the supervisor.  RapidSMS checks no signature and keeps no second copy away.
"""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import func, select

from storage.broadcasts import broadcasts, content, previews
from storage.database import Database
from storage.schema import messages
from tests.benchmarks import load, peers
from tests.benchmarks.ground import BY, FIRST, RULES, SUPERVISOR, TEXTS, Programme, phone_of
from tests.benchmarks.inbound import PATH, WORDS, signed
from tests.benchmarks.measuring import Comparison, Rounds, in_turn, percentile
from tests.benchmarks.outgoing import ACCOUNT, TOKEN
from tests.benchmarks.stub import Stub
from tests.patience import HANG_S
from tests.processes import Jumbe

RATE: Final = 10
"""Texts a second while the broadcast goes out.

Each of them is four commits, the text itself and the three of what its supervisor is told.  Where a commit takes ten
milliseconds, forty texts a second are more than the disk can take, and those that come while nothing else happens wait for
each other.
"""


class Served(Jumbe):
    """The real processes on a copy of a programme, and the stub as their gateway."""

    def __init__(self, folder: Path, programme: Programme, stub: Stub, rate: int) -> None:
        folder.mkdir()
        number: Any = type("Stub", (), {"url": stub.url, "number": "15005550006", "sent": staticmethod(list)})()
        super().__init__(folder, number, TWILIO_RATE=str(rate), JUMBE_TIME_ZONE="Africa/Nairobi", TWILIO_ACCOUNT_SID=ACCOUNT,
                         TWILIO_AUTH_TOKEN=TOKEN)  # fmt: skip
        shutil.copy(programme.file, self.file)
        self.sent_before = 0

    def requests(self, many: int, people: int) -> list[bytes]:
        """So many signed texts, each of another case where there are enough."""
        made = []
        for n in range(self.sent_before, self.sent_before + many):
            body, signature = signed(phone_of(n % people), self.base)
            made.append(load.request(PATH, self.port, body, signature))
        self.sent_before += many
        return made

    def inbound(self) -> int:
        """How many texts are there and handled."""
        with self.database() as db, db.reading() as tx:
            handled = select(func.count()).where(messages.c.direction == "in", messages.c.state == "handled")
            return int(tx.scalar(handled) or 0)

    def sent_of(self, number: int) -> int:
        """How many of a broadcast the gateway has taken."""
        return int(self.one("SELECT count(*) FROM messages WHERE broadcast_id = :n AND state = 'accepted'", n=number))


def beside_rapidsms(folder: Path, dice: random.Random, stub: Stub, *, rounds: int, many: int) -> list[Comparison]:
    """The row of texts a second.  Raises Missing where RapidSMS cannot be had."""
    people = 2000
    programme = Programme(folder, people, dice)
    texts = [
        load.request("/in/", 0, urlencode({"identity": phone_of(n), "text": WORDS}).encode()) for n in range(people)
    ]
    with (
        peers.rapidsms(folder, people, FIRST, SUPERVISOR) as port,
        Served(folder / "served", programme, stub, 1) as jumbe,
    ):
        jumbe.start("web")

        def ours(seen: Rounds) -> None:
            before = jumbe.inbound()
            answers = load.finish(load.start(jumbe.port, jumbe.requests(many, people)))
            assert answers.statuses == {"200": many}, answers.statuses
            assert jumbe.inbound() - before == many, "a text that was taken is not there"
            seen.note("ours", answers.per_s)

        def theirs(seen: Rounds) -> None:
            answers = load.finish(load.start(port, [texts[n % people] for n in range(many)]))
            assert answers.statuses == {"200": many}, answers.statuses
            seen.note("rapidsms", answers.per_s)

        found = in_turn(rounds, dice, {"ours": ours, "rapidsms": theirs})
    return [
        Comparison(
            "inbound through the server", "texts per s", found["ours"], "RapidSMS", found["rapidsms"], at_least=3
        )
    ]


def beside_a_broadcast(
    folder: Path, dice: random.Random, stub: Stub, *, rounds: int, members: int, seconds: float
) -> list[Comparison]:
    """How long texts take while a broadcast is expanded and drains, beside the same while nothing else happens.

    All rounds are taken together, because of the texts of one the 99th percentile is hardly more than the worst.
    """
    programme = Programme(folder, members, dice)
    with closing(Database(f"sqlite:///{programme.file}", RULES)) as db, db.transaction() as tx:
        number = previews.draft(tx, TEXTS, group_ids=[programme.group], by=BY)
        sendable = content.broadcast(tx, number).sendable
    many = int(seconds * RATE)
    seen, idle, busy = Rounds(), [], []
    lost = unsent = 0
    for turn in range(rounds):
        with Served(folder / f"busy-{turn}", programme, stub, max(1, int(members / seconds))) as jumbe:
            jumbe.start("web", "worker")
            load.finish(load.start(jumbe.port, jumbe.requests(RATE, members)))  # the first ones warm it up
            jumbe.until_idle()
            before = load.finish(load.start(jumbe.port, jumbe.requests(many, members), per_s=RATE))
            under_way = load.start(jumbe.port, jumbe.requests(many, members), per_s=RATE)
            with jumbe.database() as db, db.transaction() as tx:
                broadcasts.launch(tx, number, hold_s=0, by=BY)
            during = load.finish(under_way)
            sent = jumbe.sent_of(number)
            jumbe.until_idle(within_s=max(HANG_S, members / 100))
            unsent += sendable - jumbe.sent_of(number)
            seen.note("left meanwhile", 100 * sent / sendable)
            lost += RATE + 2 * many - jumbe.inbound()
            assert set(before.statuses) | set(during.statuses) == {"200"}, (before.statuses, during.statuses)
            idle += before.ms
            busy += during.ms
    what = f"inbound while {members:,} are texted"
    return [
        Comparison(f"{what}: p99", "ms", percentile(busy, 0.99), "idle", percentile(idle, 0.99), at_most=3),
        Comparison(f"{what}: median", "ms", percentile(busy, 0.5), "idle", percentile(idle, 0.5)),
        Comparison(f"{what}: lost", "texts", lost, at_most=0),
        Comparison(f"{what}: sent of the broadcast meanwhile", "per cent", seen["left meanwhile"]),
        Comparison(f"{what}: not sent of it in the end", "texts", unsent, at_most=0),
    ]
