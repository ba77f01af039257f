"""The process that sends: it expands broadcasts, claims due messages, hands them over and writes down what came of it.

Work is found by looking at the database, never handed over in memory, so a restart just continues.
Everything that touches the database runs in one thread of its own; the calls to gateways run together in asyncio.
The order of the steps is the promise: claim, gate and `sending` with a fresh attempt id (commit), call once, write the
answer (commit).  A death before the first commit loses nothing; a death after it leaves `unknown`.  What earlier calls came
to and what leaves next share a transaction, and nothing is claimed that does not leave in it: whoever comes first in the
queue at that moment goes, a reply before all bulk.

What is to be done once and not by every worker is a *chore*: on SQLite the one worker does it by its own clock, on
PostgreSQL a job gives it to one of them (`worker/wakeups.py`), and without the jobs each does it, which is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from bot.commands.broadcasts import ask_second_leads, begin
from bot.gateways.base import Accepted, Gateway, NotSent, Outgoing, SendResult, Unknown
from bot.inbound import intake, listeners, opt_outs
from bot.inbound.intake import spool_of
from bot.worker import digest
from bot.worker.circuit_breaker import Breaker
from bot.worker.instance_guard import Watch
from bot.worker.reconciler import Reconciler
from bot.worker.wakeups import STOP_S as WAKEUPS_STOP_S
from bot.worker.wakeups import Chore, Wakeups
from storage import private_files
from storage.audit import Actor
from storage.broadcasts import broadcasts, expansion
from storage.database import Database, Transaction, is_within
from storage.errors import Misconfigured
from storage.messages import gate, leases, outbox
from storage.messages.gate import HandOver
from storage.messages.outbox import Settled
from storage.programme import rate_limits, trial_messages, workers
from storage.programme.rate_limits import Hold

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 100
"""Rows per claim and per write: a longer write would keep webhooks waiting for SQLite's one writer."""

BREATH_S = 0.05
"""After a turn the writer is left to others for as long as the turn took, and no longer than this."""

LOOK_S = 0.1
"""How often an idle worker looks where nobody calls it: a reply leaves within 200 ms of its commit."""

LISTENING_LOOK_S = 1.0
"""How often it looks where PostgreSQL calls it as soon as something is queued."""

HOUSEKEEPING = timedelta(seconds=1)
CALL_S = 30.0
"""No call lasts longer, whatever an adapter promises: well below the lease of what is handed over (`messages.LEASE`)."""

STOP_S = 25.0
"""A platform kills about 30 s after SIGTERM."""

FAULT_PAUSE_S = 1.0
FAULTS_IN_A_ROW = 10
"""Failed turns, a second apart, after which the worker ends with the fault."""

PAUSE = timedelta(minutes=5)
STANDBY = timedelta(seconds=5)
"""After a pause, until another worker tries the gateway than the one that paused it, and knows for how long."""

NO_ANSWERS = "half of the last calls or more had no answer"
EVER = datetime.min.replace(tzinfo=UTC)
Answer = tuple[HandOver, SendResult]
_AGAIN = frozenset({"throttled", "unreachable", "gateway", "sender"})
_PAUSES = frozenset({"gateway", "sender"})
_CONCERN_OTHERS = frozenset({*_PAUSES, "throttled", "opted_out"})
"""Refusals that mean something beyond their own message."""

_ELSEWHERE = frozenset({"gateway", "sender", "destination"})
"""Refusals that say nothing about the message or its recipient: another gateway may well take it."""


