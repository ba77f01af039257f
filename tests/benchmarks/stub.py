"""A gateway that answers at once, in a process of its own: it takes Twilio's create and counts what it took."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.patience import HANG_S, ended

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_numbers = itertools.count(1)


class Answering(asyncio.Protocol):
    """One connection, kept open; a GET asks how many messages were taken."""

    taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            found = _LENGTH.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self.buffer) < whole:
                return
            self.buffer = self.buffer[whole:]
            self.transport.write(self.answer(head))

    def answer(self, head: bytes) -> bytes:
        if head.startswith(b"GET"):
            return _response(b"200 OK", b'{"taken": %d}' % Answering.taken)
        Answering.taken += 1
        return _response(
            b"201 CREATED", b'{"sid": "SM%032x", "status": "queued", "num_segments": "1"}' % next(_numbers)
        )


def _response(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Stub:
    """The running stub: its address, and how many messages it has taken."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def taken(self) -> int:
        with urllib.request.urlopen(self.url, timeout=HANG_S) as answer:
            return int(re.search(rb"[0-9]+", answer.read())[0])  # type: ignore[index]


@contextmanager
def running() -> Iterator[Stub]:
    """Start it, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.stub"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Stub(int(process.stdout.readline()))
    finally:
        process.kill()
        ended(process)
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve())
