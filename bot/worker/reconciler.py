"""Asks the gateways: what became of a message without an answer, and which texts came in while nobody listened.

Both are asked about by the worker, a few calls at a time beside its sending.  Nothing waits in memory that would be lost: a
question that was not answered is asked again, and a list that was not taken to its end is read again, because a text counts
once by its gateway id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from bot import notices
from bot.gateways.base import Absent, CannotTell, Doubtful, FindResult, Found, Gateway, Inbound
from bot.inbound import listeners, questions
from bot.inbound.spool import OUTAGES
from storage.conversations import conversations
from storage.database import Database, Transaction, is_within
from storage.messages import inbox, reconciliation, states
from storage.messages.reconciliation import Question
from storage.upkeep import renumbering, restore

log = logging.getLogger(__name__)

LOOK = timedelta(seconds=1)
ONCE_A_MINUTE = timedelta(minutes=1)
AT_ONCE = 4
"""Questions under way to one gateway; they share its connections with what is being sent."""

FIND_S = 120.0
SWEEP_S = 600.0
SWEEP = timedelta(minutes=5)
SWEEP_AGAIN = timedelta(minutes=1)
"""After a list that could not be read."""

BATCH = 50
"""Texts from a list that are taken in one turn: what is sent waits no longer than for them."""

EVER = datetime.min.replace(tzinfo=UTC)


class Reconciler:
    """The questions of one worker; `in_thread` runs database work in its own thread, `wake` lets it look at an answer."""

    def __init__(
        self,
        db: Database,
        gateways: Mapping[str, Gateway],
        in_thread: Callable[..., Awaitable[Any]],
        wake: Callable[[], None],
    ) -> None:
        self.db = db
        self.gateways = gateways
        self._in_thread = in_thread
        self._wake = wake
        self._asking: dict[str, dict[int, asyncio.Task[None]]] = {name: {} for name in gateways}
        self._answers: list[tuple[Question, FindResult]] = []
        self._sweeping: dict[str, asyncio.Task[None]] = {}
        self._swept: deque[tuple[str, list[Inbound], datetime]] = deque()
        self._swept_last: dict[str, tuple[datetime, timedelta]] = {}
        """When a list was asked for last, and how long it is not asked for again."""
        self._unread: set[str] = set()
        self._more: set[str] = set()
        """Gateways of which more may be due than could be asked at once."""
        self._looked = EVER
        self._minute = EVER

    @property
    def under_way(self) -> list[asyncio.Task[None]]:
        """The calls that are not answered yet."""
        return [task for asking in self._asking.values() for task in asking.values()] + list(self._sweeping.values())

    @property
    def has_answers(self) -> bool:
        """Whether something was answered and is not written down yet."""
        return bool(self._answers or self._swept)

    async def turn(self, *, looks: bool = True) -> bool:
        """Write down what was answered, and ask what is due; returns whether anything was written down.

        With `looks=False` somebody else says when to `ask` and to `sweep`; only a list that could not be read is read
        again.
        """
        worked = bool(await self._in_thread(self._record)) if self._answers else False
        if worked:
            for name in self._more.copy():
                await self._begin_asking(name, self.gateways[name])
        worked = bool(await self._in_thread(self._take_swept)) or worked if self._swept else worked
        now = self.db.clock()
        if not is_within(now, self._looked, LOOK):
            self._looked = now
            for name in self.gateways if looks else self._unread.copy():
                if not is_within(now, *self._swept_last.get(name, (EVER, SWEEP))):
                    await self._begin_sweep(name, now)
            if looks:
                await self.ask()
        if not is_within(now, self._minute, ONCE_A_MINUTE):
            self._minute = now
            worked = bool(await self._in_thread(self._once_a_minute)) or worked
        return worked

    async def ask(self) -> None:
        """Ask each gateway what became of some that are in doubt, and go on in later turns while more are due.

        No other worker asks about the same meanwhile.
        """
        for name, gateway in self.gateways.items():
            await self._begin_asking(name, gateway)

    async def sweep(self) -> None:
        """Ask each gateway for the texts that came in."""
        for name in self.gateways:
            await self._begin_sweep(name, self.db.clock())

    async def finish(self) -> None:
        """Ask nothing more; what is under way is asked again by the next worker."""
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)

    # -- what became of it ---------------------------------------------------------------------------------------------

    async def _begin_asking(self, name: str, gateway: Gateway) -> None:
        asking = self._asking[name]
        room = AT_ONCE - len(asking)
        if room <= 0:
            return
        waiting = {question.id for question, _ in self._answers}
        questions = await self._in_thread(self._questions, name, room)
        (self._more.add if len(questions) == room else self._more.discard)(name)
        for question in questions:
            if question.id not in asking and question.id not in waiting:
                task = asyncio.create_task(self._ask(gateway, question))
                asking[question.id] = task
                task.add_done_callback(lambda _, number=question.id: asking.pop(number, None))  # type: ignore[misc]

    def _questions(self, name: str, at_most: int) -> list[Question]:
        with self.db.reading() as tx:
            if not reconciliation.questions(tx, name, 1):
                return []
        with self.db.transaction(in_turn=False) as tx:
            return reconciliation.take_questions(tx, name, at_most)

    async def _ask(self, gateway: Gateway, question: Question) -> None:
        answer = await _find(gateway, question)
        self._answers.append((question, answer))
        self._wake()

    def _record(self) -> int:
        answers = list(self._answers)
        with self.db.transaction() as tx:
            for question, answer in answers:
                _settle(tx, question, answer)
            tell_leads(tx)
        # Taken away only now: what could not be written is written in the next turn, and calls go on adding meanwhile.
        del self._answers[: len(answers)]
        return len(answers)

    def _once_a_minute(self) -> int:
        """To a person what is in doubt at a gateway that the settings have no more; to the leads that there was a restore.

        And to a phone what it was asked before something else, once that is over.
        """
        with self.db.transaction() as tx:
            done = tell_of_restore(tx) + tell_of_one_phone(tx)
            done += conversations.tend(tx) + questions.resume(tx)
            left = reconciliation.leave_gone(tx, self.gateways)
            if left:
                log.warning("%d messages are in doubt at a gateway that is set no more: a person decides", left)
                tell_leads(tx)
        return left + done

    # -- what came in --------------------------------------------------------------------------------------------------

    async def _begin_sweep(self, name: str, now: datetime) -> None:
        gateway = self.gateways[name]
        busy = name in self._sweeping or any(waiting == name for waiting, _, _ in self._swept)
        if gateway.capabilities.lists_inbound and not busy:
            self._swept_last[name] = now, SWEEP
            self._unread.discard(name)
            since = await self._in_thread(self._swept_until, name)
            task = asyncio.create_task(self._sweep(name, gateway, since, now))
            self._sweeping[name] = task
            task.add_done_callback(lambda _: self._sweeping.pop(name, None))

    def _swept_until(self, name: str) -> datetime:
        with self.db.reading() as tx:
            return reconciliation.swept_until(tx, name)

    async def _sweep(self, name: str, gateway: Gateway, since: datetime, now: datetime) -> None:
        listed: list[Inbound] | CannotTell
        try:
            async with asyncio.timeout(SWEEP_S):
                listed = await gateway.sweep(since)
        except Exception as fault:  # noqa: BLE001  an adapter's bug must not stop the worker
            listed = CannotTell(type(fault).__name__)
        if isinstance(listed, CannotTell):
            log.warning("the texts that came in by %s could not be listed: %s", name, listed.reason)
            self._swept_last[name] = now, SWEEP_AGAIN
            self._unread.add(name)
        else:
            self._swept.append((name, listed, now))

    def _take_swept(self) -> int:
        """Take a batch of what a list had and we had not; at its end note up to when all is here."""
        name, listed, until = self._swept[0]
        batch = listed[: 10 * BATCH]
        with self.db.reading() as tx:
            known = inbox.known_inbound(tx, name, [text.gateway_id for text in batch])
        missing = [text for text in batch if text.gateway_id not in known][:BATCH]
        for text in missing:
            _take(self.db, name, text)
        if missing:
            log.info("%d texts came in by %s without a webhook", len(missing), name)
            done = batch.index(missing[-1]) + 1 if len(missing) == BATCH else len(batch)
        else:
            done = len(batch)
        rest = listed[done:]
        if rest:
            self._swept[0] = (name, rest, until)
        else:
            with self.db.transaction() as tx:
                reconciliation.mark_swept(tx, name, until)
            self._swept.popleft()
        return len(missing)


async def _find(gateway: Gateway, question: Question) -> FindResult:
    if not gateway.capabilities.finds_sent:
        return CannotTell("this gateway keeps no list")
    if question.text is None:
        return CannotTell("its code was made anew since, so its words cannot be told")
    doubtful = Doubtful(
        question.id, question.attempt_id, question.address, question.text, question.handed_over_at, question.not_it,
        any_attempt=question.attempt_id.startswith(states.RESTORED),
    )  # fmt: skip
    try:
        async with asyncio.timeout(FIND_S):
            return await gateway.find(doubtful)
    except Exception as fault:  # noqa: BLE001  an adapter's bug must not stop the worker
        log.error(
            "gateway %s failed on the question about message %s: %s", gateway.name, question.id, type(fault).__name__
        )
        return CannotTell("the adapter failed")


def _settle(tx: Transaction, question: Question, answer: FindResult) -> None:
    which = (question.id, question.attempt_id)
    match answer:
        case Found():
            reconciliation.found(tx, *which, gateway_id=answer.gateway_id, state=answer.state, code=answer.code)
        case Absent():
            reconciliation.absent(tx, *which)
        case CannotTell():
            reconciliation.cannot_tell(tx, *which, answer.reason)


def _take(db: Database, name: str, text: Inbound) -> None:
    try:
        listeners.take(db, name, text)
    except OUTAGES:
        raise
    except Exception as fault:  # noqa: BLE001  one text's fault must not keep the others out for ever
        log.error("a text of %s's list could not be kept: %s", name, type(fault).__name__)


def tell_leads(tx: Transaction) -> int:
    """Tell the leads, once for each broadcast, that some may or may not have got it; returns of how many broadcasts."""
    told = 0
    for row in reconciliation.untold(tx):
        if reconciliation.told(tx, row.id):
            told += 1
            notices.tell_leads(tx, "unresolved-notice", {"number": row.id, "count": row.many})
    return told


def tell_of_one_phone(tx: Transaction) -> int:
    """Tell the leads, once, of cases and accounts that an upgrade found to be on one phone; returns how many were told."""
    found = renumbering.tell(tx)
    if found is None:
        return 0
    return notices.tell_leads(tx, "one-phone-notice", {"count": found.cases, "accounts": found.people})


def tell_of_restore(tx: Transaction) -> int:
    """Tell the leads, once, that the programme went back to a backup; returns how many were told.

    The text is queued after the restore, so the fence holds it not: it leaves with the first worker.
    """
    since = restore.untold(tx)
    if since is None or not restore.told(tx):
        return 0
    doubtful = restore.holding(tx).get("unknown", 0)
    at = since.astimezone(ZoneInfo(tx.rules.time_zone))
    return notices.tell_leads(tx, "restore-notice", lambda language: {"time": language.date(at), "count": doubtful})
