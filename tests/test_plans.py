"""What is done each second, for each text and at each scrape reads no table that grows with the years.

A programme with 200,000 messages behind it is made once on each database.  Then the real things are done in it, everything
that goes to the engine is written down, and each statement is asked for its plan.  So a statement that is new is found by
itself: nothing here lists the statements, only what is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from flask import Flask
from sqlalchemy import event

from bot.app import create_app
from bot.commands.registry import COMMANDS
from bot.gateways.base import CannotTell, Capabilities, Inbound
from bot.gateways.twilio import Twilio
from bot.worker.worker import Worker
from storage.broadcasts import broadcasts, previews
from storage.contacts import groups
from storage.database import Database
from storage.messages import outbox
from storage.operations import operations
from storage.rules.hours_and_limits import Rules
from tests import history
from tests.conftest import Clock
from tests.stub_twilio import StubTwilio, new_sid
from tests.texting import Book
from tests.world import TEST

MANY: Final = 200_000
GROWING: Final = ("messages", "operations", "receipts", "audit", "audit_changes")
LIVE: Final = 500
"""Rows that are looked through, at most, by what looks through all that is open, or in doubt, or left to a person."""

STEPS: Final = 40_000
"""Of SQLite's machine, at most, for one statement: some milliseconds, whatever its plan says."""

PUBLIC: Final = "https://sms.example.org"
SPOOL: Final = str(Path(tempfile.gettempdir()) / f"plans-{os.getpid()}-spool")
STUB: Final = StubTwilio("AC" + "7" * 32, "a token")
RULES: Final = Rules(
    name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, default_gateway=history.GATEWAY,
    gateways=frozenset({history.GATEWAY, "other"}), failover={history.GATEWAY: "other"},
)  # fmt: skip


@dataclass
class Listing(Book):
    """A gateway that can be asked for all that a worker ever asks."""

    name: str = history.GATEWAY
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(
            receipts=True, signed_webhooks=True, validity=True, answers_stop_itself=False, concurrency=8,
            finds_sent=True, lists_inbound=True,
        )
    )  # fmt: skip

    async def find(self, _doubtful: object) -> CannotTell:
        return CannotTell("not today")

    async def sweep(self, _since: object) -> list[Inbound]:
        return [Inbound(new_sid(), phone_of(11), history.LEAD, "I am on my way")]


@dataclass(frozen=True)
class Ran:
    """A statement that ran, with its parameters, for what it was, and how many steps it took on SQLite."""

    doing: str
    statement: str
    parameters: Any
    steps: int

    @property
    def tables(self) -> set[str]:
        """The tables that grow of which it speaks."""
        return {table for table in GROWING if re.search(rf"\b{table}\b", self.statement)}

    @property
    def words(self) -> str:
        """The statement in one line."""
        return " ".join(self.statement.split())


