"""The bench itself, at toy size: it measures what it says, and tells a missed goal and a missing peer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.benchmarks import bulk, expansion, idle, inbound, load, outgoing, peers, serving, stub
from tests.benchmarks.__main__ import PARTS, SIZES, Bench, table
from tests.benchmarks.measuring import Comparison, Rounds, in_turn
from tests.parts import library

TOY = SIZES["toy"]


@pytest.fixture
def dice() -> random.Random:
    return random.Random(7)


def told(found: list[Comparison]) -> set[tuple[str, str]]:
    assert all(one.ours > 0 and (one.theirs is None or one.theirs > 0) for one in found if one.at_most != 0)
    return {(one.against, one.unit) for one in found}


def test_the_worker_sends_all_beside_aiohttp_alone(tmp_path: Path, dice: random.Random):
    with stub.running() as gateway:
        found = outgoing.compare(tmp_path, dice, gateway, None, rounds=1, many=TOY.outgoing, tasks=0)
    assert told(found) == {("aiohttp alone", "texts per s of CPU"), ("aiohttp alone", "texts per s")}


def test_an_inbound_text_has_the_same_effects_by_hand(tmp_path: Path, dice: random.Random):
    found = inbound.compare(tmp_path, dice, rounds=1, many=TOY.inbound)
    assert {against for against, _ in told(found)} == {"raw sqlite3 and HMAC", "naive Flask and ORM"}


def test_one_statement_by_hand_writes_the_same_rows_on_sqlite(tmp_path: Path, dice: random.Random):
    found = expansion.on_sqlite(tmp_path, dice, rounds=1, members=TOY.members, loop=TOY.loop)
    assert {against for against, _ in told(found)} == {"one INSERT .. SELECT", "a loop of an ORM", ""}


def test_one_statement_by_hand_writes_the_same_rows_on_postgresql(postgres, dice: random.Random):
    with postgres.database(upgraded=False) as address:
        told(expansion.on_postgresql(address, dice, rounds=1, members=TOY.members_postgresql, loop=TOY.loop))


def test_cases_are_inserted_and_identifiers_resolved_as_by_hand(tmp_path: Path, dice: random.Random):
    found = bulk.compare(tmp_path, dice, rounds=1, many=TOY.cases)
    assert {"raw executemany", "a temporary table by hand", "IN chunks of 500"} <= {
        against for against, _ in told(found)
    }


def test_cases_are_copied_as_by_hand_on_postgresql(postgres, dice: random.Random):
    with postgres.database(upgraded=False) as address:
        told(bulk.on_postgresql(address, dice, rounds=1, many=500))


def test_a_sheet_has_the_same_texts_verdicts_and_members_by_every_way(tmp_path: Path, dice: random.Random):
    found = library("tests.benchmarks.sheets").compare(tmp_path, dice, rounds=1, many=TOY.sheet, naive=TOY.naive)
    assert {"calamine alone", "openpyxl", "phonenumbers", "its parts alone"} <= {one.against for one in found}
    assert [one.ours for one in found if one.at_most == 0] == [0], "no number has another verdict than the library's"


def test_an_audit_counts_what_sql_by_hand_and_pandas_count(tmp_path: Path, dice: random.Random):
    found = library("tests.benchmarks.audits").compare(tmp_path, dice, rounds=1, members=TOY.audited)
    assert {"SQL by hand", "pandas, loading and six checks"} <= {one.against for one in found}


def test_an_idle_worker_is_measured_beside_a_short_and_a_long_history(tmp_path: Path, dice: random.Random):
    found = idle.on_sqlite(tmp_path, dice, rounds=1, many=TOY.past, seconds=TOY.idle_s)
    assert told(found) == {("with 1,000", "ms of CPU a s")}


@pytest.mark.processes
def test_no_text_is_lost_while_a_broadcast_goes_out(tmp_path: Path, dice: random.Random):
    with stub.running() as gateway:
        found = serving.beside_a_broadcast(tmp_path, dice, gateway, rounds=1, members=TOY.latency_members, seconds=1)
    assert [one.ours for one in found if one.at_most == 0] == [0, 0], "none lost, and the whole broadcast has left"


def test_a_missed_goal_is_told_by_how_much():
    missed = Comparison("sending", "texts per s", 30.0, "a floor", 100.0, at_least=0.6)
    slow = Comparison("sending", "ms", 400.0, "idle", 100.0, at_most=3)
    assert [one.verdict for one in (missed, slow)] == ["missed by 50%", "missed by 33%"]
    assert Comparison("sending", "ms", 300.0, "idle", 100.0, at_most=3).verdict == "reached"
    assert "| sending | texts per s | 30 | a floor | 100 | 0.30 | at least 0.6 | missed by 50% |" in table([missed])


def test_a_peer_that_cannot_be_had_is_left_out_and_said(tmp_path: Path, dice: random.Random, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no redis-server there
    with stub.running() as gateway:
        bench = Bench(TOY, dice, tmp_path, gateway, [], [], [])
        found = bench.outgoing()
    assert bench.left_out == ["Celery: there is no redis-server"]
    assert "Celery and Redis" not in {one.against for one in found}


def test_every_round_measures_each_work_once_and_the_median_counts(dice: random.Random):
    figures = iter([5.0, 1.0, 9.0])
    found = in_turn(3, dice, {"one": lambda seen: seen.note("one", next(figures))}, warm=False)
    assert (found["one"], len(found.seen["one"])) == (5.0, 3)
    assert "two" not in Rounds()


def test_a_request_goes_over_the_wire_as_it_was_signed():
    assert load.request("/in/x", 80, b"Body=a", "s=").endswith(b"X-Twilio-Signature: s=\r\n\r\nBody=a")


def test_the_parts_can_be_named_one_by_one():
    named = ["outgoing", "inbound", "served", "latency", "expansion", "bulk", "sheets", "audits", "idle"]
    assert [part.__name__ for part in PARTS] == named
    assert peers.cache().name == "jumbe-bench"
