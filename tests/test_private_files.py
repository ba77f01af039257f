"""Whatever the product writes is its owner's alone, from its first byte and whatever the umask is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest

from bot.cli import main
from bot.demo import LEAD, make
from bot.gateways.base import Request
from bot.gateways.simulator_network import Network
from bot.inbound.intake import spool_of
from bot.inbound.spool import Kept
from bot.worker.worker import only_one
from storage import private_files
from storage.console import CLI
from storage.database import Database
from storage.errors import Misconfigured
from storage.upkeep import backups, migrate
from tests import writers
from tests.patience import HANG_S, ended, until
from tests.processes import ACCOUNT, ROOT, TOKEN, Jumbe, SlowTwilio, bare_environment, free_port
from tests.writers import Writer

UMASKS = [0o000, 0o022]
AMA = "233244123456"


@pytest.fixture(params=UMASKS, ids=[f"umask {mask:03o}" for mask in UMASKS])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask of this process and of all that it starts."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, int]:
    """Of every file and folder below one its mode; `but` are the names that the test itself wrote."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.name not in but and not path.is_symlink()
    }


def opened(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Those of them on which anybody else has a right."""
    return {name: oct(mode) for name, mode in modes(folder, but=but).items() if mode & 0o077}


def let_in(*paths: Path) -> None:
    """As an older release left them."""
    for path in paths:
        path.chmod(0o644)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that every user of the machine can reach, as /srv is: only the files' own modes keep them out."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH and folder.stat().st_uid == os.geteuid():
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)
    return tmp_path


def read_by_a_stranger(path: Path) -> bool:
    """Whether another user of the machine reads a file: tried as one, which only root can."""
    done = subprocess.run(
        ["/bin/cat", str(path)], capture_output=True, check=False, cwd="/",
        user=65534, group=65534, extra_groups=[],
    )  # fmt: skip
    return done.returncode == 0


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can try it as another user")


# -- the one way to write ----------------------------------------------------------------------------------------------

ELSEWHERE = {
    Writer("admin_notebooks/plots.py", "Picture.svg", "figure.savefig"): "into memory",
    Writer("admin_notebooks/sheets/writer.py", "_save", "workbook.save"): "into memory",
    Writer("admin_notebooks/sheets/xlsx_writer.py", "_write_rest", "workbook.save"): "into memory",
    Writer("admin_notebooks/sheets/xlsx_writer.py", "write", "zipfile.ZipFile"): "into the file that the caller opened",
    Writer("admin_notebooks/sheets/xlsx_writer.py", "write", "archive.open"): "a part of that file",
    Writer("admin_notebooks/sheets/xlsx_writer.py", "write", "shutil.copyfileobj"): "a part of that file",
    Writer("admin_notebooks/saving.py", "main", "path.write_text"): "a person's notebook, made clean where it lies",
    Writer("bot/cli/__init__.py", "_stop_printing", "os.open"): "/dev/null",
    Writer(
        "bot/gateways/simulator_network.py", "Network._open", "parent.mkdir"
    ): "an adapter knows no storage: 0700 by itself",
    Writer(
        "bot/gateways/simulator_network.py", "Network._open", "path.touch"
    ): "an adapter knows no storage: 0600 by itself",
    Writer("bot/gateways/simulator_network.py", "Network._open", "sqlite3.connect"): "opens what it touched before",
    Writer("storage/upkeep/backups.py", "_copy", "sqlite3.connect"): "opens what the helper made",
    Writer("storage/upkeep/backups.py", "_verify", "sqlite3.connect"): "opens a copy that the helper made",
    Writer("storage/upkeep/backups.py", "_may_be_replaced", "sqlite3.connect"): "opens a database that is there",
}
"""What is not written by `private_files`, and why that leaves nothing open."""


def test_no_file_of_the_product_is_written_but_by_the_helper_that_keeps_it_to_its_owner() -> None:
    found = writers.in_product()
    new = found - set(ELSEWHERE)
    assert not new, f"write it by storage/private_files.py, or say here why not: {sorted(new)}"
    assert not set(ELSEWHERE) - found, "reasons for what is not there any more"


@pytest.mark.parametrize(
    "code",
    [
        "open(p, 'w')", "open(p, mode='ab')", "open(p, 'r+')", "open(p, how)", "p.open('x')", "p.open(mode='wb')",
        "io.open(p, 'w')", "gzip.open(p, 'wb')", "os.open(p, os.O_WRONLY | os.O_CREAT, 0o644)", "os.open(p, flags)",
        "from os import O_RDWR\nimport os\nos.open(p, O_RDWR)", "p.write_text(t)", "p.write_bytes(b)", "p.touch()",
        "Path(p).mkdir()", "os.makedirs(p)", "shutil.copy(a, b)", "from shutil import copyfile as c\nc(a, b)",
        "import shutil as s\ns.move(a, b)", "sqlite3.connect(p)", "from pysqlite3 import dbapi2\ndbapi2.connect(p)",
        "tempfile.mktemp()", "from tempfile import mktemp\nmktemp()", "frame.to_csv(p)", "frame.to_excel(p)",
        "figure.savefig(p)", "zipfile.ZipFile(p, 'w')", "from zipfile import ZipFile\nZipFile(p, mode='a')",
        "import openpyxl\nopenpyxl.Workbook().save(p)", "logging.FileHandler(p)", "logging.basicConfig(filename=p)",
        "np.savez(p)", "shelve.open(p)", "tx.execute(\"VACUUM INTO 'x'\")", "tx.execute('ATTACH DATABASE ? AS x')",
    ],
)  # fmt: skip
def test_the_rule_sees_every_way_to_write(code: str) -> None:
    assert list(writers.in_code(code, "x.py"))


@pytest.mark.parametrize(
    "code",
    [
        "open(p)", "open(p, 'rb')", "p.open('rb')", "os.open(p, os.O_RDONLY)", "os.fdopen(1, 'wb')", "p.read_text()",
        "contacts.save(tx, [])", "tempfile.TemporaryFile('w+')", "zipfile.ZipFile(p)", "private_files.create(p)",
    ],
)  # fmt: skip
def test_the_rule_lets_reading_pass(code: str) -> None:
    assert not list(writers.in_code(code, "x.py"))


# -- from its first byte -----------------------------------------------------------------------------------------------


def test_everything_is_made_closed_and_not_closed_afterwards(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no way to change a mode at all, each file must have been made with the right one."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("a mode was changed")

    for name in ("chmod", "fchmod", "lchmod"):
        monkeypatch.setattr(os, name, refuse, raising=False)
    folder = tmp_path / "programme"
    private_files.folder(folder / "far" / "below")
    db = Database(f"sqlite:///{folder}/jumbe.db")
    with only_one(db.file):
        assert make(db)
    with db.transaction():
        seen = opened(folder)
        assert (folder / "jumbe.db-wal").exists() and (folder / "jumbe.db-shm").exists()
    with contextlib.closing(db):
        spool = spool_of(db)
        spool.keep(_webhook())
        seen |= opened(folder)

        def fail(_kept: Kept) -> None:
            raise ValueError

        spool.play(fail)
        Network(folder / "jumbe.db-phones").take_out(AMA)
        backups.make(db, folder / "backup.db")
        backups.check(db, folder / "backup.db", by=CLI)
    backups.restore(db, folder / "backup.db", yes=True, by=CLI)
    db.close()
    found = modes(folder)
    assert seen | opened(folder) == {}
    assert {
        "jumbe.db", "jumbe.db.worker-lock", "jumbe.db-spool-aside", "jumbe.db-spool-lock", "jumbe.db-phones", "backup.db",
    } <= set(found)  # fmt: skip
    assert any(".before-restore-" in name for name in found)
    assert {mode for name, mode in found.items() if (folder / name).is_dir()} == {0o700}


def test_without_wal_the_journal_is_its_owners_alone_too(umask: int, tmp_path: Path) -> None:
    """Where no safe SQLite is to be had, what is being changed stands in a journal."""
    db = Database(f"sqlite:///{tmp_path}/plain.db")
    with contextlib.closing(db), db.transaction() as tx:
        tx.connection.exec_driver_sql("CREATE TABLE notes (body TEXT)")
        assert (tmp_path / "plain.db-journal").exists()
        assert opened(tmp_path) == {}


def test_a_link_that_leads_nowhere_yet_is_no_way_round(umask: int, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    db = Database(f"sqlite:///{tmp_path}/link.db")
    migrate.upgrade(db)
    db.close()
    assert (tmp_path / "real.db").exists() and opened(tmp_path) == {}


@as_root
def test_another_user_of_the_machine_reads_none_of_it(umask: int, open_folder: Path) -> None:
    folder = open_folder / "srv"
    folder.mkdir()
    folder.chmod(0o755)
    db = Database(f"sqlite:///{folder}/jumbe.db")
    make(db)
    backups.make(db, folder / "backup.db")
    with contextlib.closing(db), only_one(db.file), db.transaction():
        there = [path for path in folder.iterdir() if path.is_file()]
        assert len(there) >= 5
        assert [path.name for path in there if read_by_a_stranger(path)] == []
        let_in(folder / "backup.db")
        assert read_by_a_stranger(folder / "backup.db"), "or this test proves nothing"


def _webhook() -> Kept:
    return Kept("twilio", Request("POST", "http://x/in/twilio", {}, b"Body=hello"), None, datetime.now(UTC))


# -- as an operator runs it --------------------------------------------------------------------------------------------


@pytest.fixture
def stub() -> Iterator[SlowTwilio]:
    with SlowTwilio(ACCOUNT, TOKEN) as made:
        yield made


@pytest.mark.processes
def test_a_day_of_a_programme_leaves_nothing_open_to_others(
    umask: int, tmp_path: Path, stub: SlowTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = ("web.log", "worker.log", "anc-cases.csv", "anc-members.csv")
    with Jumbe(tmp_path, stub) as jumbe:
        jumbe.start("web", "worker")
        jumbe.fill("anc", [AMA])
        jumbe.launch("anc", "The clinic is open on Saturday.")
        jumbe.until(lambda: stub.to(AMA), "it was sent")
        with jumbe.database() as db, db.transaction():
            # Nobody else can write for longer than a webhook waits: its text goes to the spool.
            jumbe.text(AMA, "thank you")
            assert (tmp_path / "jumbe.db-spool").exists()
            assert opened(tmp_path, but=ours) == {}
        for command in (
            "backup --to backup.db", "restore backup.db --check", "export messages --to texts.csv",
            "export cases --to cases.xlsx", "cases template --to sheet.xlsx", "groups template --to members.xlsx",
            "groups import anc anc-members.csv --result result.xlsx", "audit --all --to audit.html",
            "audit --all --to audit.xlsx",
        ):  # fmt: skip
            jumbe.here(*command.split())
            assert opened(tmp_path, but=ours) == {}, command
        jumbe.kill("web")
        jumbe.kill("worker")
        jumbe.here("restore", "backup.db", "--yes")
        jumbe.start("web")
        assert opened(tmp_path, but=ours) == {}
        assert len(modes(tmp_path, but=ours)) >= 12
        assert _doctor(tmp_path)[0]


@pytest.mark.processes
@pytest.mark.parametrize("umask", [0o000], indirect=True)
def test_a_rehearsal_leaves_nothing_open_to_others(umask: int, tmp_path: Path) -> None:
    folder, port = tmp_path / "rehearsals" / "first", free_port()
    log = tmp_path / "demo.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bot", "demo", "--database", str(folder / "demo.db"), "--port", str(port)],
            env=bare_environment() | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path, stdout=out, stderr=out,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        until(
            lambda: process.poll() is not None or b"the phones are at" in log.read_bytes(), log.read_text, every_s=0.1
        )
        assert process.poll() is None, log.read_text()
        urllib.request.urlopen(f"http://127.0.0.1:{port}/phones/threads", timeout=HANG_S).read()
        assert {"demo.db", "demo.db-wal", "demo.db-shm", "demo.db-phones", "demo.db.worker-lock"} <= set(modes(folder))
        assert opened(tmp_path, but=("demo.log",)) == {}
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert opened(tmp_path, but=("demo.log",)) == {}


@pytest.mark.processes
@pytest.mark.parametrize("umask", [0o000], indirect=True)
def test_what_is_saved_in_the_lab_is_its_owners_alone(umask: int, tmp_path: Path) -> None:
    from tests.parts import library

    library("voila")
    from tests.desks import Browser, desk, with_password

    db = Database(f"sqlite:///{tmp_path}/jumbe.db")
    make(db)
    with_password(db, LEAD)
    db.close()
    (tmp_path / "notebooks").mkdir(mode=0o700)
    old = tmp_path / "notebooks" / "00_start_here.ipynb"
    old.write_bytes((ROOT / "admin_notebooks" / old.name).read_bytes())
    let_in(old)
    with desk(tmp_path, "--lab") as address:
        lead = Browser(address)
        lead.sign_in(LEAD)
        lead.get("/lab")
        status, _, said = lead.send("/api/contents", b'{"type": "notebook"}')
        assert status == 201, said
        found = modes(tmp_path / "notebooks")
        assert "Untitled.ipynb" in found and len(found) >= 8
        assert opened(tmp_path, but=("desk.log",)) == {}


# -- what was made before ----------------------------------------------------------------------------------------------

LEFT = ("", "-spool", "-spool-aside", "-spool-lock", "-phones", ".worker-lock", ".before-restore-20261101T010203Z")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A database as a release left it that knew nothing of this, with what lies beside it."""
    file = tmp_path / "jumbe.db"
    db = Database(f"sqlite:///{file}")
    make(db)
    db.close()
    for end in LEFT:
        path = file.with_name(file.name + end)
        path.touch()
        let_in(path)
    file.with_name("jumbe.db-spool").unlink()  # an empty one would be played, and taken away
    return file


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = bare_environment() | {"DATABASE_URL": f"sqlite:///{folder}/jumbe.db", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "bot", *words],
        env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize(
    "words",
    ["web", "worker", "run", "desk", "db upgrade", "demo --database jumbe.db", "cases list", "people list"],
)
def test_what_an_older_release_left_open_is_closed_at_the_next_start(older: Path, words: str) -> None:
    """Those that serve have no gateway here, and end with that: they have opened the database before they can say so."""
    if words.startswith("demo"):
        _demo_for_a_moment(older)
    else:
        assert _run(older.parent, *words.split()).returncode in (0, 2)
    assert opened(older.parent) == {}
    assert len(modes(older.parent)) >= len(LEFT) - 1


def _demo_for_a_moment(file: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "bot", "demo", "--database", str(file), "--port", str(free_port())],
        env=bare_environment() | {"PYTHONPATH": str(ROOT)}, cwd=file.parent, stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        try:
            # To its end: one that is stopped before it listens to signals would leave what it started behind.
            assert any("the phones are at" in line for line in process.stdout)
        finally:
            process.send_signal(signal.SIGTERM)
            ended(process)


def test_a_restore_closes_the_file_that_it_sets_aside(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/jumbe.db")
    make(db)
    backups.make(db, tmp_path / "backup.db")
    db.close()
    let_in(tmp_path / "jumbe.db")
    done = backups.restore(db, tmp_path / "backup.db", yes=True, by=CLI)
    assert done.kept is not None and opened(tmp_path) == {}


def test_only_our_own_names_are_touched_and_no_link_is_followed(older: Path) -> None:
    other, theirs = older.with_name("jumbe.db.notes.txt"), older.with_name("elsewhere")
    for path in (other, theirs):
        path.touch()
        let_in(path)
    older.with_name("jumbe.db-spool").symlink_to(theirs)
    private_files.tighten(private_files.of_programme(older))
    assert set(opened(older.parent)) == {other.name, theirs.name}


class Vanishing(type(Path())):  # type: ignore[misc]
    """A file that goes as soon as somebody has looked at it, as -wal does when the last process closes the database."""

    def lstat(self) -> os.stat_result:
        found = super().lstat()
        self.unlink()
        return found


def test_a_file_that_goes_while_it_is_looked_at_stops_no_command(tmp_path: Path) -> None:
    wal = Vanishing(tmp_path / "jumbe.db-wal")
    wal.touch()
    let_in(wal)
    private_files.tighten([wal])
    assert not modes(tmp_path)


def test_a_spool_elsewhere_is_closed_too_also_without_a_database_file(tmp_path: Path) -> None:
    spool = tmp_path / "kept"
    for end in ("", "-playing", "-aside", "-lock"):
        path = spool.with_name(spool.name + end)
        path.touch()
        let_in(path)
    private_files.tighten(private_files.of_programme(None, str(spool)))
    assert opened(tmp_path) == {} and len(modes(tmp_path)) == 4


# -- doctor ------------------------------------------------------------------------------------------------------------


def _doctor(folder: Path) -> tuple[bool, str]:
    """The line of `jumbe doctor` about the files."""
    env = bare_environment() | {"DATABASE_URL": f"sqlite:///{folder}/jumbe.db"}
    with mock.patch.dict(os.environ, env, clear=True), contextlib.redirect_stdout(io.StringIO()) as out:
        main(["doctor", "--json"])
    found = json.loads(out.getvalue())
    (line,) = [line for line in found if line["about"] == "files"]
    return line["well"], line["says"]


def test_doctor_names_each_open_file_and_a_command_that_closes_it(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces"
    private_files.folder(folder)
    db = Database(f"sqlite:///{folder}/jumbe.db")
    make(db)
    db.close()
    assert _doctor(folder) == (True, "the database and what lies beside it are their owner's alone")
    lock = folder / "jumbe.db.worker-lock"
    private_files.make(lock)
    let_in(folder / "jumbe.db")
    lock.chmod(0o660)
    well, says = _doctor(folder)
    assert not well
    assert "jumbe.db (0644, of " in says and "jumbe.db.worker-lock (0660, of " in says
    assert (folder / "jumbe.db").stat().st_mode & 0o077, "doctor looks, and changes nothing"
    command = re.search(r"'(chmod 600 .+)', and let", says)
    assert command is not None
    assert shlex.split(command[1])[2:] == [str(folder / "jumbe.db"), str(lock)]
    subprocess.run(["/bin/sh", "-c", command[1]], check=True)
    assert opened(folder) == {}
    assert _doctor(folder)[0]


def test_doctor_says_that_everybody_may_write_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    private_files.folder(folder)
    db = Database(f"sqlite:///{folder}/jumbe.db")
    make(db)
    db.close()
    folder.chmod(0o1777)
    well, says = _doctor(folder)
    assert not well and f"everybody may write in the folder {folder}" in says


@as_root
def test_a_process_of_another_user_is_told_whose_the_database_is(open_folder: Path) -> None:
    file = open_folder / "jumbe.db"
    db = Database(f"sqlite:///{file}")
    make(db)
    db.close()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            Database(f"sqlite:///{file}").check()
        except Misconfigured as fault:
            os.write(writing, "; ".join(fault.faults).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        says = told.read()
    os.waitpid(child, 0)
    assert "belongs to root alone and this process is " in says and "as one user, or use PostgreSQL" in says
