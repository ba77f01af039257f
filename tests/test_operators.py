"""Hostile and clumsy operators: whatever is typed, and whatever stands where a file should, is one clear sentence and exit 2.

Nothing is half written by it, no file of another program is changed, and nothing is left beside it.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import schema
from storage.database import Database
from storage.upkeep import migrate
from tests.patience import HANG_S
from tests.processes import ACCOUNT, ROOT, TOKEN, Jumbe, SlowTwilio, until

NOBODY = 65534
HUGE = "1" * 40
LONG = "x" * 5000


@pytest.fixture(scope="module")
def jumbe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jumbe]:
    """One programme with one group and one case, which no mistake may change."""
    folder = tmp_path_factory.mktemp("operators")
    with SlowTwilio(ACCOUNT, TOKEN) as stub, contextlib.closing(Database(f"sqlite:///{folder}/jumbe.db")) as db:
        migrate.upgrade(db)
        made = Jumbe(folder, stub)
        made.fill("anc", ["233244000101"])
        yield made


def everything(jumbe: Jumbe) -> dict[str, list[str]]:
    with jumbe.database() as db, db.reading() as tx:
        return {
            table.name: [repr(row) for row in tx.execute(table.select())] for table in schema.metadata.sorted_tables
        }


def lying_in(folder: Path) -> set[str]:
    """What is there, but for what the database and the lock of its worker are."""
    return {one.name for one in folder.iterdir() if not one.name.endswith(("-wal", "-shm", ".worker-lock"))}


# -- words -------------------------------------------------------------------------------------------------------------

WORDS = [
    "cases show {}", "groups create a-{}", "groups members {}", "groups delete {} --yes", "groups members anc --as-of {}",
    "broadcasts show {}", "broadcasts halt {}", "broadcasts launch --group {} --text hello --yes", "messages list --state {}",
    "messages explain {}", "people add --name A --phone {} --role lead", "people add --name A --phone 233244000102 --role {}",
    "people change {}", "people remove {}", "gateways resume {}", "route --case {}", "db upgrade {}", "db downgrade {} --yes",
    "audit verify --head {}", "audit list --limit {}", "messages list --limit {}", "export {} --to x.csv", "web --port {}",
    "desk password {} --forget", "demo --port {}", "prove --minutes {}", "prove --seed {}x", "{}", "groups {}",
]  # fmt: skip


@pytest.mark.parametrize(
    "typed", ["nonsense", HUGE, LONG, "\udcff", "NaN", "'; DROP TABLE cases; --", "\u202egpj", "-1"]
)
def test_no_word_that_is_typed_is_more_than_a_mistake(jumbe: Jumbe, typed: str) -> None:
    before = everything(jumbe), lying_in(jumbe.folder)
    for command in WORDS:
        if typed == HUGE and ("--as-of" in command or "--head" in command):
            continue  # digits can be a moment, and a head
        (said,) = jumbe.mistake(*(word.format(typed) for word in command.split()))
        assert said.startswith("jumbe: "), command
        assert said.isprintable(), command
    assert (everything(jumbe), lying_in(jumbe.folder)) == before


def test_words_with_bytes_that_are_no_letters_are_said_to_be_so(jumbe: Jumbe) -> None:
    for command in ("messages list --to {}", "broadcasts launch --group anc --text {} --yes"):
        assert "no letters" in jumbe.mistake(*(word.format("\udcff") for word in command.split()))[0]


# -- files -------------------------------------------------------------------------------------------------------------

READING = [
    "cases import {}", "groups import anc {}", "restore {}", "restore {} --check", "restore {} --yes",
]  # fmt: skip
WRITING = [
    "backup --to {}", "export cases --to {}", "export audit --to {}", "cases import good.csv --plan --result {}",
    "groups import anc good.csv --plan --result {}", "demo --database {}",
]  # fmt: skip


@pytest.fixture
def room(jumbe: Jumbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text("case_identifier,external_id\nnew-1,new-1\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bytes.csv").write_bytes(b"\x00\x01\x02\xff")
    (tmp_path / "torn.xlsx").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["missing.csv", "folder.csv", "empty.csv", "bytes.csv", "torn.xlsx", "loop.csv", "", ".", "good.csv/x.csv", LONG, "no/x.csv"]
)  # fmt: skip
def test_what_is_no_sheet_and_no_backup_is_said_and_changes_nothing(jumbe: Jumbe, room: Path, name: str) -> None:
    before = everything(jumbe), lying_in(jumbe.folder), lying_in(room)
    for command in READING:
        (said,) = jumbe.mistake(*(word.format(name) for word in command.split(" ")))
        assert said.startswith("jumbe: "), command
    assert (everything(jumbe), lying_in(jumbe.folder), lying_in(room)) == before


@pytest.mark.parametrize(
    "name", ["folder.csv", "loop.csv", "", ".", "good.csv/x.csv", f"{LONG}.csv", "no/x.csv", "pipe.csv"]
)
def test_where_nothing_can_be_written_nothing_is(jumbe: Jumbe, room: Path, name: str) -> None:
    os.mkfifo(room / "pipe.csv")  # a device would be as bad, and is shared with others: nothing may come in its place
    before = everything(jumbe), lying_in(jumbe.folder), lying_in(room)
    for command in WRITING:
        if command.startswith("demo") and name in ("no/x.csv", ""):
            continue  # makes the folder; and the blank is the folder itself, which it names
        (said,) = jumbe.mistake(*(word.format(name) for word in command.split(" ")))
        assert said.startswith("jumbe: "), command
    assert (everything(jumbe), lying_in(jumbe.folder), lying_in(room)) == before
    assert (room / "pipe.csv").is_fifo()


@contextlib.contextmanager
def powerless() -> Iterator[None]:
    """Without the power of root over files, where the tests have it."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_or_written_is_said(jumbe: Jumbe, room: Path) -> None:
    for above in (room, *room.parents[:3], jumbe.folder, *jumbe.folder.parents[:2]):
        if above.stat().st_uid == os.geteuid():
            above.chmod(0o755)
    (room / "secret.csv").write_text("external_id\nnew-1\n")
    (room / "secret.csv").chmod(0)
    room.chmod(0o555)
    closed = room / "closed.db"
    shutil.copy(jumbe.file, closed) if os.geteuid() == 0 else None
    try:
        with powerless():
            for command in (
                "cases import secret.csv",
                "groups import anc secret.csv",
                "export cases --to new.csv",
                "backup --to new.db",
            ):
                told = {"DATABASE_URL": f"sqlite:///{jumbe.file}"}
                (said,) = jumbe.mistake(*command.split(), **told)
                assert said.startswith("jumbe: "), command
    finally:
        room.chmod(0o755)
    assert not (room / "new.csv").exists()


