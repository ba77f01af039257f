"""A small Twilio on loopback: it keeps a book of what it accepted, fails in every way we fear, and signs webhooks.

What it knows of Twilio is written here a second time, on purpose: it signs with its own HMAC and not with the
validator that the adapter uses, and every request to it is held against Twilio's official API description where that
file is present.  So the adapter and its test cannot agree on a mistake.

    with StubTwilio(ACCOUNT, TOKEN) as stub:
        stub.mode = "cut"               # take the message, then drop the connection
        ...
        assert len(stub.book) == 1
        assert stub.spec_faults == []
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters

from tests.patience import HANG_S

OUR_NUMBER: Final = "15005550006"

MAGIC_RECIPIENTS: Final = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
MAGIC_SENDERS: Final = {"+15005550001": 21212, "+15005550007": 21606, "+15005550008": 21611}
"""Twilio's magic numbers (twilio.com, *Test credentials*)."""

_UNSET: Final = "the stub signs it"
_LONGEST_STALL_S: Final = HANG_S
"""A test that forgets a stalled request ends all the same."""

Form = Mapping[str, str] | Iterable[tuple[str, str]]


def spec_path() -> Path | None:
    """Twilio's official description of the Messages API, or None where this machine has no copy."""
    named = os.environ.get("TWILIO_SPEC")
    root = Path(__file__).resolve().parents[1]
    path = Path(named) if named else root.parent / "shared" / "data" / "twilio_messages_openapi.json"
    return path if path.is_file() else None


def requires_spec() -> Path:
    """For the first line of a test: skip where the official description is absent, but never under CI."""
    path = spec_path()
    if path is not None:
        return path
    sentence = "Twilio's official API description is not here: set TWILIO_SPEC to twilio_messages_openapi.json."
    if os.environ.get("CI") == "true":
        pytest.fail(sentence + "  CI must not pass without it.")
    pytest.skip(sentence)


@cache
def _description(path: Path) -> OpenAPI:
    return OpenAPI.from_dict(json.loads(path.read_text("utf-8")))


class _AsDescribed:
    """One received request in the form openapi-core reads."""

    host_url = "https://api.twilio.com"

    def __init__(self, request: Received) -> None:
        self.parameters = RequestParameters(header={name.title(): value for name, value in request.headers.items()})
        self.path = urlsplit(request.path).path
        self.method = request.method.lower()
        self.content_type = request.headers.get("content-type", "").partition(";")[0]
        self.body = request.body


