"""A desk that dies amid an upload has done all of it or nothing, and the same click again does it once."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest

from admin_notebooks import tables
from admin_notebooks.desk import Desk
from storage.contacts import cases, groups
from storage.contacts.cases import Wanted
from storage.schema import operations
from tests.pages import ROOT
from tests.patience import output, work
from tests.world import TEST

ROWS, KILLS = 1_500, 5

CLICK = """
import dataclasses, json, os, sys, time
from admin_notebooks.desk import Desk
from storage.database import Database

db = Database(os.environ["DATABASE_URL"])
sheet = "\\n".join(["case_identifier", *(f"k-{n}" for n in range(int(os.environ["ROWS"])))]).encode()
proposal = dataclasses.replace(Desk(db, None, "01_case_groups").upload("anc", "june.csv", sheet), mark=os.environ["MARK"])
print("looked", flush=True)
sys.stdin.readline()
began = time.monotonic()
done = dataclasses.asdict(proposal.confirm())
print(json.dumps({**done, "took_s": time.monotonic() - began}), flush=True)
"""


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ("sqlite", "postgresql"))


@pytest.fixture
def clicked(address):
    """Somebody clicks in a kernel of their own that dies after so many seconds, or lives; returns its result, or None."""

    def click(mark, dies_after_s=None):
        env = os.environ | {"DATABASE_URL": address, "ROWS": str(ROWS), "MARK": mark, "PYTHONPATH": str(ROOT)}
        kernel = subprocess.Popen(
            [sys.executable, "-c", CLICK], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert kernel.stdout.readline() == "looked\n"
            kernel.stdin.write("\n")
            kernel.stdin.flush()
            if dies_after_s is not None:
                work(dies_after_s)
                kernel.send_signal(signal.SIGKILL)
            out = output(kernel)
        finally:
            kernel.kill()
            kernel.wait()
        return json.loads(out) if out else None

    return click


@pytest.mark.processes
def test_an_upload_whose_desk_is_killed_is_done_once_or_not_at_all(db, world, clicked):
    wanted = [Wanted(None, {"external_id": f"k-{n}", "contact_phone_number": f"23324{n:07}"}) for n in range(ROWS)]
    with db.transaction() as tx:
        cases.save(tx, wanted, by=TEST)
    anc = world.group("anc")
    desk, dice = Desk(db, None, "01_case_groups"), random.Random(7)
    whole = clicked("desk:whole")
    assert whole["says"].startswith(f"{ROWS:,} cases added")
    desk.undo(whole["number"])
    died = amid = 0
    for n in range(KILLS):
        mark = f"desk:kill{n}"
        # The first surely comes in time, whatever else this machine does.
        result = clicked(mark, dies_after_s=dice.uniform(0, whole["took_s"]) if n else 0)
        with db.reading() as tx:
            many = groups.count_members(tx, anc)
        assert many in (0, ROWS), "never half of it"
        died += result is None
        amid += many == 0
        outcome = desk.outcome(mark)
        assert (outcome is None) is (many == 0), "what the page is told is what happened"

        again = clicked(mark)

        history = tables.list_history(desk, "anc")
        assert (history[0]["did"], history[0]["cases"], history[0]["number"]) == ("add", ROWS, again["number"])
        assert outcome is None or outcome.number == again["number"]
        with db.reading() as tx:
            assert groups.count_members(tx, anc) == ROWS
            assert len(tx.execute(operations.select().where(operations.c.words == mark)).all()) == 1
        desk.undo(again["number"])
    assert died >= 1 and amid >= 1, "no kill came in time: nothing was tried"