@contextlib.contextmanager
def full(at_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes, as on a disk that is full there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


@pytest.mark.parametrize(
    "command", ["backup --to there.csv", "export audit --to there.csv", "export audit --to there.xlsx"]
)
def test_a_disk_that_is_full_leaves_what_was_there_and_nothing_beside_it(
    jumbe: Jumbe, room: Path, command: str
) -> None:
    there = room / command.rsplit(maxsplit=1)[-1]
    there.write_text("what was there")
    before = lying_in(room)
    with full(100):
        (said,) = jumbe.mistake(*command.split())
    assert said.startswith("jumbe: ")
    assert there.read_text() == "what was there"
    assert lying_in(room) == before


# -- databases ---------------------------------------------------------------------------------------------------------

COMMANDS = [
    "people list", "cases list", "groups create tb", "backup --to {}/b.db", "export cases --to {}/o.csv", "db downgrade 0004 --yes",
    "audit verify", "restore --fence", "worker", "web", "run", "broadcasts launch --group anc --text hello --yes",
]  # fmt: skip


def _foreign(file: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as other:
        for statement in statements:
            other.execute(statement)
        other.commit()


MADE = {
    "another program's": lambda file: _foreign(file, "CREATE TABLE users (id INTEGER)", "CREATE TABLE people (id INTEGER)"),
    "another program's, by Alembic": lambda file: _foreign(
        file, "CREATE TABLE alembic_version (version_num TEXT)", "INSERT INTO alembic_version VALUES ('ab12cd')"),
    "another program's, with our number": lambda file: _foreign(
        file, "CREATE TABLE alembic_version (version_num TEXT)", f"INSERT INTO alembic_version VALUES ('{schema.REVISION}')"),
    "words": lambda file: file.write_text("no database at all\n" * 100),
    "a folder": lambda file: file.mkdir(),
    "a link to itself": lambda file: file.symlink_to(file.name),
}  # fmt: skip


@pytest.mark.parametrize("what", MADE)
def test_a_database_that_is_not_ours_is_refused_and_stays_as_it_is(jumbe: Jumbe, tmp_path: Path, what: str) -> None:
    file = tmp_path / "named.db"
    MADE[what](file)
    before = file.read_bytes() if file.is_file() else None
    for command in (*COMMANDS, "db upgrade"):
        (said,) = jumbe.mistake(*command.format(tmp_path).split(), DATABASE_URL=f"sqlite:///{file}")
        assert re.search("another program|cannot be read|there is no database", said), (command, said)
        assert lying_in(tmp_path) == {"named.db"}, command
    assert before == (file.read_bytes() if file.is_file() else None)


@pytest.mark.parametrize("revision", ["0003", "9999", None])
def test_a_database_of_another_release_says_which_step_is_next(
    jumbe: Jumbe, tmp_path: Path, revision: str | None
) -> None:
    file = tmp_path / "named.db"
    with contextlib.closing(Database(f"sqlite:///{file}")) as db:
        migrate.upgrade(db, schema.REVISION if revision is None else "0003")
        if revision == "9999":
            with db.transaction() as tx:
                tx.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    says = "use that one" if revision == "9999" else "run 'jumbe db upgrade'"
    for command in COMMANDS:
        if not command.startswith("db"):
            (said,) = jumbe.mistake(*command.format(tmp_path).split(), DATABASE_URL=f"sqlite:///{file}")
            assert says in said, (command, said)


@pytest.mark.parametrize(
    "address",
    ["postgresql://u:hidden-word@h:abc/x", "sqlite:///:memory:", "sqlite:///" + LONG, "postgresql://u:hidden-word@127.0.0.1:1/x?no=1"],
)  # fmt: skip
def test_an_address_that_cannot_be_one_is_said_and_shows_no_password(jumbe: Jumbe, address: str) -> None:
    for command in ("people list", "db upgrade", "db current"):
        (said,) = jumbe.mistake(*command.split(), DATABASE_URL=address)
        assert "hidden-word" not in said


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_who_reads_no_further_hears_of_it_in_no_traceback(jumbe: Jumbe) -> None:
    for command in ("messages list --json", "settings", "settings --json", "cases list", "--help", "doctor"):
        process = subprocess.Popen(
            [sys.executable, "-m", "bot", *command.split()],
            env=jumbe.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate(timeout=HANG_S)
        assert said == b"", command
        assert process.returncode in (0, 1), command


@pytest.mark.processes
def test_ctrl_c_in_a_backup_says_that_nothing_was_done_and_leaves_nothing(jumbe: Jumbe, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bot", "backup", "--to", str(tmp_path / "b.db")],
        env=jumbe.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until(lambda: any(tmp_path.glob(".jumbe-*/copy.db")) or process.poll() is not None, "it copies", every_s=0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=HANG_S)
    assert b"Traceback" not in said
    assert lying_in(tmp_path) <= {"b.db"}
    if process.returncode == 2:
        assert said.split(b"\n", 1)[1] == b"jumbe: stopped; nothing further was done\n"  # under the ^C of the terminal
        assert lying_in(tmp_path) == set()
