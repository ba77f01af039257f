"""The rooms of the tests: `ROOM=storage/messages python -m tests.rooms` prints the folder that `make test` runs.

The tests of a room of the product stand in a folder of the same name; `storage` alone is the room with all rooms in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent


def rooms() -> list[str]:
    """Every folder in which tests stand, as it is named from the root of the project."""
    with_tests = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")} - {Path()}
    return sorted({str(room) for folder in with_tests for room in (folder, *folder.parents[:-1])})


def folder_of(room: str) -> str:
    """Where the tests of a room are; a ValueError with a sentence where there are none."""
    name = room.strip().strip("/").removeprefix("tests/")
    if name not in rooms():
        raise ValueError(f"No tests stand in a room called {room!r}. The rooms: {', '.join(rooms())}.")
    return f"tests/{name}"


if __name__ == "__main__":
    try:
        print(folder_of(os.environ["ROOM"]))
    except ValueError as problem:
        sys.exit(str(problem))
