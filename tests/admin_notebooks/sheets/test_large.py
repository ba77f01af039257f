"""What a large sheet costs: memory by the row, of this process and of the one that reads."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from admin_notebooks.sheets import xlsx_writer
from tests.benchmarks.ground import Programme, phone_of

FEW, MANY = 30_000, 90_000

UPLOAD = """
import json, os, sys, threading

def held(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as told:
            own = next(int(line.split()[1]) for line in told if line.startswith("Pss:"))
        with open(f"/proc/{pid}/task/{pid}/children") as told:
            return own + sum(map(held, told.read().split()))
    except OSError:
        return 0

from storage.database import Database
from admin_notebooks import deeds
from admin_notebooks.sheets import reader, writer
from storage.contacts import groups
from storage.sheets import members
from tests.benchmarks.ground import BY, RULES

path, address, result = sys.argv[1:]
db = Database(address, RULES)
with db.transaction() as tx:
    group = groups.create(tx, "fresh", None, by=BY).id
writer.write_result(result, reader.typed("warm", "case_identifier"), [])
before = peak = held(os.getpid())
over = threading.Event()

def watch():
    global peak
    while not over.wait(0.02):
        peak = max(peak, held(os.getpid()))

watching = threading.Thread(target=watch)
watching.start()
sheet = reader.read(path, wanted=("case_identifier",))
read = members.read_members(sheet.rows, RULES)
with db.reading() as tx:
    plan = members.plan_members(tx, group, read)
with db.transaction() as tx:
    members.apply_members(tx, group, read, planned=plan, by=BY)
writer.write_result(result, sheet, deeds.told_of(plan))
over.set()
watching.join()
print(json.dumps({"counts": plan.counts, "kilobytes": peak - before}))
"""


def spent(folder: Path, programme: Programme, typed: list[str]) -> int:
    """Bytes that a sheet of these identifiers takes at the worst moment from its reading to its result."""
    folder.mkdir()
    lines = enumerate(([one] for one in typed), start=2)
    with (sheet := folder / "members.xlsx").open("wb") as file:
        xlsx_writer.write(file, [xlsx_writer.Table("members", ["case_identifier"], lines)])
    with closing(programme.copy(folder.name)) as db:
        address = db.url.render_as_string()
    command = [sys.executable, "-c", UPLOAD, str(sheet), address, str(folder / "result.xlsx")]
    env = {**os.environ, "PYTHONPATH": str(Path(xlsx_writer.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["counts"] == {"not_found": len(typed) // 100, "add": len(typed) - len(typed) // 100}
    return int(told["kilobytes"]) * 1024


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux says here what a process holds")
@pytest.mark.processes
def test_a_row_of_a_sheet_costs_little_memory_from_reading_to_the_result(tmp_path: Path) -> None:
    """Parent and child together: 2,800 bytes for each further row it was when everything was an object."""
    programme, dice = Programme(tmp_path, MANY, random.Random(1)), random.Random(2)
    typed = [dice.choice((phone_of(n), f"p-{n}", f"j-{n}")) if n % 100 else f"nobody-{n}" for n in range(MANY)]
    few, many = (spent(tmp_path / f"rows-{rows}", programme, typed[:rows]) for rows in (FEW, MANY))
    assert few < 100 * 2**20
    assert (many - few) / (MANY - FEW) < 400, "a million rows fit into 700 MB"
