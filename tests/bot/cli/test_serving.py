"""What `jumbe run` looks at before it says that it serves."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bot.cli import main, processes
from bot.worker.worker import only_one
from storage.database import Database
from storage.upkeep import migrate
from tests.processes import free_port


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "rehearsal.db"
    db = Database(f"sqlite:///{file}")
    migrate.upgrade(db, rehearsal=True)
    db.close()
    port = str(free_port())
    for name, value in (("DATABASE_URL", f"sqlite:///{file}"), ("JUMBE_SIMULATOR", "1"), ("PORT", port),
                        ("PUBLIC_URL", f"http://127.0.0.1:{port}")):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "_together", lambda _env: 0)
    return file


def test_run_says_where_it_serves(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("serving http://127.0.0.1:")


def test_run_beside_another_worker_says_only_that(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_one(file):
        assert main(["run"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "another worker serves" in said.err


def test_run_at_a_port_in_use_says_only_that(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "PORT_FREE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        assert main(["run"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "is in use" in said.err
