"""Texts posted to a web process from a process of its own, over connections that stay open.

As fast as they are answered, or so many a second: then a text that had to wait behind a slow one counts from the moment at
which it should have been posted.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast


@dataclass
class Answers:
    """What came back: the statuses, how long it took in all, and the milliseconds of each."""

    statuses: dict[str, int]
    seconds: float
    ms: list[float]

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.ms) / self.seconds


def request(path: str, port: int, body: bytes, signature: str = "") -> bytes:
    """One POST as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n"
    return (head + (f"X-Twilio-Signature: {signature}\r\n" if signature else "") + "\r\n").encode() + body


def start(port: int, requests: Sequence[bytes], *, connections: int = 8, per_s: float = 0.0) -> subprocess.Popen[bytes]:
    """Begin posting."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump([one.decode("ascii") for one in requests], file)
    command = [sys.executable, "-m", "tests.benchmarks.load", str(port), file.name, str(connections), str(per_s)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes], within_s: float = 600) -> Answers:
    """Wait until all were posted."""
    try:
        said, _ = process.communicate(timeout=within_s)
    finally:
        process.kill()
        process.wait()
    return Answers(**json.loads(said))


def _whole(connection: socket.socket) -> bytes:
    """One answer with its body, or what came before the end."""
    answer = b""
    while part := connection.recv(65536):
        answer += part
        head, end, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *([0-9]+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            break
    return answer


def _due(n: int, per_s: float) -> float:
    """Seconds from the beginning until the n-th is to be posted."""
    return n / per_s if per_s else 0.0


def main() -> None:
    """Post them all, and print what came of it."""
    port, file, many, per_s = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    waiting = [one.encode("ascii") for one in json.loads(file.read_text())][::-1]
    file.unlink()
    ready = selectors.DefaultSelector()
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(many)]
    statuses: Counter[str] = Counter()
    took: list[float] = []
    began, posted, under_way = time.perf_counter(), 0, 0
    while waiting or under_way:
        now = time.perf_counter()
        while waiting and idle and now >= began + _due(posted, per_s):
            one, connection = waiting.pop(), idle.pop()
            due = began + _due(posted, per_s) if per_s else time.perf_counter()
            connection.sendall(one)
            ready.register(connection, selectors.EVENT_READ, (due, one))
            posted, under_way = posted + 1, under_way + 1
        until = began + _due(posted, per_s) - now if waiting and idle else 1.0
        for key, _ in ready.select(max(0.0, until)):
            connection, (due, one) = cast(socket.socket, key.fileobj), key.data
            answer = _whole(connection)
            ready.unregister(connection)
            if not answer:
                # A server closes what was idle for a while, perhaps just now: as any client, post it once more.
                connection.close()
                connection = socket.create_connection(("127.0.0.1", port))
                connection.sendall(one)
                ready.register(connection, selectors.EVENT_READ, (due, one))
                continue
            under_way -= 1
            took.append((time.perf_counter() - due) * 1000)
            statuses[answer[9:12].decode("ascii", "replace")] += 1
            idle.append(connection)
    print(json.dumps({"statuses": statuses, "seconds": time.perf_counter() - began, "ms": took}))


if __name__ == "__main__":
    main()
