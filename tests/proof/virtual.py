"""A world without waiting: a clock that jumps to what happens next, processes that die at a statement, and a gateway.

The worker, the reconciler, the intake and the inbox run in it unchanged.  Everything that is drawn comes from one die, so
a seed repeats a run to the byte.  Nothing here waits for a disk: no power is cut, and a death keeps what was committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import hmac
import json
import random
import selectors
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.util import LRUCache

from bot.gateways.base import (
    Absent,
    Accepted,
    CannotTell,
    Capabilities,
    Doubtful,
    FindResult,
    Forged,
    Found,
    Inbound,
    NotSent,
    Outgoing,
    Receipt,
    Reply,
    Request,
    SendResult,
    Trouble,
    Unknown,
    Unreadable,
    attempt_in,
)
from bot.worker.dispatcher import LOOK_S
from storage.database import Database, Transaction

URL: Final = "http://127.0.0.1"
FIRST: Final = "virtual"
LATE_S: Final = 60.0
"""A gateway that loses its answer books at the latest so long after the call; its list is as much behind again."""


class Died(BaseException):
    """A process ended here: nothing after it runs, nothing is closed or given back."""


@dataclass
class Life:
    """One process: whether it is dead, and after how many more statements that write it will be."""

    dead: bool = False
    writes_left: int | None = None


life: ContextVar[Life | None] = ContextVar("life", default=None)


def as_process(process: Life | None) -> Context:
    """A context in which all that runs belongs to a process; None: to nobody, so that it never dies."""
    context = copy_context()
    context.run(life.set, process)
    return context


class _NoSockets(selectors.BaseSelector):
    """Waits for no socket; what the loop would wait is handed to its clock."""

    def __init__(self) -> None:
        self.passes: Callable[[float | None], None] = lambda _s: None
        self._known: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._known[number] = selectors.SelectorKey(fileobj, number, events, data)
        return self._known[number]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._known.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passes(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._known


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when nothing is left to do.

    What a thread would do is done at once, in place, as the process that asked for it.

    The tasks in `idlers` look again and again for work.  A look that can find nothing is put off, to the moment that
    `idle_until` says; who changes something calls `look_again`, and then that moment is worked out anew.
    """

    def __init__(self, began: datetime, dice: random.Random) -> None:
        self.passed = 0.0
        self.began = began
        self.dice = dice
        self.idlers: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.idle_until: Callable[[], float] = lambda: self.passed
        self._put_off: asyncio.TimerHandle | None = None
        selector = _NoSockets()
        super().__init__(selector)
        selector.passes = self._pass

    def time(self) -> float:
        return self.passed

    def now(self) -> datetime:
        """The moment, as every process here sees it."""
        return self.began + timedelta(microseconds=round(self.passed * 1e6))

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        # What the world does has a context of its own, also where it is the idler's commit that brings it about.
        is_look = (
            context is None and abs(when - self.passed - LOOK_S) < 1e-6 and asyncio.current_task(self) in self.idlers
        )
        if not is_look:
            return super().call_at(when, callback, *args, context=context)
        handle = super().call_at(max(when, self.idle_until()), callback, *args, context=context)
        self._put_off = handle if handle.when() > when else None
        return handle

    def look_again(self, *, surely: bool = False) -> None:
        """Something has changed: the look that was put off comes when it can find something, `surely` or by `idle_until`."""
        handle = self._put_off
        if handle is None or handle.cancelled() or handle.when() <= self.passed + LOOK_S:
            return
        soon = self.passed + self.dice.random() * LOOK_S
        when = soon if surely else max(soon, self.idle_until())
        if when < handle.when():
            self._put_off = super().call_at(when, _run_once, handle)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        done, process = self.create_future(), life.get()
        if process is not None and process.dead:
            done.set_exception(Died())
            return done
        try:
            result = func(*args)
        except BaseException as fault:  # noqa: BLE001  it is the caller's, as from a thread
            done.set_exception(fault)
        else:
            # A little later: answers come in between, as they do beside a thread.
            super().call_at(self.passed + self.dice.random() * 0.004, _give, done, result, context=as_process(None))
        return done

    def _pass(self, timeout: float | None) -> None:
        if timeout is None:
            raise RuntimeError("nothing would ever happen again")
        if timeout <= 0:
            return
        self.passed += timeout


