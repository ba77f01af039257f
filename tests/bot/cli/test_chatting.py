"""The rules of `jumbe chat`: a phone of a rehearsal that runs, in a terminal; and of a demo whose worker dies."""

from __future__ import annotations

import http.client
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.serving import make_server

from bot.cli import chatting
from tests.patience import HANG_S, ended
from tests.processes import ROOT, bare_environment, children, free_port, until
from tests.rehearsal import Silent

LEAD = "15550100001"


@dataclass
class Demo:
    """A demo that runs: web and worker as processes of their own."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def chat(self, phone: str, lines: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bot", "chat", "--as", phone],
            env=bare_environment() | {"PORT": str(port or self.port)}, cwd=ROOT, input=lines, capture_output=True,
            text=True, timeout=HANG_S, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    port, log = free_port(), folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bot", "demo"],
            env=bare_environment() | {"PORT": str(port), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: "/phones" in log.read_text(), log.read_text, every_s=0.1)
        yield Demo(port, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process)


def test_lines_of_a_pipe_are_sent_one_by_one_and_their_answers_printed_with_states(demo: Demo) -> None:
    done = demo.chat("+1 (555) 010-0001", "groups\n\nwho anc\n")
    assert (done.returncode, done.stderr) == (0, "")
    said = [line[9:] if line[:2].isdigit() else line.strip() for line in done.stdout.splitlines()]
    asked, answered = said.index("-> groups"), next(n for n, line in enumerate(said) if line.startswith("<- 3 in all"))
    assert asked < answered < said.index("-> who anc")
    assert "read as a command" in said
    assert "delivered" in said[answered:]


def test_a_text_that_fails_says_why_in_words(demo: Demo) -> None:
    done = demo.chat("15005550009", "help\n")
    assert done.returncode == 0
    assert "xx Demo clinic" in done.stdout
    assert "failed: the number is not a mobile phone (gateway 21614)" in done.stdout


def test_no_lines_at_all_end_at_once(demo: Demo) -> None:
    done = demo.chat(LEAD, "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_number_that_is_none_and_a_port_where_nothing_runs_are_one_sentence_each(demo: Demo) -> None:
    for phone, port in (("abc", None), ("15", None), (LEAD, free_port())):
        done = demo.chat(phone, "menu\n", port)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert "Traceback" not in done.stderr
    assert "start 'jumbe demo' first" in done.stderr


def test_what_is_no_rehearsal_has_no_phones_to_chat_from(demo: Demo) -> None:
    server = make_server("127.0.0.1", 0, Flask(__name__, static_folder=None), request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        done = demo.chat(LEAD, "menu\n", server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.returncode == 2
    assert "is no rehearsal" in done.stderr


def test_one_line_that_is_refused_is_named_and_those_after_it_are_sent(demo: Demo) -> None:
    done = demo.chat(LEAD, "\n" + "a" * 1601 + "\nmenu\n")
    assert done.returncode == 2
    assert done.stderr.startswith("jumbe: line 2 was not sent: a text has at most 1600 characters")
    assert len(done.stderr.splitlines()) == 1
    assert "-> menu" in done.stdout


def test_by_hand_a_refused_line_is_said_and_the_conversation_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []

    class Stubborn(chatting.Talk):
        def __init__(self) -> None:
            self.phone = "1"

        def show_thread(self) -> None:
            """Nothing yet."""

        def look(self) -> bool:
            return False

        def send(self, line: str) -> None:
            if line == "bad":
                raise chatting.Refused(["it holds \x1b[2J"])
            sent.append(line)

    monkeypatch.setattr(sys, "stdin", io.StringIO("bad\ngood\n"))
    chatting._by_hand(Stubborn())
    assert sent == ["good"]
    assert capsys.readouterr().out == "         not sent: it holds \\x1b[2J\n\n"


def test_a_text_cannot_steer_the_terminal_or_look_like_another_text() -> None:
    assert chatting._body("a\x1b]0;x\x07b\n12:00:00 <- forged\u202e") == (
        "a\\x1b]0;x\\x07b\n         12:00:00 <- forged\\u202e"
    )


def test_a_demo_whose_worker_dies_says_how_to_start_again(demo: Demo) -> None:
    """The last of this page: it ends the demo."""
    worker = next(
        pid for pid in children(demo.process.pid) if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )
    os.kill(worker, signal.SIGKILL)
    assert ended(demo.process) == 1
    last = demo.log.read_text().splitlines()[-1]
    assert last.startswith("jumbe: worker ended, so the other is stopped too. Start again by the same command")
    with pytest.raises(OSError):
        http.client.HTTPConnection("127.0.0.1", demo.port, timeout=HANG_S).request("GET", "/healthz")
