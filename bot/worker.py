"""The process that sends: it expands broadcasts, claims due messages, hands them over and writes down what came of it.

Work is found by looking at the database, never handed over in memory, so a restart just continues.
Everything that touches the database runs in one thread of its own; the calls to gateways run together in asyncio.
The order of the steps is the promise: claim (commit), gate and `sending` with a fresh attempt id (commit), call once,
write the answer (commit).  A death before the second commit loses nothing; a death after it leaves `unknown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from bot import digest, inbox, intake
from bot.breaker import Breaker
from bot.commands.broadcasts import begin
from bot.gateways.base import Accepted, Gateway, NotSent, Outgoing, SendResult, Unknown
from bot.intake import spool_of
from bot.reconciler import Reconciler
from storage import broadcasts, messages, workers
from storage.audit import Actor
from storage.database import Database
from storage.errors import Misconfigured
from storage.messages import HandOver, Settled

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 100
"""Rows per claim and per write: a longer write would keep webhooks waiting for SQLite's one writer."""

LOOK_S = 0.1
"""How often an idle worker looks: a reply leaves within 200 ms of its commit."""

HOUSEKEEPING = timedelta(seconds=1)
CALL_S = 30.0
"""No call lasts longer, whatever an adapter promises: well below the lease of what is handed over (`messages.LEASE`)."""

STOP_S = 25.0
"""A platform kills about 30 s after SIGTERM."""

FAULTS_IN_A_ROW = 10
"""Failed turns, a second apart, after which the worker ends with the fault."""

PAUSE = timedelta(minutes=5)
NO_ANSWERS = "half of the last calls or more had no answer"
EVER = datetime.min.replace(tzinfo=UTC)
_AGAIN = frozenset({"throttled", "unreachable", "gateway", "sender"})
_PAUSES = frozenset({"gateway", "sender"})
_ELSEWHERE = frozenset({"gateway", "sender", "destination"})
"""Refusals that say nothing about the message or its recipient: another gateway may well take it."""


