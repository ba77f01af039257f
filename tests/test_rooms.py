"""`make test ROOM=storage/messages` runs the tests of one room, and a room that is not there is said to be none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from tests.rooms import TESTS, folder_of, rooms

ROOT = TESTS.parent
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")


def made(**variables: str) -> subprocess.CompletedProcess[str]:
    """`make test` with these variables, which only lists what it would run; nothing is installed."""
    given = {"BIN": str(Path(sys.executable).parent), "AT_ONCE": "0"} | variables
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTEST", "ROOM"))}
    return subprocess.run(
        ["make", "--assume-old=.venv/installed-dev", "test", *(f"{name}={value}" for name, value in given.items())],
        cwd=ROOT, env=env | {"PYTEST_ADDOPTS": "--collect-only -p no:cacheprovider"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@needs_make
@pytest.mark.parametrize("room", ["storage/operations", "bot/inbound"])
def test_a_room_runs_its_own_tests_and_no_others(room: str) -> None:
    done = made(ROOM=room)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("tests/")}
    assert files == {str(file.relative_to(ROOT)) for file in (TESTS / room).glob("test_*.py")}


@needs_make
@pytest.mark.parametrize("room", ["storage/mesages", "storage/migrations", "storage/../bot", "no such"])
def test_a_room_without_tests_is_an_error_that_names_the_rooms(room: str) -> None:
    done = made(ROOM=room)
    assert done.returncode != 0
    sentence, *_ = done.stderr.splitlines()
    assert sentence.startswith(f"No tests stand in a room called '{room}'. The rooms: admin_notebooks, ")
    assert all(f" {each}," in sentence for each in ("bot/commands", "storage/messages", "storage/rules"))
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[1:] == [], "nothing ran"


@pytest.mark.parametrize(
    "typed", ["storage/messages", "storage/messages/", "tests/storage/messages", " storage/messages"]
)
def test_a_room_is_found_however_it_is_typed(typed: str) -> None:
    assert folder_of(typed) == "tests/storage/messages"


def test_the_files_that_come_first_are_there() -> None:
    assert [file for file in LONGEST if not (TESTS / file).exists()] == []


def test_the_rooms_of_the_tests_are_the_rooms_of_the_product() -> None:
    for room in rooms():
        assert (ROOT / room).is_dir(), f"tests/{room} tries no room of the product"
