"""What goes wrong round a programme: a full disk, a port that refuses, an upload that is killed, a backup put back."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.patience import work
from tests.processes import ROOT, free_port
from tests.proof.disk import Found
from tests.proof.scenes import STRANGERS, Programme
from tests.stub_twilio import new_sid

SMALL_MIB: Final = 24
BALLAST: Final = "ballast"
ROWS: Final = 500


def every_write(within_s: float = 300) -> Found:
    """Each write of each kind of step fails once, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="jumbe-prove-") as folder:  # it has no time to tidy up where it is killed
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.proof.disk"], env=os.environ | {"TMPDIR": folder},
            cwd=ROOT, capture_output=True, text=True, timeout=within_s, check=False,
        )  # fmt: skip
    if done.returncode:
        raise AssertionError(done.stderr[-2000:])
    sys.stderr.write(done.stderr)
    return Found(**json.loads(done.stdout))


# -- a full disk -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of a few MiB to fill; None where this user may mount none."""
    disk = folder / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "none", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield disk if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)


def fill_the_disk(jumbe: Programme, disk: Path, times: int, within_s: float) -> tuple[int, int]:
    """Under texts and a broadcast the disk fills up, to the last byte or nearly, and has room again later.

    It ends when the programme itself needs half of the disk.

    Returns how often it was full, and how many requests were refused meanwhile: each of them comes again.
    """
    jumbe.start("web")
    jumbe.spawn("worker")
    end, full, refused = time.monotonic() + within_s, 0, 0
    while full < times and time.monotonic() < end and shutil.disk_usage(disk).free > SMALL_MIB * 2**19:
        if jumbe.one("SELECT count(*) FROM messages WHERE state = 'queued'") < 10:
            jumbe.say()
        _fill(disk, leaving=jumbe.dice.choice((0, 0, 4096, 16384, 65536)))
        full += 1
        waiting = []
        for n in range(6):
            jumbe.strangers += 1
            sender = f"2547{STRANGERS + jumbe.strangers}"
            form = jumbe.stub.inbound_form(sender, "STOP" if n % 2 else "Where is the clinic?", new_sid())
            if jumbe.post("/in/twilio", form) == 200:
                jumbe.acknowledged.add(form["MessageSid"])
            else:
                waiting.append(form)
        refused += len(waiting)
        if full % 2:
            jumbe.slay(jumbe.dice.choice(("web", "worker")))
        (disk / BALLAST).unlink()
        for name in ("web", "worker"):
            if name not in jumbe.running or jumbe.running[name].poll() is not None:
                jumbe.running.pop(name, None)
                jumbe.spawn(name)
        jumbe.until(lambda: jumbe.get("/healthz")[0] == 200, "web is up", every_s=0.1)
        for form in waiting:
            jumbe.until(lambda form=form: jumbe.post("/in/twilio", form) == 200, "there is room again", every_s=0.3)
            jumbe.acknowledged.add(form["MessageSid"])
    return full, refused


def _fill(disk: Path, *, leaving: int) -> None:
    """Write until nothing more goes on the disk, then give a little back."""
    size = 0
    with (disk / BALLAST).open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            size += file.write(b"x" * 65536)
    os.truncate(disk / BALLAST, max(0, size - leaving))


# -- a port that refuses -----------------------------------------------------------------------------------------------


class Door:
    """The port of a gateway: closed it refuses every connection, open it passes all on."""

    def __init__(self, to: str) -> None:
        parts = urlsplit(to)
        self.to = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._listening: socket.socket | None = None

    def open(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        if self._listening is not None:
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None

    def _serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listening.accept()
                threading.Thread(target=self._pass_on, args=(caller,), daemon=True).start()

    def _pass_on(self, caller: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            caller,
            socket.create_connection(self.to) as there,
            selectors.DefaultSelector() as ready,
        ):
            ready.register(caller, selectors.EVENT_READ, there)
            ready.register(there, selectors.EVENT_READ, caller)
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)