class Worker:
    """One worker on one database; `owner` is a fresh name, so that its leases are told from a dead one's."""

    def __init__(
        self, db: Database, gateways: Mapping[str, Gateway], public_url: str, *, spool: str | None = None
    ) -> None:
        self.db = db
        self.gateways = gateways
        self.public_url = public_url
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._thread = ThreadPoolExecutor(1, "database")
        self._spool = spool_of(db, spool)
        self._reconciler = Reconciler(db, gateways, self._in_thread)
        self._breakers = {name: Breaker() for name in gateways}
        self._claimed: dict[str, list[int]] = {name: [] for name in gateways}
        self._calls: dict[str, set[asyncio.Task[None]]] = {name: set() for name in gateways}
        self._answers: list[tuple[Gateway, HandOver, SendResult]] = []
        self._answered = asyncio.Event()
        self._tidied: datetime | None = None
        self._no_token_before: dict[str, datetime] = {}
        self._turned_away: set[str] = set()
        self._faults = 0
        self._pace = broadcasts.Pace()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then finish what is under way, and give the rest back."""
        await self._in_thread(self.start)
        try:
            while not stop.is_set():
                worked = await self._turn_safely()
                if not worked:
                    await self._wait(stop)
        finally:
            await self.finish()

    def start(self) -> None:
        """Let go of what a dead worker held.  On SQLite the file lock proves that no other worker is alive."""
        with self.db.transaction() as tx:
            workers.beat(tx, self.owner)
            # Whoever restarts a worker has mended something, a token perhaps.
            messages.resume(tx)
            others = self.owner if self.db.is_sqlite else None
            back, doubtful = messages.end_leases(tx, of_others_than=others)
        if back or doubtful:
            log.warning("after a worker died: %d messages back in the queue, %d unknown", back, doubtful)

    async def turn(self) -> bool:
        """One round of all the work there is now; returns whether there was any.

        What gateways have answered is written down first, and a fault in one step keeps no other step from its work; it
        is raised when all have had their turn.
        """
        self._answered.clear()
        steps: list[Callable[[], Awaitable[bool]]] = [
            partial(self._in_thread, work) for work in (self._record, self._tidy, self._expand)
        ]
        steps += [partial(self._send, name, gateway) for name, gateway in self.gateways.items()]
        steps.append(self._reconciler.turn)
        worked = False
        faults: list[Exception] = []
        for step in steps:
            try:
                worked = await step() or worked
            except Exception as fault:  # noqa: BLE001  raised below
                faults.append(fault)
        if faults:
            raise faults[0]
        return worked

    async def drain(self) -> None:
        """Work until nothing is due and nothing is under way: what a test or a one-off run waits for."""
        while await self.turn() or self._under_way() or self._answers or self._reconciler.has_answers:
            if under_way := self._under_way():
                await asyncio.wait(under_way, return_when="FIRST_COMPLETED")

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [call for calls in self._calls.values() for call in calls] + self._reconciler.under_way

    async def finish(self) -> None:
        """Claim nothing more, wait for the calls under way, write their answers, give back what was only claimed."""
        await self._reconciler.finish()
        under_way = [call for calls in self._calls.values() for call in calls]
        if under_way:
            await asyncio.wait(under_way, timeout=STOP_S)
        await self._in_thread(self._give_back)
        for gateway in self.gateways.values():
            await gateway.close()
        self._thread.shutdown()

    async def _turn_safely(self) -> bool:
        try:
            worked = await self.turn()
        except Exception as fault:
            # The rows still say what is to be done, so look again; but a fault that stays must be seen by whoever
            # restarts processes, and not by a heartbeat that goes on.
            self._faults += 1
            log.error("a turn failed (%d in a row): %s", self._faults, type(fault).__name__)
            if self._faults >= FAULTS_IN_A_ROW:
                raise
            await asyncio.sleep(1)
            return False
        self._faults = 0
        return worked

    async def _wait(self, stop: asyncio.Event) -> None:
        """Until a call is answered, the next look, or the end.  An answer since the turn began does not wait."""
        waits = [asyncio.create_task(self._answered.wait()), asyncio.create_task(stop.wait())]
        await asyncio.wait(waits, timeout=LOOK_S, return_when="FIRST_COMPLETED")
        for wait in waits:
            wait.cancel()

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    # -- in the database's thread --------------------------------------------------------------------------------------

    def _tidy(self) -> bool:
        """Once a second: heartbeat, leases, what ran out of time, inbound texts to try again, broadcasts that are over, the digest, the spool."""
        now = self.db.clock()
        if self._tidied is not None and now - self._tidied < HOUSEKEEPING:
            return False
        self._tidied = now
        played = intake.play_spool(self.db, self.gateways, self._spool) > 0
        with self.db.transaction() as tx:
            workers.beat(tx, self.owner)
            messages.renew(tx, self.owner)
            messages.end_leases(tx)
            messages.expire(tx)
            messages.adopt(tx)
            messages.fail_over(tx)
            broadcasts.put_away_unconfirmed(tx)
            broadcasts.finish(tx)
        tried = inbox.try_again(self.db) > 0 or played
        return digest.tell_leads(self.db) or tried

    def _expand(self) -> bool:
        with self.db.reading() as tx:
            due = broadcasts.whose_hour_has_come(tx)
            if not due and not broadcasts.is_expanding(tx):
                return False
        for number in due:
            with self.db.transaction() as tx:
                begin(tx, number)
        with self.db.transaction() as tx, self._pace.kept() as many:
            return broadcasts.expand_next(tx, many)

    def _take(self, name: str, gateway: Gateway, free: int) -> tuple[list[HandOver], int]:
        """Claim if nothing is claimed, then pass the gate with as many as may go now.

        Returns what is to be sent, and how many the gate turned away: they cost no token, so there is no wait for the
        next.
        """
        if self.db.clock() < self._no_token_before.get(name, EVER):
            return [], 0
        # A second's worth: what is claimed waits under a lease, and a reply to its phone would have to wait behind it.
        worth = max(1, min(BATCH, round(gateway.rate_per_s)))
        if not self._claimed[name]:
            with self.db.reading() as tx:
                if not messages.is_due(tx, name):
                    return [], 0
            # Where the gate turns many away, ten thousand that expired or meet the night would take hours by the rate.
            at_most = BATCH if name in self._turned_away else worth
            with self.db.transaction(in_turn=False) as tx:
                self._claimed[name] = messages.claim(tx, name, self.owner, at_most)
        going, rest = self._claimed[name][:free], self._claimed[name][free:]
        if not going:
            return [], 0
        with self.db.transaction(in_turn=False) as tx:
            leaving, waiting = messages.hand_over(tx, going, self.owner, rate_per_s=gateway.rate_per_s)
            held = waiting + rest
            if waiting:
                messages.release(tx, held[worth:], self.owner)
                held = held[:worth]
        self._claimed[name] = held
        turned_away = len(going) - len(leaving) - len(waiting)
        if turned_away:
            self._turned_away.add(name)
        else:
            self._turned_away.discard(name)
        if waiting:
            # The bucket is empty: asking again before a token can be there would only take the writer's turn.
            self._no_token_before[name] = self.db.clock() + timedelta(seconds=1 / gateway.rate_per_s)
        return leaving, turned_away

    def _record(self) -> bool:
        """Write down what the calls came to, a batch at a time."""
        batch, self._answers = self._answers[:BATCH], self._answers[BATCH:]
        if not batch:
            return False
        paused = {
            gateway.name for gateway, _, result in batch if isinstance(result, NotSent) and result.scope in _PAUSES
        }
        audited = paused or any(isinstance(result, NotSent) and result.scope == "opted_out" for _, _, result in batch)
        broken = {name: breaker.pause_for for name, breaker in self._breakers.items() if breaker.pause_for is not None}
        try:
            with self.db.transaction(in_turn=bool(audited or broken)) as tx:
                told = [
                    _settled(handed, result, tx.now, self._instead_of(gateway)) for gateway, handed, result in batch
                ]
                messages.settle(tx, told)
                for gateway, handed, result in batch:
                    if isinstance(result, NotSent):
                        self._consequences(tx, gateway, handed, result)
                for name, pause in broken.items():
                    if name not in paused:
                        messages.pause(tx, name, until=tx.now + pause, because=NO_ANSWERS)
                        log.error("gateway %s is paused for %s: %s", name, pause, NO_ANSWERS)
                for name in paused | broken.keys():
                    messages.release(tx, self._claimed[name], self.owner)
        except BaseException:
            self._answers = batch + self._answers
            raise
        for name in paused | broken.keys():
            self._claimed[name] = []
        for name in broken:
            self._breakers[name].pause_for = None
        return True

    def _instead_of(self, gateway: Gateway) -> str | None:
        """The gateway that takes over what this one certainly did not send, where the programme asked for one."""
        other = self.db.rules.failover.get(gateway.name)
        return other if other in self.gateways else None

    def _consequences(self, tx: Any, gateway: Gateway, handed: HandOver, result: NotSent) -> None:
        if result.scope == "opted_out":
            messages.note_opt_out(tx, handed.id, by=Actor("gateway", None, f"message {handed.id}"))
        if result.scope in _PAUSES:
            # A wrong token must pause the gateway after one message, not burn the whole queue.
            until = messages.UNTIL_RESUMED if result.lasting else tx.now + PAUSE
            messages.pause(tx, gateway.name, until=until, because=f"{result.reason} ({result.code or 'no code'})")
            long = f"good, until 'jumbe gateways resume {gateway.name}'" if result.lasting else PAUSE
            log.error("gateway %s is paused for %s: %s", gateway.name, long, result.reason)

    def _give_back(self) -> None:
        while self._record():
            pass
        with self.db.transaction(in_turn=False) as tx:
            for ids in self._claimed.values():
                messages.release(tx, ids, self.owner)
            workers.leave(tx, self.owner)

    # -- in the event loop ---------------------------------------------------------------------------------------------

    async def _send(self, name: str, gateway: Gateway) -> bool:
        trying = self._breakers[name].is_trying
        free = (1 if trying else gateway.capabilities.concurrency) - len(self._calls[name])
        if free <= 0:
            return False
        leaving, turned_away = await self._in_thread(self._take, name, gateway, free)
        for handed in leaving:
            call = asyncio.create_task(self._call(gateway, handed, on_trial=trying))
            self._calls[name].add(call)
            call.add_done_callback(self._calls[name].discard)
        return bool(leaving or turned_away)

    async def _call(self, gateway: Gateway, handed: HandOver, *, on_trial: bool) -> None:
        """Exactly one call; whatever goes wrong that is not certainly *not sent* is unknown."""
        outgoing = Outgoing(
            id=handed.id,
            attempt_id=handed.attempt_id,
            to=handed.phone,
            text=handed.body,
            callback_url=f"{self.public_url}/status/{gateway.name}/{handed.id}",
            validity_s=handed.validity_s,
        )
        try:
            async with asyncio.timeout(CALL_S):
                result = await gateway.send(outgoing)
        except Exception as fault:  # noqa: BLE001  an adapter's bug after the hand-over must not stop the others
            log.error("gateway %s failed on message %s: %s", gateway.name, handed.id, type(fault).__name__)
            result = Unknown("the adapter failed")
        self._breakers[gateway.name].note(self.db.clock(), result, on_trial=on_trial)
        self._answers.append((gateway, handed, result))
        self._answered.set()


def _settled(handed: HandOver, result: SendResult, now: datetime, instead: str | None) -> Settled:
    """What an answer of the gateway means for our row; `instead` is the gateway that takes over, if there is one.

    Never after *unknown*: a person would have the text twice.
    """
    match result:
        case Accepted():
            return Settled(
                handed.id, handed.attempt_id, "accepted", gateway_id=result.gateway_id, segments=result.segments
            )
        case Unknown():
            return Settled(handed.id, handed.attempt_id, "unknown", reason="no-answer")
        case NotSent(scope=scope) if scope in _ELSEWHERE and instead is not None:
            return Settled(
                handed.id, handed.attempt_id, "queued", reason=scope, code=result.code, due_at=now, gateway=instead
            )
        case NotSent(scope=scope) if scope in _AGAIN:
            due = now + timedelta(seconds=result.retry_after_s or _back_off_s(handed.attempts))
            return Settled(handed.id, handed.attempt_id, "queued", reason=scope, code=result.code, due_at=due)
        case NotSent():
            return Settled(handed.id, handed.attempt_id, "refused", reason=result.scope, code=result.code)


def _back_off_s(attempts: int) -> float:
    """Twice as long each time up to five minutes, with jitter so that a storm does not come back as a wave."""
    return random.uniform(0.5, 1.0) * min(300.0, 2.0**attempts)  # noqa: S311


@contextlib.contextmanager
def only_one(file: Path | None) -> Iterator[None]:
    """Hold the lock that makes this the only worker of a SQLite file; it ends with the process, however that ends.

    The lock stands beside the file itself: through a link it is the same one.  Raises Misconfigured if another worker
    holds it, or if it cannot be made.
    """
    if file is None:
        yield
        return
    file = file.resolve()
    lock = file.with_name(file.name + ".worker-lock")
    try:
        held = lock.open("a")
    except OSError as fault:
        raise Misconfigured([f"the lock {lock} cannot be made: {fault.strerror}"]) from None
    with held:
        _lock(held, file)
        yield


def _lock(held: IO[str], file: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Misconfigured(
            [f"another worker serves {file}: on SQLite there is exactly one. Stop it first, or use PostgreSQL for many"]
        ) from None
