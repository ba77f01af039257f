"""The audit of the memberships, on SQLite: every check with its count.

The floor is the same counts in SQL written by hand for these tables, the peer loads both tables into pandas and counts
some of them there.  CPU time counts; and what the audit adds to the memory of a process is measured in one of its own.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pandas as pd
from sqlalchemy import text

from admin_notebooks import checks
from admin_notebooks.desk import Desk
from storage.database import Database
from tests.benchmarks.ground import RULES, Programme
from tests.benchmarks.measuring import Comparison, Rounds, in_turn, spending

GROUPS: Final = 20
MIXED: Final = (
    "UPDATE cases SET status = 'closed', two_way = 0, claimed_at = NULL WHERE id % 50 = 3",
    "UPDATE cases SET contact_phone_number_is_verified = 0, two_way = 0, claimed_at = NULL WHERE id % 70 = 5",
    "UPDATE cases SET contact_phone_number = (SELECT o.contact_phone_number FROM cases o WHERE o.id = cases.id - 1),"
    " two_way = 0 WHERE id % 90 = 11",
    "UPDATE cases SET contact_phone_number = NULL, two_way = 0, claimed_at = NULL WHERE id % 300 = 17",
    "UPDATE cases SET phone_key = contact_phone_number WHERE id % 90 = 11 OR id % 300 = 17",
    "UPDATE cases SET contact_backend_id = 'gone' WHERE id % 1000 = 29",
    "INSERT INTO groups (short, name, created_at) SELECT 'ward' || id, 'Ward ' || id, created_at FROM cases"
    f" WHERE id <= {GROUPS}",
    "INSERT INTO memberships (group_id, case_id, added_at, added_entry) SELECT g.id, c.id, c.created_at, 1 FROM cases c"
    f" JOIN groups g ON g.short = 'ward' || (c.id % {GROUPS - 1} + 1)",
)

OUT: Final = "FROM messages m WHERE m.case_id = c.id AND m.direction = 'out'"
OPEN: Final = "c.status = 'open'"
REACHABLE: Final = f"{OPEN} AND c.contact_phone_number IS NOT NULL"
BY_HAND: Final = {
    "stopped": f"{REACHABLE} AND (SELECT kind FROM consent_events e WHERE e.phone = c.contact_phone_number"
    " ORDER BY e.id DESC LIMIT 1) IN ('stop', 'doubt')",
    "shared_number": f"{REACHABLE} AND EXISTS (SELECT 1 FROM cases o WHERE o.contact_phone_number = c.contact_phone_number"
    " AND o.status = 'open' AND o.id <> c.id)",
    "waiting_for_number": "c.claimed_at IS NOT NULL AND NOT c.two_way AND EXISTS (SELECT 1 FROM cases o"
    " WHERE o.contact_phone_number = c.contact_phone_number AND o.two_way)",
    "unreachable": f"{OPEN} AND (SELECT state {OUT} AND state IN ('delivered', 'sent', 'undelivered', 'refused')"
    " ORDER BY m.id DESC LIMIT 1) IN ('undelivered', 'refused')",
    "never_reached": f"{OPEN} AND EXISTS (SELECT 1 {OUT} AND handed_over_at IS NOT NULL)"
    f" AND NOT EXISTS (SELECT 1 {OUT} AND state IN ('delivered', 'sent'))",
    "unknown_gateway": f"{REACHABLE} AND coalesce(nullif(c.contact_backend_id, ''), 'twilio') <> 'twilio'",
    "no_number": f"{OPEN} AND c.contact_phone_number IS NULL",
    "doubtful_number": f"{OPEN} AND c.number_warning IS NOT NULL",
    "closed": "c.status <> 'open'",
    "unverified": f"{REACHABLE} AND NOT c.contact_phone_number_is_verified",
    "never_texted": f"{REACHABLE} AND NOT EXISTS (SELECT 1 {OUT} AND handed_over_at IS NOT NULL)",
}
MEMBERS: Final = "c.id IN (SELECT case_id FROM memberships WHERE removed_at IS NULL)"

ADDED: Final = """
import sys
from pathlib import Path
from admin_notebooks import checks
from admin_notebooks.desk import Desk
from storage.database import Database
from tests.benchmarks.ground import RULES

