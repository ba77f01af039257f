"""Days of a programme in a virtual world, from one seed: `python -m tests.proof.days SEED`.

A lead texts broadcasts and halts them, cases answer, stop and come back, sheets come in, the gateway has its moods, the
worker and web die at any statement and at any wait, the database is away.  After every commit all that moved is held
against what the world itself knows: the book of the gateway, the clocks on the walls, who said stop and when.  The same
seed gives the same history to the byte, and its digest says so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import os
import random
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock
from zoneinfo import ZoneInfo

from sqlalchemy import text as sql

import storage  # noqa: F401  chooses the SQLite library
from bot import explaining
from bot.gateways.base import Capabilities, Request
from bot.inbound import intake, spool
from bot.inbound.spool import Kept
from bot.worker.worker import Worker
from storage import audit, schema
from storage.audit import Actor
from storage.contacts import cases
from storage.database import Database
from storage.errors import Problem
from storage.messages.states import RESTORED
from storage.operations import codes
from storage.programme import rate_limits
from storage.rules.hours_and_limits import Rules, Senders
from storage.sheets import imports
from storage.upkeep import backups, migrate
from tests.proof.quick import quickly
from tests.proof.virtual import (
    BEGAN,
    FIRST,
    LATE_S,
    MOODS,
    TROUBLES,
    URL,
    Booked,
    Died,
    Life,
    Loop,
    Typed,
    VirtualDatabase,
    VirtualGateway,
    as_process,
)
from tests.world import World

LEAD: Final = "233209000001"
OTHER_LEAD: Final = "233209000002"
SHEET: Final = Actor("sheet", None, "a sheet")
WHERE: Final = (
    ("233241", None, "Africa/Accra"),
    ("254712", None, "Africa/Nairobi"),
    ("91981", None, "Asia/Kolkata"),
    ("1212555", "America/New_York", "America/New_York"),
    ("6421", "Pacific/Auckland", "Pacific/Auckland"),
    ("447700", "Europe/London", "Europe/London"),
    ("5511", "America/Sao_Paulo", "America/Sao_Paulo"),
    ("233242", "Asia/Kathmandu", "Asia/Kathmandu"),
)
"""The beginning of a number, the zone that its case names, and the zone by whose clock it is texted."""

OPENS_H, CLOSES_H = 9, 20
ASKS: Final = (
    "Where is the clinic?",
    "Thank you",
    "HELP",
    "I am ill",
    "yes",
    "When?",
    "ok 123456",
    "Merci beaucoup 🙏",
)
STOPS: Final = ("STOP", "Stop!", "unsubscribe", "Please stop texting me")
STARTS: Final = ("START", "start")
APART: Final = timedelta(days=2)
"""Between two texts of a phone about being texted: the slowest way in is faster, so which came last is never in doubt."""

SECOND: Final = "second"
TWO: Final = 0.4
"""So many of the runs have two gateways."""

ROUTES: Final = (
    (),
    (("254", SECOND), ("6", SECOND)),
    (("233242", FIRST), ("23324", SECOND), ("1", SECOND)),
)
FAILOVERS: Final[tuple[dict[str, str], ...]] = ({}, {FIRST: SECOND}, {SECOND: FIRST}, {FIRST: SECOND})
OWN: Final = (None, None, None, FIRST, SECOND)
"""What a case may be set to, where there are two."""

DAYS_A_RUN: Final = 27
BUSY: Final = 0.25
"""So many of the days are busy, the first one surely; on the others little happens, and little goes wrong."""

LONGEST_S: Final = 21600.0
"""So long the worker looks at nothing at most: what it does by the minute and the hour is done then."""

QUIET_DAYS: Final = 3
"""After the days of a run, without trouble: what is open then must come to its end."""

NEEDS_CONSENT: Final = frozenset({"reply", "notice", "text", "broadcast"})
KEEPS_HOURS: Final = frozenset({"text", "broadcast"})
HELD: Final = frozenset({"accepted", "sent", "delivered", "undelivered"})
UNSENT: Final = frozenset({"queued", "claimed", "refused", "withheld", "expired", "cancelled"})
OVER: Final = HELD | {"refused", "withheld", "expired", "cancelled", "unresolved"}
FORWARD: Final = {
    "": {"queued", "withheld", "cancelled"},
    "queued": {"claimed", "withheld", "expired", "cancelled", "refused"} | HELD,
    "claimed": {"queued", "sending", "withheld", "expired", "cancelled", "refused"} | HELD,
    "sending": {"queued", "refused", "unknown"} | HELD,
    "unknown": {"queued", "refused", "unresolved"} | HELD,
    "unresolved": {"refused"} | HELD,
    "accepted": {"sent", "delivered", "undelivered", "refused"},
    "sent": {"delivered", "undelivered"},
    "undelivered": {"delivered"},
}
"""Where a message may go, told here a second time: the code's own table cannot vouch for itself."""


Way = tuple[str, str | None]
"""A gateway, or one number of ours at it."""


class Breach(Exception):
    """A promise was broken: which one, in words."""


class _Stopped(Exception):
    """The loop was stopped, because something is to be said."""