class Worker:
    """One worker on one database; `owner` is a fresh name, so that its leases are told from a dead one's."""

    def __init__(
        self,
        db: Database,
        gateways: Mapping[str, Gateway],
        public_url: str,
        *,
        spool: str | None = None,
        watches: bool = False,
    ) -> None:
        self.db = db
        self.gateways = gateways
        self.public_url = public_url
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._thread = ThreadPoolExecutor(1, "database")
        self._spool = spool_of(db, spool)
        self._called = asyncio.Event()
        self._reconciler = Reconciler(db, gateways, self._in_thread, self._called.set)
        self._watch = Watch(db, gateways, public_url, self.owner, self._in_thread) if watches else None
        self._breakers = {name: Breaker() for name in gateways}
        self._calls: dict[str, dict[asyncio.Task[None], float]] = {name: {} for name in gateways}
        self._answers: dict[str, deque[Answer]] = {name: deque() for name in gateways}
        self._apart: set[str] = set()
        """Gateways of which the last transaction failed: their answers are written down by themselves, whatever else fails."""
        self._turning = asyncio.Lock()
        self._stopping = False
        self._trials: dict[str, datetime] = {}
        self._tidied = EVER
        self._asked_to_expand = EVER
        chores: dict[str, Chore] = {
            "expand": self._expand_all,
            "tidy": partial(self._alone, self._tidy_all),
            "digest": partial(self._alone, digest.tell_leads, db),
            "reconcile": self._reconciler.ask,
            "sweep": self._reconciler.sweep,
        }
        self._wakeups = None if db.is_sqlite else Wakeups(db, chores, self._called.set)
        self._no_token: dict[str, tuple[datetime, timedelta]] = {}
        """Since when, and for how long, a gateway with something to send is known to have no token."""
        self._turned_away: set[str] = set()
        self._faults = 0
        self._breathes_until = 0.0
        self._looks_for_launches_at = 0.0
        self._pace = expansion.Pace()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then finish what is under way, and give the rest back."""
        await self._in_thread(self.start)
        watching = None
        if self._watch is not None:
            await self._watch.look()  # before anything leaves
            watching = asyncio.create_task(self._watch.run(stop))
        wakeups = self._wakeups.start() if self._wakeups else None
        try:
            while not stop.is_set():
                worked = await self._turn_safely()
                if not worked:
                    await self._wait(stop)
        finally:
            self._stopping = True
            if wakeups:
                wakeups.cancel()
                await asyncio.wait([wakeups], timeout=2 * WAKEUPS_STOP_S)
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await self.finish()

    def start(self) -> None:
        """Let go of what a dead worker held.  On SQLite the file lock proves that no other worker is alive."""
        with self.db.transaction() as tx:
            workers.beat(tx, self.owner)
            for name in rate_limits.try_again(tx):
                log.warning("gateway %s waits for a person: one message tries it, as the worker starts", name)
            others = self.owner if self.db.is_sqlite else None
            back, doubtful = leases.end_leases(tx, of_others_than=others)
        if back or doubtful:
            log.warning("after a worker died: %d messages back in the queue, %d unknown", back, doubtful)

    async def turn(self) -> bool:
        """One round of all the work there is now; returns whether there was any.

        A fault in one step keeps no other step from its work; it is raised when all have had their turn.
        """
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._breathes_until - loop.time())
        self._called.clear()
        began = loop.time()
        try:
            async with self._turning:
                return await self._steps()
        finally:
            if self.db.is_sqlite:
                # It lets the next writer in by chance: who writes again at once keeps webhooks waiting for long.
                self._breathes_until = loop.time() + min(BREATH_S, loop.time() - began)

    async def _steps(self) -> bool:
        steps: list[Callable[[], Awaitable[bool]]] = [self._tidy_in_time, self._expand_or_ask]
        steps += [partial(self._send, name, gateway) for name, gateway in self.gateways.items()]
        steps.append(partial(self._reconciler.turn, looks=not self._shares_chores))
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
        while await self.turn() or self._under_way() or self._has_answers or self._reconciler.has_answers:
            if under_way := self._under_way():
                await asyncio.wait(under_way, return_when="FIRST_COMPLETED")

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [call for calls in self._calls.values() for call in calls] + self._reconciler.under_way

    @property
    def _has_answers(self) -> bool:
        return any(self._answers.values())

    async def finish(self) -> None:
        """Hand over nothing more, wait for the calls under way, and write their answers."""
        await self._reconciler.finish()
        under_way = [call for calls in self._calls.values() for call in calls]
        if under_way:
            await asyncio.wait(under_way, timeout=STOP_S)
        await self._in_thread(self._leave)
        for gateway in self.gateways.values():
            await gateway.close()
        self._thread.shutdown()

    async def _turn_safely(self) -> bool:
        if self._wakeups and self._wakeups.stays:
            raise self._wakeups.stays
        try:
            worked = await self.turn()
        except Exception as fault:
            # The rows still say what is to be done, so look again; but a fault that stays must be seen by whoever
            # restarts processes, and not by a heartbeat that goes on.
            self._faults += 1
            log.error("a turn failed (%d in a row): %s", self._faults, type(fault).__name__)
            if self._faults >= FAULTS_IN_A_ROW:
                raise
            await asyncio.sleep(FAULT_PAUSE_S)
            return False
        self._faults = 0
        return worked

    async def _wait(self, stop: asyncio.Event) -> None:
        """Until a call is answered, something is queued, the next look, or the end.

        What came since the turn began does not wait.
        """
        waits = [asyncio.create_task(self._called.wait()), asyncio.create_task(stop.wait())]
        await asyncio.wait(waits, timeout=self._look_s, return_when="FIRST_COMPLETED")
        for wait in waits:
            wait.cancel()

    @property
    def _look_s(self) -> float:
        """Seconds to the next look; of the token for which something waits nobody tells."""
        is_called = self._wakeups is not None and self._wakeups.is_listening
        return LISTENING_LOOK_S if is_called and not self._no_token else LOOK_S

    @property
    def _shares_chores(self) -> bool:
        """Whether jobs give the chores to one worker of many."""
        return self._wakeups is not None and self._wakeups.shares_chores

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def _alone(self, work: Callable[..., bool], *args: Any) -> bool:
        """A chore between two turns; what it found may be there to be sent."""
        async with self._turning:
            worked = await self._in_thread(work, *args)
        self._called.set()
        return worked

    # -- in the database's thread --------------------------------------------------------------------------------------

    def _tidy(self) -> bool:
        """What each worker does for itself: heartbeat, its machine's spool; and the chores if nobody shares them out."""
        played = intake.play_spool(self.db, self.gateways, self._spool) > 0
        with self.db.transaction() as tx:
            workers.beat(tx, self.owner)
            if not self._shares_chores:
                _tidy_up(tx)
        if self._shares_chores:
            return played
        tried = listeners.try_again(self.db) > 0 or played
        return digest.tell_leads(self.db) or tried

    def _tidy_all(self) -> bool:
        """What any worker may do for all: leases, what ran out of time, broadcasts that are over, inbound texts to try again."""
        with self.db.transaction() as tx:
            _tidy_up(tx)
        return listeners.try_again(self.db) > 0

    def _is_to_expand(self) -> bool:
        with self.db.reading() as tx:
            return bool(broadcasts.whose_hour_has_come(tx)) or expansion.is_expanding(tx)

    def _expand(self) -> bool:
        with self.db.reading() as tx:
            due = broadcasts.whose_hour_has_come(tx)
            if not due and not expansion.is_expanding(tx):
                return False
        for number in due:
            with self.db.transaction() as tx:
                begin(tx, number)
        with self.db.transaction() as tx, self._pace.kept() as many:
            tx.wake()
            return expansion.expand_next(tx, many)

    def _trade(self, name: str, gateway: Gateway, free: int) -> tuple[bool, list[HandOver], int]:
        """Write down what the calls came to, and hand over what may leave by `free` more calls.

        Returns whether anything was written down, what is to be sent, and how many the gate turned away: they cost no
        token, so there is no wait for the next.  All of it is one transaction, unless an answer concerns other messages
        too, or the last one failed: an answer is evidence, and waits for no fault that is not its own.
        """
        answers = self._heard(name)
        wrote = bool(answers)
        try:
            if answers and (name in self._apart or not self._are_plain(name, answers)):
                self._record(name, gateway, answers)
                answers = []
            leaving, turned_away = self._take(name, gateway, free, answers)
        except BaseException:
            self._answers[name].extendleft(reversed(answers))
            self._apart.add(name)
            raise
        self._apart.discard(name)
        return wrote, leaving, turned_away

    def _heard(self, name: str) -> list[Answer]:
        """The next answers of a gateway; meanwhile calls go on adding."""
        waiting = self._answers[name]
        return [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]

    def _are_plain(self, name: str, answers: Sequence[Answer]) -> bool:
        """Whether these answers are of their own messages only."""
        concern = any(isinstance(result, NotSent) and result.scope in _CONCERN_OTHERS for _, result in answers)
        return not concern and self._breakers[name].pause_for is None and name not in self._trials

    def _take(self, name: str, gateway: Gateway, free: int, answers: Sequence[Answer]) -> tuple[list[HandOver], int]:
        """Settle plain answers, and claim and pass the gate with as many as may go now.

        Of a gateway that was left alone one message goes, and no other worker sends any until it is answered.
        """
        waits = name in self._no_token and is_within(self.db.clock(), *self._no_token[name])
        sends = free > 0 and not waits
        if not answers and not (sends and self._is_due(name)):
            return [], 0
        with self.db.transaction(in_turn=False) as tx:
            if answers:
                self._settle(tx, gateway, answers)
            return self._hand_over(tx, name, gateway, free) if sends else ([], 0)

    def _is_due(self, name: str) -> bool:
        with self.db.reading() as tx:
            due = outbox.is_due(tx, name)
        if not due:
            self._no_token.pop(name, None)
        return due

    def _hand_over(self, tx: Transaction, name: str, gateway: Gateway, free: int) -> tuple[list[HandOver], int]:
        """Claim what has a token and pass the gate with it; what the gate leaves is queued again, in its place."""
        allowed = self._allowed(tx, name)
        if allowed == 0:
            return [], 0
        on_trial, allowed = allowed == 1, min(free, allowed)
        tokens = rate_limits.tokens(tx, name, gateway.rate_per_s)
        if tokens.many == 0:
            # Asking again before there can be one would only take the writer's turn.
            self._no_token[name] = tx.now, timedelta(seconds=tokens.next_s)
            return [], 0
        # Where the gate turns many away, ten thousand that expired or meet the night would take hours by the rate.
        at_most = BATCH if name in self._turned_away else min(BATCH, allowed, tokens.many)
        if name in self.db.rules.senders:
            # Of many the first may wait for the token of one number while another's is there.
            at_most = min(BATCH, 16 * at_most)
        claimed = outbox.claim(tx, name, self.owner, at_most)
        leaving, waiting = gate.hand_over(tx, claimed, self.owner, rate_per_s=gateway.rate_per_s, at_most=allowed)
        leases.release(tx, waiting, self.owner)
        if on_trial and leaving:
            self._trials[name] = tx.now + timedelta(seconds=CALL_S) + STANDBY
            trial_messages.begin(tx, name, self._trials[name])
        turned_away = len(claimed) - len(leaving) - len(waiting)
        if turned_away:
            self._turned_away.add(name)
        else:
            self._turned_away.discard(name)
        if waiting and not leaving:
            self._no_token[name] = tx.now, timedelta(seconds=LOOK_S)  # each number's comes at its own time
        else:
            self._no_token.pop(name, None)
        return leaving, turned_away

    def _allowed(self, tx: Transaction, name: str) -> int:
        """How many may go: as a rule all; one if it is for us to try a gateway that was left alone; else none."""
        breaker, until = self._breakers[name], trial_messages.paused_until(tx, name)
        if until is None:
            # Where it is not our own pause that is still to be written, another worker has found it well.
            breaker.is_trying = breaker.is_trying and breaker.pause_for is not None
            return BATCH
        if (
            until > tx.now
            or (not breaker.is_trying and tx.now < until + STANDBY)
            or not trial_messages.is_mine(tx, name)
        ):
            return 0
        breaker.is_trying = True
        return 1

    def _settle(self, tx: Transaction, gateway: Gateway, answers: Sequence[Answer]) -> None:
        told = [_settled(handed, result, tx.now, self._instead_of(gateway, handed)) for handed, result in answers]
        outbox.settle(tx, told)

    def _record(self, name: str, gateway: Gateway, answers: Sequence[Answer]) -> None:
        """Write down what calls came to, and what that means for all that is still to leave by the gateway.

        The messages first and then the gateway, as a receipt does: else one of the two would wait for the other.
        """
        breaker, trial = self._breakers[name], self._trials.get(name)
        broken = breaker.pause_for
        ends_trial = trial is not None and (broken is not None or not breaker.is_trying)
        concern = any(isinstance(result, NotSent) and result.scope in _CONCERN_OTHERS for _, result in answers)
        with self.db.transaction(in_turn=concern or broken is not None) as tx:
            self._settle(tx, gateway, answers)
            if trial is not None and ends_trial:
                trial_messages.passed(tx, name, trial)  # first, for what its answer asks for is a pause of its own
            paused = [
                self._consequences(tx, gateway, handed, result)
                for handed, result in answers
                if isinstance(result, NotSent)
            ]
            until = None if broken is None or any(paused) else tx.now + broken
            if until is not None and rate_limits.pause(tx, name, until=until, because=NO_ANSWERS):
                log.error("gateway %s is paused for %s: %s", name, broken, NO_ANSWERS)
        if broken is not None:
            breaker.pause_for = None
        if ends_trial:
            self._trials.pop(name, None)

    def _instead_of(self, gateway: Gateway, handed: HandOver) -> str | None:
        """The gateway that takes over what this one certainly did not send, where the programme asked for one."""
        other = None if handed.stays else self.db.rules.failover.get(gateway.name)
        return other if other in self.gateways else None

    def _consequences(self, tx: Any, gateway: Gateway, handed: HandOver, result: NotSent) -> bool:
        """What a refusal means beyond its message; returns whether the gateway is paused by it."""
        if result.scope == "opted_out":
            opt_outs.note_opt_out(tx, handed.id, by=Actor("gateway", None, f"message {handed.id}"))
        number = handed.own_number
        because = f"{result.reason} ({result.code or 'no code'})"
        if result.scope == "throttled" or (result.scope == "sender" and number is not None):
            usual: Hold = "slow" if result.scope == "throttled" else "while"
            hold = "person" if result.lasting else result.hold or usual
            until = rate_limits.hold_up(tx, gateway.name, number, hold, because, wait_s=result.retry_after_s)
            if until is not None:
                log.warning("gateway %s holds back: %s", gateway.name, because)
            return until is not None and number is None
        if result.scope in _PAUSES:
            # A wrong token must pause the gateway after one message, not burn the whole queue.
            until = rate_limits.UNTIL_RESUMED if result.lasting else tx.now + PAUSE
            if rate_limits.pause(tx, gateway.name, until=until, because=because):
                long = f"good, until 'jumbe gateways resume {gateway.name}'" if result.lasting else PAUSE
                log.error("gateway %s is paused for %s: %s", gateway.name, long, result.reason)
            return True
        return False

    def _leave(self) -> None:
        for name, gateway in self.gateways.items():
            while answers := self._heard(name):
                self._record(name, gateway, answers)
        with self.db.transaction(in_turn=False) as tx:
            workers.leave(tx, self.owner)

    # -- in the event loop ---------------------------------------------------------------------------------------------

    async def _tidy_in_time(self) -> bool:
        now = self.db.clock()
        if is_within(now, self._tidied, HOUSEKEEPING):
            return False
        self._tidied = now
        return await self._in_thread(self._tidy)

    async def _expand_or_ask(self) -> bool:
        """Have one worker expand what is launched, while the others send; or do it, where nobody can be asked."""
        now_s = asyncio.get_running_loop().time()
        if any(self._calls.values()) and now_s < self._looks_for_launches_at:
            return False  # as often as an idle worker looks
        self._looks_for_launches_at = now_s + LOOK_S
        if await self._expand_or_ask_now():
            self._looks_for_launches_at = now_s
            return True
        return False

    async def _expand_or_ask_now(self) -> bool:
        if self._wakeups is None or not self._shares_chores:
            return await self._in_thread(self._expand)
        now = self.db.clock()
        if is_within(now, self._asked_to_expand, HOUSEKEEPING) or not await self._in_thread(self._is_to_expand):
            return False
        self._asked_to_expand = now
        return not await self._wakeups.ask_for("expand") and await self._in_thread(self._expand)

    async def _expand_all(self) -> None:
        """Until nothing is left; between two ranges this worker sends too."""
        while not self._stopping and await self._alone(self._expand):
            pass

    async def _send(self, name: str, gateway: Gateway) -> bool:
        free = (1 if self._breakers[name].is_trying else gateway.capabilities.concurrency) - len(self._calls[name])
        if free <= 0 and not self._answers[name]:
            return False
        wrote, leaving, turned_away = await self._in_thread(self._trade, name, gateway, free)
        trying, loop = self._breakers[name].is_trying, asyncio.get_running_loop()
        until = loop.time() + CALL_S
        for handed in leaving:
            call = asyncio.create_task(self._call(gateway, handed, on_trial=trying))
            self._calls[name][call] = until
            call.add_done_callback(self._calls[name].pop)
        if leaving:
            # One timer for all of them: one for each would cost as much as writing a state.
            loop.call_at(until, self._cut_off, name)
        return bool(wrote or leaving or turned_away)

    def _cut_off(self, name: str) -> None:
        """End what has lasted too long; of what was answered nothing is left here."""
        now = asyncio.get_running_loop().time()
        for call in [call for call, until in self._calls[name].items() if until <= now]:
            call.cancel()

    async def _call(self, gateway: Gateway, handed: HandOver, *, on_trial: bool) -> None:
        """Exactly one call; whatever goes wrong that is not certainly *not sent* is unknown."""
        outgoing = Outgoing(
            id=handed.id,
            attempt_id=handed.attempt_id,
            to=handed.phone,
            text=handed.body,
            callback_url=f"{self.public_url}/status/{gateway.name}/{handed.id}?attempt={handed.attempt_id}",
            validity_s=handed.validity_s,
            own_number=handed.own_number,
        )
        try:
            result = await gateway.send(outgoing)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001  an adapter's bug must not stop the others
            log.error("gateway %s failed on message %s: %s", gateway.name, handed.id, type(fault).__name__)
            result = Unknown("the adapter failed")
        of_a_number = handed.own_number is not None
        self._breakers[gateway.name].note(self.db.clock(), result, on_trial=on_trial, of_a_number=of_a_number)
        self._answers[gateway.name].append((handed, result))
        self._called.set()


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
            due = now + timedelta(seconds=_wait_s(result.retry_after_s, handed.attempts))
            return Settled(handed.id, handed.attempt_id, "queued", reason=scope, code=result.code, due_at=due)
        case NotSent():
            return Settled(handed.id, handed.attempt_id, "refused", reason=result.scope, code=result.code)