def held(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))

desk = Desk(Database(sys.argv[1], RULES))
checks.findings(desk, "ward1")
before = held("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
checks.findings(desk)
print((held("VmHWM") - before) / 1024)
"""


def compare(folder: Path, dice: random.Random, *, rounds: int, members: int) -> list[Comparison]:
    """The rows of an audit over so many cases, each in two groups."""
    programme = Programme(folder, members // 2, dice)
    with closing(Database(f"sqlite:///{programme.file}", RULES)) as db, db.transaction() as tx:
        for statement in MIXED:
            tx.execute(text(statement))
    with closing(programme.copy("audited")) as db:
        found = in_turn(rounds, dice, _works(db, members))
        added = _added(db.url.render_as_string(), rounds)
    what, unit = f"auditing {members:,} memberships", "us of CPU a membership"
    rows = [
        Comparison(what, unit, found["ours"], "SQL by hand", found["floor"], at_most=1.2),
        Comparison(what, unit, found["ours"], "pandas, loading and six checks", found["pandas"]),
    ]
    if added is not None:
        rows.append(Comparison(f"{what}: memory", "MiB added", added, at_most=50))
    return rows


def _works(db: Database, members: int) -> dict[str, object]:
    counts: dict[str, int] = {}

    def ours(seen: Rounds) -> None:
        with spending() as spent:
            found = checks.findings(Desk(db))
        counts.update({one.key: one.count for one in found})
        seen.note("ours", spent.cpu_s / members * 1e6)

    def floor(seen: Rounds) -> None:
        with spending() as spent, db.reading() as tx:
            told = {
                key: tx.scalar(text(f"SELECT count(*) FROM cases c WHERE {check} AND {MEMBERS}"))
                for key, check in BY_HAND.items()
            }
        assert told == {key: counts[key] for key in BY_HAND}, "both count the same"
        seen.note("floor", spent.cpu_s / members * 1e6)

    def pandas(seen: Rounds) -> None:
        with spending() as spent, db.reading() as tx:
            told = _by_pandas(tx.connection)
        assert told == {key: counts[key] for key in told}, "and so does pandas"
        seen.note("pandas", spent.cpu_s / members * 1e6)

    return {"ours": ours, "floor": floor, "pandas": pandas}


def _by_pandas(connection: object) -> dict[str, int]:
    inside = pd.read_sql(text("SELECT case_id FROM memberships WHERE removed_at IS NULL"), connection)
    cases = pd.read_sql(
        text(
            "SELECT id, status, contact_phone_number AS phone, contact_phone_number_is_verified AS verified,"
            " number_warning, contact_backend_id AS gateway FROM cases"
        ),
        connection,
    )
    stopped = pd.read_sql(text("SELECT phone, kind, id FROM consent_events ORDER BY id"), connection)
    is_open = cases["status"] == "open"
    twice = cases[is_open & cases["phone"].notna()]["phone"].value_counts()
    last = stopped.drop_duplicates("phone", keep="last")
    held = last[last["kind"].isin(["stop", "doubt"])]["phone"]
    members = cases[cases["id"].isin(inside["case_id"].unique())]
    live = members[members["status"] == "open"]
    textable = live[live["phone"].notna()]
    return {
        "stopped": int(textable["phone"].isin(held).sum()),
        "shared_number": int(textable["phone"].isin(twice[twice > 1].index).sum()),
        "unknown_gateway": int((textable["gateway"].fillna("twilio") != "twilio").sum()),
        "no_number": int(live["phone"].isna().sum()),
        "closed": int((members["status"] != "open").sum()),
        "unverified": int((textable["verified"] == 0).sum()),
    }


def _added(address: str, rounds: int) -> float | None:
    """MiB that a process holds at most while it audits, beyond what it held before; None where nobody says so."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    env = {**os.environ, "PYTHONPATH": str(Path(checks.__file__).parents[1])}
    seen = Rounds()
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", ADDED, address], capture_output=True, text=True, check=True, env=env
        )
        seen.note("added", float(done.stdout))
    return seen["added"]
