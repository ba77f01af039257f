"""`jumbe chat --as PHONE`: a virtual phone in a terminal, beside the page `/phones` of a rehearsal that runs.

It asks the web process on this machine what the page asks, and knows no more than the page.  What is typed leaves line
by line; what the phone gets is printed as it comes, and each change of a text's state under it.  Where the lines come
from a file or a pipe, each waits until the answers to the one before have come to rest.
"""

from __future__ import annotations

import http.client
import json
import queue
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from bot.cli.processes import PORT
from storage.console import printable
from storage.errors import Misconfigured

LOOK_S = 0.3
QUIET_S = 1.0
"""Nothing new for so long: whatever answers has answered."""

LONGEST_WAIT_S = 15.0
SHOWN_BEFORE = 6
MARGIN = " " * 9
_DONE = frozenset({"delivered", "undelivered", "refused", "withheld", "expired", "cancelled", "unresolved"})
_UNDER_WAY = frozenset({"queued", "claimed", "sending", "on_its_way", "received"})


@click.command()
@click.option("--as", "phone", required=True, metavar="PHONE", help="Whose phone: its number, in any form.")
@click.option("--port", type=PORT, envvar="PORT", default=8000, show_default=True, help="Where the rehearsal runs.")
@click.pass_context
def chat(ctx: click.Context, phone: str, port: int) -> None:
    """Text from one virtual phone of a running rehearsal, and see what it gets."""
    talk = Talk(port, phone)
    try:
        if sys.stdin.isatty():
            _by_hand(talk)
        elif _by_lines(talk):
            ctx.exit(2)
    except KeyboardInterrupt:
        click.echo()


class Refused(Misconfigured):
    """The rehearsal says no to one thing, in words, and goes on."""


