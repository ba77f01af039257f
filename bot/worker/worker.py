"""The process that sends: it expands broadcasts, has each gateway's dispatcher send, reconciles and tidies up.

Work is found by looking at the database, never handed over in memory, so a restart just continues.
Everything that touches the database runs in one thread of its own; the calls to gateways run together in asyncio.

What is to be done once and not by every worker is a *chore*: on SQLite the one worker does it by its own clock, on
PostgreSQL a job gives it to one of them (`worker/wakeups.py`), and without the jobs each does it, which is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from bot.commands.broadcasts import ask_second_leads, begin
from bot.gateways.base import Gateway
from bot.inbound import intake, listeners
from bot.inbound.intake import spool_of
from bot.worker import digest
from bot.worker.dispatcher import LOOK_S, Dispatcher
from bot.worker.instance_guard import Watch
from bot.worker.reconciler import Reconciler
from bot.worker.wakeups import STOP_S as WAKEUPS_STOP_S
from bot.worker.wakeups import Chore, Wakeups
from storage import private_files
from storage.broadcasts import broadcasts, expansion
from storage.database import Database, Transaction, is_within
from storage.errors import Misconfigured
from storage.messages import leases, outbox
from storage.programme import rate_limits, workers

log = logging.getLogger(__name__)

T = TypeVar("T")

BREATH_S = 0.05
"""After a turn the writer is left to others for as long as the turn took, and no longer than this."""

LISTENING_LOOK_S = 1.0
"""How often it looks where PostgreSQL calls it as soon as something is queued."""

HOUSEKEEPING = timedelta(seconds=1)
STOP_S = 25.0
"""A platform kills about 30 s after SIGTERM."""

FAULT_PAUSE_S = 1.0
FAULTS_IN_A_ROW = 10
"""Failed turns, a second apart, after which the worker ends with the fault."""

EVER = datetime.min.replace(tzinfo=UTC)


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
        self._dispatchers = [
            Dispatcher(db, gateway, gateways, public_url, self.owner, self._in_thread, self._called.set)
            for gateway in gateways.values()
        ]
        self._turning = asyncio.Lock()
        self._stopping = False
        self._tidied = EVER
        self._asked_to_expand = EVER
        chores: dict[str, Chore] = {
            "expand": self._expand_all,
            "tidy": partial(self._alone, self._tidy_all),
            "digest": partial(self._alone, digest.send, db),
            "reconcile": self._reconciler.ask,
            "sweep": self._reconciler.sweep,
        }
        self._wakeups = None if db.is_sqlite else Wakeups(db, chores, self._called.set)
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
        steps += [dispatcher.send for dispatcher in self._dispatchers]
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
        return self._calls + self._reconciler.under_way

    @property
    def _calls(self) -> list[asyncio.Task[None]]:
        return [call for dispatcher in self._dispatchers for call in dispatcher.under_way]

    @property
    def _has_answers(self) -> bool:
        return any(dispatcher.has_answers for dispatcher in self._dispatchers)

    async def finish(self) -> None:
        """Hand over nothing more, wait for the calls under way, and write their answers."""
        await self._reconciler.finish()
        if under_way := self._calls:
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
        waits = any(dispatcher.waits_for_token for dispatcher in self._dispatchers)
        return LISTENING_LOOK_S if is_called and not waits else LOOK_S

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
        return digest.send(self.db) or tried

    def _tidy_all(self) -> bool:
        """What any worker may do for all: leases, what ran out of time, broadcasts that are over, inbound texts to try again."""
        with self.db.transaction() as tx:
            _tidy_up(tx)
        return listeners.try_again(self.db) > 0

    def _is_to_expand(self) -> bool:
        due, unwritten = self._look_for_launches()
        return bool(due) or unwritten

    def _look_for_launches(self) -> tuple[list[int], bool]:
        """Whose hour has come, and whether anything is not written to its end; holds that are over end by it.

        Each worker ends them by itself: a text must not wait until a chore has found its worker.
        """
        with self.db.reading() as tx:
            are_over = broadcasts.holds_are_over(tx)
            due, unwritten = broadcasts.whose_hour_has_come(tx), expansion.is_expanding(tx)
        if are_over:
            with self.db.transaction() as tx:
                broadcasts.end_holds(tx)
        return due, unwritten

    def _expand(self) -> bool:
        due, unwritten = self._look_for_launches()
        if not due and not unwritten:
            return False
        for number in due:
            with self.db.transaction() as tx:
                begin(tx, number)
        with self.db.transaction() as tx, self._pace.kept() as many:
            tx.wake()
            return expansion.expand_next(tx, many)

    def _leave(self) -> None:
        for dispatcher in self._dispatchers:
            dispatcher.record_all()
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
        if self._calls and now_s < self._looks_for_launches_at:
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
        if not await self._in_thread(self._is_to_expand) or is_within(now, self._asked_to_expand, HOUSEKEEPING):
            return False
        self._asked_to_expand = now
        return not await self._wakeups.ask_for("expand") and await self._in_thread(self._expand)

    async def _expand_all(self) -> None:
        """Until nothing is left; between two ranges this worker sends too."""
        while not self._stopping and await self._alone(self._expand):
            pass


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
