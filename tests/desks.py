"""The desk as people meet it: served as a process, asked over HTTP, and looked at by a browser."""

from __future__ import annotations

import contextlib
import http.cookiejar
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

import pytest
import websocket
from openpyxl import Workbook

from admin_notebooks.pages.passwords import hashed
from bot.demo import LEAD, SUPERVISOR, make
from storage.audit import Actor
from storage.contacts import cases, consent, groups, lookup, people
from storage.contacts import passwords as store
from storage.contacts.cases import Wanted
from storage.database import Database, Transaction
from storage.rules.hours_and_limits import Rules
from tests.parts import library
from tests.patience import HANG_MS, HANG_S, ended, until
from tests.processes import ROOT, bare_environment, free_port
from tests.rehearsal import CHROMIUM, QUIET

PASSWORD = "four words of hers"
CLI = Actor("cli", None, "test")
RULES = Rules(
    name="Demo clinic", time_zone="Africa/Accra", hold_s=0, hours=None, default_gateway="simulator",
    gateways=frozenset({"simulator"}),
)  # fmt: skip
HOSTILE: Final = "<img src=x onerror=alert(1)>"
"""A name that runs wherever it is not shown as text."""


def populate(db: Database) -> None:
    """The demo's programme, a name in it that is meant to run, somebody without a number, and a closed case."""
    make(db)
    with db.transaction() as tx:
        hostile, *_ = cases.save(
            tx,
            [
                Wanted(None, {"external_id": "hostile", "name": HOSTILE}),
                Wanted(None, {"external_id": "no-phone", "name": "Nana Yaa"}),
                Wanted(None, {"external_id": "gone", "name": "Kobina", "contact_phone_number": "233244120199", "status": "closed"}),
            ],
            by=CLI,
        )  # fmt: skip
        groups.add(tx, groups.group(tx, "anc").id, [hostile], by=CLI)
    for phone in (LEAD, SUPERVISOR):
        with_password(db, phone)