@dataclass
class Report:
    """What one run came to."""

    seed: int
    days: int
    runs: int = 1
    digest: str = ""
    texts: int = 0
    booked: int = 0
    inbound: int = 0
    moves: int = 0
    deaths: int = 0
    unknown: int = 0
    uploads: int = 0
    pauses: int = 0
    restores: int = 0
    passed_on: int = 0
    checks: int = 0
    met: dict[str, int] = field(default_factory=dict)
    breach: str | None = None
    history: list[str] = field(default_factory=list)

    def take(self, other: Report) -> None:
        """What other runs came to; the digests stay apart."""
        for name in (one.name for one in fields(self) if one.type == "int" and one.name != "seed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.met = dict(Counter(self.met) + Counter(other.met))
        self.breach = self.breach or other.breach

    def said(self) -> str:
        """In one line, or with its history where a promise was broken."""
        if self.breach is None:
            return (
                f"seed {self.seed}: {self.days} days, {self.texts} texts, {self.inbound} in, {self.deaths} deaths,"
                f" {self.moves} moves, digest {self.digest[:16]}"
            )
        return "\n".join([f"BROKEN with seed {self.seed}: {self.breach}", *self.history])


class Days:
    """One programme in one virtual world."""

    def __init__(self, seed: int, days: int, file: Path, *, is_quick: bool = True) -> None:
        self.seed, self.days, self.is_quick = seed, days, is_quick
        self.report = Report(seed, days)
        self.dice = random.Random(seed)
        self.loop = Loop(BEGAN + timedelta(days=seed % 300), random.Random(seed + 1))
        dice = self.dice
        self.numbers = ("15005550006", "15005550007", "15005550008")[: dice.choice((1, 3))]
        self.rules = Rules(
            name="Demo clinic", time_zone="Africa/Accra", country="GH", hold_s=30, rate_per_s=5,
            default_gateway=FIRST, gateways=frozenset({FIRST}),
            senders={FIRST: Senders(self.numbers, 2.0)} if len(self.numbers) > 1 else {},
        )  # fmt: skip
        self.gateway = self._gateway(FIRST, self.numbers, 2)
        self.all = {FIRST: self.gateway}
        rules = self.rules
        if dice.random() < TWO:
            self.all[SECOND] = self._gateway(SECOND, ("15005550009",), 3)
            rules = replace(
                rules, gateways=frozenset(self.all), routes=dice.choice(ROUTES), failover=dice.choice(FAILOVERS)
            )
        self.db = VirtualDatabase(f"sqlite:///{file}", rules, self.loop.now)
        self.there = dict(self.all)
        self.is_leaving = False
        self.spool = intake.spool_of(self.db)
        self.folder = file.parent
        self.is_lost = False
        self.restored_at, self.last_backed_up = BEGAN, 0
        self.web_down_until = self.loop.now()
        self.worker_life = Life()
        self.stop: asyncio.Event | None = None
        self.over = False
        self.ends: list[BaseException] = []
        # What the world knows by itself.
        self.state: dict[int, str] = {}
        self.flying: dict[str, int] = {}
        self.times: Counter[int] = Counter()
        self.each: Counter[tuple[int, str]] = Counter()
        self.attempts: dict[str, Booked] = {}
        self.broadcast_of: dict[int, int] = {}
        self.said_at: dict[str, datetime] = {}
        self.stopped: dict[str, datetime] = {}
        self.halted: set[int] = set()
        self.paused: dict[Way, datetime] = {}
        self.resumed_at: dict[Way, datetime] = {}
        self.handed_at: dict[int, datetime] = {}
        self.zone: dict[int, str] = {}
        self.own: dict[int, str] = {}
        self.way: dict[int, str | None] = {}
        self.came_by: dict[int, tuple[str, str]] = {}
        self.doubted: set[int] = set()
        self.passed_on: dict[int, str] = {}
        self.kinds: dict[int, str] = {}
        self.case_of: dict[int, int | None] = {}
        self.heard: set[tuple[str, str]] = set()
        self.sheets: dict[str, int] = {}
        self.idle = 0
        self.digest = hashlib.sha256()
        self.lately: deque[str] = deque(maxlen=40)

    def _gateway(self, name: str, numbers: tuple[str, ...], dice: int) -> VirtualGateway:
        return VirtualGateway(
            self.loop, random.Random(self.seed + dice),
            Capabilities(
                receipts=self.dice.random() < 0.85, signed_webhooks=True, validity=True, answers_stop_itself=False,
                concurrency=self.dice.choice((1, 4, 8)), finds_sent=self.dice.random() < 0.8,
                lists_inbound=self.dice.random() < 0.7,
            ),
            self.booked, self.delivered, self.web, self.told, numbers, name,
        )  # fmt: skip

    # -- run -----------------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """All the days, then some without trouble, then what must be so at the end."""
        with quickly(self.db.before) if self.is_quick else contextlib.nullcontext():
            return self._run()

    def _run(self) -> Report:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._fault)
        self.loop.idle_until = self._idle_until
        try:
            self._make()
            self.db.committed, self.db.changed = self._look, self._changed
            with contextlib.suppress(_Stopped):
                self._live_out()
            self._raise()
            self._at_the_end()
        except Breach as breach:
            self.report.breach = f"{breach} (day {int(self.loop.passed // 86400) + 1}, {self.loop.now():%F %T})"
            self.report.history = list(self.lately)
        finally:
            self.over = True
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.worker_life.dead = True
            with contextlib.suppress(BaseException):
                self.loop.run_until_complete(asyncio.sleep(60))
            self.loop.close()
            asyncio.set_event_loop(None)
            self.db.close()
        self.report.digest = self.digest.hexdigest()
        self.report.booked = sum(len(each.book) for each in self.all.values())
        self.report.met = dict(sum((Counter(each.met) for each in self.all.values()), Counter()))
        return self.report

    def _live_out(self) -> None:
        try:
            self.loop.run_until_complete(self._live())
        except RuntimeError as fault:
            if self.ends:
                raise _Stopped from fault
            raise

    def _fault(self, _loop: Any, told: dict[str, Any]) -> None:
        fault = told.get("exception")
        if fault is not None and not isinstance(fault, Died | asyncio.CancelledError) and not self.over:
            self.ends.append(fault)
            self.loop.stop()

    async def _live(self) -> None:
        self.loop.create_task(self._supervise(), context=as_process(None))
        for day in range(self.days):
            self._plan_day(day)
            await asyncio.sleep(86400)
            self._raise()
        for each in self.all.values():
            each.mood = "well"
        self.quiet_since = self.loop.now()
        self._resume()
        for _ in range(QUIET_DAYS * 4):
            await asyncio.sleep(21600)
            self._raise()

    def _raise(self) -> None:
        if self.ends:
            raise self.ends[0]

    def _make(self) -> None:
        world = World(self.db)
        members, self.phones = [], []
        for n in range(16):
            begin, zone, reads = WHERE[n % len(WHERE)]
            phone = begin + "5550123456789"[: 12 - len(begin) - 1] + str(n // len(WHERE))
            values = {"time_zone": zone} if zone else {}
            own = self.dice.choice(OWN) if len(self.all) > 1 else None
            if own is not None:
                values["contact_backend_id"] = own
            case = world.case(f"case-{n}", phone, **values)
            self.zone[case] = reads
            if own is not None:
                self.own[case] = own
            self.phones.append(phone)
            members.append(case)
        # Two on one phone: it gets one text of a broadcast.
        members.append(world.case("case-twin", self.phones[0]))
        self.zone[members[-1]] = WHERE[0][2]
        world.group("anc", *members)
        world.group("tb", *members[::3])
        self.members = members
        world.person("Rosa", LEAD)
        world.person("Juma", OTHER_LEAD)

    # -- what happens --------------------------------------------------------------------------------------------------

    def _plan_day(self, day: int) -> None:
        dice, later = self.dice, self.gateway.later

        def somewhen(often: float, what: Callable[..., None], *args: Any) -> None:
            while often > 0:
                if dice.random() < often:
                    later(dice.uniform(0, 86400), what, *args)
                often -= 1

        if day > 0 and dice.random() > BUSY:
            later(dice.uniform(8, 22) * 3600, self._lead_says, f"tell tb Visit {day}-{dice.randrange(1000)}")
            somewhen(0.5, self._case_says)
            somewhen(0.2, self._stop_or_start)
            somewhen(0.2, self._mood)
            somewhen(0.1, self._kill_worker)
            return
        first = 8 if dice.random() < 0.8 else 0
        for _ in range(dice.choice((0, 1, 1, 2))):
            later(
                dice.uniform(first, 22) * 3600,
                self._lead_says,
                f"tell {dice.choice(('anc', 'tb'))} Visit {day}-{dice.randrange(1000)}",
            )
        somewhen(0.3, self._lead_says, "check")
        somewhen(0.2, self._lead_says, f"tell case-{dice.randrange(16)} Please come")
        somewhen(1.5, self._case_says)
        somewhen(0.5, self._stop_or_start)
        somewhen(0.15, self._repeat)
        somewhen(0.1, self._forge)
        somewhen(0.5, self._upload)
        somewhen(0.2, self._change_members)
        somewhen(1.5, self._mood)
        somewhen(0.4, self._kill_worker)
        somewhen(0.25, self._stop_worker)
        somewhen(0.15, self._web_goes_down)
        somewhen(0.15, self._database_goes_away)
        somewhen(0.1, self._back_up)
        if len(self.there) > 1:
            somewhen(0.1, self._take_out)

    def _lead_says(self, words: str) -> None:
        self._some().type(LEAD, words)

    def _some(self) -> VirtualGateway:
        """One of the gateways that are there."""
        return self.gateway if len(self.there) == 1 else self.dice.choice(list(self.there.values()))

    def _case_says(self) -> None:
        phone = self.dice.choice([*self.phones, "233244000999", "254799000999"])
        if self.stopped and self.dice.random() < 0.3:
            phone = self.dice.choice(sorted(self.stopped))  # an ordinary text is no START
        self._some().type(phone, self.dice.choice(ASKS))

    def _stop_or_start(self, phone: str | None = None) -> None:
        phone = phone or self.dice.choice(self.phones)
        now = self.loop.now()
        if now - self.said_at.get(phone, BEGAN - 2 * APART) < APART:
            return
        self.said_at[phone] = now
        stopped = phone in self.stopped
        self._some().type(phone, self.dice.choice(STARTS if stopped and self.dice.random() < 0.8 else STOPS))

    def _repeat(self) -> None:
        """A webhook that was answered long ago comes again."""
        by = self._some()
        taken = [typed for typed in by.received[-60:] if typed.taken]
        if taken:
            by._call_web(self.dice.choice(taken), 9)

    def _forge(self) -> None:
        self.claim(self.gateway.forge(LEAD, "tell anc Forged") in (0, 403), "a forged request was not refused")

    def _mood(self) -> None:
        which = self._some()
        is_helped = which.name in self.db.rules.failover
        which.mood = self.dice.choices(list(MOODS), (2, 2, 4, 2, 3, 2) if is_helped else (2, 2, 4, 1, 0.3, 2))[0]
        which.later(self.dice.expovariate(1 / 9000), self._well_again, which)

    def _well_again(self, which: VirtualGateway) -> None:
        which.mood = "well"

    def _take_out(self) -> None:
        """The second gateway is to be in the settings no more: they are read when web and worker start again."""
        self.is_leaving = True
        self._stop_worker()

    def _web_goes_down(self) -> None:
        self.web_down_until = self.loop.now() + timedelta(seconds=self.dice.expovariate(1 / 3600))

    def _database_goes_away(self) -> None:
        self.db.away_until = self.loop.now() + timedelta(seconds=self.dice.expovariate(1 / 120))

    def _change_members(self) -> None:
        from storage.contacts import groups

        case = self.dice.choice(self.members)
        with contextlib.suppress(Problem), self.db.transaction() as tx:
            group = next(g for g in groups.list_all(tx) if g.short == "tb")
            (groups.remove if self.dice.random() < 0.5 else groups.add)(tx, group.id, [case], by=SHEET)

    def _upload(self) -> None:
        """A sheet is applied by a process that may die in it, and then twice by one that does not."""
        self.report.uploads += 1
        prefix = f"u{self.report.uploads}"
        rows = [_Row(n + 2, {"external_id": _Cell(f"{prefix}-{n}"), "name": _Cell(f"Case {n}")}) for n in range(12)]
        rows.append(
            _Row(20, {"external_id": _Cell(f"case-{self.dice.randrange(16)}"), "name": _Cell(f"Name {prefix}")})
        )
        sheet = imports.read_cases(rows, self.db.rules)

        def apply() -> dict[str, int]:
            with self.db.transaction() as tx:
                return dict(imports.apply_cases(tx, sheet, by=SHEET).counts)

        dying = Life(writes_left=self.dice.randrange(10))
        with contextlib.suppress(Died):
            as_process(dying).run(apply)
        made = self._count(prefix)
        self.claim(made in (0, 12), f"an upload that died left {made} of 12 rows")
        apply()
        self.claim(self._count(prefix) == 12, "an upload did not do all of its rows")
        again = apply()
        self.claim(again == {"unchanged": 13}, f"an upload repeated changed something: {again}")

    def _count(self, prefix: str) -> int:
        with self.db.reading() as tx:
            return int(tx.scalar(sql("SELECT count(*) FROM cases WHERE external_id LIKE :p"), {"p": f"{prefix}-%"}))

    # -- processes -----------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """A worker is started again whenever one has ended."""
        number = 0
        while not self.over:
            number += 1
            self.worker_life, self.stop = Life(), asyncio.Event()
            context = as_process(self.worker_life)
            if self.is_leaving and len(self.there) > 1 and self.spool.is_empty():
                self._note("the second gateway is taken out of the settings")
                self.there, self.db.rules = {FIRST: self.gateway}, self.rules
            worker = context.run(Worker, self.db, self.there, URL, spool=str(self.spool.path))
            worker.owner = f"worker-{number}"
            self._try_again()
            self.running = self.loop.create_task(worker.run(self.stop), context=context)
            self.loop.idlers.add(self.running)
            await asyncio.wait([self.running])
            fault = None if self.running.cancelled() else self.running.exception()
            if fault is not None and not isinstance(fault, Died) and not _is_outage(fault):
                self.ends.append(fault)
                self.loop.stop()
                return
            while self.is_lost:
                await asyncio.sleep(30)
            self._note(
                f"the worker ended: {type(fault).__name__ if fault else 'dead' if self.worker_life.dead else 'stopped'}"
            )
            self.report.deaths += self.worker_life.dead
            self.worker_life.dead = True
            await asyncio.sleep(self.dice.choice((0.5, 5.0, 60.0, 3600.0)) * self.dice.random())

    def _kill_worker(self) -> None:
        """At once, or at one of the next things it writes."""
        if self.dice.random() < 0.6:
            self.worker_life.writes_left = self.dice.randrange(30)
            return
        self.worker_life.dead = True
        self.running.cancel()

    def _stop_worker(self) -> None:
        if self.stop is not None:
            self.stop.set()

    def web(self, by: str, request: Request, message_id: int | None) -> int:
        """The web process takes a request, or is not there, or dies at it; returns the status, 0 for none."""
        if self.is_lost or (self.loop.now() < self.web_down_until and not self._is_quiet()):
            return 0
        if by not in self.there:
            return 404  # as the web process has no page of that name
        process = Life(
            writes_left=self.dice.randrange(12) if self.dice.random() < 0.05 and not self._is_quiet() else None
        )
        kept = Kept(by, request, message_id, self.loop.now())
        try:
            status = as_process(process).run(intake.take, self.db, self.there, kept, self.spool)
        except Died:
            self.report.deaths += 1
            self._note("web died")
            return 0
        self._changed()
        return status

    def _is_quiet(self) -> bool:
        return hasattr(self, "quiet_since")

    def _idle_until(self) -> float:
        """When a look of the worker can find something: at the next moment that is written, or soon where something is due.

        What stays due though the worker looks (a token is not there, its own pause goes on a little) is looked at ever
        more seldom, until something changes.
        """
        self.idle += 1
        now = self.loop.now()
        when, due = self._moments(now)
        due = due or not self.spool.is_empty()
        step = min(900.0, 0.05 * 4.0**self.idle) if due else LONGEST_S
        until = self.loop.passed + step
        return until if when is None else min(until, (when - self.loop.began).total_seconds() + 0.001)

    def _changed(self) -> None:
        self.idle = 0
        self.loop.look_again()

    def _moments(self, now: datetime) -> tuple[datetime | None, bool]:
        told = {
            "now": _stamp(now), "late": _stamp(now - codes.LATE), "minute": _stamp(now - timedelta(seconds=60)),
            "helped": next(iter(self.db.rules.failover), ""),
        }  # fmt: skip
        row = self.db.driver.execute(_NEXT, told).fetchone()
        when = None if row[0] is None else datetime.fromisoformat(row[0]).replace(tzinfo=now.tzinfo)
        return when, bool(row[1])

    # -- a backup ------------------------------------------------------------------------------------------------------

    def _back_up(self) -> None:
        """A backup is made, and hours later the machine is lost: web and worker, and all that was written since."""
        file = self.folder / "backup.db"
        backups.make(self.db, file)
        last = self._one("SELECT max(id) FROM messages"), self._one("SELECT max(id) FROM broadcasts")
        then = Backup(file, *last, dict(self.stopped), set(self.halted))
        if not self.is_lost:
            self.backup = then
            self.gateway.later(self.dice.uniform(0, 100_000), self._lose, then)

    def _lose(self, backup: Backup) -> None:
        if self._is_quiet() or self.is_lost or backup is not self.backup:
            return
        self._note("the machine is lost")
        self.is_lost = self.worker_life.dead = True
        self.running.cancel()
        # What the gateway took last it has booked by then.
        self.gateway.later(3 * LATE_S, self._restore, backup)

    def _restore(self, backup: Backup) -> None:
        """The backup takes the place of what was lost; the world goes on knowing what has left, and to whom."""
        self.db.close()
        found = backups.restore(self.db, backup.file, yes=True, by=SHEET)
        self.db.listen()
        self._note(f"restored to {found.backed_up_at:%F %T}: {sorted(found.held.items())}")
        self.report.restores += 1
        self.paused = {}  # what was said to the lost machine since the backup nobody knows any more
        with self.db.reading() as tx:
            rows = list(tx.execute(sql("SELECT * FROM messages WHERE direction = 'out'")))
            self.heard = {(by, str(key).partition("/")[0]) for by, key in tx.execute(sql(_HEARD))}
        self.restored_at, self.last_backed_up = self.loop.now(), backup.last_message
        self.stopped, self.halted, self.flying = dict(backup.stopped), set(backup.halted), {}
        self.each = Counter({key: n for key, n in self.each.items() if key[0] <= backup.last_broadcast})
        self.times = Counter({key: n for key, n in self.times.items() if key <= backup.last_message})
        for known in (
            self.state, self.kinds, self.case_of, self.broadcast_of, self.handed_at, self.way, self.doubted,
            self.passed_on,
        ):  # fmt: skip
            known.clear()  # type: ignore[attr-defined]
        for row in rows:
            self.way[row.id] = row.gateway
            if row.state in ("unknown", "unresolved"):
                self.doubted.add(row.id)
            self.state[row.id], self.kinds[row.id], self.case_of[row.id] = row.state, row.kind, row.case_id
            if row.broadcast_id is not None:
                self.broadcast_of[row.id] = row.broadcast_id
                if row.id > backup.last_message and row.state in ("unknown", "unresolved"):
                    # Written out by the restore itself it has another number than when it left.
                    self.times[row.id] = self.each[row.broadcast_id, row.phone]
            self.claim(
                row.state not in ("queued", "claimed", "sending"), f"message {row.id} is {row.state} behind the fence"
            )
        self.is_lost = False

    def _is_of_another(self, booked: Booked) -> bool:
        """Whether what left is of the lost time: its number stands for another message now, or for none."""
        return booked.at < self.restored_at and booked.message > self.last_backed_up

    def _one(self, query: str) -> int:
        with self.db.reading() as tx:
            return int(tx.scalar(sql(query)) or 0)

    # -- what is seen --------------------------------------------------------------------------------------------------

    def claim(self, holds: bool, otherwise: str) -> None:
        """A promise; a breach ends the run."""
        self.report.checks += 1
        if not holds:
            raise Breach(otherwise)

    def _note(self, what: str) -> None:
        line = f"{self.loop.now():%F %T.%f} {what}"
        self.digest.update(line.encode())
        self.lately.append(line)

    def _look(self, driver: Any) -> bool:
        rows = driver.execute("SELECT * FROM seen ORDER BY n").fetchall()
        if not rows:
            return False
        driver.execute("DELETE FROM seen")
        try:
            for row in rows:
                self._see(*row[1:])
        except Breach as breach:
            # Whoever commits would take it for a fault of its own.
            if not self.ends:
                self.ends.append(breach)
                self.loop.stop()
        return True

    def _see(
        self, what: str, number: int, old: str, new: str, phone: str | None, kind: str, broadcast: int | None,
        case: int | None, attempt: str | None, reason: str | None, body: str | None, own: str | None, way: str | None,
        answers: int | None,
    ) -> None:  # fmt: skip
        """One thing that was committed."""
        self.report.moves += 1
        self._note(
            f"{what} {number} {old}>{new} {kind or ''} to {phone or ''} {reason or ''} {attempt or ''} {way or ''}"
        )
        if what == "broadcast":
            if new == "halted":
                self.halted.add(number)
            return
        self.claim(new != "gone", f"message {number} was deleted")
        if what == "in":
            self._see_inbound(number, old, phone or "", body, (way or "", str(attempt).partition("/")[0]))
            return
        if what == "way":
            self._see_other_way(number, way, attempt)
            return
        self.claim(new in FORWARD.get(old, ()), f"message {number} went from {old} to {new}")
        if not old:
            self.report.texts += 1
            self.kinds[number], self.case_of[number], self.way[number] = kind, case, way
            self._see_choice(number, phone or "", kind, case, reason, answers)
            if broadcast is not None:
                self.broadcast_of[number] = broadcast
        if way != self.way[number]:
            self._see_other_way(number, way, attempt)
        self.state[number] = new
        if new in ("unknown", "unresolved"):
            self.doubted.add(number)
        if new == "unknown" and way == SECOND and not self._is_quiet() and self.dice.random() < 0.1:
            # What is in doubt at a gateway tells most when it goes.
            self.gateway.later(self.dice.uniform(0, 600), self._take_out)
        if phone is None:
            return
        if kind == "broadcast" and new == "queued" and not self._is_quiet() and self.dice.random() < 0.04:
            # Between the writing of a text and its leaving is when a STOP is tried hardest.
            self.gateway.later(self.dice.choice((1.0, 5.0, 7200.0)) * self.dice.random(), self._stop_or_start, phone)
        if new in ("claimed", "sending"):
            other = self.flying.setdefault(phone, number)
            self.claim(other == number, f"messages {other} and {number} are in flight to one phone")
        elif self.flying.get(phone) == number:
            del self.flying[phone]
        if new == "sending":
            self._see_hand_over(number, phone, kind, broadcast, case)
            self._see_number(number, own)
        if old in ("sending", "unknown") and new in UNSENT:
            left = attempt in self.attempts or (str(attempt).startswith(RESTORED) and self.times[number])
            self.claim(not left, f"message {number} was taken, and is now {new}")
        self.report.unknown += new == "unknown"
        if new in ("refused", "withheld", "expired", "cancelled"):
            self.claim(bool(reason), f"message {number} is {new} and nobody can say why")

    def _see_hand_over(self, number: int, phone: str, kind: str, broadcast: int | None, case: int | None) -> None:
        self.claim(not self.times[number], f"message {number} was taken, and goes again")
        if self.dice.random() < 0.05 and not self._is_quiet():
            # While something is on its way a death tells most.
            self.gateway.later(self.dice.random(), self._kill_worker)
        if kind == "broadcast" and self.dice.random() < 0.02 and not self._is_quiet():
            # And a backup holds most then that may have left since.
            self.gateway.later(self.dice.random(), self._back_up)
        if kind in NEEDS_CONSENT and phone in self.stopped:
            self.claim(False, f"message {number} was handed over after {phone} stopped")
        if kind in KEEPS_HOURS and case is not None:
            self._in_hours(self.loop.now(), case, f"message {number} was handed over")
        self.claim(
            broadcast not in self.halted, f"message {number} was handed over after broadcast {broadcast} was halted"
        )

    def _see_number(self, number: int, own: str | None) -> None:
        """By which of our numbers it leaves; none is paused by a receipt, and no gateway."""
        by = self.way[number] or ""
        several = by == FIRST and len(self.numbers) > 1
        self.claim(own in self.numbers if several else own is None, f"message {number} left by {own}")
        self.handed_at[number] = self.loop.now()
        for what in (None, own):
            until = self.paused.get((by, what))
            which = f"number {what}" if what else "the gateway"
            self.claim(until is None or self.loop.now() >= until, f"message {number} left though {which} was paused")

    def _see_choice(
        self, number: int, phone: str, kind: str, case: int | None, reason: str | None, answers: int | None
    ) -> None:
        """The gateway that a new message is for: where its text came in, its case's own, its number's, the default."""
        rules = self.db.rules
        by_number = next((by for begin, by in rules.routes if phone.startswith(begin)), FIRST)
        own = self.own.get(case or 0)
        texted, came = self.came_by.get(answers or 0, ("", ""))
        if texted == phone and came in rules.gateways:
            meant = came
        elif own is not None and (own in rules.gateways or kind in KEEPS_HOURS):
            meant = own
        else:
            meant = by_number
        self.claim(
            self.way[number] == meant, f"message {number} was chosen to go by {self.way[number]} instead of {meant}"
        )
        self.claim(
            meant in rules.gateways or reason is not None, f"message {number} waits for {meant}, which is not there"
        )

    def _see_other_way(self, number: int, way: str | None, attempt: str | None) -> None:
        """A message goes to another gateway: as the settings say, and never after it may have been taken."""
        before = self.way[number] or ""
        self._note(f"message {number} passes from {before} to {way}")
        self.report.passed_on += 1
        self.claim(way == self.db.rules.failover.get(before), f"message {number} went from {before} to {way} unasked")
        unanswered = any(attempt in each.unanswered for each in self.all.values())
        doubtful = unanswered or number in self.doubted or self.times[number]
        self.claim(not doubtful, f"message {number} went to {way}, and {before} may have it")
        own = self.own.get(self.case_of.get(number) or 0)
        self.claim(own != before, f"message {number} went to {way}, and its case is set to {before}")
        self.way[number] = self.passed_on[number] = str(way)

    def told(self, booked: Booked, code: str | None, tell: Callable[[], int]) -> None:
        """A receipt comes; one that moves its message holds up what comes after it, if it says so."""
        number = booked.message
        before = self.state.get(number)
        tell()
        if self._is_of_another(booked):
            self.claim(self.state.get(number) == before, f"message {number} was moved by a receipt of another one")
            return
        trouble = TROUBLES.get(code or "")
        moved = before != "undelivered" and self.state.get(number) == "undelivered"
        what = booked.by, booked.own_number if trouble is not None and trouble.scope == "sender" else None
        if trouble is None or not moved or self.handed_at.get(number, BEGAN) <= self.resumed_at.get(what, BEGAN):
            return
        self.report.pauses += 1
        now = self.loop.now()
        until = {
            "while": now + timedelta(seconds=60),
            "day": now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1),
            "person": now + timedelta(days=1000),
        }[trouble.hold]  # Accra's midnight is that of UTC
        self.paused[what] = max(until, self.paused.get(what, until))
        self._note(f"{what[0]} {what[1] or ''} is paused until {until:%F %T}")
        if trouble.hold == "person" and not self._is_quiet():
            self.gateway.later(self.dice.uniform(60, 14400), self._resume)

    def _try_again(self) -> None:
        """A worker starts, and perhaps somebody has mended something: one message tries a gateway that waits for a person.

        Whether it waits so only the database knows: an answer of the gateway may have paused it as well, for longer.
        """
        now = self.loop.now()
        with self.db.reading() as tx:
            waiting = [row.name for row in rate_limits.paused(tx) if row.paused_until == rate_limits.UNTIL_RESUMED]
        for way in [(name, None) for name in waiting]:
            if now >= self.resumed_at.get(way, BEGAN) + rate_limits.TRIED_ONCE_IN:
                self.paused.pop(way, None)
                self.resumed_at[way] = now

    def _resume(self) -> None:
        """Somebody lets the gateway and its numbers go on."""
        with contextlib.suppress(*spool.OUTAGES), self.db.transaction() as tx:
            rate_limits.resume(tx, by=SHEET)
        ways: list[Way] = [(FIRST, None), (SECOND, None), *((FIRST, number) for number in self.numbers)]
        self.paused, self.resumed_at = {}, dict.fromkeys(ways, self.loop.now())
        self._changed()

    def _in_hours(self, at: datetime, case: int, what: str) -> None:
        wall = at.astimezone(ZoneInfo(self.zone[case]))
        self.claim(OPENS_H <= wall.hour < CLOSES_H, f"{what} at {wall:%H:%M} in {self.zone[case]}")

    def _see_inbound(self, number: int, old: str, phone: str, body: str | None, key: tuple[str, str]) -> None:
        if old:
            return
        self.report.inbound += 1
        self.came_by[number] = phone, key[0]
        typed = next((t for t in reversed(self.all[key[0]].received) if t.gateway_id == key[1]), None)
        self.claim(typed is not None, f"text {number} came from nobody")
        assert typed is not None
        self.claim(key not in self.heard, f"text {key[1]} was taken twice")
        self.heard.add(key)
        if body in STOPS and phone not in (LEAD, OTHER_LEAD):
            started = [
                t.at
                for t in self._received()
                if t.phone == phone and t.text in STARTS and (t.to, t.gateway_id) in self.heard
            ]
            if not any(at > typed.at for at in started):
                self.stopped[phone] = typed.at
        elif body in STARTS and phone in self.stopped and typed.at > self.stopped[phone]:
            del self.stopped[phone]

    def _received(self) -> Iterator[Typed]:
        return (typed for each in self.all.values() for typed in each.received)

    def booked(self, booked: Booked) -> None:
        """A gateway took a text: the one truth about what left."""
        self._note(f"booked {booked.message} {booked.attempt} to {booked.phone} by {booked.by}")
        self.times[booked.message] += 1
        self.attempts[booked.attempt] = booked
        self._promise(self.times[booked.message] == 1, f"message {booked.message} was sent twice")
        self._promise(booked.message in self.state, f"message {booked.message} was sent and is not in the database")
        way = self.way.get(booked.message)
        self._promise(
            way == booked.by or self._is_of_another(booked),
            f"message {booked.message} is in the book of {booked.by}, not of {way}",
        )
        broadcast = self.broadcast_of.get(booked.message)
        if broadcast is not None:
            self.each[broadcast, booked.phone] += 1
            self._promise(self.each[broadcast, booked.phone] == 1, f"{booked.phone} got broadcast {broadcast} twice")
        state = self.state.get(booked.message)
        self._promise(
            state not in ("withheld", "expired", "cancelled"), f"message {booked.message} left and is {state}"
        )

    def _promise(self, holds: bool, otherwise: str) -> None:
        """As `claim`, where nobody is there to hear of it."""
        try:
            self.claim(holds, otherwise)
        except Breach as breach:
            if not self.ends:
                self.ends.append(breach)
                self.loop.stop()

    def delivered(self, booked: Booked) -> None:
        """A phone has a text; the lead reads the code in it and answers."""
        self._note(f"delivered {booked.message} to {booked.phone}")
        if self._is_of_another(booked):
            return
        case, kind = self.case_of.get(booked.message), self.kinds.get(booked.message)
        if kind in KEEPS_HOURS and case is not None:
            with _told(self.ends):
                self._in_hours(self.loop.now(), case, f"message {booked.message} reached its phone")
        if booked.phone != LEAD or self._is_quiet():
            return
        found = re.search(r"\bok ([0-9]{6,10})\b", booked.text)
        number = re.search(r"\bhalt ([0-9]+)\b", booked.text)
        if found and self.dice.random() < 0.9:
            self.gateway.later(self.dice.uniform(3, 120), self._lead_says, f"ok {found[1]}")
            if self.dice.random() < 0.4:
                self._mood()
        elif number and self.dice.random() < 0.4:
            self.gateway.later(self.dice.uniform(1, 120), self._lead_says, f"halt {number[1]}")

    # -- at the end ----------------------------------------------------------------------------------------------------

    def _at_the_end(self) -> None:
        with self.db.reading() as tx:
            rows = list(
                tx.execute(
                    sql(
                        "SELECT id, state, reason, broadcast_id, reply_to, phone, kind FROM messages WHERE direction = 'out'"
                    )
                )
            )
            texts = list(tx.execute(sql("SELECT gateway, gateway_id, state FROM messages WHERE direction = 'in'")))
            shown = {(row[0], row[1]) for row in tx.execute(sql(_PASSED_ON))}
            asked = list(tx.execute(sql("SELECT id, state, recipients, launched_at, expanded_at FROM broadcasts")))
            sample = self.dice.sample([row.id for row in rows], min(25, len(rows)))
            for number in sample:
                self.claim(bool(explaining.life(tx, number)), f"message {number} cannot be explained")
        for row in rows:
            held_back = row.state == "queued" and row.reason == "doubt"
            self.claim(row.state in OVER or held_back, f"message {row.id} is {row.state} for ever ({row.reason})")
            self.claim(
                row.state not in HELD or self.times[row.id] == 1, f"message {row.id} is {row.state} and never left"
            )
            self.claim(
                not self.times[row.id] or row.state in HELD | {"unresolved"},
                f"message {row.id} left and is {row.state}",
            )
        answered = Counter((row.reply_to, row.phone, row.kind) for row in rows if row.reply_to is not None)
        for of, many in answered.items():
            self.claim(many == 1, f"text {of[0]} was answered {many} times")
        for number, way in self.passed_on.items():
            self.claim((number, way) in shown, f"message {number} went to {way}, and nobody can see it")
        there = Counter((row.gateway, row.gateway_id) for row in texts)
        for typed in self._received():
            lists = typed.to in self.there and self.all[typed.to].capabilities.lists_inbound
            surely = (typed.taken or lists) and typed.at > self.restored_at
            times = there[typed.to, typed.gateway_id]
            self.claim(
                times == 1 or (not surely and times == 0),
                f"text {typed.gateway_id} of {typed.to} is there {times} times",
            )
        for row in texts:
            self.claim(row.state in ("handled", "set_aside"), f"text {row.gateway_id} is {row.state}")
        written = Counter(row.broadcast_id for row in rows if row.broadcast_id)
        for row in asked:
            if row.launched_at is None:
                continue
            self.claim(row.expanded_at is not None, f"broadcast {row.id} was never written out")
            self.claim(written[row.id] == row.recipients, f"broadcast {row.id}: {written[row.id]} of {row.recipients}")
        found = audit.verify(self.db.reading)
        self.claim(found.breach is None, "the audit log does not hold")


