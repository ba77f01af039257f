"""The product as an operator runs it: `jumbe web` and `jumbe worker` as processes, and a Twilio of our own beside them.

Everything goes through the contract: the command line, the environment, the HTTP addresses.  The database is read only to
count what must be there.  Whatever is started here is ended here, by its process id, also when a test fails.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar
from unittest import mock
from urllib.parse import urlencode, urlsplit

from sqlalchemy import text as sql

from bot.cli import main
from storage.database import Database
from tests.patience import HANG_S, ended, until
from tests.stub_twilio import StubTwilio

ROOT: Final = Path(__file__).resolve().parents[1]
ACCOUNT: Final = "AC" + "0123456789abcdef" * 2
TOKEN: Final = "t0ken-that-must-never-be-shown"
OURS: Final = ("JUMBE_", "TWILIO_", "DATABASE_URL", "PUBLIC_URL", "PORT", "SMTP_", "MAIL_")

T = TypeVar("T")


class Process(Protocol):
    """A process that was started, as `subprocess.Popen` has it."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sign: int, /) -> None: ...


class SlowTwilio(StubTwilio):
    """A stub that needs a moment between taking a message and saying so: the moment in which a worker may die."""

    delay_s = 0.0

    def __init__(self, account_sid: str, auth_token: str) -> None:
        super().__init__(account_sid, auth_token)
        self.delay_for: dict[str, float] = {}
        self.answers = threading.Event()
        """Cleared, nothing is answered until it is set again."""
        self.answers.set()

    def accept(self, form: Mapping[str, str]) -> dict[str, Any]:
        message = super().accept(form)
        self.closing.wait(self.delay_for.get(form["To"], self.delay_s))
        until(lambda: self.answers.is_set() or self.closing.is_set(), "the test lets it answer")
        return message

    def sent(self) -> list[dict[str, Any]]:
        """The book as it is now."""
        with self.lock:
            return list(self.book)

    def to(self, phone: str) -> list[dict[str, Any]]:
        """What this phone got, oldest first."""
        return [message for message in self.sent() if message["to"] == f"+{phone}"]


