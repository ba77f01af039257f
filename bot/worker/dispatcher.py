"""One gateway of one worker: hand over what may leave, call, and write down what came of it.

The order of the steps is the promise: claim, gate and `sending` with a fresh attempt id (commit), call once, write the
answer (commit).  A death before the first commit loses nothing; a death after it leaves `unknown`.  What earlier calls came
to and what leaves next share a transaction, and nothing is claimed that does not leave in it: whoever comes first in the
queue at that moment goes, a reply before all bulk.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from bot.gateways.base import Accepted, Gateway, NotSent, Outgoing, SendResult, Unknown
from bot.inbound import opt_outs
from bot.worker.circuit_breaker import Breaker
from storage.audit import Actor
from storage.database import Database, Transaction, is_within
from storage.messages import gate, leases, outbox
from storage.messages.gate import HandOver
from storage.messages.outbox import Settled
from storage.programme import rate_limits
from storage.programme.rate_limits import Hold

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 100
"""Rows per claim and per write: a longer write would keep webhooks waiting for SQLite's one writer."""

LOOK_S = 0.1
"""How often an idle worker looks where nobody calls it: a reply leaves within 200 ms of its commit."""

CALL_S = 30.0
"""No call lasts longer, whatever an adapter promises: well below the lease of what is handed over (`leases.LEASE`)."""

PAUSE = timedelta(minutes=5)
STANDBY = timedelta(seconds=5)
"""After a pause, until another worker tries the gateway than the one that paused it, and knows for how long."""

NO_ANSWERS = "half of the last calls or more had no answer"
Answer = tuple[HandOver, SendResult]
_PAUSES = frozenset({"gateway", "sender"})
_CONCERN_OTHERS = frozenset({*_PAUSES, "throttled", "opted_out"})
"""Refusals that mean something beyond their own message."""


_AGAIN = frozenset({"throttled", "unreachable", "gateway", "sender"})
_ELSEWHERE = frozenset({"gateway", "sender", "destination"})
"""Refusals that say nothing about the message or its recipient: another gateway may well take it."""


class InThread(Protocol):
    """Runs work in the one thread of the worker that touches the database."""

    def __call__(self, work: Callable[..., T], *args: Any) -> Awaitable[T]:
        """What the work returns."""


