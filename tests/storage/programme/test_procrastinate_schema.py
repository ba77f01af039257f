"""Procrastinate's tables come and go with ours, in a schema of their own, and hold nothing that anybody would miss."""

import importlib.util
import json

import pytest
from sqlalchemy import text

from bot.app import create_app
from bot.health import examine
from storage import schema
from storage.database import Database
from storage.errors import Misconfigured
from storage.programme import procrastinate_schema
from storage.upkeep import migrate
from tests.parts import library

library("procrastinate", "pip install 'jumbe[postgres]'")
pytestmark = pytest.mark.only("postgresql")


def tables(db):
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'procrastinate'"
    with db.reading() as tx:
        return tx.scalar(text(query))


def state(db):
    with db.reading() as tx:
        return procrastinate_schema.state(tx)


def mark(db, version):
    with db.transaction() as tx:
        tx.execute(text(f"COMMENT ON SCHEMA procrastinate IS '{version}'"))


def wait(db):
    """A wake-up that waits."""
    job = "INSERT INTO procrastinate.procrastinate_jobs (queue_name, task_name, status) VALUES ('default', 'tidy', 'doing')"
    with db.transaction() as tx:
        tx.execute(text("SET LOCAL search_path = procrastinate"))
        tx.execute(text(job))


def waiting(db):
    with db.reading() as tx:
        return tx.scalar(text("SELECT count(*) FROM procrastinate.procrastinate_jobs"))


def test_an_upgrade_makes_them_beside_ours_and_a_second_one_leaves_them(db):
    assert (state(db), tables(db)) == ("ready", 4)
    wait(db)
    migrate.upgrade(db)
    assert (state(db), waiting(db)) == ("ready", 1)


def test_an_older_version_is_made_anew_because_its_jobs_carry_nothing(db):
    wait(db)
    mark(db, "03.03.00_01")
    assert state(db) == "older"
    migrate.upgrade(db)
    assert (state(db), tables(db), waiting(db)) == ("ready", 4, 0)


def test_those_of_a_newer_version_are_left_to_it(db):
    wait(db)
    mark(db, "99.00.00_01")
    migrate.upgrade(db)
    assert (state(db), waiting(db)) == ("newer", 1)


def test_a_schema_of_that_name_that_another_program_made_is_left_alone(db):
    with db.transaction() as tx:
        procrastinate_schema.drop(tx)
        tx.execute(text("CREATE SCHEMA procrastinate"))
        tx.execute(text("CREATE TABLE procrastinate.theirs (n int)"))
    migrate.upgrade(db)
    assert (state(db), tables(db)) == ("not ours", 1)
    assert "another program's" in {about: told for about, _, told in examine(db)}["jobs"]
    migrate.downgrade(db, "base")
    with db.reading() as tx:
        assert tx.scalar(text("SELECT count(*) FROM procrastinate.theirs")) == 0


def test_a_downgrade_takes_them_away_and_an_upgrade_brings_them_back(db):
    migrate.downgrade(db, "base")
    with db.reading() as tx:
        assert tx.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = 'procrastinate'")) == 0
    assert migrate.upgrade(db) == schema.REVISION
    assert state(db) == "ready"


def test_an_upgrade_that_fails_leaves_the_old_ones(db, monkeypatch, tmp_path):
    wait(db)
    mark(db, "03.03.00_01")
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "03.09.00_01_broken.sql").touch()
    (tmp_path / "schema.sql").write_text("CREATE TABLE one (id int); CREATE TABLE one (id int);")
    monkeypatch.setattr(procrastinate_schema, "_installed", lambda: tmp_path)
    with pytest.raises(Exception, match="already exists"):
        migrate.upgrade(db)
    assert (tables(db), waiting(db)) == (4, 1)


def test_who_may_not_make_a_schema_is_told_what_is_missing(bare, postgres):
    user = f"clerk_{bare.rsplit('/', 1)[1].split('?')[0]}"
    postgres.run(f"CREATE ROLE {user} LOGIN")
    db, clerk = Database(bare), Database(Database(bare).url.set(username=user).render_as_string(hide_password=False))
    try:
        with db.transaction() as tx:
            tx.execute(text(f"GRANT CREATE ON SCHEMA public TO {user}"))
        with pytest.raises(Misconfigured, match="let the user of DATABASE_URL CREATE in this database"):
            migrate.upgrade(clerk)
        with db.transaction() as tx:
            tx.execute(text(f"GRANT CREATE ON DATABASE {db.url.database} TO {user}"))
        migrate.upgrade(clerk)
        assert state(clerk) == "ready"
    finally:
        clerk.close()
        with db.transaction() as tx:
            tx.execute(text(f"DROP OWNED BY {user}"))
        db.close()
        postgres.run(f"DROP ROLE {user}")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (
            "DROP SCHEMA procrastinate CASCADE",
            "are missing, so each worker does the periodic work by itself: run 'jumbe",
        ),
        ("COMMENT ON SCHEMA procrastinate IS '03.03.00_01'", "are older than what is installed"),
        ("COMMENT ON SCHEMA procrastinate IS '99.00.00_01'", "are newer than what is installed here"),
    ],
)
def test_the_doctor_and_the_monitor_say_what_is_wrong_with_them_and_the_system_stays_ready(db, harm, says):
    from storage.programme import workers

    with db.transaction() as tx:
        workers.beat(tx, "w")
    page = create_app(db, {}, "http://127.0.0.1").test_client()
    assert json.loads(page.get("/readyz").data) == {"ready": True, "faults": [], "warnings": []}
    with db.transaction() as tx:
        tx.execute(text(harm))
    (well, told) = {about: rest for about, *rest in examine(db)}["jobs"]
    assert not well
    assert says in told
    answer = page.get("/readyz")
    assert (answer.status_code, json.loads(answer.data)["warnings"]) == (200, [told])


def test_without_procrastinate_the_doctor_says_so_and_an_upgrade_goes_on(bare, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "procrastinate" else real(name, *more)
    )
    db = Database(bare)
    assert migrate.upgrade(db) == schema.REVISION
    told = {about: rest for about, *rest in examine(db)}["jobs"]
    assert told == [False, procrastinate_schema.shown("not installed")]
    assert "pip install 'jumbe[postgres]'" in told[1]
    db.close()