class Jumbe:
    """One programme on a SQLite file of its own, and the processes that serve it."""

    def __init__(self, folder: Path, stub: SlowTwilio, **settings: str) -> None:
        self.folder = folder
        self.stub = stub
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.file = folder / "jumbe.db"
        self.env = bare_environment() | {
            "DATABASE_URL": f"sqlite:///{self.file}",
            "PORT": str(self.port),
            "PUBLIC_URL": self.base,
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_FROM": f"+{stub.number}",
            "TWILIO_API_URL": stub.url,
            "TWILIO_RATE": "500",
            "JUMBE_HOLD_S": "1",
            "JUMBE_QUIET_HOURS": "off",
            **settings,
        }
        self.running: dict[str, Process] = {}
        self.canaries: set[str] = {TOKEN}

    def __enter__(self) -> Self:
        self.cli("db", "upgrade")
        self.canaries |= {self.env.get("TWILIO_AUTH_TOKEN", TOKEN)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.running):
            self.kill(name)

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start these, in process groups of their own, and wait until each answers."""
        for name in names:
            self.spawn(name)
        for name in names:
            self.until(lambda name=name: self.is_up(name), f"{name} is up")

    def spawn(self, name: str, *, as_name: str | None = None) -> Process:
        """Start one and do not wait."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bot", name],
                env=self.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.running[as_name or name] = process
        return process

    def is_up(self, name: str) -> bool:
        """Whether web answers, or this very worker has said that it is alive.  One that ended is an error at once."""
        process = self.running[name]
        if process.poll() is not None:
            raise AssertionError(f"{name} ended with {process.returncode}: {self.log(name)[-2000:]}")
        if name == "web":
            return self.get("/healthz")[0] == 200
        return bool(self.rows("SELECT 1 FROM workers WHERE owner LIKE :pid", pid=f"{process.pid}-%"))

    def kill(self, name: str) -> int:
        """kill -9 of the process and of all that it started; returns the process id it had."""
        process = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        ended(process)
        return process.pid

    def terminate(self, name: str) -> int:
        """SIGTERM as a platform sends it; returns the exit status."""
        process = self.running[name]
        process.send_signal(signal.SIGTERM)
        status = ended(process)
        self.kill(name)
        return status

    def log(self, *names: str) -> str:
        """What these processes said, or all of them."""
        files = [self.folder / f"{name}.log" for name in names] if names else sorted(self.folder.glob("*.log"))
        return "".join(file.read_text("utf-8", "replace") for file in files if file.exists())

    def leaks(self) -> list[str]:
        """What stands in the logs and must not: secrets, numbers, texts, codes, and tracebacks."""
        said = self.log()
        for message in self.stub.sent():
            self.canaries |= {message["to"].removeprefix("+"), message["body"]}
            self.canaries |= set(re.findall(r"\b[0-9]{6}\b", message["body"]))
        secret = {canary for canary in self.canaries if len(canary) >= 6}
        faults = [f"a log shows {canary[:40]!r}" for canary in secret if canary in said]
        return faults + (["a log has a traceback"] if "Traceback" in said else [])

    # -- the command line ----------------------------------------------------------------------------------------------

    def run(self, *args: str, **settings: str | None) -> subprocess.CompletedProcess[str]:
        """One command, whatever comes of it; a setting of None is taken away."""
        env = {name: value for name, value in (self.env | settings).items() if value is not None}
        return subprocess.run(
            [sys.executable, "-m", "bot", *args],
            env=env, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG_S, check=False,
        )  # fmt: skip

    def cli(self, *args: str) -> str:
        """One command that succeeds; returns what it printed."""
        done = self.run(*args)
        assert done.returncode == 0, f"jumbe {' '.join(args)}: {done.returncode}: {done.stderr[-2000:]}"
        return done.stdout

    def json(self, *args: str) -> Any:
        """One command that succeeds; returns its records."""
        return json.loads(self.cli(*args, "--json"))

    def refused(self, *args: str, **settings: str | None) -> list[str]:
        """One command that is a person's mistake; returns the sentences.  Never a traceback, never a secret."""
        done = self.run(*args, **settings)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert TOKEN not in said
        assert done.returncode == 2, f"jumbe {' '.join(args)}: {done.returncode}: {said}"
        lines = done.stderr.splitlines()
        assert lines, "exit 2 without a sentence"
        return lines

    def mistake(self, *args: str, **settings: str | None) -> list[str]:
        """As `refused`, but without a process of its own, for the many mistakes that need none."""
        status, out, err = self._here(args, settings)
        assert TOKEN not in out + err
        assert status == 2, f"jumbe {' '.join(args)}: {status}: {out}{err}"
        return err.splitlines()

    def quickly(self, *args: str) -> Any:
        """As `json`, but without a process of its own."""
        status, out, err = self._here([*args, "--json"], {})
        assert status == 0, f"jumbe {' '.join(args)}: {status}: {err}"
        return json.loads(out)

    def here(self, *args: str) -> str:
        """As `cli`, but without a process of its own."""
        status, out, err = self._here(args, {})
        assert status == 0, f"jumbe {' '.join(args)}: {status}: {err}"
        return out

    def _here(self, args: Sequence[str], settings: Mapping[str, str | None]) -> tuple[int, str, str]:
        """What a process runs: `main`, with this environment."""
        env = {name: value for name, value in (self.env | settings).items() if value is not None}
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, env, clear=True), redirect_stdout(out), redirect_stderr(err):
            status = main(list(args))
        return status, out.getvalue(), err.getvalue()

    # -- texts and receipts --------------------------------------------------------------------------------------------

    def post(
        self, path: str, form: Mapping[str, str], signature: str | None = None, *, within_s: float = HANG_S
    ) -> int:
        """Call a webhook as Twilio does; returns the status, 0 where no answer came."""
        signed = signature if signature is not None else self.stub.sign(self.base + path, form)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signed}
        return self._request("POST", path, urlencode(form), headers, within_s)[0]

    def get(self, path: str) -> tuple[int, str]:
        """One page of the web process; status 0 where no answer came."""
        return self._request("GET", path, None, {}, HANG_S)

    def _request(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str], within_s: float
    ) -> tuple[int, str]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=within_s)) as connection:
            try:
                connection.request(method, path, body, dict(headers))
                response = connection.getresponse()
                return response.status, response.read().decode("utf-8", "replace")
            except (OSError, http.client.HTTPException):
                return 0, ""

    def text(self, sender: str, body: str, sid: str | None = None) -> str:
        """A text that is taken; returns the id that Twilio gave it."""
        form = self.form(sender, body, sid)
        status = self.post("/in/twilio", form)
        assert status == 200, f"{body!r}: {status}: {self.log('web')[-2000:]}"
        return form["MessageSid"]

    def form(self, sender: str, body: str, sid: str | None = None) -> dict[str, str]:
        """The form of a text, whose number and words must never be logged."""
        self.canaries |= {sender, body} if len(body) > 12 else {sender}
        return self.stub.inbound_form(sender, body, sid)

    def ask(self, sender: str, body: str) -> str:
        """Text, and wait for the answer to that phone."""
        before = len(self.stub.to(sender))
        self.text(sender, body)
        answers = self.until(lambda: self.stub.to(sender)[before:], f"an answer to {body!r}")
        return str(answers[0]["body"])

    def receipt(self, message: Mapping[str, Any], word: str, code: int | None = None, **changes: str) -> int:
        """A receipt for a message in the stub's book; returns the status."""
        told = urlsplit(message["status_callback"])
        path = told.path + (f"?{told.query}" if told.query else "")
        form = self.stub.receipt_form(message["sid"], message["to"].removeprefix("+"), word, code) | changes
        return self.post(path, form)

    # -- the database, to count ----------------------------------------------------------------------------------------

    def rows(self, query: str, **values: Any) -> list[Any]:
        """What a query finds, at one moment."""
        with self.database() as db, db.reading() as tx:
            return list(tx.execute(sql(query), values))

    def one(self, query: str, **values: Any) -> Any:
        """The first value that a query finds."""
        return self.rows(query, **values)[0][0]

    def change(self, query: str, **values: Any) -> None:
        """Turn a screw that no command reaches."""
        with self.database() as db, db.transaction() as tx:
            tx.execute(sql(query), values)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        db = Database(self.env["DATABASE_URL"])
        try:
            yield db
        finally:
            db.close()

    # -- waiting -------------------------------------------------------------------------------------------------------

    def until(self, what: Callable[[], T], name: str, *, within_s: float = HANG_S, every_s: float = 0.03) -> T:
        """Look until it is so; returns what was found."""
        return until(what, lambda: f"{name}\n{self.log()[-2000:]}", within_s=within_s, every_s=every_s)

    def until_idle(self, *, within_s: float = HANG_S) -> None:
        """Until nothing waits to be sent and no broadcast waits to be written."""
        query = (
            "SELECT (SELECT count(*) FROM messages WHERE state IN ('queued', 'claimed', 'sending'))"
            " + (SELECT count(*) FROM broadcasts WHERE state IN ('held', 'expanding', 'sending'))"
        )
        self.until(lambda: self.one(query) == 0, "nothing is left to send", within_s=within_s, every_s=0.1)

    def looked(self, times: int = 2) -> None:
        """Until each worker here has said so many times more that it is alive: it does at most once a second, as a turn
        begins, so after two that it could do it has done.
        """
        for _ in range(times):
            before = self._seen()
            assert before, "there is no worker"
            self.until(
                lambda before=before: all(at != before.get(owner) for owner, at in self._seen().items()),
                "the workers look again",
            )

    def _seen(self) -> dict[str, Any]:
        """When each worker that runs here was last alive; one that was killed keeps its row for a while."""
        ours = tuple(f"{process.pid}-" for process in self.running.values())
        rows = self.rows("SELECT owner, seen_at FROM workers")
        return {row.owner: row.seen_at for row in rows if row.owner.startswith(ours)}

    # -- a programme to act in -----------------------------------------------------------------------------------------

    def fill(self, short: str, phones: Sequence[str], prefix: str = "c") -> None:
        """Cases with these numbers, `c-0`, `c-1` and so on, all in one group."""
        cases, members = self.folder / f"{short}-cases.csv", self.folder / f"{short}-members.csv"
        head = "external_id,name,contact_phone_number,contact_phone_number_is_verified\n"
        cases.write_text(head + "".join(f"{prefix}-{n},Case {n},{p},1\n" for n, p in enumerate(phones)), "utf-8")
        members.write_text("case_identifier\n" + "".join(f"{prefix}-{n}\n" for n in range(len(phones))), "utf-8")
        counts = self.quickly("cases", "import", str(cases))["counts"]
        assert counts == {"create": len(phones)}, counts
        self.quickly("groups", "create", short)
        counts = self.quickly("groups", "import", short, str(members))["counts"]
        assert counts == {"add": len(phones)}, counts
        self.canaries |= set(phones)

    def launch(self, short: str, words: str) -> int:
        """A broadcast to a group, confirmed at the command line; returns its number."""
        self.canaries.add(words)
        return int(self.quickly("broadcasts", "launch", "--group", short, "--text", words, "--yes")["id"])


