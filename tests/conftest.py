"""What every test can ask for: a database of its own, a clock that stands still, a world to act in."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import storage  # noqa: F401  chooses the SQLite library before any plugin can
from storage.database import Database
from storage.rules.hours_and_limits import Rules
from storage.upkeep import migrate
from tests import ending
from tests.postgres import Postgres
from tests.postgres import running as postgres_running
from tests.world import World

for name in [n for n in os.environ if n.startswith(("JUMBE_", "TWILIO_", "DATABASE_URL", "PUBLIC_URL", "PORT"))]:
    if name != "TWILIO_SPEC":
        del os.environ[name]


class Clock:
    """A clock that moves only when told: Tuesday 3 November 2026, ten in the morning in Accra (UTC)."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 3, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        return self.now


def pytest_configure(config: pytest.Config) -> None:
    """Whatever kills this process ends what it started; a worker of xdist ends with the process that leads the run."""
    leader = os.getppid() if hasattr(config, "workerinput") else None
    ending.end_with_me(*([leader] if leader else ending.makes_of(os.getpid())))


LONGEST = (
    "test_processes.py", "admin_notebooks/test_journeys.py", "test_ending.py", "bot/worker/test_wakeups.py",
    "admin_notebooks/panels/test_hostile_pages.py", "bot/commands/test_forged_texts.py", "test_private_files.py",
    "test_proof.py", "bot/commands/test_dispatch.py", "admin_notebooks/pages/test_server.py", "test_plans.py",
    "bot/commands/test_random_conversations.py", "admin_notebooks/test_notebooks.py", "storage/broadcasts/test_broadcasts.py",
)  # fmt: skip
"""The files that took longest, in that order."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest, so that no process is left alone with it at the end; then what mostly waits."""
    here = Path(__file__).parent
    place = {here / file: n for n, file in enumerate(LONGEST)}

    def is_later(item: pytest.Item) -> tuple[int, bool]:
        waits = item.path.parent == here or item.get_closest_marker("processes") is not None
        return place.get(item.path, len(place)), not waits

    items.sort(key=is_later)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An upgraded, empty database file, made once and copied for each test."""
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    db = Database(f"sqlite:///{path}")
    migrate.upgrade(db)
    db.close()
    return path


@pytest.fixture
def rules() -> Rules:
    return Rules(
        name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None,
        default_gateway="simulator", gateways=frozenset({"simulator"}),
    )  # fmt: skip


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_running() as server:
        yield server


@pytest.fixture
def engine() -> str:
    """The database of a test: what TEST_ENGINE says, else `sqlite`; the tests of the store run on both."""
    return os.environ.get("TEST_ENGINE", "sqlite")


@pytest.fixture
def address(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an upgraded, empty database for this test alone."""
    if engine == "postgresql":
        with request.getfixturevalue("postgres").database() as made:
            yield made
        return
    path = tmp_path / "test.db"
    shutil.copy(request.getfixturevalue("empty_file"), path)
    yield f"sqlite:///{path}"


@pytest.fixture
def db(address: str, rules: Rules, clock: Clock) -> Iterator[Database]:
    database = Database(address, rules, clock)
    yield database
    database.close()


@pytest.fixture
def world(db: Database) -> World:
    return World(db)
