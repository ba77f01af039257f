"""What wakes the workers on PostgreSQL: a call at once, and jobs that give what is to be done once to one of many.

Real workers, each with connections of its own, on one real database; the gateways alone are made for the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import logging
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import insert, literal, select, update

from bot.gateways.base import (
    Absent,
    Accepted,
    CannotTell,
    Capabilities,
    Inbound,
    NotSent,
    Outgoing,
    Request,
    SendResult,
    Unknown,
)
from bot.inbound import listeners
from bot.inbound.intake import spool_of
from bot.inbound.spool import Kept
from bot.worker import dispatcher, reconciler, wakeups
from bot.worker import worker as worker_module
from bot.worker.worker import Worker
from storage import schema
from storage.broadcasts import broadcasts, expansion, previews
from storage.database import Database
from storage.messages import gate, inbox, lookups, outbox
from storage.operations import operations
from storage.programme import rate_limits
from storage.rules.hours_and_limits import Rules
from storage.upkeep import migrate
from tests.parts import has
from tests.patience import HANG_S, joined_tasks, pace_of, soon, work
from tests.postgres import Postgres
from tests.processes import ACCOUNT, TOKEN, Jumbe, SlowTwilio
from tests.world import TEST, World

needs_jobs = pytest.mark.skipif(
    not has("procrastinate"),
    reason="Procrastinate is not here: pip install 'jumbe[postgres]'",
)
PHONES = [f"23324{n:07}" for n in range(400)]


class Line:
    """A gateway that many workers share: what each was handed, when, and how often it was asked for its lists."""

    name = kind = "simulator"
    rate_per_s = 1000.0
    capabilities = Capabilities(False, False, False, False, concurrency=20, finds_sent=True, lists_inbound=True)

    def __init__(self) -> None:
        self.answer: SendResult | None = None
        self.begun: Callable[[], int] = lambda: 0
        self.handed: dict[int, int] = {}
        """How many turns its worker had begun then."""
        self.by: list[int] = []
        self.taken: set[int] = set()
        self.at_once = self.most_at_once = 0
        self.swept = self.listed = 0
        self.list_fails = False
        self.asked: list[int] = []
        self.needs_s = 0.0

    async def send(self, outgoing: Outgoing) -> SendResult:
        assert outgoing.id not in self.taken, "handed over again after it was taken"
        self.handed[outgoing.id] = self.begun()
        self.by.append(outgoing.id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await pace_of(self.needs_s)
        self.at_once -= 1
        if self.answer is None:
            self.taken.add(outgoing.id)
        return self.answer or Accepted(f"S{outgoing.id}")

    async def sweep(self, since: datetime) -> list[Inbound] | CannotTell:
        self.swept += 1
        self.listed += not self.list_fails
        return CannotTell("it is away") if self.list_fails else []

    async def find(self, doubtful: Any) -> Absent | CannotTell:
        self.asked.append(doubtful.id)
        await pace_of(0.3)
        return Absent()

    def parse_inbound(self, request: Request) -> list[Inbound]:
        number, _, words = request.body.decode().partition(" ")
        return [Inbound(f"SM-{number}-{words}", number, "1234", words)]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def rules() -> Rules:
    return Rules(
        name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, digest=False,
        default_gateway="simulator", gateways=frozenset({"simulator"}),
    )  # fmt: skip


class Clock:
    """The real clock, as that of the jobs is, and what a test has put it forward by."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, **span: float) -> None:
        self.ahead += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shared(postgres: Postgres, rules: Rules, clock: Clock) -> Iterator[Database]:
    """One PostgreSQL that workers share."""
    with postgres.database() as address:
        db = Database(address, rules, clock)
        with db.transaction() as tx:
            tx.execute(update(schema.programme).values(created_at=tx.now - timedelta(days=9)))
        yield db
        db.close()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds for minutes."""
    monkeypatch.setattr(wakeups, "EVERY", dict.fromkeys(wakeups.EVERY, "* * * * * */1") | {"sweep": "* * * * * */2"})
    monkeypatch.setattr(wakeups, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(wakeups, "STALLED_S", 2.0)


class Seen(Worker):
    """A worker that counts what it does."""

    begun = turns = tidied = 0
    longest_s = 0.0
    """The longest that it would have waited until its next look."""

    async def turn(self) -> bool:
        self.begun += 1
        worked = await super().turn()
        self.turns += 1
        return worked

    async def _wait(self, stop: asyncio.Event) -> None:
        self.longest_s = max(self.longest_s, self._look_s)
        await super()._wait(stop)

    def _tidy_all(self) -> bool:
        worked = super()._tidy_all()
        self.tidied += 1
        return worked


@contextlib.asynccontextmanager
async def at_work(db: Database, line: Any, many: int = 1, **named: Any) -> AsyncIterator[list[Seen]]:
    """So many workers, each as a process of its own would be: its own connections, leases and loop of work."""
    stop = asyncio.Event()
    own = [Database(db.url.render_as_string(hide_password=False), db.rules, db.clock) for _ in range(many)]
    team = [Seen(one, {line.name: line}, "http://127.0.0.1", **named) for one in own]
    try:
        async with asyncio.TaskGroup() as tasks:  # a worker that fails ends the test at once
            running = [tasks.create_task(worker.run(stop)) for worker in team]
            try:
                await soon(lambda: all(w._wakeups is None or w._wakeups.is_listening for w in team))
                yield team
            finally:
                stop.set()
                await joined_tasks(*running)
    finally:
        for one in own:
            one.close()


async def looked(team: list[Seen], times: int = 2) -> None:
    """Until each of them has had so many turns more; the first may have been under way.  So what they could do is done."""
    for _ in range(times):
        before = [worker.turns for worker in team]
        for worker in team:
            worker._called.set()
        await soon(lambda before=before: all(w.turns > b for w, b in zip(team, before, strict=True)), "they look")


async def chores_done(team: list[Seen], times: int = 2) -> None:
    """Until jobs have had a chore done so many times more, each asked for after the one before: what is due is done too."""
    until = sum(worker.tidied for worker in team) + times
    await soon(lambda: sum(worker.tidied for worker in team) >= until, "chores are done")


async def passes(db: Database, seconds: float) -> None:
    """Until the clock that the workers go by has moved on so far."""
    until = db.clock() + timedelta(seconds=seconds)
    await soon(lambda: db.clock() >= until)


async def share_chores(team: list[Seen]) -> None:
    """Until the jobs are there."""
    await soon(lambda: all(w._wakeups is not None and w._wakeups._app is not None for w in team))


def states(db: Database) -> dict[str, int]:
    with db.reading() as tx:
        return lookups.count_states(tx)


def queue(db: Database, *phones: str, kind: str = "notice") -> list[int]:
    with db.transaction() as tx:
        return [outbox.queue(tx, phone, "Hello", kind) for phone in phones]


def run(db: Database, *statements: str) -> list[Any]:
    """Run these outside of any worker; the rows of the last."""
    with psycopg.connect(db.address, autocommit=True) as connection:
        for statement in statements:
            rows = connection.execute(statement)
        return rows.fetchall() if rows.description else []


def broadcast(db: Database, many: int) -> int:
    """A launched broadcast to so many people."""
    world = World(db)
    group = world.group("anc", *(world.case(f"p{n}", phone) for n, phone in enumerate(PHONES[:many])))
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "Clinic on Monday"}, group_ids=[group], words="tell", by=TEST)
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
    return number


# -- a reply leaves at once --------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """How a reply left: turns that its worker began since the commit, seconds of processor, and by the clock on the wall."""

    turns: int
    used_s: float
    took_s: float


async def ways(db: Database, many: int, team: list[Seen], line: Line) -> list[Way]:
    """How each of so many replies left a worker with nothing else to do."""
    (worker,) = team
    line.begun = lambda: worker.begun

    def reply(phone: str) -> tuple[int, int, float, float]:
        (number,) = queue(db, phone, kind="reply")
        return number, worker.begun, time.process_time(), time.perf_counter()

    took = []
    for n in range(many):
        number, begun, used, began = await asyncio.to_thread(reply, PHONES[n])
        await soon(lambda number=number: number in line.handed, "it leaves", every_s=0.003)
        took.append(Way(line.handed[number] - begun, time.process_time() - used, time.perf_counter() - began))
    return took


def left_at_once(took: list[Way]) -> None:
    """In the turn after the commit, or in the one after a turn that was under way; and that takes no time to speak of.

    How long it took by the clock on the wall is printed and not held: that counts what else this machine does.
    """
    for what, values in (("it took", [way.took_s for way in took]), ("of processor", [way.used_s for way in took])):
        cut = statistics.quantiles([1000 * value for value in values], n=20)
        print(f"{len(took)} replies, ms {what}: p50 {cut[9]:.0f}, p95 {cut[18]:.0f}, max {1000 * max(values):.0f}")
    assert max(way.turns for way in took) <= 2
    used = [way.used_s for way in took]
    assert statistics.median(used) < 0.1 and max(used) < 1


def test_on_sqlite_a_reply_is_handed_over_within_200_ms_of_its_commit(tmp_path: Path, rules: Rules) -> None:
    """Half of it until the next look at the latest, and half for a turn: counted, for a clock counts other work too."""
    db = Database(f"sqlite:///{tmp_path}/jumbe.db", rules)
    migrate.upgrade(db)

    async def whole() -> None:
        line = Line()
        async with at_work(db, line) as team:
            left_at_once(await ways(db, 30, team, line))
            assert await soon(lambda: team[0].longest_s) <= 0.1

    asyncio.run(whole())
    db.close()


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that listens does nothing of itself: only a call wakes it."""
    monkeypatch.setattr(wakeups, "EVERY", {})
    monkeypatch.setattr(worker_module, "LISTENING_LOOK_S", 10 * HANG_S)


