"""Debian's own Kannel on loopback: bearerbox, smsbox and its fake SMS centre, whose one line is all the handsets.

The fake centre speaks lines over TCP: what we write is what a handset sends, what we read is what handsets get.  Nothing here
is ours but the configuration, which is the one that `bot/README.md` shows.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, unquote_to_bytes

import pytest

from tests.patience import LOOK_S, ended, joined, until
from tests.processes import free_port

SHORT_CODE: Final = "1234"
USER: Final = "jumbe"
PASSWORD: Final = "pass-word-of-kannel"
SECRET: Final = "a-secret-that-stands-in-an-address"
DENIED: Final = "999"
"""Numbers that begin so have no route."""

_PART: Final = re.compile(rb"%05%00%03(%..|.)(%..|.)(%..|.) data (.*)", re.S)


def program(name: str) -> str | None:
    """Where a program of Kannel is; Debian puts it where a user's PATH may not look."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def requires_kannel() -> None:
    """Skip where Kannel is not installed, but never under CI."""
    if program("bearerbox") and program("smsbox"):
        return
    sentence = "Kannel is not installed: apt-get install kannel."
    if os.environ.get("CI") == "true":
        pytest.fail(sentence + "  CI must not pass without it.")
    pytest.skip(sentence)


@dataclass(frozen=True)
class Got:
    """One text on a handset, long ones joined."""

    phone: str
    text: str
    parts: int = 1


class Kannel:
    """The two boxes of one Kannel in a folder, and the handsets behind it."""

    def __init__(self, folder: Path, jumbe_url: str, *, post: bool = False) -> None:
        self.folder = folder
        self.sendsms, self.admin, self.boxes, self.centre = (free_port() for _ in range(4))
        self.url = f"http://127.0.0.1:{self.sendsms}/cgi-bin/sendsms"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.got: list[Got] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._parts: dict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
        self._line: socket.socket | None = None
        self.config = folder / "kannel.conf"
        self.config.write_text(self._configuration(jumbe_url, post=post), "utf-8")
        self._reader = threading.Thread(target=self._read, name="handsets", daemon=True)

    def _configuration(self, jumbe_url: str, *, post: bool) -> str:
        words = "from=%p&to=%P&charset=%C&coding=%c&id=%I"
        address = f"{jumbe_url}/in/kannel/{SECRET}?{words}"
        service = f'post-url = "{address}"' if post else f'get-url = "{address}&text=%b"'
        return f"""
group = core
admin-port = {self.admin}
admin-interface = 127.0.0.1
admin-password = nobody-knows
smsbox-port = {self.boxes}
smsbox-interface = 127.0.0.1
box-allow-ip = 127.0.0.1
box-deny-ip = "*.*.*.*"
store-type = file
store-location = {self.folder}/store
dlr-storage = internal
unified-prefix = "+233,00233,0;+,00"
sms-resend-freq = 1
log-file = {self.folder}/bearerbox.kannel

group = smsc
smsc = fake
smsc-id = FAKE
port = {self.centre}
connect-allow-ip = 127.0.0.1
denied-prefix = {DENIED}

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {self.sendsms}
sendsms-interface = 127.0.0.1
http-request-retry = 100
http-queue-delay = 1
log-file = {self.folder}/smsbox.kannel

group = sendsms-user
username = {USER}
password = {PASSWORD}
concatenation = true
max-messages = 25

group = sms-service
keyword = default
catch-all = true
max-messages = 0
{service}
"""

    def __enter__(self) -> Self:
        self.start("bearerbox", "smsbox")
        self._reader.start()
        until(lambda: self._line is not None, "the fake centre takes handsets")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        for name in ("smsbox", "bearerbox"):
            self.kill(name)
        if self._line is not None:
            self._line.close()
        joined(self._reader)

    def start(self, *names: str) -> None:
        """Start these boxes and wait until each listens."""
        for name in names:
            found = program(name)
            assert found
            self.running[name] = subprocess.Popen(
                [found, "-v", "4", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder,
            )  # fmt: skip
            port = self.boxes if name == "bearerbox" else self.sendsms
            until(lambda port=port: _listens(port), f"{name} listens")

    def kill(self, name: str) -> None:
        """kill -9, as a power cut does."""
        process = self.running.pop(name, None)
        if process is not None:
            process.kill()
            ended(process)

    # -- handsets ------------------------------------------------------------------------------------------------------

    def text(self, phone: str, text: str) -> None:
        """A handset sends a text: as UCS-2 where it must."""
        self._say(phone, "text", text) if text.isascii() else self._say(
            phone, "ucs2", quote(text.encode("utf-16-be"), safe="")
        )

    def text_in_parts(self, phone: str, *parts: str, reference: int = 7, order: tuple[int, ...] = ()) -> None:
        """A handset sends a long text as a network cuts it, in this order."""
        for n in order or tuple(range(1, len(parts) + 1)):
            header = "".join(f"%{byte:02X}" for byte in (5, 0, 3, reference, len(parts), n))
            self._say(phone, f"udh {header}", parts[n - 1])

    def to(self, phone: str) -> list[str]:
        """What a handset got, oldest first."""
        with self.lock:
            return [one.text for one in self.got if one.phone == phone]

    def all(self) -> list[Got]:
        """What all handsets got."""
        with self.lock:
            return list(self.got)

    def _say(self, phone: str, kind: str, words: str) -> None:
        def said() -> bool:
            with contextlib.suppress(OSError, AttributeError):
                self._line.sendall(f"{phone} {SHORT_CODE} {kind} {words}\n".encode())  # type: ignore[union-attr]
                return True
            return False

        until(said, "the fake centre takes a text")

    def _read(self) -> None:
        while not self.closing.is_set():
            try:
                line = socket.create_connection(("127.0.0.1", self.centre))
            except OSError:
                self.closing.wait(LOOK_S)
                continue
            self._line = line
            line.settimeout(LOOK_S)  # so it sees that it is closed
            held = b""
            while not self.closing.is_set():
                try:
                    more = line.recv(65536)
                except TimeoutError:
                    continue
                except OSError:
                    break
                if not more:
                    break
                *lines, held = (held + more).split(b"\n")
                for each in lines:
                    self._take(each)
            self._line = None if not self.closing.is_set() else line
            line.close()

    def _take(self, line: bytes) -> None:
        _sender, _, rest = line.partition(b" ")
        phone, _, rest = rest.partition(b" ")
        kind, _, words = rest.partition(b" ")
        to = phone.decode()
        with self.lock:
            if kind == b"text":
                self.got.append(Got(to, words.decode("utf-8")))
            elif kind == b"ucs-2":
                self.got.append(Got(to, _bytes(words).decode("utf-16-be")))
            elif kind == b"udh" and (found := _PART.fullmatch(words)):
                reference, many, place = (unquote_to_bytes(found[n])[0] for n in (1, 2, 3))
                parts = self._parts[(to, reference)]
                parts[place] = _bytes(found[4])
                if len(parts) == many:
                    whole = b"".join(parts[n] for n in sorted(parts))
                    del self._parts[(to, reference)]
                    alphabet = "utf-16-be" if b"\0" in whole or not whole.isascii() else "utf-8"
                    self.got.append(Got(to, whole.decode(alphabet), many))
            else:
                self.got.append(Got(to, repr(line)))


def _bytes(words: bytes) -> bytes:
    """What the fake centre writes as %XX and +."""
    return unquote_to_bytes(words.replace(b"+", b" "))


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
