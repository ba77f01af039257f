"""A rehearsal that runs inside one process, and a browser that looks at it: for the browser's tests and the pictures."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from bot import phones, webhooks
from bot.gateways.simulator import Simulator
from bot.worker.worker import Worker
from storage.database import Database
from storage.rules.hours_and_limits import Rules
from storage.upkeep import migrate
from tests.patience import joined

CHROMIUM = Path("/usr/bin/chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-default-apps", "--disable-sync", "--no-first-run",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # fmt: skip


class Silent(WSGIRequestHandler):
    """The server of a test writes no line a request."""

    def log(self, *_: Any) -> None:
        pass


@dataclass
class Rehearsal:
    """A rehearsal that runs: the web process in one thread, the worker in another, each with its own database."""

    url: str
    db: Database
    book: Path


def prepared(file: Path, rules: Rules, populate: Callable[[Database], None]) -> Path:
    """A rehearsal database with what `populate` puts into it; one that is there stays as it is."""
    if not file.exists():
        db = Database(f"sqlite:///{file}", rules)
        migrate.upgrade(db, rehearsal=True)
        populate(db)
        db.close()
    return file


@contextlib.contextmanager
def running(
    folder: Path, rules: Rules, populate: Callable[[Database], None], receipts_after_s: float = 0.1
) -> Iterator[Rehearsal]:
    """A rehearsal in this folder, on the database that was prepared there or else now; it ends with the block."""
    address = f"sqlite:///{folder / 'rehearsal.db'}"
    prepared(folder / "rehearsal.db", rules, populate)
    seen, served, worked = (Database(address, rules) for _ in range(3))
    app = Flask(__name__, static_folder=None)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    url = f"http://127.0.0.1:{server.server_port}"
    book = folder / "phones.db"
    web, sending = (Simulator(book=book, public_url=url, receipts_after_s=receipts_after_s) for _ in range(2))
    app.register_blueprint(webhooks.blueprint(served, {web.name: web}, url))
    app.register_blueprint(phones.blueprint(served, web))

    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    worker = Worker(worked, {sending.name: sending}, url)

    def work() -> None:
        loop.run_until_complete(worker.run(stop))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}),
        threading.Thread(target=work),
    ]
    for thread in threads:
        thread.start()
    try:
        yield Rehearsal(url, seen, book)
    finally:
        loop.call_soon_threadsafe(stop.set)
        joined(threads[1])
        server.shutdown()
        joined(threads[0])
        server.server_close()
        for db in (seen, served, worked):
            db.close()