def test_on_postgresql_a_reply_is_handed_over_as_soon_as_its_commit_calls(shared: Database, seldom: None) -> None:
    async def whole() -> None:
        line = Line()
        async with at_work(shared, line) as team:
            left_at_once(await ways(shared, 30, team, line))

    asyncio.run(whole())


def test_where_no_call_comes_through_the_worker_looks_as_often_as_on_sqlite(
    shared: Database, seldom: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel is another one, and then the connection is away as well."""

    async def away(*_: Any, **__: Any) -> None:
        raise OSError

    async def whole() -> None:
        line = Line()
        async with at_work(shared, line) as team:
            (worker,) = team
            monkeypatch.setattr(psycopg.AsyncConnection, "connect", away)
            run(shared, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN jumbe%'"
                " OR (query = 'SELECT 1' AND datname = current_database() AND pid <> pg_backend_pid())")  # fmt: skip
            await soon(lambda: worker._wakeups and not worker._wakeups.is_listening)
            await looked(team)
            worker.longest_s = 0.0
            left_at_once(await ways(shared, 30, team, line))
            assert await soon(lambda: worker.longest_s) <= 0.1

    asyncio.run(whole())


def test_a_call_that_is_rolled_back_is_no_call_and_one_within_a_savepoint_that_was_taken_back_does_no_harm(
    shared: Database,
) -> None:
    with psycopg.connect(shared.address, autocommit=True) as ear:
        ear.execute("LISTEN jumbe")
        with contextlib.suppress(ZeroDivisionError), shared.transaction() as tx:
            outbox.queue(tx, PHONES[0], "Hello", "reply")
            raise ZeroDivisionError
        with shared.transaction() as tx:
            with contextlib.suppress(ZeroDivisionError), tx.savepoint():
                outbox.queue(tx, PHONES[0], "Hello", "reply")
                raise ZeroDivisionError
            outbox.queue(tx, PHONES[1], "Hello", "reply")
        ear.execute("NOTIFY jumbe, 'the last'")
        calls = [call.payload for call in ear.notifies(timeout=HANG_S, stop_after=2)]
        assert len(calls) == 2 and calls[1] == "the last", "one call, and before it none"


def test_a_worker_whose_connections_are_cut_goes_on_and_is_called_again(
    shared: Database, seldom: None, caplog: Any
) -> None:
    async def whole() -> None:
        line = Line()
        async with at_work(shared, line) as (worker,):
            helper = worker._wakeups
            assert helper is not None
            for n in range(3):
                run(
                    shared,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
                await soon(lambda: not helper.is_listening)
                shared.close()
                (number,) = await asyncio.to_thread(queue, shared, PHONES[n], kind="reply")
                await soon(lambda number=number: number in line.handed)
                await soon(lambda: helper.is_listening)
                (number,) = await asyncio.to_thread(queue, shared, PHONES[10 + n], kind="reply")
                await soon(lambda number=number: number in line.handed)

    with caplog.at_level(logging.WARNING):
        asyncio.run(whole())
    assert "the calls are away" in caplog.text


# -- what is to be done once is done once ------------------------------------------------------------------------------


@needs_jobs
def test_three_workers_ask_a_gateway_for_its_list_once_a_period(shared: Database, often: None) -> None:
    line = Line()

    async def whole() -> None:
        async with at_work(shared, line, 3) as team:
            await share_chores(team)
            await soon(lambda: line.swept >= 3)

    began = time.monotonic()
    asyncio.run(whole())
    periods = int((time.monotonic() - began) / 2) + 2  # that went by, however long it took
    assert line.swept <= periods, "three workers by themselves would ask three times as often"


@needs_jobs
def test_of_three_workers_that_start_together_one_asks_for_the_list(
    shared: Database, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "EVERY", {**wakeups.EVERY, "sweep": "*/5 * * * *"})
    line = Line()

    async def whole() -> None:
        for _ in range(2):
            async with at_work(shared, line, 3) as team:
                await soon(lambda: line.swept)
                await chores_done(team, 3)
                await looked(team)

    before = int(time.time() // 300)
    asyncio.run(whole())
    assert 1 <= line.swept <= 1 + int(time.time() // 300) - before


@needs_jobs
def test_a_list_that_could_not_be_read_is_asked_for_again_by_the_one_that_asked(
    shared: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "SWEEP_AGAIN", timedelta(seconds=1))
    a_minute_ago = datetime.now(UTC) - timedelta(minutes=1)
    monkeypatch.setattr(
        wakeups, "EVERY", {**wakeups.EVERY, "sweep": f"{a_minute_ago.minute} * * * *"}
    )  # then in an hour
    line = Line()
    line.list_fails = True
    asked: list[datetime] = []
    begin = reconciler.Reconciler._begin_sweep

    async def note(self: Any, name: str, now: datetime) -> None:
        asked.append(now)
        await begin(self, name, now)

    monkeypatch.setattr(reconciler.Reconciler, "_begin_sweep", note)

    async def whole() -> None:
        async with at_work(shared, line, 3) as team:
            await share_chores(team)
            await soon(lambda: line.swept >= 3)
            line.list_fails = False
            await soon(lambda: line.listed)
            many = line.swept
            await passes(shared, 2)  # when it would be asked for again
            await looked(team)
            assert line.swept == many

    asyncio.run(whole())
    assert min(b - a for a, b in itertools.pairwise(asked)) >= timedelta(seconds=1)


@pytest.mark.parametrize("with_jobs", [pytest.param(True, marks=needs_jobs), False])
def test_three_workers_ask_once_what_became_of_a_text(shared: Database, often: None, with_jobs: bool) -> None:
    line = Line()
    if not with_jobs:
        run(shared, "DROP SCHEMA IF EXISTS procrastinate CASCADE")
    doubtful = queue(shared, *PHONES[:12])
    with shared.transaction() as tx:
        long_ago = tx.now - timedelta(minutes=3)
        ids = outbox.claim(tx, "simulator", "dead", 12)
        gate.hand_over(tx, ids, "dead", rate_per_s=100)
        tx.execute(update(schema.messages).values(state="unknown", handed_over_at=long_ago, settled_at=long_ago))

    async def whole() -> None:
        async with at_work(shared, line, 3) as team:
            await soon(lambda: len(line.asked) >= 12)
            await passes(shared, 2)  # the next time that they look for such
            await looked(team)
            if with_jobs:
                await chores_done(team)

    asyncio.run(whole())
    assert sorted(line.asked) == doubtful


@pytest.mark.parametrize("with_jobs", [pytest.param(True, marks=needs_jobs), False])
def test_three_workers_tell_the_leads_once_and_take_each_text_once(
    shared: Database, often: None, tmp_path: Path, with_jobs: bool
) -> None:
    """The digest, what stayed in doubt, the texts of the spool, and a text whose first handling failed."""
    shared.rules = replace(shared.rules, digest=True)
    if not with_jobs:
        run(shared, "DROP SCHEMA IF EXISTS procrastinate CASCADE")
    line, world = Line(), World(shared)
    lena = world.person("Lena", PHONES[300])
    number = broadcast(shared, 3)
    with shared.transaction() as tx:
        # Two hours ago somebody was told of all before; what was launched since is news.
        operations.mark_digested(tx, operations.digested(tx), 0)
        tx.execute(update(schema.programme).values(digested_at=tx.now - timedelta(hours=2)))
        assert expansion.expand_next(tx)
        # Asked about once, twenty minutes ago; the next look that finds nothing leaves them to a person.
        before = tx.now - timedelta(minutes=20)
        tx.execute(
            update(schema.messages)
            .where(schema.messages.c.broadcast_id == number)
            .values(state="unknown", attempts=1, attempt_id="first", handed_over_at=before, ask_at=tx.now)
        )
        of_it = select(schema.messages.c.id, literal("first"), literal("absent"), literal(before, schema.Moment()))
        tx.execute(
            insert(schema.asks).from_select(
                ["message_id", "attempt_id", "answer", "at"], of_it.where(schema.messages.c.broadcast_id == number)
            )
        )
        tx.execute(update(schema.broadcasts).values(expanded_at=tx.now, state="sending"))
        late = inbox.record_inbound(tx, gateway="simulator", gateway_id="SM-late", sender=PHONES[0], text="I am late")
    assert late is not None
    spool = spool_of(shared, str(tmp_path / "spool"))
    for n in range(30):
        body = f"{PHONES[n]} text {n}".encode()
        spool.keep(Kept("simulator", Request("POST", "http://x/in/simulator", {}, body), None, datetime.now(UTC)))

    async def whole() -> None:
        async with at_work(shared, line, 3, spool=str(tmp_path / "spool")) as team:
            await soon(lambda: spool.is_empty() and states(shared).get("handled") == 31)
            await passes(shared, 2)  # the next time that they look for such
            await looked(team)
            if with_jobs:
                await chores_done(team, 3)

    asyncio.run(whole())
    with shared.reading() as tx:
        to_lena = [row.body for row in lookups.list_all(tx, phone=PHONES[300], direction="out")]
        came_in = lookups.list_all(tx, direction="in")
    assert len(came_in) == 31
    assert sum("nobody can say whether" in body for body in to_lena) == 1
    assert sum("Since" in body or "told" in body for body in to_lena) == 1, to_lena
    assert sum("I am late" in body for body in to_lena) == 1
    assert lena is not None


# -- a gateway that is left alone --------------------------------------------------------------------------------------


def paused(db: Database) -> Any:
    return run(db, "SELECT paused_until FROM gateways WHERE name = 'simulator'")


class Mute(Line):
    """It cannot say what became of a text either."""

    async def find(self, doubtful: Any) -> CannotTell:
        return CannotTell("it is away")


async def all_answered(line: Line, team: list[Seen]) -> None:
    """Until no call is under way, all that was answered is written down, and all have looked at what that means."""
    await soon(lambda: line.at_once == 0 and not any(worker._has_answers for worker in team))
    await looked(team, 3)
    await soon(lambda: line.at_once == 0 and not any(worker._has_answers for worker in team))


def test_what_one_worker_pauses_is_paused_for_all_and_one_message_of_one_worker_tries_it(
    shared: Database, clock: Clock
) -> None:
    line = Mute()
    line.answer, line.needs_s = Unknown("no answer"), 0.2

    async def whole() -> None:
        queue(shared, *PHONES)
        async with at_work(shared, line, 3) as team:
            await soon(lambda: paused(shared) not in ([], [(None,)]))
            await all_answered(line, team)
            lost = len(line.handed)
            assert lost <= 3 * 40, "each worker counts for itself, and the first to see it stops all"
            await looked(team, 3)
            assert len(line.handed) == lost
            assert states(shared).get("claimed", 0) == 0, "nobody holds what another gateway could take"

            line.most_at_once = 0
            clock.advance(minutes=15)  # the pause is over
            await soon(lambda: len(line.handed) > lost)
            await all_answered(line, team)
            assert len(line.handed) == lost + 1, "one message, of one worker"

            line.answer, line.most_at_once = None, 0
            clock.advance(minutes=15)
            await soon(lambda: states(shared).get("accepted", 0) == len(PHONES) - lost - 1)
            assert line.most_at_once > 1, "and then all go on"
            assert paused(shared) == [(None,)]

    asyncio.run(whole())


def test_a_gateway_that_a_person_lets_go_on_is_tried_with_one_message_and_goes_on_for_all(shared: Database) -> None:
    line = Line()
    line.answer, line.needs_s = NotSent("gateway", "a wrong token", "20003", lasting=True), 0.2

    async def whole() -> None:
        queue(shared, *PHONES[:60])
        async with at_work(shared, line, 3) as team:
            await soon(lambda: paused(shared) not in ([], [(None,)]))
            await all_answered(line, team)
            tried, line.most_at_once = len(line.by), 0
            with shared.transaction() as tx:
                rate_limits.resume(tx, "simulator")
            await soon(lambda: len(line.by) > tried)
            await all_answered(line, team)
            assert (len(line.by), line.most_at_once) == (tried + 1, 1), "it is still wrong, and one message found it"
            line.answer = None
            with shared.transaction() as tx:
                rate_limits.resume(tx, "simulator")
            await soon(lambda: states(shared) == {"accepted": 60})
            assert paused(shared) == [(None,)]

    asyncio.run(whole())


def test_if_the_worker_that_tries_it_dies_another_does(shared: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "STANDBY", timedelta(seconds=1))
    line = Line()
    queue(shared, *PHONES[:5])
    with shared.transaction() as tx:
        # As one leaves it that paused it, began to try it, and died.
        rate_limits.pause(tx, "simulator", until=tx.now + timedelta(seconds=2), because="no answers")

    async def whole() -> None:
        async with at_work(shared, line, 2):
            with shared.transaction() as tx:
                rate_limits.pause(tx, "simulator", until=tx.now + timedelta(seconds=2), because="no answers")
            await soon(lambda: states(shared) == {"accepted": 5})

    asyncio.run(whole())


# -- jobs are wake-ups -------------------------------------------------------------------------------------------------


def jobs_made(db: Database) -> int:
    return int(
        run(db, "SELECT coalesce(max(last_value), 0) FROM procrastinate.procrastinate_jobs_id_seq WHERE is_called")[0][
            0
        ]
    )


@needs_jobs
def test_no_webhook_and_no_command_makes_a_job(shared: Database) -> None:
    World(shared).person("Lena", PHONES[0])
    World(shared).group("anc", World(shared).case("ama", PHONES[1]))
    for n, words in enumerate(("menu", "tell anc Clinic on Monday", "STOP")):
        listeners.take(shared, "simulator", Inbound(f"SM{n}", PHONES[0], "1234", words))
    assert jobs_made(shared) == 0


@needs_jobs
def test_losing_every_job_at_any_moment_loses_nothing(shared: Database, often: None) -> None:
    line, lost = Line(), 0

    async def whole() -> None:
        nonlocal lost
        async with at_work(shared, line, 3) as team:
            await share_chores(team)
            number = await asyncio.to_thread(broadcast, shared, 200)
            for _ in range(15):
                with contextlib.suppress(
                    psycopg.errors.DeadlockDetected
                ):  # a worker that takes a job won: the next one
                    await asyncio.to_thread(run, shared, "TRUNCATE procrastinate.procrastinate_jobs CASCADE")
                    lost += 1
                await pace_of(0.2)
            await soon(lambda: states(shared) == {"accepted": 200})
            done = f"SELECT state FROM broadcasts WHERE id = {number}"
            await soon(lambda: run(shared, done) == [("done",)])

    asyncio.run(whole())
    assert lost > 5
    assert sorted(line.by) == sorted(line.handed)


@needs_jobs
def test_the_job_of_a_worker_that_died_is_given_to_another(shared: Database, often: None) -> None:
    """Under its lock no other worker could do that chore: a rescue ends this."""
    line = Line()
    run(
        shared,
        "SET search_path = procrastinate",
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 hour')",
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, status, worker_id)"
        " SELECT 'default', chore, chore, chore, 'doing', max(id) FROM procrastinate_workers,"
        " unnest(ARRAY['expand', 'tidy']) AS chore GROUP BY chore",
    )

    async def whole() -> None:
        async with at_work(shared, line, 2) as team:
            await share_chores(team)
            number = await asyncio.to_thread(broadcast, shared, 50)
            await soon(lambda: line.swept >= 2, "other chores are done")
            await looked(team)
            assert line.by == [], "its heartbeat is fresh yet"
            run(shared, "UPDATE procrastinate.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"
                " WHERE last_heartbeat > now() + interval '1 minute'")  # fmt: skip
            await soon(lambda: states(shared) == {"accepted": 50})
            done = f"SELECT state FROM broadcasts WHERE id = {number}"
            await soon(lambda: run(shared, done) == [("done",)])
            await chores_done(team, 3)
            stuck = (
                "SELECT task_name FROM procrastinate.procrastinate_jobs WHERE status = 'doing' AND worker_id IS NULL"
            )
            assert run(shared, stuck) == []

    asyncio.run(whole())


@needs_jobs
def test_one_worker_expands_while_the_others_send(shared: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "FEWEST", 20)
    monkeypatch.setattr(expansion, "RANGE", 20)
    line, expanding = Line(), []
    real = Worker._expand

    def expand(self: Worker) -> bool:
        worked = real(self)
        if worked:
            expanding.append(self.owner)
            work(0.05)
        return worked

    monkeypatch.setattr(Worker, "_expand", expand)

    async def whole() -> None:
        async with at_work(shared, line, 3) as team:
            await share_chores(team)
            await asyncio.to_thread(broadcast, shared, 400)
            await soon(lambda: states(shared).get("accepted") == 400)

    asyncio.run(whole())
    assert len(expanding) >= 20
    assert len(set(expanding)) == 1


@needs_jobs
def test_the_other_chores_are_done_while_one_worker_alone_expands_for_long(
    shared: Database, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "FEWEST", 4)
    monkeypatch.setattr(expansion, "RANGE", 4)
    expand, put_away, tidied = Worker._expand, broadcasts.put_away_unconfirmed, []

    def slowly(self: Worker) -> bool:
        worked = expand(self)
        work(0.08 if worked else 0)
        return worked

    def tidy(tx: Any) -> None:
        tidied.append(states(shared).get("accepted", 0))
        put_away(tx)

    monkeypatch.setattr(Worker, "_expand", slowly)
    monkeypatch.setattr(broadcasts, "put_away_unconfirmed", tidy)

    async def whole() -> None:
        async with at_work(shared, Line(), 1) as team:
            await share_chores(team)
            await asyncio.to_thread(broadcast, shared, 400)
            await soon(lambda: states(shared).get("accepted") == 400)

    asyncio.run(whole())
    assert [many for many in tidied if 20 < many < 380]


@needs_jobs
def test_a_chore_that_always_fails_ends_the_worker_and_one_that_fails_at_times_does_not(
    shared: Database, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "FAULTS_IN_A_ROW", 3)
    fails, tidied = {"now": False, "always": False}, []

    def put_away(tx: Any) -> None:
        tidied.append(1)
        fails["now"] = not fails["now"]
        if fails["now"] or fails["always"]:
            raise ZeroDivisionError

    monkeypatch.setattr(broadcasts, "put_away_unconfirmed", put_away)

    async def whole() -> None:
        worker = Worker(shared, {}, "http://127.0.0.1")
        running = asyncio.create_task(worker.run(asyncio.Event()))
        await soon(lambda: len(tidied) >= 6)
        assert not running.done()
        fails["always"] = True
        with pytest.raises(ZeroDivisionError):
            await joined_tasks(running)

    asyncio.run(whole())


@pytest.mark.parametrize("harm", ["missing", "older", "not installed"])
def test_without_usable_jobs_each_worker_does_the_chores_and_says_why(
    shared: Database, harm: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    if harm == "missing":
        run(shared, "DROP SCHEMA IF EXISTS procrastinate CASCADE")
    elif harm == "older":
        run(shared, "CREATE SCHEMA IF NOT EXISTS procrastinate", "COMMENT ON SCHEMA procrastinate IS '01.00.00_01'")
    else:
        real = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name == "procrastinate" else real(name, *more)
        )
    if harm == "older" and not has("procrastinate"):
        pytest.skip("Procrastinate is not here")
    line = Line()

    async def whole() -> None:
        async with at_work(shared, line, 2):
            number = await asyncio.to_thread(broadcast, shared, 20)
            await soon(lambda: states(shared) == {"accepted": 20})
            done = f"SELECT state FROM broadcasts WHERE id = {number}"
            await soon(lambda: run(shared, done) == [("done",)])
            await soon(lambda: line.swept)

    with caplog.at_level(logging.WARNING):
        asyncio.run(whole())
    assert "so each worker does the periodic work by itself: " in caplog.text


@needs_jobs
def test_an_upgrade_under_workers_that_run_disturbs_none_of_them(
    shared: Database, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line()

    async def whole() -> None:
        async with at_work(shared, line, 2) as team:
            await share_chores(team)
            number = await asyncio.to_thread(broadcast, shared, 200)
            await asyncio.to_thread(run, shared, "COMMENT ON SCHEMA procrastinate IS '01.00.00_01'")
            await asyncio.to_thread(migrate.upgrade, shared)
            await soon(lambda: states(shared) == {"accepted": 200})
            done = f"SELECT state FROM broadcasts WHERE id = {number}"
            await soon(lambda: run(shared, done) == [("done",)])
            await share_chores(team)
            made = jobs_made(shared)
            await soon(lambda: jobs_made(shared) > made)

    asyncio.run(whole())


@needs_jobs
def test_a_worker_that_is_told_to_stop_waits_for_no_time_limit_of_its_jobs(
    shared: Database, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((wakeups, "STOP_S"), (worker_module, "WAKEUPS_STOP_S")):
        monkeypatch.setattr(module, name, 10 * HANG_S)

    async def whole() -> None:
        async with at_work(shared, Line(), 3) as team:
            await share_chores(team)
            await chores_done(team)

    asyncio.run(whole())


# -- real processes ----------------------------------------------------------------------------------------------------


class Listing(SlowTwilio):
    """Counts how often it was asked which texts came in."""

    lists = 0

    def listing(self, query: Mapping[str, str]) -> tuple[list[dict[str, Any]], int | None]:
        self.lists += "To" in query
        return super().listing(query)


@needs_jobs
@pytest.mark.processes
def test_of_three_worker_processes_one_reads_the_list_and_the_chores_of_one_that_is_killed_go_on(
    postgres: Postgres, tmp_path: Path
) -> None:
    with postgres.database() as address, Listing(ACCOUNT, TOKEN) as stub:
        db = Database(address)
        with Jumbe(tmp_path, stub, DATABASE_URL=address) as jumbe:
            begun = int(time.time() // 300)
            for name in ("one", "two", "three"):
                jumbe.spawn("worker", as_name=name)
            jumbe.until(lambda: all(jumbe.is_up(name) for name in ("one", "two", "three")), "three are up")
            jumbe.until(lambda: stub.lists, "the list is read")
            jumbe.looked(3)
            assert stub.lists <= 1 + int(time.time() // 300) - begun, "one list, not three"
            doing = "SELECT count(*) FROM procrastinate.procrastinate_jobs WHERE status = 'doing'"
            for name in ("one", "two"):
                jumbe.until(lambda: run(db, doing) != [(0,)], "a job is under way")
                jumbe.kill(name)
            jumbe.fill("all", PHONES[:30])
            number = jumbe.launch("all", "Clinic on Monday")
            done = f"SELECT state FROM broadcasts WHERE id = {number}"
            jumbe.until(lambda: run(db, done) == [("done",)], "the broadcast is done")
            assert len({message["to"] for message in stub.sent()}) == 30 == len(stub.sent())
            assert jumbe.terminate("three") == 0
