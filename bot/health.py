"""Whether all is well: for a monitor (`/healthz`, `/readyz`, `/metrics`) and for the operator (`jumbe doctor`)."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bot.inbound.spool import Spool
from bot.metrics import exposition
from storage import audit, private_files
from storage.console import count_of, forgotten, verified
from storage.database import Database, Transaction, born, is_rehearsal, restored, server, sqlite_is_safe
from storage.errors import Misconfigured
from storage.messages import lookups, reconciliation
from storage.programme import procrastinate_schema, rate_limits, workers
from storage.upkeep import backups, renumbering, restore

LOW_DISK = 256 * 1024 * 1024

NO_WORKER = "no worker was heard of for 20 seconds: start 'jumbe worker'"

FAST = timedelta(seconds=30)
"""A clock that is so far behind another is wrong."""


def blueprint(db: Database, spool: Spool | None = None) -> Blueprint:
    """The addresses a monitor asks; no number, text or name is ever in an answer."""
    pages = Blueprint("health", __name__)

    @pages.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", content_type="text/plain")

    @pages.get("/readyz")
    def readyz() -> tuple[Response, int]:
        faults = unready(db)
        told = [says for _, well, says in _beside(db, spool) if not well]
        told += [] if faults else warnings(db)
        return jsonify(ready=not faults, faults=faults, warnings=told), 503 if faults else 200

    @pages.get("/knows/<owner>/<int(max=9999999999):at>")
    def knows(owner: str, at: int) -> tuple[Response, int]:
        """Whether a worker of this name wrote here since a second of its clock: by this it sees whether we are its own."""
        try:
            with db.reading() as tx:
                return jsonify(knows=workers.is_known(tx, owner, datetime.fromtimestamp(at, UTC))), 200
        except (DBAPIError, PoolTimeout):
            return jsonify(), 503

    @pages.get("/metrics")
    def metrics() -> Response:
        try:
            with db.reading() as tx:
                lines = list(exposition(tx))
        except (DBAPIError, PoolTimeout) as fault:
            return Response(f"the database does not answer: {type(fault).__name__}\n", 503, content_type="text/plain")
        return Response("\n".join(lines) + "\n", content_type="text/plain; version=0.0.4")

    return pages


def unready(db: Database) -> list[str]:
    """Why the system cannot do its work now; empty if it can."""
    try:
        db.check()
        with db.reading() as tx:
            fresh = workers.is_fresh(tx)
    except Misconfigured as fault:
        return list(fault.faults)
    except Exception as fault:  # noqa: BLE001  a monitor is told, whatever it is
        return [f"the database does not answer: {type(fault).__name__}"]
    return [] if fresh else [NO_WORKER]


def warnings(db: Database) -> list[str]:
    """What a person should mend though the system does its work; empty if nothing.

    Only what is found at once, however large the database is: a monitor asks often. `examine` looks at everything.
    """
    try:
        with db.reading() as tx:
            shared = "ready" if tx.is_sqlite else procrastinate_schema.state(tx)
            gateways = {row.name for row in rate_limits.paused(tx)} | {
                row.gateway for row in rate_limits.paused_senders(tx)
            }
            unknown, ahead, rehearses = reconciliation.count_unknown(tx), _clock(tx), is_rehearsal(tx)
            kept = _backup(backups.last_made(tx), born(tx), tx.now, db.rules.backup_h)
    except (DBAPIError, PoolTimeout):
        return []  # gone since it was asked whether it is ready, and the next question says so
    told = [] if shared == "ready" else [procrastinate_schema.shown(shared)]
    # Which of our numbers, and what the gateway said, is for the operator alone.
    told += [f"{name} is paused, or a number of ours there: 'jumbe doctor' says why" for name in sorted(gateways)]
    if unknown:
        told.append(f"{_messages(unknown)} may or may not have been sent: 'jumbe doctor' says since when")
    return told + [says for _, well, says in (ahead, *(() if rehearses else (kept,))) if not well]


def _beside(db: Database, spool: Spool | None) -> Iterator[tuple[str, bool, str]]:
    """What lies beside the database, and is seen also while that does not answer."""
    if db.file is not None and db.file.exists():
        yield _disk(db.file)
    if spool is not None:
        waiting, aside = spool.waiting()
        yield "spool", not (waiting or aside), f"{waiting} webhooks wait for the database, {aside} were set aside"


def _disk(file: Path) -> tuple[str, bool, str]:
    """The line about the room that is left."""
    free = shutil.disk_usage(os.path.realpath(file.parent)).free
    told = f"{free // 2**20} MiB free"
    if free > LOW_DISK:
        return "disk", True, told
    return "disk", False, f"{told} where the database is: make room, for when it is full no text can be kept"


def _clock(tx: Transaction) -> tuple[str, bool, str]:
    """The line about the clock: what was written is in the past, unless the clock was set back or is wrong."""
    seen = workers.last_seen(tx)
    if seen is None or seen < tx.now + FAST:
        return "clock", True, f"it is {_minute(tx.now)} here"
    told = f"it is {_minute(tx.now)} here, and a worker wrote at {_minute(seen)}: set the clocks of all machines right"
    return "clock", False, f"{told} (NTP), for hours, quiet hours and codes go by them"


def examine(db: Database, *, at_once: bool = False) -> Iterator[tuple[str, bool, str]]:
    """What the operator should know: name, whether it is well, and the sentence.

    With `at_once` of the audit log only the newest lines are verified, so that a page of a long history opens at once.
    """
    if db.is_sqlite:
        yield _library()
    try:
        db.check()
    except Misconfigured as fault:
        yield "database", False, "; ".join(fault.faults)
        return
    yield "database", True, f"{db.shown} answers and has the schema of this release"
    with db.reading() as tx:
        states = lookups.count_open(tx)
        fresh = workers.count_fresh(tx)
        engine = None if db.is_sqlite else server(tx)
        rehearses = is_rehearsal(tx)
        paused, numbers = rate_limits.paused(tx), rate_limits.paused_senders(tx)
        slowed = [row for row in rate_limits.list_gateways(tx) if rate_limits.speed(row, tx.now) < 1]
        waiting = lookups.not_leaving(tx)
        doubt, gone, unheard = lookups.in_doubt(tx), reconciliation.gone(tx), reconciliation.unheard(tx)
        clock = _clock(tx)
        restoration, held = restored(tx), restore.holding(tx)
        shared = None if db.is_sqlite else procrastinate_schema.state(tx)
        last, made_at = backups.last_made(tx), born(tx)
        one_phone = renumbering.found(tx)
    found = audit.verify_newest(db.reading) if at_once else audit.verify(db.reading)
    if engine is not None:
        version, synced = engine
        lost = "fsync or synchronous_commit is off, so a power cut may take back what was acknowledged: turn them on"
        told = "every commit is synced, and any number of workers may serve it" if synced else lost
        yield "postgresql", synced, f"PostgreSQL {version}: {told}"
    if shared is not None:
        yield "jobs", shared == "ready", procrastinate_schema.shown(shared)
    yield (
        "stamp",
        True,
        f"a {'rehearsal database: no real gateway will serve it' if rehearses else 'database for real use'}",
    )
    yield _workers(fresh)
    yield _paused(paused, numbers)
    if not rehearses:
        yield _backup(last, made_at, db.clock(), db.rules.backup_h)
    if slowed:
        yield _slowed(slowed, db.clock())
    yield _leaving(waiting, {gateway.name for gateway in paused})
    yield _doubt(doubt, gone, states)
    if unheard:
        yield _unheard(unheard)
    yield clock
    if restoration is not None:
        yield _fence(*restoration, held)
    if one_phone.cases or one_phone.people:
        yield "numbers", True, _one_phone(one_phone)
    yield _aside(states.get("set_aside", 0))
    yield "audit", found.breach is None, _verified(found)
    if db.file is not None:
        yield _disk(db.file)


def _aside(texts: int) -> tuple[str, bool, str]:
    words = f"{count_of(texts, 'text')} could not be handled: see 'jumbe messages list --state set_aside'"
    return "inbox", texts == 0, words if texts else "every text was handled"


def _one_phone(found: Row[Any]) -> str:
    cases, accounts = count_of(found.cases, "case"), count_of(found.people, "account")
    return (
        f"upgrades found numbers that are one phone: {cases} stand in line behind another, and {accounts} of staff were"
        " joined with an older one (cases.one-phone and people.one-phone in 'jumbe audit list')"
    )


def _verified(found: audit.Finding) -> str:
    """What was found in the audit log, and how much of it was read."""
    if found.breach is not None or found.last is None or (found.after is None and found.unread is None):
        return verified(found)
    under = "" if found.unread is None else f", and the changes under those after line {found.unread}"
    return (
        f"the newest {count_of(found.holds, 'line')} hold{'s' if found.holds == 1 else ''}{under}; 'jumbe audit verify'"
        f" reads every line. The head is {found.last.hash}{'.' if found.forgotten else ''}{forgotten(found)}"
    )


def _library() -> tuple[str, bool, str]:
    """The line about the library that reads the file."""
    safe, library = sqlite_is_safe(), f"SQLite {sqlite3.sqlite_version}"
    if safe:
        return "sqlite", True, f"{library} free of the WAL-reset bug"
    return "sqlite", False, f"{library} has the WAL-reset bug, so the rollback journal is used: install pysqlite3"


def _workers(fresh: int) -> tuple[str, bool, str]:
    """The line about who sends."""
    if not fresh:
        return "worker", False, NO_WORKER
    return "worker", True, "a worker is at work" if fresh == 1 else f"{fresh} workers are at work"


def _doubt(doubt: Row[Any], gone: Sequence[Row[Any]], states: Mapping[str, int]) -> tuple[str, bool, str]:
    """The line about what may or may not have been sent."""
    told = (
        f"{_messages(doubt.many)} may or may not have been sent, the oldest since {_minute(doubt.since)}. The gateway is"
        f" asked about {states.get('unknown', 0)} ('jumbe messages list --state unknown'); a person decides about"
        f" {states.get('unresolved', 0)} ('jumbe messages list --state unresolved'). None is ever sent again without proof"
        if doubt.many
        else "no message is in doubt"
    )
    for row in gone:
        told += (
            f". {_messages(row.many)} of them went by {row.gateway}, which is not in the settings any more: look at its own"
            " list, or set it up again, and its receipts count"
        )
    return "unknown", doubt.many == 0, told


def _unheard(gateways: Sequence[Row[Any]]) -> tuple[str, bool, str]:
    """The line about gateways that took messages and say nothing of them."""
    told = [f"{g.gateway} took {_messages(g.many)} since {_minute(g.since)} and sent no receipt" for g in gateways]
    mend = ": see that PUBLIC_URL is reached from outside, over https, and that its proxy passes POST on to 'jumbe web'"
    return "receipts", False, "; ".join(told) + mend


def spooled(spool: Spool) -> tuple[str, bool, str]:
    """The line about webhooks that wait for the database."""
    waiting, aside = spool.waiting()
    told = []
    if waiting:
        told.append(
            f"{waiting} webhooks wait in {spool.path} until the database can keep them; web or worker play them back"
        )
    if aside:
        told.append(f"{aside} could not be acted on and are in {spool.aside}: keep that file, and see the log")
    return "spool", not told, "; ".join(told) or "no webhook waits for the database"


def owned(files: Sequence[Path]) -> tuple[str, bool, str]:
    """The line about whether other users of this machine may use the files of the programme."""
    told = []
    if opened := private_files.open_to_others(files):
        names = ", ".join(f"{found.path.name} ({found.mode:04o}, of {found.owner})" for found in opened)
        paths = " ".join(shlex.quote(str(found.path)) for found in opened)
        told.append(
            f"other users of this machine may read or write {names}: as the owner of them, or as root, run"
            f" 'chmod 600 {paths}', and let web, worker, desk and every command run as one user. Where that changes"
            " nothing, the file system keeps no modes: move them to one that does"
        )
    told += [
        f"everybody may write in the folder {folder}, and put another file in the place of one of ours: move them to a"
        " folder of their own (chmod 700)"
        for folder in private_files.shared_folders(files)
    ]
    return "files", not told, "; ".join(told) or "the database and what lies beside it are their owner's alone"


def _leaving(waiting: list[Row[Any]], paused: set[str]) -> tuple[str, bool, str]:
    """The line about what is queued and does not leave, but for paused gateways, which have a line of their own."""
    waiting = [row for row in waiting if row.gateway not in paused]
    tried = {row.gateway for row in waiting if row.reason is not None}
    told = []
    for row in waiting:
        some = f"{_messages(row.many)} for {row.gateway}, the oldest since {_minute(row.since)}, "
        if row.gateway is None:
            some = f"{_messages(row.many)}, the oldest since {_minute(row.since)}, "
            told.append(f"{some}had no gateway when queued: set one and restart 'jumbe worker', which gives it to them")
        elif row.reason == "unreachable":
            told.append(
                f"{some}could not be handed over: it cannot be reached. Check the network and its address;"
                " they are tried again by themselves"
            )
        elif row.reason == "throttled":
            told.append(
                f"{some}were put off: it asks us to slow down. Lower its rate; they are tried again by themselves"
            )
        elif row.gateway not in tried:
            due = "is due and does not leave" if row.many == 1 else "are due and none leaves"
            told.append(f"{some}{due}: see that a worker runs with this gateway set. They wait in the queue")
    return ("queue", False, "; ".join(told)) if told else ("queue", True, "what is due leaves")


def _backup(last: datetime | None, born: datetime, now: datetime, hours: int) -> tuple[str, bool, str]:
    """The line about the age of the last backup that was verified."""
    nightly = "'jumbe backup --to FILE' each night, FILE on another disk; 'jumbe restore FILE --check' tries it"
    if hours == 0:
        return "backup", True, "not looked after here (JUMBE_BACKUP_H is 0)"
    if last is None:
        well = now - born < timedelta(hours=hours)
        return "backup", well, f"none was ever made: run {nightly}. JUMBE_BACKUP_H=0 where something else makes them"
    age = now - last
    told = f"the last one was made and verified {_minute(last)}, {int(age.total_seconds() // 3600)} h ago"
    if age > timedelta(hours=hours):
        return "backup", False, f"{told}, more than {hours}: run {nightly}"
    return "backup", True, told


def _fence(backed_up_at: datetime, restored_at: datetime, held: dict[str, int]) -> tuple[str, bool, str]:
    """The line about what a restore holds back."""
    asked, undecided, texts = held.get("unknown", 0), held.get("unresolved", 0), held["texts"]
    told = f"restored {_minute(restored_at)} from a backup of {_minute(backed_up_at)}; "
    if not (asked or undecided or texts):
        return "fence", True, f"{told}nothing of that is open any more"
    told += f"of what was open in it the gateway is asked about {_messages(asked)}, a person decides about {undecided}"
    return "fence", False, f"{told}, and of what came in before {count_of(texts, 'text')} for a person to read"


def _messages(count: int) -> str:
    return count_of(count, "message")


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _slowed(gateways: list[Row[Any]], now: datetime) -> tuple[str, bool, str]:
    """The line about gateways that asked for less: well, because it mends itself."""
    told = [f"{g.name} asked for less and goes at {rate_limits.speed(g, now):.0%} of its rate" for g in gateways]
    return "speed", True, "; ".join(told) + "; that doubles each minute"


def _paused(gateways: list[Row[Any]], numbers: list[Row[Any]]) -> tuple[str, bool, str]:
    """The line about gateways at which everything waits, and about our numbers that do not send."""
    told = [f"{g.name} is paused until {until(g.paused_until)}: {g.paused_because}" for g in gateways]
    whole = {g.name for g in gateways}
    told += [
        f"our number {n.number} at {n.gateway} is paused until {until(n.paused_until)}"
        f"{'' if n.gateway in whole else ', and the others send'}: {n.paused_because}"
        for n in numbers
    ]
    if not told:
        return "paused", True, "no gateway is paused"
    return (
        "paused",
        False,
        "; ".join(told) + ". When it is mended, 'jumbe gateways resume NAME': it tries again at once",
    )


def until(paused_until: datetime) -> str:
    """Until when a gateway is paused."""
    return "somebody lets it go on" if paused_until >= rate_limits.UNTIL_RESUMED else _minute(paused_until)