def _wait_s(asked_s: float | None, attempts: int) -> float:
    """What the gateway asks for, and a little more for each in its own measure: they must not all come back at once."""
    return _back_off_s(attempts) if not asked_s else asked_s * random.uniform(1.0, 1.2)  # noqa: S311


def _back_off_s(attempts: int) -> float:
    """Twice as long each time up to five minutes, with jitter so that a storm does not come back as a wave."""
    return random.uniform(0.5, 1.0) * min(300.0, 2.0**attempts)  # noqa: S311


def _tidy_up(tx: Transaction) -> None:
    leases.end_leases(tx)
    outbox.expire(tx)
    outbox.adopt(tx)
    outbox.fail_over(tx)
    broadcasts.put_away_unconfirmed(tx)
    ask_second_leads(tx)
    expansion.finish(tx)


@contextlib.contextmanager
def only_one(file: Path | None) -> Iterator[None]:
    """Hold the lock that makes this the only worker of a SQLite file; it ends with the process, however that ends.

    The lock stands beside the file itself: through a link it is the same one.  Raises Misconfigured if another worker
    holds it, or if it cannot be made.
    """
    if file is None:
        yield
        return
    file = Path(os.path.realpath(file))
    lock = file.with_name(file.name + ".worker-lock")
    try:
        held = private_files.append(lock)
    except OSError as fault:
        raise Misconfigured([f"the lock {lock} cannot be made: {fault.strerror}"]) from None
    with held:
        _lock(held, file)
        yield


def _lock(held: IO[bytes], file: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Misconfigured(
            [f"another worker serves {file}: on SQLite there is exactly one. Stop it first, or use PostgreSQL for many"]
        ) from None
