"""Two copies of one programme: the one that is not served at our address sends nothing, and says why."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response
from werkzeug.serving import make_server

from bot import health
from bot.gateways.base import Accepted, Capabilities, Outgoing, SendResult
from bot.worker import instance_guard
from bot.worker.instance_guard import BECAUSE
from bot.worker.worker import Worker
from storage.database import Database
from storage.messages import lookups, outbox
from storage.programme import rate_limits, workers
from tests.patience import HANG_S, joined, soon
from tests.rehearsal import Silent


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_guard, "AGAIN_S", 0.01)
    monkeypatch.setattr(instance_guard, "LOOK_S", 0.05)
    monkeypatch.setattr(instance_guard, "ANSWER_S", HANG_S)


class Book:
    """A gateway that takes everything."""

    name = kind = "simulator"
    rate_per_s = 100.0
    capabilities = Capabilities(False, False, False, False, concurrency=8)

    def __init__(self) -> None:
        self.took: list[int] = []

    async def send(self, outgoing: Outgoing) -> SendResult:
        self.took.append(outgoing.id)
        return Accepted(f"S{outgoing.id}")

    async def close(self) -> None:
        """Nothing is open."""


@contextlib.contextmanager
def served(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        joined(thread)
        server.server_close()


def web(db: Database) -> Flask:
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(health.blueprint(db))
    return app


def work(db: Database, url: str, *, until: Callable[[], bool]) -> Book:
    """A worker as the process runs it, until something is so."""
    book = Book()

    async def whole() -> None:
        stop = asyncio.Event()
        worker = Worker(db, {"simulator": book}, url, watches=True)  # type: ignore[dict-item]
        running = asyncio.create_task(worker.run(stop))
        await soon(until)
        stop.set()
        await running

    asyncio.run(whole())
    return book


def why(db: Database) -> list[str]:
    with db.reading() as tx:
        return [row.paused_because for row in rate_limits.paused(tx)]


@pytest.fixture
def clone(db: Database, tmp_path: Path) -> Iterator[Database]:
    """A copy of the database in which one text is queued, as another machine would have it."""
    with db.transaction() as tx:
        outbox.queue(tx, "233244000101", "Clinic on Monday", "notice")
    db.close()
    shutil.copy(str(db.file), tmp_path / "clone.db")
    copy = Database(f"sqlite:///{tmp_path / 'clone.db'}", db.rules, db.clock)
    yield copy
    copy.close()


def states(db: Database) -> dict[str, int]:
    with db.reading() as tx:
        return lookups.count_states(tx)


def second(db: Database) -> Database:
    return Database(str(db.url), db.rules, db.clock)


def test_the_one_that_is_served_at_our_address_sends(db: Database, clone: Database) -> None:
    asked = second(db)
    with served(web(asked)) as url:
        book = work(db, url, until=lambda: states(asked) == {"accepted": 1})
    assert len(book.took) == 1
    assert why(db) == []
    asked.close()


def test_a_clone_sends_nothing_while_the_first_is_served_and_says_why(db: Database, clone: Database) -> None:
    looked = second(clone)
    with served(web(second(db))) as url:
        book = work(clone, url, until=lambda: bool(why(looked)))
    assert book.took == []
    assert states(clone) == {"queued": 1}
    assert why(clone) == [BECAUSE]
    said = {name: (well, told) for name, well, told in health.examine(clone)}
    assert not said["paused"][0]
    assert BECAUSE in said["paused"][1]


def test_a_clone_that_takes_the_place_of_the_first_goes_on_by_itself(db: Database, clone: Database, clock: Any) -> None:
    """The first is stopped, and the address given to the clone."""
    behind = {"db": second(db)}
    app = Flask(__name__, static_folder=None)

    @app.get("/knows/<owner>/<at>")
    def knows(owner: str, at: str) -> Response:
        with web(behind["db"]).test_client() as client:
            answer = client.get(f"/knows/{owner}/{at}")
            return Response(answer.data, answer.status_code, content_type=answer.content_type)

    looked = second(clone)

    def moved() -> bool:
        clock.advance(seconds=0.1)
        if behind["db"].file != looked.file and why(looked):
            behind["db"] = second(clone)
        return states(looked) == {"accepted": 1}

    with served(app) as url:
        book = work(clone, url, until=moved)
    assert len(book.took) == 1
    assert why(clone) == []


@pytest.mark.parametrize("answer", ["down", "older", "strange", "busy", "redirect"])
def test_where_nobody_can_tell_a_worker_sends(db: Database, clone: Database, answer: str) -> None:
    app = Flask(__name__, static_folder=None)

    @app.get("/knows/<owner>/<at>")
    def knows(owner: str, at: str) -> Any:
        del owner, at
        return {
            "older": ("", 404), "strange": ("<html>", 200), "busy": ('{"knows": false}', 503),
            "redirect": ('{"knows": false}', 302),
        }[answer]  # fmt: skip

    looked = second(db)
    with served(app) as url:
        book = work(
            db, "http://127.0.0.1:9" if answer == "down" else url, until=lambda: states(looked) == {"accepted": 1}
        )
    assert len(book.took) == 1


def test_a_pause_for_another_reason_is_not_lifted_by_the_look(db: Database, clone: Database) -> None:
    looked, app = second(db), web(second(db))
    looks: list[str] = []
    app.before_request(lambda: looks.append(why(looked)[0] if why(looked) else ""))

    def stopped() -> bool:
        if not why(looked):
            with looked.transaction() as tx:
                rate_limits.pause(tx, "simulator", until=rate_limits.UNTIL_RESUMED, because="a wrong token (20003)")
        return looks[-3:] == ["a wrong token (20003)"] * 3

    with served(app) as url:
        work(db, url, until=stopped)
    assert why(db) == ["a wrong token (20003)"]


def test_a_copy_made_while_a_worker_was_at_work_knows_its_name_and_not_that_it_lives(db: Database, clock: Any) -> None:
    """And the clock of whoever is asked does not count: two machines may be minutes apart."""
    with db.transaction() as tx:
        workers.beat(tx, "7-abcd")
    then, now = int(clock.now.timestamp()), int(clock.advance(minutes=9).timestamp())
    with web(db).test_client() as client:
        assert client.get(f"/knows/7-abcd/{then}").json == {"knows": True}
        assert client.get(f"/knows/7-abcd/{now}").json == {"knows": False}
        assert client.get(f"/knows/8-abcd/{then}").json == {"knows": False}
        assert client.get("/knows/7-abcd/x").status_code == 404


def test_a_copy_that_was_held_back_stays_so_while_nobody_answers_also_through_a_restart(
    db: Database, clone: Database, clock: Any
) -> None:
    """The first one is only being restarted, or its machine is: the copy does not send in its place."""
    looked = second(clone)
    with served(web(second(db))) as url:
        work(clone, url, until=lambda: bool(why(looked)))
    for minutes in (2, 9):
        clock.advance(minutes=minutes)
        book = Book()

        async def whole(book: Book = book) -> None:
            worker = Worker(clone, {"simulator": book}, "http://127.0.0.1:9", watches=True)  # type: ignore[dict-item]
            assert worker._watch is not None
            worker.start()
            for _ in range(10):
                assert await worker._watch.look() is None
                await worker.drain()
                clock.advance(minutes=1)
            await worker.finish()

        asyncio.run(whole())
        assert book.took == []
        assert why(clone) == [BECAUSE]
    with clone.transaction() as tx:
        rate_limits.resume(tx, "simulator")
    assert len(work(clone, "http://127.0.0.1:9", until=lambda: states(looked) == {"accepted": 1}).took) == 1
