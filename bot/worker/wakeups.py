"""What wakes a worker on PostgreSQL: a call when something is to be sent, and jobs that give each chore to one of them.

Two helpers, and the worker does without either.  The *call* is NOTIFY, sent by whoever commits a message and heard on a
connection of this worker's own.  While that connection is away the worker looks as often as it does on SQLite.

The *jobs* are Procrastinate's.  A job carries the name of a chore and nothing else: what there is to do stands in the
rows.  So a job that is lost is made up for by the next one, and one whose worker died is given to another (`rescue`).
Jobs are deferred by its periodic tasks and by workers, never inside the transaction of a webhook: there a second open
transaction with the same queueing lock would wait, and then fail.  While the jobs are away each worker does the chores by
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from storage.database import CHANNEL, CONNECT_S, Database
from storage.programme import procrastinate_schema

if TYPE_CHECKING:
    import procrastinate

log = logging.getLogger(__name__)

Chore = Callable[[], Awaitable[object]]

EVERY: Final[Mapping[str, str]] = {
    "tidy": "* * * * * */5",
    "reconcile": "* * * * * */5",
    "digest": "* * * * *",
    "sweep": "*/5 * * * *",
    "rescue": "* * * * * */10",
}
"""When a chore is due, as a table of cron with the seconds last.  What is not here is deferred by the worker that sees it."""

FAULTS_IN_A_ROW = 10
"""Failed jobs of one chore, after which the worker ends with the fault."""

HEARTBEAT_S = 5.0
STALLED_S = 15.0
"""Since the last heartbeat of a worker, until its jobs are given to others."""

STOP_S = 5.0
"""How long the chore under way may go on when the worker is told to stop; another does the rest."""

ALIVE_S = 10.0
"""How often a connection on which nothing is called is asked whether it is still there."""

AGAIN_S = 1.0
"""After a connection broke, until it is made anew."""

PATIENCE_S = 20.0
"""So long the chores wait for jobs that are away, before each worker does them by itself."""

LOOK_AGAIN_S = 60.0
"""Where its tables were not as they must be, until they are looked at again."""


class Wakeups:
    """What wakes one worker; `chores` are what jobs may ask of it, and `wake` lets it look at once."""

    def __init__(self, db: Database, chores: Mapping[str, Chore], wake: Callable[[], None]) -> None:
        self.is_listening = False
        self.stays: Exception | None = None
        """The fault of a chore that failed so often in a row that whoever restarts processes must see it."""

        self._db = db
        self._wake = wake
        self._chores = dict(chores) | {"rescue": self._rescue}
        self._app: procrastinate.App | None = None
        self._trusted_until = 0.0
        self._said: dict[str, str] = {}

    @property
    def shares_chores(self) -> bool:
        """Whether jobs give the chores out; for a while also where they are only just not there, as at a restart."""
        return self._app is not None or time.monotonic() < self._trusted_until

    def start(self) -> asyncio.Task[None]:
        """Listen and take jobs until the task is cancelled; whatever breaks is made anew."""
        self._trusted_until = time.monotonic() + PATIENCE_S
        return asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._for_ever("calls", self._listen))
            tasks.create_task(self._for_ever("jobs", self._take_jobs))

    async def ask_for(self, chore: str) -> bool:
        """Have one worker do a chore, if none has been asked to; False where jobs are away, so do it yourself."""
        app = self._app
        if app is None:
            return False
        from procrastinate.exceptions import AlreadyEnqueued, ConnectorException

        try:
            # Looked for first: a refusal by the queueing lock is an error in the log of the server.
            if not list(await app.job_manager.list_jobs_async(queueing_lock=chore)):
                await app.configure_task(chore, queueing_lock=chore, lock=chore).defer_async()
        except AlreadyEnqueued:
            pass
        except ConnectorException:
            return False
        return True

    async def _for_ever(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
                why = "ended"
            except Exception as fault:  # noqa: BLE001  the worker goes on without it, whatever it is
                why = type(fault).__name__
            self._say(what, f"the {what} are away ({why}): this worker looks by itself meanwhile")
            self._wake()
            await asyncio.sleep(AGAIN_S)

    def _say(self, what: str, told: str) -> None:
        """Log what became of the calls or the jobs, once for each change."""
        if self._said.get(what) != told:
            self._said[what] = told
            log.warning(told)

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        import psycopg

        async with await psycopg.AsyncConnection.connect(
            self._db.address, autocommit=True, **_unless_told(self._db, connect_timeout=CONNECT_S)
        ) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            try:
                self.is_listening = True
                self._said.pop("calls", None)
                self._wake()  # for what was committed before
                while True:
                    async for _ in connection.notifies(timeout=ALIVE_S):
                        self._wake()
                    async with asyncio.timeout(ALIVE_S):
                        await connection.execute("SELECT 1")
            finally:
                self.is_listening = False

    # -- jobs ----------------------------------------------------------------------------------------------------------

    async def _take_jobs(self) -> None:
        while (found := await asyncio.to_thread(self._state)) != "ready":
            self._trusted_until = 0.0
            self._say("jobs", procrastinate_schema.shown(found))
            await asyncio.sleep(LOOK_AGAIN_S)
        import procrastinate

        # It tells each job at length, and with a fault the values of the statement: numbers and texts.
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        app = procrastinate.App(connector=_connector(self._db))
        for name, chore in self._chores.items():
            # One that is under way is not begun again, but for the one that looks after those whose worker died.
            lock = None if name == "rescue" else name
            task = app.task(name=name, lock=lock, queueing_lock=name)(self._safely(name, chore))
            if name in EVERY:
                app.periodic(cron=EVERY[name])(task)
        async with app.open_async(), self._shared_by(app):
            await app.run_worker_async(
                install_signal_handlers=False,
                concurrency=len(self._chores),  # a large broadcast is expanded for long, and leases end meanwhile
                delete_jobs="always",
                fetch_job_polling_interval=AGAIN_S,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALLED_S,
                shutdown_graceful_timeout=STOP_S,
            )

    def _state(self) -> procrastinate_schema.State:
        with self._db.reading() as tx:
            return procrastinate_schema.state(tx)

    @contextlib.asynccontextmanager
    async def _shared_by(self, app: procrastinate.App) -> AsyncIterator[None]:
        self._app = app
        self._said.pop("jobs", None)
        try:
            yield
        finally:
            self._app, self._trusted_until = None, time.monotonic() + PATIENCE_S

    def _safely(self, name: str, chore: Chore) -> Callable[..., Awaitable[None]]:
        """The chore as a job: a fault is said by its type, and the next job tries again."""
        faults = 0

        async def job(timestamp: int | None = None) -> None:
            nonlocal faults
            try:
                await chore()
                faults = 0
            except Exception as fault:  # noqa: BLE001  the outer edge: the next job finds the same rows
                faults += 1
                log.error("the chore %s failed (%d in a row): %s", name, faults, type(fault).__name__)
                if faults >= FAULTS_IN_A_ROW:
                    self.stays = fault

        return job

    async def _rescue(self) -> None:
        """Give the jobs of workers that died to others; where the same waits already, the dead one's is dropped."""
        from procrastinate.exceptions import ConnectorException
        from procrastinate.jobs import Status

        assert self._app is not None
        manager = self._app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
            try:
                await manager.retry_job(job)
            except ConnectorException:
                await manager.finish_job(job, Status.FAILED, delete_job=True)


def _connector(db: Database) -> procrastinate.PsycopgConnector:
    import procrastinate
    import psycopg

    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        # Its statements stand each for itself; and a setting that a transaction took back would be none.
        await connection.set_autocommit(True)
        await connection.execute(f"SET search_path = {procrastinate_schema.SCHEMA}")

    return procrastinate.PsycopgConnector(
        conninfo=db.address,
        kwargs=_unless_told(db, connect_timeout=CONNECT_S, application_name="jumbe"),
        configure=configure,
        min_size=1,
        max_size=3,
        timeout=CONNECT_S,
    )


def _unless_told(db: Database, **settings: Any) -> dict[str, Any]:
    """These settings of a connection, but for those that the address itself says."""
    return {name: value for name, value in settings.items() if name not in db.url.query}
