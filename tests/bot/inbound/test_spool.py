"""While the database cannot keep it, a signed webhook waits on the disk, and nothing is acknowledged that is nowhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from bot.gateways.base import Request
from bot.inbound.spool import Kept, Spool
from tests.patience import joined

AT = datetime(2026, 11, 3, 10, tzinfo=UTC)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "jumbe.db-spool")


def kept(n: int = 0, gateway: str = "twilio") -> Kept:
    headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": "secret", "host": "h"}
    return Kept(gateway, Request("POST", "https://sms.example.org/in/twilio", headers, f"n={n}\n".encode()), None, AT)


def played(spool: Spool) -> list[str]:
    found: list[str] = []
    spool.play(lambda one: found.append(one.request.body.decode().strip()))
    return found


def test_what_waits_is_played_once_in_order_and_then_nothing_is_left(spool: Spool) -> None:
    for n in range(5):
        spool.keep(kept(n))
    assert played(spool) == [f"n={n}" for n in range(5)]
    assert played(spool) == []
    assert spool.is_empty()


def test_a_request_comes_back_as_it_was_but_without_what_is_not_needed(spool: Spool) -> None:
    spool.keep(kept())
    found: list[Kept] = []
    spool.play(found.append)
    (one,) = found
    assert (one.gateway, one.message_id, one.at, one.request.body) == ("twilio", None, AT, b"n=0\n")
    assert one.request.headers == {"content-type": "application/x-www-form-urlencoded"}


def test_only_its_owner_reads_it(spool: Spool) -> None:
    spool.keep(kept())
    assert spool.path.stat().st_mode & 0o777 == 0o600


def test_every_line_is_on_the_disk_before_anybody_is_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_size), real(file)))
    spool.keep(kept())
    assert synced[0] == spool.path.stat().st_size


def test_half_a_line_that_a_death_left_costs_no_other_line_anything(spool: Spool) -> None:
    spool.keep(kept(1))
    whole = spool.path.read_bytes()
    spool.path.write_bytes(whole + b'\n{"gateway": "twilio", "bo')
    spool.keep(kept(2))
    assert played(spool) == ["n=1", "n=2"]


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_a_file_cut_anywhere_gives_what_was_whole(spool: Spool, cut: int) -> None:
    spool.keep(kept(1))
    spool.keep(kept(2))
    spool.path.write_bytes(spool.path.read_bytes()[: -cut or None])
    assert played(spool) in (["n=1", "n=2"], ["n=1"], [])


def test_a_database_that_goes_away_again_in_the_middle_loses_nothing(spool: Spool) -> None:
    for n in range(4):
        spool.keep(kept(n))
    seen: list[str] = []

    def goes_away(one: Kept) -> None:
        if len(seen) == 2:
            raise OperationalError("", {}, Exception("locked"))
        seen.append(one.request.body.decode().strip())

    with pytest.raises(OperationalError):
        spool.play(goes_away)
    spool.keep(kept(4))
    assert played(spool) == [f"n={n}" for n in range(5)], "all of them again, and in order"


def test_what_our_code_fails_at_is_set_aside_and_the_rest_goes_on(spool: Spool) -> None:
    for n in range(3):
        spool.keep(kept(n))

    def fails(one: Kept) -> None:
        if one.request.body == b"n=1\n":
            raise KeyError("a bug")

    assert spool.play(fails) == 3
    assert spool.waiting() == (0, 1)
    assert spool.aside.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_is_full_in_the_middle_of_a_line_leaves_no_half_of_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.keep(kept(1))

    def full(file: int, line: bytes) -> None:
        os.write(file, line[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bot.inbound.spool._write", full)
    with pytest.raises(OSError, match="No space"):
        spool.keep(kept(2))
    monkeypatch.undo()
    spool.keep(kept(3))
    assert played(spool) == ["n=1", "n=3"]


def test_a_spool_does_not_grow_for_ever(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.keep(kept(1))
    monkeypatch.setattr("bot.inbound.spool.LARGEST", 10)
    with pytest.raises(OSError, match="full"):
        spool.keep(kept(2))
    assert played(spool) == ["n=1"]


def test_many_threads_that_write_while_others_play_lose_and_double_nothing(spool: Spool) -> None:
    seen: list[str] = []
    over = threading.Event()

    def write(first: int) -> None:
        for n in range(first, first + 60):
            spool.keep(kept(n))

    def play() -> None:
        while not over.is_set():
            spool.play(lambda one: seen.append(one.request.body.decode().strip()))

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200, 300)]
    players = [threading.Thread(target=play) for _ in range(2)]
    for thread in writers + players:
        thread.start()
    joined(*writers)
    over.set()
    joined(*players)
    seen += played(spool)
    assert sorted(seen) == sorted(f"n={n}" for first in (0, 100, 200, 300) for n in range(first, first + 60))
    for first in (0, 100, 200, 300):
        own = [one for one in seen if first <= int(one[2:]) < first + 60]
        assert own == [f"n={n}" for n in range(first, first + 60)], (
            "each writer's in the order in which they were written"
        )


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path: Path) -> Iterator[Any]:
    yield
    assert not list(tmp_path.glob("*-playing")), "what is played is removed"
