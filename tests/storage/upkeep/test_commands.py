"""`jumbe audit`: what an operator types to know whether the log was touched."""

import json

import pytest
from sqlalchemy import text

from bot.cli import main
from storage import audit
from tests.storage.tampering import FORGET
from tests.world import World


@pytest.fixture
def jumbe(world: World, address, monkeypatch, capsys):
    """Run a command on a log of four lines; returns exit status, what it printed, and what it complained of."""
    monkeypatch.setenv("DATABASE_URL", address)
    world.group("anc", world.case("ama", "233244123456"))
    world.person("Esi", "233241110001")

    def run(*words):
        world.db.close()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def head(db, jumbe):
    with db.reading() as tx:
        return audit.head(tx)


def sql(db, statement):
    with db.transaction() as tx:
        tx.execute(text(statement))


def test_a_log_that_holds_says_how_many_lines_and_its_head(jumbe, head):
    told = f"Every line holds, 4 in all; the head is {head.hash}, line 4 of 2026-11-03 10:00:00 UTC.\n"
    assert jumbe("audit", "verify") == (0, told, "")
    status, out, _ = jumbe("audit", "verify", "--json")
    assert status == 0
    told = {"holds": True, "lines": 4, "head": head.hash, "breach": None, "broken": None, "forgotten": 0}
    assert told.items() <= json.loads(out).items()


def test_it_says_of_how_many_changes_the_values_were_forgotten_where_any_were(jumbe, db, head):
    sql(db, f"{FORGET} subject = 'case'")
    status, out, _ = jumbe("audit", "verify")
    assert (status, out) == (
        0,
        f"Every line holds, 4 in all; the head is {head.hash}, line 4 of 2026-11-03 10:00:00 UTC."
        " The values of 1 change under these lines were forgotten.\n",
    )
    assert json.loads(jumbe("audit", "verify", "--json")[1])["forgotten"] == 1


def test_a_noted_head_that_is_there_says_which_line_it_is(jumbe, head):
    status, out, _ = jumbe("audit", "verify", "--head", head.hash[:12])
    assert (status, "the noted head is line 4 of" in out) == (0, True)


def test_a_line_that_was_edited_is_named_with_its_time_and_the_status_is_one(jumbe, db):
    sql(db, "UPDATE audit SET verb = 'x' WHERE id = 3")
    status, out, err = jumbe("audit", "verify")
    assert (status, out) == (1, "")
    assert err == (
        "jumbe: The audit log was touched: line 3 of 2026-11-03 10:00:00 UTC was edited;"
        " 2 lines hold before it. Compare with a backup.\n"
    )
    status, out, _ = jumbe("audit", "verify", "--json")
    assert status == 1
    assert {"holds": False, "lines": 2, "breach": "edited", "broken": 3}.items() <= json.loads(out).items()


def test_an_end_that_was_cut_off_is_found_by_a_noted_head_alone(jumbe, db, head):
    sql(db, "DELETE FROM audit_changes WHERE entry_id = 4")
    sql(db, "DELETE FROM audit WHERE id = 4")
    assert jumbe("audit", "verify")[0] == 0
    status, _, err = jumbe("audit", "verify", "--head", head.hash)
    assert status == 1
    assert "no line has the noted head" in err
    assert "the log ends with line 3" in err


def test_a_head_that_is_none_is_one_sentence(jumbe):
    status, out, err = jumbe("audit", "verify", "--head", "12345")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_the_newest_lines_come_first_with_who_acted(jumbe):
    _, out, _ = jumbe("audit", "list", "--limit", 2, "--json")
    lines = json.loads(out)
    assert [(line["id"], line["verb"], line["person"], line["door"]) for line in lines] == [
        (4, "people.add", "system", "test"), (3, "groups.add", "system", "test"),
    ]  # fmt: skip
    assert len(lines[0]["hash"]) == 64
    assert jumbe("audit", "list")[1].splitlines()[0].split() == [
        "id", "at", "person", "door", "source", "verb", "subject_id", "facts",
    ]  # fmt: skip