def refuse_the_port(jumbe: Programme) -> int:
    """Nobody listens at the gateway's port, then somebody does: returns how many calls were refused.

    A refused connection is certainly not sent, so nothing may be in doubt, and everything leaves once it opens.
    """
    door = Door(jumbe.stub.url)
    jumbe.env["TWILIO_API_URL"] = door.url
    try:
        jumbe.say()
        jumbe.spawn("worker")
        refused = "SELECT count(*) FROM attempts WHERE reason = 'unreachable'"
        jumbe.until(lambda: jumbe.one(refused) >= jumbe.people, "the gateway was tried", every_s=0.1)
        assert jumbe.one("SELECT count(*) FROM messages WHERE state IN ('unknown', 'accepted')") == 0
        many = int(jumbe.one(refused))
        door.open()
        # So many calls in vain have paused it, and no start of a worker lifts that: who mended something says so.
        assert jumbe.ends("gateways", "resume", "twilio") == 0
        left = "SELECT count(*) FROM messages WHERE state NOT IN ('accepted', 'sent', 'delivered')"
        jumbe.until(lambda: jumbe.one(left) == 0, "all have left", every_s=0.2)
        jumbe.slay("worker")
    finally:
        door.close()
        jumbe.env["TWILIO_API_URL"] = jumbe.stub.url
    return many


# -- uploads -----------------------------------------------------------------------------------------------------------


@dataclass
class Uploads:
    """Uploads that were killed: how many died, how many were half there, how many rows a repetition changed."""

    killed: int = 0
    partial: int = 0
    changed: int = 0
    whole: int = 0


def kill_uploads(jumbe: Programme, times: int, within_s: float) -> Uploads:
    """A sheet of cases is applied and killed at a random instant; then it is applied twice."""
    found, dice, n = Uploads(), jumbe.dice, 0
    end = time.monotonic() + within_s
    while found.killed < times and time.monotonic() < end:
        n += 1
        prefix = f"k{n}x"
        sheet = jumbe.folder / f"{prefix}.csv"
        phones = (f"25479{n % 1000:03}{i:04}" for i in range(ROWS))
        lines = (f"{prefix}-{i},Case {i},{phone},1\n" for i, phone in enumerate(phones))
        sheet.write_text("external_id,name,contact_phone_number,contact_phone_number_is_verified\n" + "".join(lines))
        ended = jumbe.ends("cases", "import", str(sheet), PROOF_ALARM=f"{0.001 * 100 ** dice.random():.5f}")
        there = "SELECT count(*) FROM cases WHERE external_id LIKE :p"
        many = jumbe.one(there, p=f"{prefix}-%")
        found.partial += many not in (0, ROWS)
        killed = ended == -signal.SIGALRM
        found.killed += killed
        found.whole += killed and many == ROWS
        jumbe.quickly("cases", "import", str(sheet))
        before = _rows(jumbe, prefix)
        again = jumbe.quickly("cases", "import", str(sheet))["counts"]
        after = _rows(jumbe, prefix)
        found.partial += len(before) != ROWS
        found.changed += len(set(before) ^ set(after)) + (again != {"unchanged": ROWS})
        sheet.unlink()
    return found


def _rows(jumbe: Programme, prefix: str) -> list[str]:
    return [repr(row) for row in jumbe.rows("SELECT * FROM cases WHERE external_id LIKE :p", p=f"{prefix}-%")]


# -- a backup from before ----------------------------------------------------------------------------------------------


@dataclass
class Restored:
    """A restore: how many left between the backup and it, how many it held back, how many went to a phone again."""

    since: int = 0
    held: int = 0
    again: int = 0
    alive: int = 0


def restore_an_old_backup(jumbe: Programme, since: int) -> Restored:
    """A backup in the middle of a broadcast, so many texts after it, the backup put back, and everything started again."""
    found, backup = Restored(), jumbe.folder / "old.db"
    jumbe.say()
    jumbe.spawn("worker")
    jumbe.until(lambda: len(jumbe.stub.sent()) >= jumbe.people // 3, "a third has left")
    jumbe.quickly("backup", "--to", str(backup))
    first = len(jumbe.stub.sent())
    while len(jumbe.stub.sent()) - first < since:
        if jumbe.one("SELECT count(*) FROM messages WHERE state = 'queued'") < 30:
            jumbe.say()
        work(0.02)
    jumbe.slay("worker")
    booked = jumbe.stub.sent()
    found.since = len(booked) - first
    told = jumbe.quickly("restore", str(backup), "--yes")
    found.held = told["messages"]
    jumbe.spawn("worker")
    fresh = "This came after the restore"
    jumbe.launch("all", fresh)
    open_ = "SELECT count(*) FROM messages WHERE state IN ('queued', 'claimed', 'sending', 'unknown')"
    jumbe.until(
        lambda: jumbe.one(open_) == 0 and fresh in {m["body"] for m in jumbe.stub.sent()}, "all is asked", every_s=0.3
    )
    jumbe.slay("worker")
    book = jumbe.stub.sent()
    found.again = sum(n - 1 for n in Counter((m["to"], m["body"]) for m in book).values())
    found.alive = sum(m["body"] == fresh for m in book)
    return found