class Dispatcher:
    """What one worker knows of one gateway, and does with it; `call_worker` wakes the worker when a call is answered."""

    def __init__(
        self,
        db: Database,
        gateway: Gateway,
        gateways: Mapping[str, Gateway],
        public_url: str,
        owner: str,
        in_thread: InThread,
        call_worker: Callable[[], None],
    ) -> None:
        self.db = db
        self.name = gateway.name
        self.gateway = gateway
        self._gateways = gateways
        self._public_url = public_url
        self._owner = owner
        self._in_thread = in_thread
        self._call_worker = call_worker
        self._breaker = Breaker()
        self._calls: dict[asyncio.Task[None], float] = {}
        self._answers: deque[Answer] = deque()
        self._is_apart = False
        """Whether the last transaction failed: then answers are written down by themselves, whatever else fails."""
        self._trial: datetime | None = None
        self._no_token: tuple[datetime, timedelta] | None = None
        """Since when, and for how long, there is known to be no token for what is to be sent."""
        self._turned_away = False
        """Whether the gate turned some of the last claim away."""

    async def send(self) -> bool:
        """Write down what earlier calls came to, and start as many as may go now; returns whether there was any work."""
        free = (1 if self._breaker.is_trying else self.gateway.capabilities.concurrency) - len(self._calls)
        if free <= 0 and not self._answers:
            return False
        wrote, leaving, turned_away = await self._in_thread(self._trade, free)
        trying, loop = self._breaker.is_trying, asyncio.get_running_loop()
        until = loop.time() + CALL_S
        for handed in leaving:
            call = asyncio.create_task(self._call(handed, on_trial=trying))
            self._calls[call] = until
            call.add_done_callback(self._calls.pop)
        if leaving:
            # One timer for all of them: one for each would cost as much as writing a state.
            loop.call_at(until, self._cut_off)
        return bool(wrote or leaving or turned_away)

    @property
    def under_way(self) -> list[asyncio.Task[None]]:
        """The calls that are not answered yet."""
        return list(self._calls)

    @property
    def has_answers(self) -> bool:
        """Whether something is to be written down."""
        return bool(self._answers)

    @property
    def waits_for_token(self) -> bool:
        """Whether something is to be sent and the rate of the gateway keeps it."""
        return self._no_token is not None

    def record_all(self) -> None:
        """Write down all that was answered: what a worker does that ends."""
        while answers := self._heard():
            self._record(answers)

    # -- in the event loop ---------------------------------------------------------------------------------------------

    def _cut_off(self) -> None:
        """End what has lasted too long; of what was answered nothing is left here."""
        now = asyncio.get_running_loop().time()
        for call in [call for call, until in self._calls.items() if until <= now]:
            call.cancel()

    async def _call(self, handed: HandOver, *, on_trial: bool) -> None:
        """Exactly one call; whatever goes wrong that is not certainly *not sent* is unknown."""
        outgoing = Outgoing(
            id=handed.id,
            attempt_id=handed.attempt_id,
            to=handed.address,
            text=handed.body,
            callback_url=f"{self._public_url}/status/{self.name}/{handed.id}?attempt={handed.attempt_id}",
            validity_s=handed.validity_s,
            own_number=handed.own_number,
        )
        try:
            result = await self.gateway.send(outgoing)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001  an adapter's bug must not stop the others
            log.error("gateway %s failed on message %s: %s", self.name, handed.id, type(fault).__name__)
            result = Unknown("the adapter failed")
        of_a_number = handed.own_number is not None
        self._breaker.note(self.db.clock(), result, on_trial=on_trial, of_a_number=of_a_number)
        self._answers.append((handed, result))
        self._call_worker()

    # -- in the database's thread --------------------------------------------------------------------------------------

    def _trade(self, free: int) -> tuple[bool, list[HandOver], int]:
        """Write down what the calls came to, and hand over what may leave by `free` more calls.

        Returns whether anything was written down, what is to be sent, and how many the gate turned away: they cost no
        token, so there is no wait for the next.  All of it is one transaction, unless an answer concerns other messages
        too, or the last one failed: an answer is evidence, and waits for no fault that is not its own.
        """
        answers = self._heard()
        wrote = bool(answers)
        try:
            if answers and (self._is_apart or not self._are_plain(answers)):
                self._record(answers)
                answers = []
            leaving, turned_away = self._take(free, answers)
        except BaseException:
            self._answers.extendleft(reversed(answers))
            self._is_apart = True
            raise
        self._is_apart = False
        return wrote, leaving, turned_away

    def _heard(self) -> list[Answer]:
        """The next answers; meanwhile calls go on adding."""
        return [self._answers.popleft() for _ in range(min(BATCH, len(self._answers)))]

    def _are_plain(self, answers: Sequence[Answer]) -> bool:
        """Whether these answers are of their own messages only."""
        concern = any(isinstance(result, NotSent) and result.scope in _CONCERN_OTHERS for _, result in answers)
        return not concern and self._breaker.pause_for is None and self._trial is None

    def _take(self, free: int, answers: Sequence[Answer]) -> tuple[list[HandOver], int]:
        """Settle plain answers, and claim and pass the gate with as many as may go now.

        Of a gateway that was left alone one message goes, and no other worker sends any until it is answered.
        """
        waits = self._no_token is not None and is_within(self.db.clock(), *self._no_token)
        sends = free > 0 and not waits
        if not answers and not (sends and self._is_due()):
            return [], 0
        with self.db.transaction(in_turn=False) as tx:
            if answers:
                self._settle(tx, answers)
            return self._hand_over(tx, free) if sends else ([], 0)

    def _is_due(self) -> bool:
        with self.db.reading() as tx:
            due = outbox.is_due(tx, self.name)
        if not due:
            self._no_token = None
        return due

    def _hand_over(self, tx: Transaction, free: int) -> tuple[list[HandOver], int]:
        """Claim what has a token and pass the gate with it; what the gate leaves is queued again, in its place."""
        allowed = self._allowed(tx)
        if allowed == 0:
            return [], 0
        on_trial, allowed = allowed == 1, min(free, allowed)
        tokens = rate_limits.tokens(tx, self.name, self.gateway.rate_per_s)
        if tokens.many == 0:
            # Asking again before there can be one would only take the writer's turn.
            self._no_token = tx.now, timedelta(seconds=tokens.next_s)
            return [], 0
        # Where the gate turns many away, ten thousand that expired or meet the night would take hours by the rate.
        at_most = BATCH if self._turned_away else min(BATCH, allowed, tokens.many)
        if self.name in self.db.rules.senders:
            # Of many the first may wait for the token of one number while another's is there.
            at_most = min(BATCH, 16 * at_most)
        claimed = outbox.claim(tx, self.name, self._owner, at_most)
        leaving, waiting = gate.hand_over(tx, claimed, self._owner, rate_per_s=self.gateway.rate_per_s, at_most=allowed)
        leases.release(tx, waiting, self._owner)
        if on_trial and leaving:
            self._trial = tx.now + timedelta(seconds=CALL_S) + STANDBY
            rate_limits.begin_trial(tx, self.name, self._trial)
        turned_away = len(claimed) - len(leaving) - len(waiting)
        self._turned_away = turned_away > 0
        if waiting and not leaving:
            self._no_token = tx.now, timedelta(seconds=LOOK_S)  # each number's comes at its own time
        else:
            self._no_token = None
        return leaving, turned_away

    def _allowed(self, tx: Transaction) -> int:
        """How many may go: as a rule all; one if it is for us to try a gateway that was left alone; else none."""
        breaker, until = self._breaker, rate_limits.paused_until(tx, self.name)
        if until is None:
            # Where it is not our own pause that is still to be written, another worker has found it well.
            breaker.is_trying = breaker.is_trying and breaker.pause_for is not None
            return BATCH
        if (
            until > tx.now
            or (not breaker.is_trying and tx.now < until + STANDBY)
            or not rate_limits.may_begin_trial(tx, self.name)
        ):
            return 0
        breaker.is_trying = True
        return 1

    def _settle(self, tx: Transaction, answers: Sequence[Answer]) -> None:
        outbox.settle(tx, [_settled(handed, result, tx.now, self._instead_of(handed)) for handed, result in answers])

    def _record(self, answers: Sequence[Answer]) -> None:
        """Write down what calls came to, and what that means for all that is still to leave by the gateway.

        The messages first and then the gateway, as a receipt does: else one of the two would wait for the other.
        """
        breaker, trial = self._breaker, self._trial
        broken = breaker.pause_for
        ends_trial = trial is not None and (broken is not None or not breaker.is_trying)
        concern = any(isinstance(result, NotSent) and result.scope in _CONCERN_OTHERS for _, result in answers)
        with self.db.transaction(in_turn=concern or broken is not None) as tx:
            self._settle(tx, answers)
            if trial is not None and ends_trial:
                rate_limits.end_trial(tx, self.name, trial)  # first, for what its answer asks for is a pause of its own
            paused = [
                self._consequences(tx, handed, result) for handed, result in answers if isinstance(result, NotSent)
            ]
            until = None if broken is None or any(paused) else tx.now + broken
            if until is not None and rate_limits.pause(tx, self.name, until=until, because=NO_ANSWERS):
                log.error("gateway %s is paused for %s: %s", self.name, broken, NO_ANSWERS)
        if broken is not None:
            breaker.pause_for = None
        if ends_trial:
            self._trial = None

    def _instead_of(self, handed: HandOver) -> str | None:
        """The gateway that takes over what this one certainly did not send, where the programme asked for one."""
        other = None if handed.stays else self.db.rules.failover.get(self.name)
        return other if other in self._gateways else None

    def _consequences(self, tx: Any, handed: HandOver, result: NotSent) -> bool:
        """What a refusal means beyond its message; returns whether the gateway is paused by it."""
        if result.scope == "opted_out":
            opt_outs.note_opt_out(tx, handed.id, by=Actor("gateway", None, f"message {handed.id}"))
        number = handed.own_number
        because = f"{result.reason} ({result.code or 'no code'})"
        if result.scope == "throttled" or (result.scope == "sender" and number is not None):
            usual: Hold = "slow" if result.scope == "throttled" else "while"
            hold = "person" if result.lasting else result.hold or usual
            until = rate_limits.hold_up(tx, self.name, number, hold, because, wait_s=result.retry_after_s)
            if until is not None:
                log.warning("gateway %s holds back: %s", self.name, because)
            return until is not None and number is None
        if result.scope in _PAUSES:
            # A wrong token must pause the gateway after one message, not burn the whole queue.
            until = rate_limits.UNTIL_RESUMED if result.lasting else tx.now + PAUSE
            if rate_limits.pause(tx, self.name, until=until, because=because):
                long = f"good, until 'jumbe gateways resume {self.name}'" if result.lasting else PAUSE
                log.error("gateway %s is paused for %s: %s", self.name, long, result.reason)
            return True
        return False


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
