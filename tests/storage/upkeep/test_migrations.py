"""Up, down and up again: the migrations make the schema that the code means, also on a database in use."""

import contextlib
import sqlite3
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, inspect, select, text, update

from storage import schema
from storage.audit import Actor
from storage.broadcasts import broadcasts, expansion, previews
from storage.contacts import lookup, people
from storage.database import Database, is_rehearsal
from storage.errors import Misconfigured
from storage.messages import outbox
from storage.operations import codes, confirmations, operations
from storage.upkeep import migrate
from tests.world import broken_line


def written(db):
    """The schema as the database keeps it, word for word."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
    with db.reading() as tx:
        return [tuple(row) for row in tx.execute(text(query if db.is_sqlite else POSTGRESQL))]


POSTGRESQL = """
SELECT 'index' AS type, indexname AS name, indexdef AS sql FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conname, conrelid::regclass || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'column', table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'table', relname, obj_description(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
ORDER BY 1, 2
""".replace("::", r"\:\:")


def indexes(db):
    return {n: " ".join(sql.split()) for kind, n, sql in written(db) if kind == "index" and not n.startswith("alembic")}


def test_the_migrated_schema_is_the_schema_of_the_code(db):
    with db.reading() as tx:
        context = MigrationContext.configure(
            tx.connection, opts={"compare_type": True, "target_metadata": schema.metadata}
        )
        assert compare_metadata(context, schema.metadata) == []


def test_every_default_and_constraint_is_the_one_of_the_code_by_its_name(db, bare):
    """Also those that Alembic does not compare: a refusal is told apart by its name."""
    meant = Database(bare)
    with meant.transaction() as tx:
        schema.metadata.create_all(tx.connection)

    def named(database):
        with database.reading() as tx:
            look = inspect(tx.connection)
            return {
                table: (
                    {c["name"]: c["sqltext"] for c in look.get_check_constraints(table)},
                    {c["name"]: c["column_names"] for c in look.get_unique_constraints(table)},
                    {c["name"]: (c["constrained_columns"], c["referred_table"]) for c in look.get_foreign_keys(table)},
                    {c["name"]: (str(c["type"]), c["nullable"], c["default"]) for c in look.get_columns(table)},
                    look.get_pk_constraint(table),
                )
                for table in look.get_table_names()
                if table != "alembic_version"
            }

    try:
        assert named(db) == named(meant)
        assert indexes(db) == indexes(meant)
    finally:
        meant.close()


def test_the_schema_says_which_migration_makes_it():
    config = migrate._config(None)
    assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]


def test_a_database_in_use_goes_down_and_up_again_to_the_same_schema(lived):
    before = written(lived)
    assert migrate.downgrade(lived, "base") is None
    assert [name for _, name, _ in written(lived) if not name.startswith("alembic_version")] == []
    assert migrate.upgrade(lived) == schema.REVISION
    assert written(lived) == before
    lived.check()


def test_an_upgrade_of_a_database_in_use_changes_nothing_in_it(lived):
    def everything():
        with lived.reading() as tx:
            return {table.name: tx.execute(select(table)).all() for table in schema.metadata.sorted_tables}

    before = everything()
    assert migrate.upgrade(lived) == schema.REVISION
    assert everything() == before
    with lived.reading() as tx:
        assert broken_line(tx) is None


YEARS_S = 10 * 365 * 86_400
"""A hold that is not over by any clock: a migration has no other than the machine's."""


def test_a_database_in_use_keeps_where_each_broadcast_is_down_and_up_again(lived):
    """An older release told these by their dates, and called a lapsed preview dropped."""
    by = Actor("test", None)
    with lived.transaction() as tx:
        ama = lookup.find_one(tx, "ama")

        def drafted(*, at=None):
            number = previews.draft(tx, {"en": "Come"}, case_ids=[ama.id], by=by)
            if at is not None:
                previews.amend(tx, number, send_at=at)
            return number

        def launched(*, hold_s=0, at=None, pause=False, expand=True):
            number = drafted(at=at)
            operations.decide(tx, number, "done", by=by)
            broadcasts.launch(tx, number, hold_s=hold_s, by=by)
            if pause:
                broadcasts.pause(tx, number, by=by)
            while expand and expansion.expand_next(tx):
                pass
            return number

        hour = datetime.fromisoformat("2036-11-03T11:00")
        known = {
            launched(): ("sending", "sending", False),
            launched(pause=True): ("paused", "sending", True),
            launched(hold_s=YEARS_S): ("held", "sending", False),
            launched(hold_s=YEARS_S, pause=True): ("paused", "sending", True),
            launched(at=hour): ("scheduled", "expanding", False),
            launched(at=hour, pause=True): ("paused", "expanding", True),
            launched(expand=False): ("expanding", "expanding", False),
            launched(hold_s=YEARS_S, expand=False): ("held", "expanding", False),
            drafted(): ("expired", "dropped", False),
        }
        lapsed = max(known)
        operations.decide(tx, lapsed, "expired", by=by)
        broadcasts.put_away_expired(tx)
        dropped, waits = drafted(), drafted()
        operations.decide(tx, dropped, "dropped", by=by)
        broadcasts.drop(tx, dropped)
        known |= {dropped: ("dropped", "dropped", False), waits: ("previewed", "previewed", False)}

    def states(*columns):
        words = ", ".join(("id", "state", *columns))
        with lived.reading() as tx:
            rows = tx.execute(text(f"SELECT {words} FROM broadcasts WHERE id >= {min(known)} ORDER BY id"))
            return {row.id: tuple(row)[1:] for row in rows}

    before = states("paused_from", "paused_at")
    assert {number: row[0] for number, row in before.items()} == {n: now for n, (now, _, _) in known.items()}
    assert {row[1] for row in before.values()} == {None, "sending", "held", "scheduled"}
    migrate.downgrade(lived, "0009")
    older = {number: (state, at is not None) for number, (state, at) in states("paused_at").items()}
    assert older == {number: (was, paused) for number, (_, was, paused) in known.items()}
    migrate.upgrade(lived)
    assert states("paused_from", "paused_at") == before
    lived.check()


def test_who_said_ok_before_the_upgrade_is_known_after_it(lived):
    """An older release read it out of the audit log; a worker says ok to nothing, and a text at once had no ok."""
    with lived.transaction() as tx:
        esi = people.person(tx, "233241110001")
        ato = people.add(tx, "Ato", "233241110009", "lead", by=Actor("cli"))

        def asked(by, words):
            return operations.ask(tx, "tell", words=words, request={"texts": {"en": words}, "n": [1, None]}, by=by)

        def said_ok(number, state, by, *, by_code=False):
            if by_code:
                codes.spend(tx, operations.issue_code(tx, number, by.person_id))
            confirmations.add(tx, number, by=by)
            operations.decide(tx, number, state, by=by)

        sms, desk, other, cli = Actor("sms", esi.id), Actor("desk", esi.id), Actor("sms", ato.id), Actor("cli")
        by_code, on_a_page, at_once, grown, waits = (asked(sms, w) for w in ("a", "b", "c", "d", "e"))
        by_script = asked(cli, "f")
        said_ok(by_code, "done", sms, by_code=True)
        said_ok(on_a_page, "seconding", desk)
        said_ok(on_a_page, "done", other, by_code=True)
        operations.decide(tx, at_once, "done", by=sms)
        said_ok(grown, "done", sms, by_code=True)
        operations.decide(tx, grown, "seconding", by=Actor("worker"))
        said_ok(grown, "done", other, by_code=True)
        said_ok(waits, "seconding", sms, by_code=True)
        said_ok(by_script, "done", cli)

    def approved():
        with lived.reading() as tx:
            rows = tx.execute(select(schema.approvals))
            return sorted((r.operation_id, r.place, r.person_id, r.door, r.digest, r.at) for r in rows)

    before = approved()
    assert [(number, place, person) for number, place, person, *_ in before] == [
        (by_code, 1, esi.id), (on_a_page, 1, esi.id), (on_a_page, 2, ato.id), (grown, 1, esi.id), (grown, 2, ato.id),
        (waits, 1, esi.id), (by_script, 1, None),
    ]  # fmt: skip
    migrate.downgrade(lived, "0009")
    migrate.upgrade(lived)
    assert approved() == before


def test_what_is_paused_is_halted_for_a_release_that_knows_no_pause(lived):
    """It would leave at once: an older release would claim it."""
    by = Actor("test", None)
    with lived.transaction() as tx:
        ama = lookup.find_one(tx, "ama")
        number = previews.draft(tx, {"en": "Come"}, case_ids=[ama.id], by=by)
        operations.decide(tx, number, "done", by=by)
        broadcasts.launch(tx, number, hold_s=0, by=by)
        while expansion.expand_next(tx):
            pass
        broadcasts.pause(tx, number, by=by)
        assert outbox.claim(tx, "simulator", "me", 10) == []
    before = written(lived)
    assert migrate.downgrade(lived, "0006") == "0006"
    with lived.reading() as tx:
        told = tx.execute(
            text(
                f"SELECT state, (SELECT state FROM messages WHERE broadcast_id = {number}) FROM broadcasts WHERE id = {number}"
            )
        )
        assert tuple(told.one()) == ("halted", "cancelled")
    migrate.upgrade(lived)
    assert written(lived) == before
    lived.check()


def test_a_migration_that_fails_leaves_the_database_as_it_was(lived):
    before = written(lived)
    with lived.transaction() as tx:
        tx.execute(text("CREATE VIEW in_the_way AS SELECT * FROM audit"))
        tx.execute(text("CREATE TABLE keeps_a_case (id INTEGER REFERENCES cases (id))"))
        tx.execute(text("INSERT INTO keeps_a_case SELECT min(id) FROM cases"))
    with pytest.raises(Exception, match=r"FOREIGN KEY|in_the_way|keeps_a_case"):
        migrate.downgrade(lived, "base")
    with lived.transaction() as tx:
        tx.execute(text("DROP VIEW in_the_way"))
        tx.execute(text("DROP TABLE keeps_a_case"))
    assert written(lived) == before
    lived.check()


def test_a_new_database_is_stamped_for_its_use(tmp_path):
    for name, rehearsal in (("real", False), ("rehearsal", True)):
        made = Database(f"sqlite:///{tmp_path}/{name}.db")
        assert migrate.upgrade(made, rehearsal=rehearsal) == schema.REVISION
        with made.reading() as tx:
            assert is_rehearsal(tx) is rehearsal
        made.close()


def test_a_slip_in_the_folder_s_name_makes_no_new_programme(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/nowhere/jumbe.db")
    with pytest.raises(Misconfigured, match="there is no folder"):
        migrate.upgrade(made)
    assert not (tmp_path / "nowhere").exists()


def test_a_database_is_stamped_once_and_an_old_stamp_stays(db):
    with db.reading() as tx:
        before = tx.execute(select(schema.programme)).one()
    migrate.upgrade(db, rehearsal=True)
    with db.reading() as tx:
        assert tx.execute(select(schema.programme)).one() == before
        assert tx.scalar(select(func.count()).select_from(schema.programme)) == 1


@pytest.mark.parametrize("step", [migrate.upgrade, lambda db: migrate.downgrade(db, "base")])
def test_a_database_of_a_newer_release_is_left_alone_with_one_sentence(db, step):
    with db.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Misconfigured, match="a newer release may have made it"):
        step(db)
    assert db.revision() == "9999"


def test_a_backup_is_asked_for_where_something_was_done_since_the_last_one(lived, tmp_path):
    assert migrate.needs_backup(lived) is None, "it is of this release"
    migrate.downgrade(lived, "0009")
    why = migrate.needs_backup(lived)
    assert why is not None
    assert "none was ever made" in why
    with lived.transaction() as tx:
        tx.execute(update(schema.programme).values(last_backup_at=datetime(2099, 1, 1, tzinfo=UTC)))
    assert migrate.needs_backup(lived) is None
    migrate.upgrade(lived)
    assert migrate.needs_backup(lived) is None


@pytest.mark.only("sqlite")
def test_a_new_database_asks_for_no_backup(tmp_path):
    assert migrate.needs_backup(Database(f"sqlite:///{tmp_path}/new.db")) is None


@pytest.mark.only("sqlite")
def test_an_upgrade_without_room_says_so_and_changes_nothing(lived, monkeypatch):
    migrate.downgrade(lived, "0009")
    before = written(lived)
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "ROOM", 10**9)
        with pytest.raises(Misconfigured, match="make room"):
            migrate.upgrade(lived)
    assert written(lived) == before
    lived.close()
    with contextlib.closing(sqlite3.connect(lived.file)) as file:
        file.execute("VACUUM")  # nothing in it is free
    with lived.transaction() as tx:
        pages = tx.scalar(text("PRAGMA page_count"))
        tx.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
    with pytest.raises(Misconfigured, match="no room"):
        migrate.upgrade(lived)
    assert written(lived) == before