@dataclass(frozen=True, slots=True)
class Received:
    """One HTTP request as the stub saw it; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(self.body))


class StubTwilio:
    """Twilio's Messages API with one account; `mode` says how it answers, `modes_for[to]` how for one number.

    Signing, forms and checks work at once; `with` starts the server.

    It lists what is in its book and what phones texted it (`arrive`), the newest first, in pages of at most `page_size`;
    `list_mode` says how that goes wrong: `503`, `cut`, `half`, or `unsorted`.

    Modes: `ok`; `cut` takes the message and drops the connection; `stall` takes it and never answers; `half` takes it
    and sends half of its answer; `refuse` drops the connection and takes nothing; `503`, `429`, `401`; and any
    Twilio error code (`"21610"`), answered as 400 with a sentence that quotes the number, as Twilio's does.
    """

    def __init__(self, account_sid: str, auth_token: str, *, number: str = OUR_NUMBER) -> None:
        self.account_sid = account_sid
        self.auth_token = auth_token
        self.number = number
        self.mode = "ok"
        self.modes_for: dict[str, str] = {}
        self.retry_after = "7"
        self.book: list[dict[str, Any]] = []
        self.now: Callable[[], float] = time.time
        self.received: list[dict[str, Any]] = []
        self.list_mode = "ok"
        self.page_size = 50
        self.hides_bodies = False
        self.requests: list[Received] = []
        self.spec_faults: list[str] = []
        self.spec_checked = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="stub-twilio")
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
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def sign(self, url: str, params: Form = ()) -> str:
        """X-Twilio-Signature by our own hand: the address, then each name with each distinct value, all sorted."""
        pairs = sorted(set(_pairs(params)))
        signed = url + "".join(name + value for name, value in pairs)
        digest = hmac.new(self.auth_token.encode(), signed.encode("utf-8"), hashlib.sha1).digest()
        return base64.b64encode(digest).decode("ascii")

    def inbound_form(self, sender: str, body: str, sid: str | None = None) -> dict[str, str]:
        """The form of an incoming text, blanks and all, as Twilio sends it for a number outside North America."""
        sid = sid or new_sid()
        return {
            "ToCountry": "US",
            "ToState": "",
            "SmsMessageSid": sid,
            "NumMedia": "0",
            "ToCity": "",
            "FromZip": "",
            "SmsSid": sid,
            "FromState": "",
            "SmsStatus": "received",
            "FromCity": "",
            "Body": body,
            "FromCountry": "KE",
            "To": _international(self.number),
            "ToZip": "",
            "NumSegments": "1",
            "MessageSid": sid,
            "AccountSid": self.account_sid,
            "From": _international(sender),
            "ApiVersion": "2010-04-01",
        }

    def receipt_form(self, sid: str, to: str, status: str, code: str | int | None = None) -> dict[str, str]:
        """The form of a status callback; ErrorCode is there only when there is one."""
        form = {
            "SmsSid": sid,
            "SmsStatus": status,
            "MessageStatus": status,
            "To": _international(to),
            "MessageSid": sid,
            "AccountSid": self.account_sid,
            "From": _international(self.number),
            "ApiVersion": "2010-04-01",
        }
        return form if code is None else {**form, "ErrorCode": str(code)}

    def post(
        self,
        base_url: str,
        path: str,
        form: Form,
        signature: str | None = _UNSET,
        *,
        public_url: str | None = None,
    ) -> int:
        """Call a webhook and return the status.  `signature=None` sends none; `public_url` is what gets signed."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "TwilioProxy/1.1"}
        if signature is not None:
            signed = self.sign((public_url or base_url).rstrip("/") + path, list(_pairs(form)))
            headers["X-Twilio-Signature"] = signed if signature == _UNSET else signature
        data = urlencode(list(_pairs(form))).encode("ascii")
        request = urllib.request.Request(base_url.rstrip("/") + path, data, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=HANG_S) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def arrive(self, sender: str, body: str, *, at: float | None = None, sid: str | None = None) -> dict[str, Any]:
        """A phone texts us, and no webhook is called: it stands in the list only."""
        message = {
            "sid": sid or new_sid(),
            "to": _international(self.number),
            "from": _international(sender),
            "messaging_service_sid": None,
            "body": body,
            "at": self.now() if at is None else at,
            "direction": "inbound",
            "status": "received",
        }
        with self.lock:
            self.received.append(message)
        return message

    def listing(self, query: Mapping[str, str]) -> tuple[list[dict[str, Any]], int | None]:
        """One page of what the account has, filtered as Twilio filters, and the number of the next one."""
        with self.lock:
            found = [*self.book, *self.received]
        found = [one for one in found if query.get("To") in (None, one["to"])]
        found = [one for one in found if query.get("From") in (None, one["from"])]
        if (after := query.get("DateSent>")) is not None:
            # By the day, and only what was sent: Twilio knows no `sent_date` while a message is queued.
            day = datetime.fromisoformat(after).replace(hour=0, minute=0, second=0)
            found = [o for o in found if o.get("sent", True) and datetime.fromtimestamp(o["at"], UTC) >= day]
        found.sort(key=lambda one: one["at"], reverse=self.list_mode != "unsorted")
        size = min(self.page_size, int(query.get("PageSize", "50")))
        page = int(query.get("Page", "0"))
        more = (page + 1) * size < len(found)
        return found[page * size : (page + 1) * size], page + 1 if more else None

    def take(self, request: Received) -> None:
        """Keep a request and everything that the official description and our own eyes find wrong with it."""
        faults = list(_own_faults(request)) if request.method == "POST" else []
        path = spec_path()
        if path is not None:
            faults += [f"{type(error).__name__}: {error.__cause__ or error}" for error in _errors(path, request)]
        with self.lock:
            self.requests.append(request)
            self.spec_checked += path is not None
            self.spec_faults += faults

    def accept(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Write one message into the book: from here on it counts as sent."""
        message = {
            "sid": new_sid(),
            "to": form["To"],
            "from": form.get("From"),
            "messaging_service_sid": form.get("MessagingServiceSid"),
            "body": form["Body"],
            "status_callback": form.get("StatusCallback"),
            "validity_period": int(form["ValidityPeriod"]) if "ValidityPeriod" in form else None,
            "at": self.now(),
        }
        with self.lock:
            self.book.append(message)
        return message


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    stub: StubTwilio

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what half of the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = _LONGEST_STALL_S

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        stub = self.server.stub
        request = self._received()
        stub.take(request)
        if request.path != f"/2010-04-01/Accounts/{stub.account_sid}/Messages.json":
            return self._error(404, 20404, "The requested resource was not found")
        if not self._has_the_token():
            return self._error(401, 20003, "Authenticate")
        form = dict(request.form())
        return self._answer(stub.modes_for.get(form.get("To", ""), stub.mode), form)

    def do_GET(self) -> None:
        stub = self.server.stub
        request = self._received()
        stub.take(request)
        address = urlsplit(request.path)
        if address.path != f"/2010-04-01/Accounts/{stub.account_sid}/Messages.json":
            return self._error(404, 20404, "The requested resource was not found")
        if not self._has_the_token():
            return self._error(401, 20003, "Authenticate")
        if stub.list_mode == "503":
            return self._error(503, 20503, "Service unavailable")
        if stub.list_mode == "cut":
            return self._drop()
        query = dict(parse_qsl(address.query, strict_parsing=True))
        found, following = stub.listing(query)
        again = urlencode({**query, "Page": str(following), "PageToken": f"PA{following}"})
        body = json.dumps(
            {
                "messages": [self._listed(one) for one in found],
                "page": int(query.get("Page", "0")),
                "page_size": stub.page_size,
                "next_page_uri": f"{address.path}?{again}" if following is not None else None,
                "uri": request.path,
            }
        ).encode()
        self._write(200, body, whole=stub.list_mode != "half")
        return self._drop() if stub.list_mode == "half" else None

    def _listed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        at = format_datetime(datetime.fromtimestamp(message["at"], UTC))
        return {
            "account_sid": self.server.stub.account_sid,
            "api_version": "2010-04-01",
            "body": "" if self.server.stub.hides_bodies else message["body"],
            "date_created": at,
            "date_sent": at if message.get("sent", True) else None,
            "date_updated": at,
            "direction": message.get("direction", "outbound-api"),
            "error_code": message.get("error_code"),
            "error_message": None,
            "from": message["from"],
            "messaging_service_sid": message["messaging_service_sid"],
            "num_media": "0",
            "num_segments": "1",
            "sid": message["sid"],
            "status": message.get("status", "sent"),
            "to": message["to"],
        }

    def _answer(self, mode: str, form: Mapping[str, str]) -> None:
        stub = self.server.stub
        if mode in {"ok", "cut", "stall", "half"}:
            code = _refusal(form)
            return self._error(400, code, _quoting(form)) if code else self._accepted(mode, stub.accept(form))
        if mode == "refuse":
            return self._drop()
        if mode == "503":
            return self._error(503, 20503, "Service unavailable")
        if mode == "429":
            return self._error(429, 20429, "Too many requests", {"Retry-After": stub.retry_after})
        if mode == "401":
            return self._error(401, 20003, "Authenticate")
        return self._error(400, int(mode), _quoting(form))

    def _accepted(self, mode: str, message: Mapping[str, Any]) -> None:
        stub = self.server.stub
        if mode == "cut":
            return self._drop()
        if mode == "stall":
            stub.closing.wait(_LONGEST_STALL_S)
            return self._drop()
        body = json.dumps(
            {
                "account_sid": stub.account_sid,
                "api_version": "2010-04-01",
                "body": message["body"],
                "direction": "outbound-api",
                "error_code": None,
                "error_message": None,
                "from": message["from"],
                "messaging_service_sid": message["messaging_service_sid"],
                "num_media": "0",
                "num_segments": "1" if message["from"] else "0",
                "sid": message["sid"],
                "status": "queued" if message["from"] else "accepted",
                "to": message["to"],
            }
        ).encode()
        self._write(201, body, whole=mode != "half")
        return self._drop() if mode == "half" else None

    def _error(self, status: int, code: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        answer = {
            "code": code,
            "message": sentence,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": status,
        }
        self._write(status, json.dumps(answer).encode(), headers)

    def _write(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, whole: bool = True) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if whole else body[: len(body) // 2])
        self.wfile.flush()

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _received(self) -> Received:
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Received(self.command, self.path, headers, self.rfile.read(length))

    def _has_the_token(self) -> bool:
        stub = self.server.stub
        expected = base64.b64encode(f"{stub.account_sid}:{stub.auth_token}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"


def new_sid() -> str:
    return f"SM{secrets.token_hex(16)}"


def _pairs(form: Form) -> Iterable[tuple[str, str]]:
    return form.items() if isinstance(form, Mapping) else form


def _international(number: str) -> str:
    return f"+{number}" if number.isdigit() and len(number) > 6 else number


def _refusal(form: Mapping[str, str]) -> int | None:
    """The code with which Twilio would refuse this message, whatever the mode."""
    if not form.get("To"):
        return 21604
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return 21603
    if not form.get("Body"):
        return 21602
    if len(form["Body"]) > 1600:
        return 21617
    return MAGIC_RECIPIENTS.get(form["To"]) or MAGIC_SENDERS.get(form.get("From", ""))


def _quoting(form: Mapping[str, str]) -> str:
    return f"The 'To' number {form.get('To')} cannot receive '{form.get('Body')}'."


def _errors(path: Path, request: Received) -> Iterable[Exception]:
    return _description(path).iter_request_errors(_AsDescribed(request))


def _own_faults(request: Received) -> Iterable[str]:
    """What Twilio's own text demands and its machine-readable description lets pass."""
    try:
        pairs = request.form()
    except ValueError:
        yield "the body is not a form"
        return
    form = dict(pairs)
    if len(form) != len(pairs):
        yield "a parameter is sent twice"
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}", form.get("To", "")):
        yield "To is not + and an international number"
    if not 1 <= len(form.get("Body", "")) <= 1600:
        yield "Body is not 1 to 1,600 characters"
    if not {"From", "MessagingServiceSid"} & set(form):  # both: this sender of that service's pool
        yield "neither From nor MessagingServiceSid"
    if form.get("ValidityPeriod", "1") not in map(str, range(1, 36001)):
        yield "ValidityPeriod is not 1 to 36,000"
    callback = urlsplit(form.get("StatusCallback", ""))
    if callback.scheme not in {"http", "https"} or not callback.hostname or "_" in callback.hostname:
        yield "StatusCallback is not an absolute address, or its host has an underscore"