def phone_of(n: int) -> str:
    return str(history.FIRST + n)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def past(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The programme, filled once for each engine; what is done in it stays."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            file = tmp_path_factory.mktemp("past") / "past.db"
            shutil.copy(request.getfixturevalue("empty_file"), file)
            address = f"sqlite:///{file}"
        else:
            address = stack.enter_context(request.getfixturevalue("postgres").database())
        db = stack.enter_context(contextlib.closing(Database(address, RULES, Clock())))
        if db.is_sqlite:
            event.listen(db.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        history.fill(db, MANY)
        if not db.is_sqlite:
            history.analyze(db)  # as it does by itself; SQLite is asked with and without
        yield db


@pytest.fixture(scope="module")
def ran(past: Database) -> list[Ran]:
    """All that went to the engine while everything was done, each statement once for each doing."""
    found: dict[tuple[str, str], Ran] = {}
    for name, doing in DOINGS.items():
        with recorded(past, name) as each:
            doing(past)
        assert each, f"{name} asked the database nothing"
        for one in each:
            known = found.get((name, one.statement))
            if known is None or known.steps < one.steps:
                found[name, one.statement] = one
    return list(found.values())


@contextlib.contextmanager
def recorded(db: Database, doing: str) -> Iterator[list[Ran]]:
    """What goes to the engine, and on SQLite how many steps of its machine each statement takes."""
    seen: list[tuple[str, Any, list[int]]] = []

    def note(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool) -> None:
        count = [0]
        seen.append((statement, parameters[0] if executemany else parameters, count))
        if db.is_sqlite:

            def tick() -> int:
                count[0] += 100
                return 0

            connection.connection.dbapi_connection.set_progress_handler(tick, 100)

    event.listen(db.engine, "before_cursor_execute", note)
    ran: list[Ran] = []
    try:
        yield ran
    finally:
        event.remove(db.engine, "before_cursor_execute", note)
        with db.reading() as tx:
            if db.is_sqlite:
                tx.connection.connection.dbapi_connection.set_progress_handler(None, 0)  # type: ignore[union-attr]
        ran += [Ran(doing, statement, parameters, count[0]) for statement, parameters, count in seen]


# -- what is done ------------------------------------------------------------------------------------------------------


def work(db: Database) -> None:
    """A worker starts, does all there is, and looks again each second: with every chore, also those of a minute and an hour."""
    book = Listing()

    async def some_time() -> None:
        worker = Worker(db, {history.GATEWAY: book, "other": Listing("other")}, PUBLIC, spool=SPOOL)  # type: ignore[dict-item]
        worker.start()
        for seconds in (0, 1, 61, 3600):
            db.clock.advance(seconds=seconds)  # type: ignore[attr-defined]
            await worker.drain()
        await worker.finish()

    asyncio.run(some_time())


def send(db: Database) -> None:
    """Texts leave: one that is taken, one that is refused, one without an answer, one that is asked to wait."""
    with db.transaction() as tx:
        for n in range(300, 306):
            outbox.queue(tx, phone_of(n), "Come tomorrow", "text", case_id=n)
    book = Listing(
        moods={
            phone_of(300): "message",
            phone_of(301): "unknown",
            phone_of(302): "unreachable",
            phone_of(303): "opted_out",
        }
    )

    async def all_of_it() -> None:
        worker = Worker(db, {history.GATEWAY: book}, PUBLIC, spool=SPOOL)  # type: ignore[dict-item]
        worker.start()
        await worker.drain()
        await worker.finish()

    asyncio.run(all_of_it())
    assert len(book.left) >= 5


def broadcast(db: Database) -> None:
    """A broadcast is launched, expanded and sent."""
    with db.transaction() as tx:
        ward = groups.group(tx, "ward2")
        number = previews.draft(tx, {"en": "Come tomorrow"}, group_ids=[ward.id], words="tell ward2", by=TEST)
        operations.decide(tx, number, "done", by=TEST)
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
    work(db)


def served(db: Database) -> Flask:
    gateway = Twilio(
        name=history.GATEWAY, account_sid=STUB.account_sid, auth_token=STUB.auth_token, sender="15005550006",
        messaging_service_sid=None,
    )  # fmt: skip
    return create_app(db, {history.GATEWAY: gateway}, PUBLIC, spool=SPOOL)


def texting(*texts: tuple[str, str]) -> Callable[[Database], None]:
    """Texts come in by the webhook, each from its phone."""

    def come(db: Database) -> None:
        page = served(db).test_client()
        for phone, body in texts:
            form = STUB.inbound_form(phone, body, new_sid())
            post(page, f"/in/{history.GATEWAY}", form)
            db.clock.advance(seconds=1)  # type: ignore[attr-defined]

    return come


def post(page: Any, path: str, form: Mapping[str, str]) -> None:
    headers = {
        "X-Twilio-Signature": STUB.sign(PUBLIC + path, form),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    answer = page.post(path, data=urlencode(form), headers=headers)
    assert answer.status_code == 200, answer.data


def receipts(db: Database) -> None:
    """Receipts: of old messages, repeated, of none of ours, and such as mean something beyond their message."""
    page = served(db).test_client()
    for number, word, code in ((4, "delivered", None), (4, "delivered", None), (54, "undelivered", 30003),
                               (104, "undelivered", 21610), (154, "undelivered", 30002), (999_999_999, "sent", None)):  # fmt: skip
        sid = f"SM{number:032}"
        post(page, f"/status/{history.GATEWAY}/{number}", STUB.receipt_form(sid, phone_of(1), word, code))


def monitor(db: Database) -> None:
    page = served(db).test_client()
    for path in ("/healthz", "/readyz", "/metrics", "/knows/somebody/1"):
        assert page.get(path).status_code in (200, 503), path


def start_page(db: Database) -> None:
    """The first view of page 00, of a lead and of a supervisor."""
    from tests.parts import library

    library("anywidget")
    from admin_notebooks.desk import Desk
    from admin_notebooks.panels import start_here

    for person in (1, 2):
        told, _ = start_here.panel(Desk(db, person, "00_start_here")).answer({"verb": "start", "args": {}}, [])
        assert "result" in told, told
    assert len(told["result"]["pages"]) > 5


def commands() -> list[tuple[str, str]]:
    """Every example of every command, from a lead and from a supervisor, as far as they name what is here."""
    examples = [example for command in COMMANDS.values() for example in command.examples]
    known = [re.sub(r"\banc\b", "ward2", re.sub(r"\bp-[0-9]+", "p-700", example)) for example in examples]
    return [(phone, body) for body in known for phone in (history.LEAD, history.SUPERVISOR)]


DOINGS: Final[dict[str, Callable[[Database], None]]] = {
    "an idle worker": work,
    "bare check": texting((history.LEAD, "check"), (history.SUPERVISOR, "check")),
    "a case replies": texting((phone_of(101), "Can I come on Monday?"), (phone_of(101), "And on Tuesday?")),
    "a stranger texts": texting(("233209999999", "Hello?"), ("233209999999", "Anybody?")),
    "STOP, START, HELP": texting(*((phone_of(120), word) for word in ("STOP", "STOP", "START", "HELP"))),
    "a doubtful stop": texting(*((phone_of(130), words) for words in ("please leave me alone", "what?", "1"))),
    "commands": texting(*commands()),
    "a wrong code": texting(
        (history.LEAD, "123456"), (history.LEAD, "ok 123456"), (history.LEAD, "no"), (history.LEAD, "mneu")
    ),
    "a question and its answer": texting(
        (history.LEAD, "invite p-900"), (phone_of(900), "maybe"), (phone_of(900), "yes"), (history.LEAD, "check")
    ),
    "texts leave": send,
    "a broadcast": broadcast,
    "receipts": receipts,
    "a monitor": monitor,
    "page 00": start_page,
}


# -- what it must not do -----------------------------------------------------------------------------------------------

AN_END: Final = re.compile(
    r"SELECT [\w., ]+ FROM (\w+) ORDER BY \1\.\w+ DESC(, \1\.\w+ DESC)? LIMIT (\?|%\(param_1\)s::INTEGER)( OFFSET .*)?"
)
"""The newest row of a whole table, or the one so many before it: read backwards by its key.  Bound: so many rows."""

BY_KEYS: Final = re.compile(r"INSERT INTO (\w+) \([^()]*\) VALUES .*")
"""For a row that comes in SQLite's plan names the tables that refer to it; it reads one only while a key is broken.  Bound:
what it did take."""

WIDE: Final = {
    r"audience AS": "what a broadcast says and to whom: each of the 600 in its group is looked at",
    r"SELECT messages\.state, messages\.reason, count.* WHERE messages\.broadcast_id = ": "how far one broadcast is",
}
"""Statements that may take more steps than others, and why; not more than WIDEST."""

WIDEST: Final = 400_000


def test_no_statement_looks_through_what_is_over(past: Database, ran: list[Ran]) -> None:
    assert looked_through(past, ran) == ""


def test_nor_once_the_database_has_looked_at_its_rows(past: Database, ran: list[Ran]) -> None:
    """SQLite looks at them only when it is told to, and may then choose otherwise."""
    history.analyze(past)
    assert looked_through(past, ran) == ""


def test_no_statement_costs_more_than_some_milliseconds(past: Database, ran: list[Ran]) -> None:
    """What no plan says: how long the past of one phone is, or of one person."""
    if not past.is_sqlite:
        pytest.skip("only SQLite counts its steps")
    dear = [f"{one.doing}, {one.steps:,} steps: {one.words}" for one in ran if one.steps > bound(one)]
    assert "\n".join(dear) == ""


def test_a_command_that_says_no_size_counts_nobody(ran: list[Ran]) -> None:
    """A lead of 500 groups paid 22 ms for each text."""
    counted = [one.words for one in ran if one.doing == "bare check" and "FROM memberships" in one.words]
    assert counted == []


def bound(one: Ran) -> int:
    """How many steps a statement may take."""
    if not one.tables:
        return 10**9
    if BY_KEYS.fullmatch(one.words):
        return 1_000
    return WIDEST if any(re.search(words, one.words) for words in WIDE) else STEPS


def test_what_is_done_is_recorded(ran: list[Ran]) -> None:
    """A recording that recorded nothing would refuse nothing."""
    assert set().union(*(one.tables for one in ran)) == set(GROWING)
    assert len({one.statement for one in ran}) > 150


def looked_through(db: Database, ran: Sequence[Ran]) -> str:
    """Each plan that reads a whole table that grows, with what it was for."""
    found = {}
    with db.reading() as tx:
        for one in ran:
            if not re.match(r"\s*(SELECT|UPDATE|INSERT|DELETE|WITH)\b", one.statement):
                continue
            if one.statement in found:
                continue
            driver: Any = tx.connection.connection.dbapi_connection
            plan = _scans_of_sqlite(driver, one) if db.is_sqlite else _scans_of_postgresql(driver, one)
            found[one.statement] = [f"{one.doing}: {step}: {one.words}" for step in plan]
    return "\n".join(line for lines in found.values() for line in lines)


def _scans_of_sqlite(driver: Any, one: Ran) -> Iterator[str]:
    called = {
        **{table: table for table in GROWING},
        **{a: t for t, a in re.findall(r"\b(\w+) AS (\w+)", one.statement)},
    }
    for row in driver.execute(f"EXPLAIN QUERY PLAN {one.statement}", one.parameters).fetchall():
        scan = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", row[3])
        if scan is None or called.get(scan[1]) not in GROWING:
            continue
        if scan[2] and _rows_of_partial(driver, called[scan[1]], scan[2]) <= LIVE:
            continue
        if AN_END.fullmatch(one.words) or (BY_KEYS.fullmatch(one.words) and scan[1] not in one.words):
            continue
        yield row[3]


def _rows_of_partial(driver: Any, table: str, index: str) -> int:
    (made,) = driver.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone() or (None,)
    _, where, condition = (made or "").partition(" WHERE ")
    return driver.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()[0] if where else MANY


def _scans_of_postgresql(driver: Any, one: Ran) -> Iterator[str]:
    if not one.tables:
        return  # of a temporary table another connection of the pool knows nothing
    ((plan,),) = driver.execute(f"EXPLAIN (FORMAT JSON) {one.statement}", one.parameters).fetchall()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    yield from _refused(driver, plan[0]["Plan"])


READS: Final = ("Seq Scan", "Sample Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan")


def _refused(driver: Any, node: Mapping[str, Any], limit: float | None = None, table: str = "") -> Iterator[str]:
    kind = node["Node Type"]
    if kind == "Limit":
        limit = node["Plan Rows"]
    elif "Scan" not in kind and kind not in ("LockRows", "Result"):
        limit = None
    table = table if kind == "Bitmap Index Scan" else node.get("Relation Name", "")
    if kind in READS and table in GROWING and not _is_bounded(driver, node, limit):
        yield f"{kind} on {table} {node.get('Index Name', '')} {node.get('Filter', '')}"
    for child in node.get("Plans", ()):
        yield from _refused(driver, child, limit, node.get("Relation Name", table))


def _is_bounded(driver: Any, node: Mapping[str, Any], limit: float | None) -> bool:
    index = node.get("Index Name")
    if index is None:
        return False
    query = """
        SELECT a.attname, i.indpred IS NOT NULL AND c.reltuples <= %s FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = 1 WHERE c.relname = %s
    """
    first, is_small = driver.execute(query, (LIVE, index)).fetchone()
    # A condition on a later column reads the whole index.
    by_key = re.search(rf"\b{first}\b", node.get("Index Cond", "")) is not None
    at_an_end = limit is not None and limit <= 1 and "Filter" not in node
    return bool(by_key or is_small or at_an_end)