def _run_once(handle: asyncio.TimerHandle) -> None:
    if not handle.cancelled():
        handle._run()
        handle.cancel()


def _give(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)


COMPILED: Final = LRUCache(1000)


class VirtualDatabase(Database):
    """The database on a virtual clock: a process may die at any statement, and somebody sees all that is committed."""

    def __init__(self, url: str, rules: Any, clock: Callable[[], datetime]) -> None:
        super().__init__(url, rules, clock)
        self.away_until: datetime | None = None
        self.committed: Callable[[Any], bool] = lambda _driver: False
        self.changed: Callable[[], None] = lambda: None
        self.driver: Any = None
        self.listen()

    def listen(self) -> None:
        """See and break in on what goes through the engine; anew where it was closed."""
        # Every run asks the same: what SQLAlchemy has made of it once serves them all.
        self.engine._compiled_cache = COMPILED  # type: ignore[assignment]
        event.listen(self.engine, "do_connect", self._remember)
        event.listen(self.engine, "connect", self._prepare)
        event.listen(self.engine, "before_cursor_execute", self._before)

    @contextlib.contextmanager
    def transaction(self, *, in_turn: bool = True) -> Iterator[Transaction]:
        with super().transaction(in_turn=in_turn) as tx:
            yield tx
        self.see()
        _one_write_less()

    def see(self) -> None:
        """Show what was committed since, and say if there was anything."""
        if self.committed(self.driver):
            self.changed()

    @staticmethod
    def _remember(_dialect: Any, _record: Any, _address: Any, told: dict[str, Any]) -> None:
        """What SQLite has made of a statement is kept for all of them: there are more than the usual 128."""
        told["cached_statements"] = 1000

    def _prepare(self, connection: Any, _record: Any) -> None:
        """The one connection: nobody else has this file open, and no disk is waited for."""
        self.driver = connection
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(SEEN)

    def _before(self, _c: Any, _cursor: Any, statement: str, _values: Any, _context: Any, _many: bool) -> None:
        self.before(statement)

    def before(self, statement: str) -> None:
        """Who asks may die at it, and the database may be away."""
        if life.get() is None:
            return
        if self.away_until is not None and self.clock() < self.away_until:
            raise OperationalError(statement, {}, sqlite3.OperationalError("database is locked"))
        if statement[:6] in ("INSERT", "UPDATE", "DELETE"):
            _one_write_less()


def _one_write_less() -> None:
    process = life.get()
    if process is None or process.writes_left is None:
        return
    process.writes_left -= 1
    if process.writes_left < 0:
        process.dead = True
        raise Died


SEEN: Final = """
CREATE TEMP TABLE seen (n INTEGER PRIMARY KEY, what TEXT, id INTEGER, old TEXT, new TEXT, phone TEXT, kind TEXT,
  broadcast INTEGER, case_id INTEGER, attempt TEXT, reason TEXT, body TEXT, own TEXT, way TEXT, answers INTEGER);
CREATE TEMP TRIGGER seen_move AFTER UPDATE OF state ON main.messages WHEN old.state IS NOT new.state BEGIN
  INSERT INTO seen (what, id, old, new, phone, kind, broadcast, case_id, attempt, reason, own, way)
  VALUES (new.direction, new.id, old.state, new.state, new.phone, new.kind, new.broadcast_id, new.case_id,
    new.attempt_id, new.reason, new.own_number, new.gateway); END;
CREATE TEMP TRIGGER seen_way AFTER UPDATE OF gateway ON main.messages
WHEN old.gateway IS NOT new.gateway AND old.state IS new.state BEGIN
  INSERT INTO seen (what, id, old, new, attempt, way)
  VALUES ('way', new.id, old.gateway, new.gateway, new.attempt_id, new.gateway); END;
CREATE TEMP TRIGGER seen_new AFTER INSERT ON main.messages BEGIN
  INSERT INTO seen (what, id, old, new, phone, kind, broadcast, case_id, attempt, reason, body, way, answers)
  VALUES (new.direction, new.id, '', new.state, new.phone, new.kind, new.broadcast_id, new.case_id, new.gateway_id,
    new.reason, new.body, new.gateway, new.reply_to); END;
CREATE TEMP TRIGGER seen_gone AFTER DELETE ON main.messages BEGIN
  INSERT INTO seen (what, id, old, new) VALUES (old.direction, old.id, old.state, 'gone'); END;
CREATE TEMP TRIGGER seen_broadcast AFTER UPDATE OF state ON main.broadcasts WHEN old.state IS NOT new.state BEGIN
  INSERT INTO seen (what, id, old, new) VALUES ('broadcast', new.id, old.state, new.state); END;
"""
"""Everything that moves, in the order in which it does; what is rolled back is not in it."""


