"""A backup or a restore that is killed leaves what was there, or the whole of what was to come; a few kills of each.

`tests.proof.backups` does the same as often as there is time for.
"""

from __future__ import annotations

import math
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from tests.postgres import Postgres
from tests.proof.backups import BACKUP, DUMP, RESTORE, kill_backups, kill_restores
from tests.proof.scenes import Moody, Programme
from tests.storage.upkeep.pg_tools import fits, tools

pytestmark = pytest.mark.processes


@pytest.fixture
def dice() -> random.Random:
    return random.Random(11)


def test_a_backup_killed_anywhere_leaves_the_one_before_or_a_whole_new_one_and_the_programme_goes_on(
    tmp_path: Path, dice: random.Random
) -> None:
    with Moody(dice) as stub, Programme(tmp_path, stub, dice) as jumbe:
        jumbe.gather(20)
        found = kill_backups(jumbe, times=len(BACKUP) + 1, within_s=math.inf)
        assert (found.torn, found.left, found.stopped) == (0, 0, 0)
        assert found.killed >= len(BACKUP)
        assert jumbe.settle().breaches == {}


def test_a_dump_killed_anywhere_leaves_the_one_before_or_a_whole_new_one(
    tmp_path: Path, dice: random.Random, postgres: Postgres
) -> None:
    with postgres.database() as address:
        db = Database(address)
        tool = next((tool for tool in tools() if fits(db, tool)), None)
        db.close()
        if tool is None:
            pytest.skip("no pg_dump here is as new as the server")
        told: dict[str, Any] = {
            "DATABASE_URL": address, "JUMBE_SPOOL": str(tmp_path / "spool"),
            "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        with Moody(dice) as stub, Programme(tmp_path, stub, dice, **told) as jumbe:
            assert shutil.which("pg_dump", path=jumbe.env["PATH"]) == str(tool)
            jumbe.gather(20)
            found = kill_backups(jumbe, times=len(DUMP) + 1, within_s=math.inf)
            assert (found.torn, found.left, found.stopped) == (0, 0, 0)
            assert found.killed >= len(DUMP)
            assert jumbe.settle().breaches == {}


def test_a_restore_killed_anywhere_leaves_the_old_database_or_the_backup_behind_its_fence(
    tmp_path: Path, dice: random.Random
) -> None:
    with Moody(dice) as stub, Programme(tmp_path, stub, dice) as jumbe:
        jumbe.gather(20)
        found = kill_restores(jumbe, times=len(RESTORE) + 1, within_s=math.inf)
        assert (found.half, found.unfenced, found.left) == (0, 0, 0)
        assert found.killed >= len(RESTORE)
        assert found.there >= 1, "none died after the backup was in its place"
