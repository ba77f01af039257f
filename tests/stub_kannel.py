"""A sendsms address on loopback that fails in every way we fear; what the real Kannel does, `test_kannel.py` holds."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from tests.patience import HANG_S

_LONGEST_STALL_S: Final = HANG_S
ACCEPTED: Final = b"0: Accepted for delivery"


class StubKannel:
    """`mode`: `ok`; `cut`, `stall` and `half` take the message and do not say so; `refuse` takes nothing and drops; else a
    status and a sentence, such as `403 Authorization failed for sendsms`."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.mode = "ok"
        self.book: list[tuple[dict[str, str], bytes]] = []
        self.posts = 0
        self.closing = threading.Event()

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.stub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="stub-kannel")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/cgi-bin/sendsms"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _LONGEST_STALL_S

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        stub: StubKannel = self.server.stub  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        stub.posts += 1
        if stub.mode == "refuse":
            return self._drop()
        if headers.get("x-kannel-password") != stub.password:
            return self._answer(403, b"Authorization failed for sendsms")
        if stub.mode in ("ok", "cut", "stall", "half"):
            stub.book.append((headers, body))
        if stub.mode == "ok":
            return self._answer(202, ACCEPTED)
        if stub.mode == "half":
            self._answer(202, ACCEPTED, half=True)
        if stub.mode == "stall":
            stub.closing.wait(_LONGEST_STALL_S)
        if stub.mode in ("cut", "half", "stall"):
            return self._drop()
        status, _, sentence = stub.mode.partition(" ")
        return self._answer(int(status), sentence.encode())

    def _answer(self, status: int, body: bytes, *, half: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.wfile.flush()

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