_PASSED_ON: Final = "SELECT message_id, code FROM attempts WHERE reason = 'failover'"

_NEXT: Final = """
WITH asked AS (
  SELECT coalesce(ask_at, strftime('%Y-%m-%d %H:%M:%f000', handed_over_at, '+2 minutes')) AS at
  FROM messages WHERE state = 'unknown')
SELECT min(at),
  EXISTS (SELECT 1 FROM messages m WHERE state = 'queued' AND due_at <= :now
    AND NOT EXISTS (SELECT 1 FROM gateways WHERE name = m.gateway AND paused_until > :now)
    AND NOT EXISTS (SELECT 1 FROM messages o WHERE o.phone = m.phone AND (o.state IN ('claimed', 'sending')
      OR o.state = 'unknown' AND m.kind = 'broadcast')))
  OR EXISTS (SELECT 1 FROM messages m WHERE state = 'queued' AND gateway = :helped AND due_at <= :minute
    AND EXISTS (SELECT 1 FROM gateways WHERE name = :helped AND paused_until > :now))
  OR EXISTS (SELECT 1 FROM messages WHERE state = 'claimed')
  OR EXISTS (SELECT 1 FROM messages WHERE state = 'sending' AND lease_until <= :now)
  OR EXISTS (SELECT 1 FROM messages WHERE state = 'queued' AND expires_at <= :now)
  OR EXISTS (SELECT 1 FROM messages WHERE state = 'received' AND due_at <= :now)
  OR EXISTS (SELECT 1 FROM asked WHERE at <= :now)
  OR EXISTS (SELECT 1 FROM operations WHERE state IN ('waiting', 'seconding') AND expires_at <= :late)
  OR EXISTS (SELECT 1 FROM broadcasts WHERE state = 'expanding' OR (state IN ('held', 'scheduled') AND hold_until <= :now))
  OR EXISTS (SELECT 1 FROM broadcasts WHERE state IN ('held', 'halted') AND launched_at IS NOT NULL AND expanded_at IS NULL)
  OR EXISTS (SELECT 1 FROM broadcasts b WHERE state = 'sending' AND NOT EXISTS (
    SELECT 1 FROM messages WHERE broadcast_id = b.id AND state IN ('queued', 'claimed', 'sending')))
FROM (
  SELECT min(due_at) AS at FROM messages WHERE state = 'queued' AND due_at > :now
  UNION ALL SELECT strftime('%Y-%m-%d %H:%M:%f000', min(due_at), '+60 seconds') FROM messages
    WHERE state = 'queued' AND gateway = :helped AND due_at > :minute
  UNION ALL SELECT min(expires_at) FROM messages WHERE state = 'queued' AND expires_at > :now
  UNION ALL SELECT min(due_at) FROM messages WHERE state = 'received' AND due_at > :now
  UNION ALL SELECT min(lease_until) FROM messages WHERE state IN ('claimed', 'sending') AND lease_until > :now
  UNION ALL SELECT min(at) FROM asked WHERE at > :now
  UNION ALL SELECT strftime('%Y-%m-%d %H:%M:%f000', min(expires_at), '+30 minutes') FROM operations
    WHERE state IN ('waiting', 'seconding') AND expires_at > :late
  UNION ALL SELECT min(hold_until) FROM broadcasts WHERE state IN ('held', 'scheduled') AND hold_until > :now
  UNION ALL SELECT min(paused_until) FROM gateways WHERE paused_until > :now)
"""
"""The next moment at which the worker may find something, and whether it may now: all that one of its turns looks for."""


