"""What the tests of the store share: a database for each hypothesis example, and a count of the statements that ran."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import event

from storage.audit import Actor
from storage.broadcasts import broadcasts, previews
from storage.contacts import consent, groups, people
from storage.database import Database
from storage.operations import operations
from storage.rules.hours_and_limits import Rules
from storage.sheets import imports
from tests.conftest import Clock
from tests.postgres import empty
from tests.storage.rows import sheet
from tests.world import TEST, World


def pytest_generate_tests(metafunc):
    """Each rule of the store holds on both databases; one that is of one engine's nature is marked `only`."""
    if "engine" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        metafunc.parametrize("engine", only.args if only else ("sqlite", "postgresql"))


@pytest.fixture
def bare(engine: str, tmp_path: Path, request: pytest.FixtureRequest):
    """The address of a database without any table."""
    if engine == "sqlite":
        yield f"sqlite:///{tmp_path}/bare.db"
        return
    with request.getfixturevalue("postgres").database(upgraded=False) as address:
        yield address


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_db(request: pytest.FixtureRequest, empty_file: Path):
    """An empty database with its own clock, for one example at a time: `with new_db() as db`."""

    @contextlib.contextmanager
    def on_sqlite(settled: Rules):
        with tempfile.TemporaryDirectory() as room:
            path = shutil.copy(empty_file, Path(room) / "one.db")
            with contextlib.closing(Database(f"sqlite:///{path}", settled, Clock())) as db:
                yield db

    @contextlib.contextmanager
    def on_postgresql(settled: Rules):
        empty(kept)
        kept.rules, kept.clock = settled, Clock()
        yield kept

    @contextlib.contextmanager
    def make(**rules):
        settled = {"name": "Demo clinic", "time_zone": "Africa/Accra", "country": "GH", "hours": None,
                   "default_gateway": "simulator", "gateways": frozenset({"simulator"})} | rules  # fmt: skip
        with (on_sqlite if request.param == "sqlite" else on_postgresql)(Rules(**settled)) as db:
            yield db

    if request.param == "sqlite":
        yield make
        return
    with request.getfixturevalue("postgres").database() as address, contextlib.closing(Database(address)) as kept:
        yield make


@pytest.fixture
def statements():
    """Count what goes to the engine: `with statements(db) as ran`; an executemany is one."""

    @contextlib.contextmanager
    def counting(db: Database):
        ran: list[str] = []

        def note(_connection, _cursor, statement, *_more):
            ran.append(statement)

        event.listen(db.engine, "before_cursor_execute", note)
        try:
            yield ran
        finally:
            event.remove(db.engine, "before_cursor_execute", note)

    return counting


@pytest.fixture
def lived(db):
    """A database in which every verb that changes something was used."""
    world = World(db)
    ama, kofi = world.case("ama", "233241234567", name="Ama Boateng"), world.case("kofi", "233209876543")
    anc = world.group("anc", ama, kofi)
    lead = world.person("Esi Mensah", "233241110001")
    helper = world.person("Yaw Darko", "233241110002", "helper", "anc")
    by = Actor("sms", lead.id, "text 1")
    with db.transaction() as tx:
        imports.apply_cases(
            tx, sheet({"external_id": "afua", "name": "Afua", "contact_phone_number": "233205550000"}), by=by
        )
        groups.remove(tx, anc, [kofi], by=by)
        people.change(tx, helper, role="supervisor", by=by)
        people.remove(tx, helper, by=by)
        consent.hear(tx, "233209876543", "stop", words="Stop, Kofi", message_id=None, by=TEST)
        consent.hear(tx, "233209876543", "start", words="start", message_id=None, by=TEST)
        for end in ("done", "dropped"):
            number = previews.draft(tx, {"en": "Hello {name}"}, group_ids=[anc], words="tell anc hello ama", by=by)
            operations.decide(tx, number, end, by=by)
        broadcasts.launch(tx, number, hold_s=60, by=by)
        broadcasts.halt(tx, number, by=by)
        groups.delete(tx, anc, by=by)
    return db