# -- the gateway -------------------------------------------------------------------------------------------------------

MOODS: Final[Mapping[str, Mapping[str, float]]] = {
    "well": {"taken": 1.0},
    "tired": {"taken": 6, "slow": 2, "throttled": 1, "unreachable": 0.5, "refused": 0.3, "cut": 0.5, "late": 0.5},
    "ill": {
        "taken": 3, "slow": 1, "throttled": 1, "unreachable": 1, "refused": 0.3, "cut": 2, "late": 2, "never": 2,
        "stall": 1, "stall never": 1, "fault": 1,
    },
    "away": {"unreachable": 4, "never": 1, "stall never": 1},
    "closed": {"account": 1},
    "suspicious": {"taken": 1},
}  # fmt: skip
"""How often what becomes of a call, by how the gateway is."""


NO_ANSWER: Final = frozenset({"cut", "late", "never", "stall", "stall never", "fault"})

TROUBLES: Final = {
    "40001": Trouble("gateway", "held for a while", "while"),
    "40002": Trouble("sender", "enough for this day", "day"),
    "40003": Trouble("gateway", "somebody must mend something", "person"),
}
"""What a receipt of this gateway says beyond its message, by its code."""


@dataclass
class Booked:
    """A text that the gateway `by` took: the truth."""

    gateway_id: str
    message: int
    attempt: str
    phone: str
    text: str
    at: datetime
    by: str
    own_number: str | None = None
    code: str | None = None
    state: str = "accepted"


@dataclass
class Typed:
    """A text that a phone sent to one of the gateways; `taken` says whether somebody answered 200 for it."""

    gateway_id: str
    phone: str
    text: str
    at: datetime
    to: str
    taken: bool = False