def _stamp(moment: datetime) -> str:
    """A moment as SQLite holds it."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


_HEARD: Final = "SELECT gateway, gateway_id FROM messages WHERE direction = 'in'"


@dataclass(frozen=True)
class Backup:
    """A backup, and what the world knew when it was made."""

    file: Path
    last_message: int
    last_broadcast: int
    stopped: dict[str, datetime]
    halted: set[int]


@dataclass(frozen=True)
class _Cell:
    text: str
    fault: None = None


@dataclass(frozen=True)
class _Row:
    number: int
    cells: dict[str, _Cell]


@contextlib.contextmanager
def _told(ends: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except Breach as breach:
        if not ends:
            ends.append(breach)


def _is_outage(fault: BaseException) -> bool:
    return isinstance(fault, spool.OUTAGES)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """All that is drawn comes from one seed, and no disk is waited for."""
    dice = random.Random(seed)
    state = random.getstate()
    random.seed(seed)
    with (
        mock.patch.object(secrets, "token_hex", lambda n=32: dice.randbytes(n).hex()),
        mock.patch.object(secrets, "token_bytes", lambda n=32: dice.randbytes(n)),
        mock.patch.object(cases, "_random", dice),
        mock.patch.object(os, "fsync", lambda _file: None),
        # The same names again and again: half of the time would go into making them.
        mock.patch.object(schema.messages, "alias", functools.cache(schema.messages.alias)),
    ):
        try:
            yield
        finally:
            random.setstate(state)


def run(
    seed: int,
    days: int,
    empty: Path,
    wrong: Callable[[], contextlib.AbstractContextManager[None]] | None = None,
    *,
    is_quick: bool = True,
) -> Report:
    """So many days by this seed, on a copy of an empty database; `wrong` breaks the code on purpose meanwhile.

    Without `is_quick` every statement goes all the way through SQLAlchemy.
    """
    with tempfile.TemporaryDirectory(prefix="jumbe-days-") as folder, _seeded(seed):
        file = Path(folder) / "jumbe.db"
        shutil.copy(empty, file)
        with wrong() if wrong else contextlib.nullcontext():
            return Days(seed, days, file, is_quick=is_quick).run()


@contextlib.contextmanager
def empty_database() -> Iterator[Path]:
    """An upgraded, empty database, whose secrets are of no account: they are made anew from the seed."""
    with tempfile.TemporaryDirectory(prefix="jumbe-days-") as folder, _seeded(0):
        file = Path(folder) / "empty.db"
        db = Database(f"sqlite:///{file}", clock=lambda: BEGAN)
        migrate.upgrade(db)
        db.close()
        yield file


def run_many(seed: int, within_s: float, empty: Path) -> Report:
    """Run after run, each with a seed of its own that follows from the first; ends at the first breach, or left alone.

    The digest is of all of them, so the same number of runs has the same one.
    """
    whole, end, parent = Report(seed, 0, runs=0), time.monotonic() + within_s, os.getppid()
    digest = hashlib.sha256()
    while time.monotonic() < end and whole.breach is None and os.getppid() == parent:
        found = run(seed * 100_000 + whole.runs, DAYS_A_RUN, empty)
        digest.update(found.digest.encode())
        found.days += QUIET_DAYS
        whole.take(found)
        whole.digest = digest.hexdigest()
        if found.breach is not None:
            print(found.said(), file=sys.stderr, flush=True)
    return whole


def main() -> int:
    """One seed, told in full; or as many as there is time for, told as JSON."""
    from tests.proof.wrongs import WRONGS

    arguments = argparse.ArgumentParser(prog="python -m tests.proof.days", description=__doc__)
    arguments.add_argument("seed", type=int)
    arguments.add_argument("--days", type=int, default=DAYS_A_RUN)
    arguments.add_argument("--wrong", choices=WRONGS, help="break the code on purpose")
    arguments.add_argument("--within", type=float, metavar="S", help="run after run for so long, told as JSON")
    told = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    with empty_database() as empty:
        if told.within:
            found = run_many(told.seed, told.within, empty)
            print(json.dumps(asdict(found)))
        else:
            found = run(told.seed, told.days, empty, WRONGS[told.wrong] if told.wrong else None)
            print(found.said())
    return int(found.breach is not None)


if __name__ == "__main__":
    sys.exit(main())
