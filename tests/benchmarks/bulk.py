"""Inserting cases and resolving identifiers, on SQLite, in one process: its CPU time counts.

The floor of an insert is the driver's `executemany` with rows that are ready as they stand; the peer is SQLAlchemy with the
same rows as dictionaries.  The floor of resolving is a temporary table joined once, by hand, with the same columns of the same
cases; the peer asks for five hundred at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, insert, or_, select

from storage.bulk import insert_many, insert_ready, ready_rows
from storage.contacts import cases, lookup
from storage.contacts.cases import Wanted
from storage.database import Database, Transaction
from storage.rules import identifiers
from storage.rules.identifiers import Identifier
from storage.schema import cases as cases_table
from storage.upkeep import migrate
from tests.benchmarks.ground import BY, RULES, Programme, case_row, phone_of
from tests.benchmarks.measuring import Comparison, Rounds, in_turn, spending

CHUNK: Final = 500
WANTED: Final = "CREATE TEMPORARY TABLE by_hand (n INTEGER PRIMARY KEY, key TEXT NOT NULL, phone TEXT)"
JOINED: Final = """
SELECT w.n, {columns} FROM by_hand w JOIN cases ON cases.contact_phone_number = w.phone
UNION ALL SELECT w.n, {columns} FROM by_hand w JOIN cases ON cases.external_id_key = w.key
UNION ALL SELECT w.n, {columns} FROM by_hand w JOIN cases ON cases.case_id_key = w.key
"""


def compare(folder: Path, dice: random.Random, *, rounds: int, many: int) -> list[Comparison]:
    """The rows of inserting and of resolving so many."""
    programme = Programme(folder, many, dice)
    return [*_inserting(programme, dice, rounds, many), *_resolving(programme, dice, rounds, many)]


def on_postgresql(address: str, dice: random.Random, *, rounds: int, many: int) -> list[Comparison]:
    """The row of inserting beside COPY; two processes work, so the clock counts."""
    now = datetime(2026, 1, 5, tzinfo=UTC)
    new = [case_row(n, now, dice) for n in range(many)]
    with closing(Database(address, RULES)) as db:
        migrate.upgrade(db)

        def ours(tx: Transaction) -> None:
            insert_many(tx, cases_table, new)

        def floor(tx: Transaction) -> None:
            ready = [{**row, "properties": "{}"} for row in new]
            driver: Any = tx.connection.connection.driver_connection
            with driver.cursor() as cursor, cursor.copy(f"COPY cases ({', '.join(new[0])}) FROM STDIN") as copy:
                for row in ready:
                    copy.write_row(tuple(row.values()))

        def by(write: Callable[[Transaction], None], name: str) -> Callable[[Rounds], None]:
            def work(seen: Rounds) -> None:
                with db.transaction() as tx:
                    with spending() as spent:
                        write(tx)
                    assert tx.scalar(select(func.count()).select_from(cases_table)) == many
                    tx.execute(cases_table.delete())
                seen.note(name, many / spent.clock_s)

            return work

        found = in_turn(rounds, dice, {"ours": by(ours, "ours"), "floor": by(floor, "floor")})
    what = f"inserting {many:,} cases, PostgreSQL"
    return [Comparison(what, "cases per s", found["ours"], "COPY", found["floor"], at_least=0.8)]


def resolved_by_hand(tx: Transaction, asked: Sequence[Identifier], columns: str) -> list[Any]:
    """For each identifier that fits a case its place and these columns, by one temporary table and by hand."""
    driver: Any = tx.connection.connection.dbapi_connection
    driver.execute(WANTED)
    driver.executemany("INSERT INTO by_hand VALUES (?, ?, ?)", [(n, i.key, i.phone) for n, i in enumerate(asked)])
    return list(driver.execute(JOINED.format(columns=columns)).fetchall())


def _inserting(programme: Programme, dice: random.Random, rounds: int, many: int) -> list[Comparison]:
    now = datetime(2026, 1, 5, tzinfo=UTC)
    new = [case_row(n, now, dice) for n in range(many, 2 * many)]
    chosen = (
        "external_id", "name", "contact_phone_number", "contact_phone_number_is_verified", "time_zone", "language_code",
    )  # fmt: skip
    wanted = [Wanted(None, {name: row[name] for name in chosen}) for row in new]

    def by(write: Callable[[Transaction], object], name: str) -> Callable[[Rounds], None]:
        def work(seen: Rounds) -> None:
            with closing(programme.copy(name)) as db:
                with spending() as spent, db.transaction() as tx:
                    write(tx)
                with db.reading() as tx:
                    assert tx.scalar(select(func.count()).select_from(cases_table)) == 2 * many
            seen.note(name, many / spent.cpu_s)

        return work

    def floor(seen: Rounds) -> None:
        with closing(programme.copy("floor")) as db:
            with db.transaction() as tx:
                ready = ready_rows(tx, cases_table, new)
            with spending() as spent, db.transaction() as tx:
                insert_ready(tx, ready)
        seen.note("floor", many / spent.cpu_s)

    found = in_turn(
        rounds, dice,
        {
            "rows": by(lambda tx: insert_many(tx, cases_table, new), "rows"),
            "saved": by(lambda tx: cases.save(tx, wanted, by=BY), "saved"),
            "core": by(lambda tx: tx.execute(insert(cases_table), new), "core"),
            "floor": floor,
        },
        warm=False,
    )  # fmt: skip
    what, whole, unit = f"inserting {many:,} cases", "the same with owners and audit", "cases per s of CPU"
    return [
        Comparison(what, unit, found["rows"], "raw executemany", found["floor"], at_least=0.75),
        Comparison(what, unit, found["rows"], "Core with dictionaries", found["core"]),
        Comparison(whole, unit, found["saved"], "raw executemany", found["floor"]),
    ]


def _resolving(programme: Programme, dice: random.Random, rounds: int, many: int) -> list[Comparison]:
    typed = [dice.choice((phone_of(n), f"p-{n}", f"j-{n}")) if n % 100 else f"nobody-{n}" for n in range(many)]
    asked = [identifiers.read(one, country="KE") for one in dice.sample(typed, many)]

    told = ("id", "case_id", "status", "contact_phone_number", "number_warning")
    columns = [cases_table.c[name] for name in told]

    def ours(tx: Transaction) -> int:
        return sum(len(fitting) for fitting in lookup.find(tx, asked, columns))

    def by_hand(tx: Transaction) -> int:
        return len(resolved_by_hand(tx, asked, ", ".join(f"cases.{name}" for name in told)))

    def in_chunks(tx: Transaction) -> int:
        found = 0
        for start in range(0, many, CHUNK):
            part = asked[start : start + CHUNK]
            keys, numbers = [i.key for i in part], [i.phone for i in part if i.phone]
            fits = or_(
                cases_table.c.case_id_key.in_(keys),
                cases_table.c.external_id_key.in_(keys),
                cases_table.c.contact_phone_number.in_(numbers),
            )
            found += len(tx.execute(select(*columns).where(fits)).all())
        return found

    def by(find: Callable[[Transaction], int], name: str) -> Callable[[Rounds], None]:
        def work(seen: Rounds) -> None:
            with closing(programme.copy("resolving")) as db, spending() as spent, db.reading() as tx:
                assert find(tx) == sum(not one.startswith("nobody") for one in typed)
            seen.note(name, many / spent.cpu_s)

        return work

    works = {"ours": by(ours, "ours"), "floor": by(by_hand, "floor"), "chunks": by(in_chunks, "chunks")}
    found = in_turn(rounds, dice, works, warm=False)
    what, unit = f"resolving {many:,} identifiers", "identifiers per s of CPU"
    return [
        Comparison(what, unit, found["ours"], "a temporary table by hand", found["floor"], at_least=0.8),
        Comparison(what, unit, found["ours"], "IN chunks of 500", found["chunks"]),
    ]