class Talk:
    """One phone of the rehearsal at this port; raises Misconfigured where there is none."""

    def __init__(self, port: int, typed: str) -> None:
        """The phone of this number, which stands on the page from now on if it did not."""
        self._port = port
        self._seen: dict[Any, str] = {}
        self._last: Any = None
        self._under_way = False
        self.phone = str(self._post("take-out", {"phone": typed})["phone"])

    def show_thread(self) -> None:
        """Whose phone this is, and the last texts on it."""
        told = self._told()
        click.echo(f"{printable(told['name'])} ({printable(told['label'])}), +{self.phone}. Enter sends, Ctrl-D ends.")
        for text in told["texts"][:-SHOWN_BEFORE]:
            self._seen[text["id"]] = _fate(text)
        self._show(told["texts"])

    def skip(self) -> None:
        """Take everything that is there as seen."""
        self._seen = {text["id"]: _fate(text) for text in self._told()["texts"]}

    def send(self, line: str) -> None:
        """Text this line from the phone; raises Refused."""
        self._post("text", {"phone": self.phone, "body": line})

    def look(self) -> bool:
        """Print what is new; returns whether anything was."""
        return self._show(self._told()["texts"])

    def wait(self) -> None:
        """Print what comes until it is quiet, and nothing is under way; at most LONGEST_WAIT_S."""
        began = quiet_since = time.monotonic()
        while time.monotonic() - began < LONGEST_WAIT_S:
            if self.look() or self._under_way:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > QUIET_S:
                return
            time.sleep(LOOK_S / 3)

    def _show(self, texts: list[dict[str, Any]]) -> bool:
        new = False
        for text in texts:
            fate = _fate(text)
            before = self._seen.get(text["id"])
            if before == fate or (before is None and not _is_to_be_shown(text)):
                continue
            new = True
            if before is None:
                arrow = "->" if text["from_phone"] else "<-" if text["here"] else "xx"
                click.echo(f"{_time(text['at'])} {arrow} {_body(text['body'])}")
                which = ""
            else:
                which = "" if self._last == text["id"] else f"  ({_short(text['body'])})"
            click.echo(f"{MARGIN}{printable(fate)}{which}")
            self._seen[text["id"]] = fate
            self._last = text["id"]
        self._under_way = any(_is_under_way(text) for text in texts[-SHOWN_BEFORE:])
        return new

    def _told(self) -> dict[str, Any]:
        found = self._ask("GET", f"/phones/threads?only={self.phone}")["phones"]
        if not found:
            raise Misconfigured([f"the phone +{self.phone} was closed on the page"])
        one: dict[str, Any] = found[0]
        return one

    def _post(self, path: str, said: dict[str, str]) -> dict[str, Any]:
        return self._ask("POST", f"/phones/{path}", json.dumps(said))

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        """What the web process says; raises Misconfigured where it says nothing, and Refused where it says no."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException):
            raise Misconfigured(
                [f"nothing answers at port {self._port}: start 'jumbe demo' first, or name its port by --port"]
            ) from None
        finally:
            connection.close()
        try:
            told = json.loads(raw)
        except ValueError:
            told = None
        if answer.status == 404 or not isinstance(told, dict):
            raise Misconfigured([f"what runs at port {self._port} is no rehearsal: it has no virtual phones"])
        if answer.status != 200:
            raise Refused([str(told.get("problem") or "the rehearsal cannot keep this now: try again")])
        return told


def _by_hand(talk: Talk) -> None:
    """Lines from a terminal, while what comes is printed."""
    talk.show_thread()
    typed = _lines_of(sys.stdin.readline)
    while True:
        talk.look()
        try:
            line = typed.get(timeout=LOOK_S)
        except queue.Empty:
            continue
        if line is None:
            click.echo()
            return
        if line.strip():
            try:
                talk.send(line)
            except Refused as refused:
                click.echo(f"{MARGIN}not sent: {_why(refused)}")


def _by_lines(talk: Talk) -> int:
    """Lines of a file or a pipe, each after the answers to the one before; returns how many were refused."""
    talk.skip()
    refusals = 0
    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        try:
            talk.send(line.rstrip("\r\n"))
        except Refused as refused:
            refusals += 1
            click.echo(f"jumbe: line {number} was not sent: {_why(refused)}", err=True)
        else:
            talk.wait()
    return refusals


def _why(refused: Refused) -> str:
    return printable("; ".join(refused.faults))


def _lines_of(read: Callable[[], str]) -> queue.Queue[str | None]:
    """The lines that are typed, as they come, and None at their end; a thread reads them."""
    typed: queue.Queue[str | None] = queue.Queue()

    def keep_reading() -> None:
        while line := read():
            typed.put(line.rstrip("\n"))
        typed.put(None)

    threading.Thread(target=keep_reading, daemon=True).start()
    return typed


def _is_to_be_shown(text: dict[str, Any]) -> bool:
    """A text that the phone wrote, has, or will never have; not one that is still on its way to it."""
    return bool(text["from_phone"] or text["here"] or text["state"] in _DONE or text["reason"])


def _is_under_way(text: dict[str, Any]) -> bool:
    if text["from_phone"]:
        return text["state"] in _UNDER_WAY
    return text["state"] in _UNDER_WAY and not text["reason"]


def _fate(text: dict[str, Any]) -> str:
    """What became of a text, in words."""
    if text["from_phone"]:
        return str(text["said"])
    if text["state"] in _DONE and text["state"] != "delivered":
        return f"failed: {text['reason'] or text['said']}"
    return f"{text['state']}: {text['reason']}" if text["reason"] else str(text["state"])


def _time(at: str) -> str:
    return f"{datetime.fromisoformat(at).astimezone():%H:%M:%S}"


def _body(body: str) -> str:
    """A text as it was written, line under line: one that looks like another text of the phone stands apart."""
    return f"\n{MARGIN}".join(printable(line) for line in body.split("\n"))


def _short(body: str) -> str:
    flat = printable(" ".join(body.split()))
    return flat if len(flat) <= 40 else flat[:37].rstrip() + "..."