# -- served ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def desk(folder: Path, *words: str, code: str = "", **settings: str) -> Iterator[str]:
    """`jumbe desk` as a process, after some `code` of a test; its address."""
    port = free_port()
    env = bare_environment() | {
        "DATABASE_URL": "sqlite:///jumbe.db", "JUMBE_SIMULATOR": "1", "JUMBE_HOLD_S": "0", "JUMBE_QUIET_HOURS": "off",
        "JUMBE_NAME": RULES.name, "JUMBE_TIME_ZONE": RULES.time_zone, "PYTHONPATH": str(ROOT),
    } | settings  # fmt: skip
    run = f"{code}\nimport sys\nfrom bot.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-W", "ignore", "-c", run, "desk", "--port", str(port), *words]
    with (folder / "desk.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or _answers(port), (folder / "desk.log").read_text, every_s=0.1)
        assert process.poll() is None, (folder / "desk.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        ended(process)


def _answers(port: int) -> bool:
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=HANG_S).read()
        return True
    return False


def with_password(db: Database, phone: str) -> None:
    """Let a person of this number sign in by `PASSWORD`."""
    with db.transaction() as tx:
        person = people.person(tx, phone)
        store.keep(tx, person, hashed(PASSWORD, person), by=CLI)


# -- over HTTP ---------------------------------------------------------------------------------------------------------


class Browser:
    """A browser without a screen: cookies, forms, and where it was sent."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.jar = CookieJar(http.cookiejar.DefaultCookiePolicy())
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar), _Stay)

    def get(self, path: str, **headers: str) -> tuple[int, Any, str]:
        return self._open(urllib.request.Request(self.address + path, headers=headers))

    def post(self, path: str, **fields: str) -> tuple[int, Any, str]:
        return self._open(urllib.request.Request(self.address + path, urlencode(fields).encode()))

    def send(self, path: str, data: bytes) -> tuple[int, Any, str]:
        """Send what a script of our own page would."""
        (token,) = {one.value for one in self.jar if one.name == "_xsrf"}
        return self._open(urllib.request.Request(self.address + path, data, {"X-XSRFToken": token}))

    def sign_in(self, name: str, password: str = PASSWORD) -> tuple[int, Any, str]:
        form = self.get("/login")[2]
        return self.post("/login", name=name, password=password, _xsrf=re.search(r'_xsrf" value="([^"]+)', form)[1])

    @property
    def cookie(self) -> str:
        """All cookies, as a header has them."""
        return "; ".join(f"{one.name}={one.value}" for one in self.jar)

    def _open(self, request: urllib.request.Request) -> tuple[int, Any, str]:
        try:
            answer = self.opener.open(request, timeout=HANG_S)
        except urllib.error.HTTPError as told:
            answer = told
        return answer.status, answer.headers, answer.read().decode()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_told: Any) -> None:
        return None


class Panel:
    """The panel of a page without a browser: the page is fetched, and its kernel is spoken to as the page does."""

    def __init__(self, browser: Browser, page: str) -> None:
        status, _, self.html = browser.get(f"/voila/render/{page}.ipynb")
        assert status == 200, self.html[:2000]
        self.kernel = re.search(r'"kernelId":\s*"([0-9a-f-]{36})"', self.html)[1]
        self.model = re.search(r'"model_id":\s*"([0-9a-f]{32})"', self.html)[1]
        address = browser.address.replace("http", "ws", 1)
        self.line = websocket.create_connection(
            f"{address}/api/kernels/{self.kernel}/channels",
            cookie=browser.cookie,
            origin=browser.address,
            timeout=HANG_S,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_told: object) -> None:
        self.line.close()
        self.line.shutdown()

    def ask(self, verb: str, **args: Any) -> Any:
        """What the panel answers: the result, or the sentence why not; ConnectionError where the server hung up."""
        told = self.send(
            "comm_msg", comm_id=self.model, data={"method": "custom", "content": {"id": 1, "verb": verb, "args": args}}
        )
        for heard in hear(self.line):
            content = heard["content"].get("data", {}).get("content", {})
            if (
                heard["msg_type"] == "comm_msg"
                and heard["parent_header"].get("msg_id") == told
                and content.get("id") == 1
            ):
                return content.get("result", content.get("problem"))
        raise ConnectionError("the server closed the line")

    def send(self, kind: str, **content: Any) -> str:
        """Send anything that a page could; the message's id."""
        asked = message(kind, **content)
        self.line.send(asked)
        return str(json.loads(asked)["header"]["msg_id"])


def hear(line: websocket.WebSocket, seconds: float = HANG_S) -> Iterator[Any]:
    """What comes over a line until the server closes it; fails if that takes longer."""
    end = time.monotonic() + seconds
    while True:
        kind, said = line.recv_data(control_frame=True)  # a ping is answered, and waits no longer than that
        if kind == websocket.ABNF.OPCODE_CLOSE:
            return
        if kind in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
            yield json.loads(said)
        assert time.monotonic() < end, "nothing was answered, and the line stays open"


def message(kind: str, **content: Any) -> str:
    """A message to a kernel, as a page writes it."""
    number = uuid.uuid4().hex
    header = {"msg_id": number, "msg_type": kind, "session": number, "username": "", "version": "5.3",
              "date": datetime.now(UTC).isoformat()}  # fmt: skip
    return json.dumps(
        {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}
    )


def kernels_of(address: str) -> list[int]:
    """The process ids of the kernels that the server at an address has running."""
    port = address.rpartition(":")[2]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            theirs = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
            if b"ipykernel_launcher" in words and port.encode() in theirs:
                found.append(int(folder.name))
    return found


def kill(process: int) -> None:
    """kill -9."""
    os.kill(process, signal.SIGKILL)


# -- in a browser ------------------------------------------------------------------------------------------------------


class Watched:
    """A page of a real browser, whom it asked, and what it complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.faults: list[str] = []
        page.set_default_timeout(HANG_MS)
        page.on("request", lambda r: self.hosts.add(r.url.split("/")[2]) if r.url.startswith(("http", "ws")) else None)
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))

    def sign_in(self, address: str, name: str) -> None:
        """Come to an address, and through the door before it."""
        self.page.goto(address)
        self.page.fill("[name=name]", name)
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("button")


@contextlib.contextmanager
def chromium(**options: Any) -> Iterator[Watched]:
    """A page of a browser without a window; skips where there is none, fails there under CI=true."""
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip("there is no chromium at /usr/bin/chromium")
    playwright = library("playwright.sync_api", "pip install playwright")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield Watched(
            browser.new_page(
                **{
                    "viewport": {"width": 1280, "height": 860},
                    "locale": "en-GB",
                    "timezone_id": "Africa/Accra",
                    **options,
                }
            )
        )
        browser.close()


def workbook(*identifiers: str | None) -> bytes:
    """A sheet of members; None is an empty row."""
    book = Workbook()
    for cell in ("case_identifier", *identifiers):
        book.active.append([cell])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


# -- a programme that lived --------------------------------------------------------------------------------------------


_CAME = ((84, 0, 9), (77, 9, 14), (63, 14, 23), (49, 23, 31), (35, 31, 40), (21, 40, 49), (10, 49, 58), (3, 58, 60))
"""Days ago, and which of the sixty came into the group of everybody then."""


def lived(db: Database) -> None:
    """Fill a database that has nothing in it with the demo's programme, and a quarter of a year of coming and going.

    Somebody said STOP, a case was closed, a number is not verified any more; Lena signs in by the tests' password.
    """
    now = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
    address = db.engine.url.render_as_string(hide_password=False)

    def at(days: float, act: Callable[[Transaction], object]) -> None:
        with (
            contextlib.closing(Database(address, RULES, lambda: now - timedelta(days=days))) as then,
            then.transaction() as tx,
        ):
            act(tx)

    with contextlib.closing(Database(address, RULES, lambda: now - timedelta(days=90))) as beginning:
        make(beginning)
    with_password(db, LEAD)
    ids: list[int] = []

    def begin(tx: Transaction) -> None:
        ids.extend(lookup.find_one(tx, f"p-{100 + n}").id for n in range(1, 61))
        groups.create(tx, "visits", "Home visits", by=_lena(tx))

    def come(first: int, last: int) -> Callable[[Transaction], object]:
        return lambda tx: groups.add(tx, groups.group(tx, "visits").id, ids[first:last], by=_lena(tx))

    at(89, begin)
    for days, first, last in _CAME:
        at(days, come(first, last))
    at(30, lambda tx: groups.remove(tx, groups.group(tx, "visits").id, ids[3:7], by=_lena(tx)))
    at(12, lambda tx: groups.remove(tx, groups.group(tx, "visits").id, ids[25:28], by=_lena(tx)))
    at(9, lambda tx: consent.hear(tx, "254712340108", "stop", words="STOP", message_id=None, by=CLI))
    at(8, lambda tx: cases.save(tx, [Wanted(ids[9], {"status": "closed"})], by=_lena(tx)))
    at(8, lambda tx: cases.save(tx, [Wanted(ids[20], {"contact_phone_number_is_verified": False})], by=_lena(tx)))


def _lena(tx: Transaction) -> Actor:
    return Actor("desk", people.person(tx, LEAD).id, "01_case_groups")
