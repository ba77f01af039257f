"""The proof itself: a tiny one holds, and one that is broken on purpose is found."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bot.cli import proving
from storage.errors import Misconfigured
from tests.patience import output
from tests.proof import days
from tests.proof.backups import BACKUP, DUMP, RESTORE
from tests.proof.crash import POINTS
from tests.proof.scenes import IMPORT, SPOOL, WEB, WORKER, Moody, Programme, worker_dies_at
from tests.proof.wrongs import WRONGS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def programme(tmp_path: Path) -> Iterator[Programme]:
    dice = random.Random(7)
    with Moody(dice) as stub, Programme(tmp_path, stub, dice) as jumbe:
        jumbe.gather(4)
        yield jumbe


@pytest.mark.processes
def test_a_worker_that_dies_after_the_call_leaves_nothing_lost_and_nothing_twice(programme: Programme):
    assert worker_dies_at(programme, "call:after")
    found = programme.settle()
    assert (found.kills, found.texts, found.breaches) == (1, 4, {})


@pytest.mark.processes
def test_the_proof_finds_a_worker_that_sends_again_what_is_unknown(programme: Programme):
    assert worker_dies_at(programme, "call:after")
    programme.spawn("worker", PROOF_WRONG="resend")
    programme.until(lambda: len(programme.stub.sent()) > 4, "something went again")
    assert programme.settle().breaches["twice"] > 0


def test_every_named_step_is_tried():
    assert sorted(POINTS) == sorted({*WORKER, *WEB, *SPOOL, *IMPORT, *BACKUP, *DUMP, *RESTORE})


# -- the virtual days --------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_days_to_the_byte_and_breaks_no_promise(empty_file: Path):
    one, again = (days.run(5, 1, empty_file) for _ in range(2))
    assert one.breach is None
    assert one.texts > 0
    assert one == again


def test_another_process_gives_the_same_days_whatever_the_order_of_its_sets():
    command = [sys.executable, "-W", "ignore", "-m", "tests.proof.days", "5", "--days", "1"]
    at_once = [
        subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": hashed}, stdout=subprocess.PIPE)
        for hashed in ("1", "2")
    ]
    one, another = (output(process).decode() for process in at_once)
    assert re.fullmatch(r"seed 5: 1 days, .* digest [0-9a-f]{16}\n", one)
    assert one == another


def test_statements_that_are_made_ready_give_the_same_days_as_sqlalchemy(
    empty_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(days, "TWO", 1.0)
    quick, usual = (days.run(6, 2, empty_file, is_quick=is_quick) for is_quick in (True, False))
    assert quick.moves > 100
    assert quick == usual


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no answer counts as not sent", r"was (sent twice|taken, and)"),
        ("quiet hours are not asked at the gate", r"was handed over at \d\d:\d\d in"),
        ("the last receipt wins", r"went from delivered to"),
        ("a receipt pauses nothing", r"left though (the gateway|number \d+) was paused"),
    ],
)
def test_the_days_find_code_that_is_broken_on_purpose(name: str, says: str, empty_file: Path):
    found = _first_found(name, range(1, 20), 1, empty_file)
    assert re.search(says, found.breach or "")
    assert f"seed {found.seed}" in found.said()
    assert len(found.history) > 5


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("another gateway takes over after no answer", r"went to \w+, and \w+ may have it"),
        ("a case's own gateway is not asked", r"was chosen to go by \w+ instead of"),
    ],
)
def test_the_days_find_a_text_that_goes_by_the_wrong_gateway(
    name: str, says: str, empty_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(days, "TWO", 1.0)  # every run has two
    assert re.search(says, _first_found(name, range(10, 20), 3, empty_file).breach or "")


def _first_found(name: str, seeds: Iterable[int], many: int, empty_file: Path) -> days.Report:
    tried = (days.run(seed, many, empty_file, WRONGS[name]) for seed in seeds)
    return next(report for report in tried if report.breach)


# -- the command -------------------------------------------------------------------------------------------------------


def test_prove_without_the_tests_beside_it_says_where_the_proof_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proving, "_HERE", tmp_path)
    with pytest.raises(Misconfigured, match="make prove"):
        CliRunner().invoke(proving.prove, [], catch_exceptions=False)


def test_prove_without_what_the_tests_need_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proving, "_NEEDED", {"no_such_module": "no-such-package"})
    with pytest.raises(Misconfigured, match="no-such-package"):
        CliRunner().invoke(proving.prove, [], catch_exceptions=False)


def test_prove_runs_the_proof_with_what_it_was_told_and_ends_as_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    proof = tmp_path / "tests" / "proof"
    proof.mkdir(parents=True)
    for name in ("tests", "tests/proof"):
        (tmp_path / name / "__init__.py").touch()
    told = tmp_path / "told"
    (proof / "__main__.py").write_text(
        "import os, pathlib\n"
        f"pathlib.Path({str(told)!r}).write_text(os.environ['PROVE'] + ' ' + os.environ['PROVE_SEED'])\n"
        "raise SystemExit(1)\n"
    )
    monkeypatch.setattr(proving, "_HERE", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert CliRunner().invoke(proving.prove, ["--night", "--seed", "7"]).exit_code == 1
    assert told.read_text() == "night 7"