@dataclass
class VirtualGateway:
    """A gateway with moods, a book, and a list of what phones sent."""

    loop: Loop
    dice: random.Random
    capabilities: Capabilities
    on_booked: Callable[[Booked], None]
    on_delivered: Callable[[Booked], None]
    web: Callable[[str, Request, int | None], int]
    on_told: Callable[[Booked, str | None, Callable[[], int]], None]
    numbers: tuple[str, ...] = ("15005550006",)
    name: str = FIRST
    kind: str = "virtual"
    rate_per_s: float = 5.0
    mood: str = "well"
    book: list[Booked] = field(default_factory=list)
    received: list[Typed] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    """The attempts of which the caller cannot know what became."""
    n: int = 0

    # -- what an adapter does ------------------------------------------------------------------------------------------

    def verify(self, request: Request) -> None:
        if not hmac.compare_digest(request.headers.get("signed", ""), self._sign(request.url, request.body)):
            raise Forged("not of this gateway")

    def parse_inbound(self, request: Request) -> list[Inbound]:
        said = json.loads(request.body)
        return [Inbound(gateway_id=said["id"], sender=said["from"], to=self._to(said["from"]), text=said["text"])]

    def parse_receipt(self, request: Request, message_id: int) -> list[Receipt]:
        said = json.loads(request.body)
        if said["state"] not in ("sent", "delivered", "undelivered"):
            raise Unreadable("no state of this gateway")
        return [
            Receipt(
                message_id,
                said["id"],
                said["state"],
                said["state"],
                said.get("code"),
                trouble=TROUBLES.get(said.get("code")),
                attempt_id=attempt_in(request.url),
            )
        ]

    def reply(self) -> Reply:
        return Reply("ok", "text/plain")

    async def send(self, outgoing: Outgoing) -> SendResult:
        """One call; what the gateway does with it goes on though the caller dies."""
        process = life.get()
        if process is not None and process.dead:
            raise Died
        moods = MOODS[self.mood]
        fate = self.dice.choices(list(moods), list(moods.values()))[0]
        self.met[fate] = self.met.get(fate, 0) + 1
        if fate in NO_ANSWER:
            self.unanswered.add(outgoing.attempt_id)
        takes_s = self.dice.uniform(0.05, 12.0 if fate == "slow" else 1.0)
        if fate in ("taken", "slow", "cut", "stall", "fault"):
            gateway_id = self._book_in(outgoing, takes_s)
            if fate == "stall":
                await asyncio.sleep(10**6)
            await asyncio.sleep(takes_s + self.dice.uniform(0.01, 0.5))
            if fate == "fault":
                raise RuntimeError("a fault of the adapter")
            return Unknown("the answer was lost") if fate == "cut" else Accepted(gateway_id)
        if fate == "late":
            self._book_in(outgoing, takes_s + self.dice.uniform(0.0, LATE_S))
        if fate == "stall never":
            await asyncio.sleep(10**6)
        await asyncio.sleep(takes_s)
        if fate in ("late", "never"):
            return Unknown("the answer was lost")
        if fate == "throttled":
            return NotSent("throttled", "too fast", "429", retry_after_s=self.dice.choice((None, 2.0, 30.0)))
        if fate == "refused":
            return NotSent(self.dice.choice(("message", "recipient", "destination")), "not this one", "21211")
        return NotSent("gateway" if fate == "account" else "unreachable", "not now")

    async def find(self, doubtful: Doubtful) -> FindResult:
        """By number, words and time, as a list is read; the list is behind."""
        await asyncio.sleep(self.dice.uniform(0.05, 3.0))
        self.loop.look_again(surely=True)  # who asked learns of the answer by looking
        if self.mood in ("away", "closed") or (self.mood == "ill" and self.dice.random() < 0.5):
            return CannotTell("the list could not be read")
        since, until = doubtful.handed_over_at - timedelta(seconds=5), self.loop.now() - timedelta(seconds=LATE_S)
        known = self.mood != "well" and self.dice.random() < 0.5
        one = [
            booked for booked in self.book
            if booked.phone == doubtful.to and booked.text == doubtful.text and booked.gateway_id not in doubtful.not_it
            and since <= booked.at and (booked.at <= until or known)
        ]  # fmt: skip
        if len(one) > 1:
            return CannotTell("more than one may be it")
        return Found(one[0].gateway_id, one[0].state) if one else Absent()  # type: ignore[arg-type]

    async def sweep(self, since: datetime) -> list[Inbound] | CannotTell:
        await asyncio.sleep(self.dice.uniform(0.05, 5.0))
        self.loop.look_again(surely=True)
        if self.mood in ("away", "closed") or (self.mood == "ill" and self.dice.random() < 0.5):
            return CannotTell("the list could not be read")
        return [
            Inbound(
                gateway_id=text.gateway_id, sender=text.phone, to=self._to(text.phone), text=text.text, sent_at=text.at
            )
            for text in self.received if text.at >= since
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is open."""

    # -- what happens by itself ----------------------------------------------------------------------------------------

    def later(self, in_s: float, what: Callable[..., None], *args: Any) -> None:
        """It happens by itself, whoever lives."""
        self.loop.call_later(in_s, what, *args, context=as_process(None))

    def type(self, phone: str, text: str) -> Typed:
        """A phone sends a text; it stands in the list at once, and the webhook is called a little later."""
        self.n += 1
        typed = Typed(f"I{self.n:06}", phone, text, self.loop.now(), self.name)
        self.received.append(typed)
        self.later(self.dice.expovariate(1.0), self._call_web, typed, 0)
        return typed

    def forge(self, phone: str, text: str) -> int:
        """Somebody else calls the webhook; returns the status."""
        body = json.dumps({"id": "F1", "from": phone, "text": text}).encode()
        return self.web(self.name, Request("POST", f"{URL}/in/{self.name}", {"signed": "no"}, body), None)

    def _call_web(self, typed: Typed, tries: int) -> None:
        body = json.dumps({"id": typed.gateway_id, "from": typed.phone, "text": typed.text}).encode()
        url = f"{URL}/in/{self.name}"
        status = self.web(self.name, Request("POST", url, {"signed": self._sign(url, body)}, body), None)
        typed.taken |= status == 200
        lost = self.dice.random() < 0.05
        if status != 200 and self.capabilities.lists_inbound and tries >= 1:
            # As Twilio does: once more, and then never; it stands in the list, which is read every five minutes.
            self.later(self.dice.uniform(0, 300), functools.partial(self.loop.look_again, surely=True))
            return
        if status != 200 or lost:  # our answer may be lost too, and then it comes twice
            self.later(self.dice.uniform(1, 60) * 2 ** min(tries, 6), self._call_web, typed, tries + 1)

    def _book_in(self, outgoing: Outgoing, in_s: float) -> str:
        self.n += 1
        gateway_id = f"M{self.n:06}"
        ends = None if outgoing.validity_s is None else self.loop.now() + timedelta(seconds=outgoing.validity_s)
        self.later(in_s, self._book, outgoing, gateway_id, ends)
        return gateway_id

    def _book(self, outgoing: Outgoing, gateway_id: str, ends: datetime | None) -> None:
        message = int(urlsplit(outgoing.callback_url).path.rpartition("/")[2])
        booked = Booked(
            gateway_id, message, outgoing.attempt_id, outgoing.to, outgoing.text, self.loop.now(), self.name,
            outgoing.own_number,
        )  # fmt: skip
        self.book.append(booked)
        self.on_booked(booked)
        dice = self.dice
        arrives_s = dice.choice((2.0, 8.0, 60.0, 600.0, 7200.0)) * dice.random()
        arrives_at = self.loop.now() + timedelta(seconds=arrives_s)
        reaches = dice.random() < 0.95 and (ends is None or arrives_at <= ends)
        if self.mood == "suspicious" and dice.random() < 0.5:
            # It takes all, lets half of it through, and says soon afterwards that this was too much.
            reaches, arrives_s = False, dice.uniform(0.5, 30.0)
        booked.code = None if reaches else dice.choice(("30003", *TROUBLES))
        self.later(arrives_s, self._arrive, booked, reaches)
        if not self.capabilities.receipts:
            return
        told = [("sent", arrives_s * dice.random()), ("delivered" if reaches else "undelivered", arrives_s)]
        for state, at_s in told:
            for _ in range(dice.choice((0, 1, 1, 1, 1, 2))):
                # Some before the answer of the call, some long after, in any order.
                self.later(at_s + dice.choice((0.0, 0.0, 3.0, 300.0)) * dice.random(), self._tell, booked, state)

    def _arrive(self, booked: Booked, reaches: bool) -> None:
        booked.state = "delivered" if reaches else "undelivered"
        if reaches:
            self.on_delivered(booked)

    def _tell(self, booked: Booked, state: str) -> None:
        said = {"id": booked.gateway_id, "state": state}
        if state == "undelivered":
            said["code"] = booked.code or "30003"
        url = f"{URL}/status/{self.name}/{booked.message}?attempt={booked.attempt}"
        body = json.dumps(said).encode()
        request = Request("POST", url, {"signed": self._sign(url, body)}, body)
        self.on_told(booked, said.get("code"), lambda: self.web(self.name, request, booked.message))

    def _to(self, phone: str) -> str:
        """Which of our numbers a phone writes to."""
        return self.numbers[int(phone) % len(self.numbers)]

    @staticmethod
    def _sign(url: str, body: bytes) -> str:
        return hmac.new(b"a secret", url.encode() + body, hashlib.sha256).hexdigest()


BEGAN: Final = datetime(2026, 10, 20, 0, 0, tzinfo=UTC)
"""Ten days before clocks are put back in North America, so that they change within most runs."""
