"""What an upgrade takes on a large database: `python -m tests.upgrades 3000000 [0009]`, on SQLite and on PostgreSQL.

A past of so many messages is written, taken back to an older revision, and brought up by `jumbe db upgrade` in a process of its
own: how long that takes, how much memory it has at most, and how large the database is before, at most and after.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage.database import Database
from storage.upkeep import migrate
from tests import history
from tests.postgres import running

LOOK_S: Final = 0.2


@contextmanager
def largest(size: Callable[[], int]) -> Iterator[list[int]]:
    """The largest that something was while this is open, as the one number in a list."""
    seen, over = [size()], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            seen[0] = max(seen[0], size())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def measure(address: str, many: int, revision: str, size: Callable[[], int]) -> None:
    """Fill, take back, bring up, and print the figures."""
    db = Database(address)
    if db.is_sqlite:
        migrate.upgrade(db)
    history.fill(db, many)
    counts = history.count(db)
    migrate.downgrade(db, revision)
    db.close()
    before = size()
    environment = {**os.environ, "DATABASE_URL": address}
    with largest(size) as most:
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "bot", "db", "upgrade"], env=environment, check=True, stdin=subprocess.DEVNULL
        )
        took_s = time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"{db.engine.dialect.name}: {counts}")
    print(f"  {took_s:.0f} s, {memory} MB of memory, {_mb(before)} before, {_mb(most[0])} at most, {_mb(size())} after")


def _mb(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"


def _files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def main(many: int = 200_000, revision: str = "0009") -> None:
    """Measure both databases, one after the other."""
    with tempfile.TemporaryDirectory(prefix="jumbe-upgrade-") as room:
        folder = Path(room)
        measure(f"sqlite:///{folder / 'one.db'}", many, revision, lambda: _files(folder))
    with running() as server, server.database() as address:
        name = address.rpartition("/")[2].partition("?")[0]
        measure(address, many, revision, lambda: server.count(f"SELECT pg_database_size('{name}')"))


if __name__ == "__main__":
    words = sys.argv[1:]
    main(int(words[0]) if words else 200_000, *words[1:])