def bare_environment() -> dict[str, str]:
    """This machine's environment without anything that sets Jumbe up."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


def children(pid: int) -> list[int]:
    """The processes that a process started and that still live."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def cpu_s(*pids: int) -> float:
    """Seconds of a processor that these used, and all that they started and that still lives: what load cannot lengthen."""
    used = 0
    for pid in [*pids, *(child for parent in pids for child in children(parent))]:
        with contextlib.suppress(OSError):
            after_the_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(after_the_name[11]) + int(after_the_name[12])
    return used / os.sysconf("SC_CLK_TCK")


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


_GIVEN: set[int] = set()
_LEAST_PORT, _LEAST_OF_CALLERS = 10_000, 32_768
"""Ports from the second on are given to whoever calls: a call to one on which nobody listens yet may get that very port as its
own and answer itself, and then nobody can listen there."""


def free_port() -> int:
    """A port on which nobody listens now, that no other test of this process has, and that no caller is given."""
    while True:
        port = random.SystemRandom().randrange(_LEAST_PORT, _LEAST_OF_CALLERS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


def code_in(answer: str) -> str:
    """The six digits that an answer asks for."""
    found = re.search(r"\bok ([0-9]{6})\b", answer)
    assert found, f"no code in {answer!r}"
    return found[1]
