"""The proof itself: a tiny one holds, and one that is broken on purpose is found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.crash import POINTS
from tests.proof.scenes import IMPORT, SPOOL, WEB, WORKER, Moody, Programme, worker_dies_at

pytestmark = pytest.mark.processes


@pytest.fixture
def programme(tmp_path: Path) -> Iterator[Programme]:
    dice = random.Random(7)
    with Moody(dice) as stub, Programme(tmp_path, stub, dice) as jumbe:
        jumbe.gather(4)
        yield jumbe


def test_a_worker_that_dies_after_the_call_leaves_nothing_lost_and_nothing_twice(programme: Programme):
    assert worker_dies_at(programme, "call:after")
    found = programme.settle()
    assert (found.kills, found.texts, found.breaches) == (1, 4, {})


def test_the_proof_finds_a_worker_that_sends_again_what_is_unknown(programme: Programme):
    assert worker_dies_at(programme, "call:after")
    programme.spawn("worker", PROOF_WRONG="resend")
    programme.until(lambda: len(programme.stub.sent()) > 4, 20, "something went again")
    assert programme.settle().breaches["twice"] > 0


def test_every_named_step_is_tried():
    assert sorted(POINTS) == sorted([*WORKER, *WEB, *SPOOL, *IMPORT])
