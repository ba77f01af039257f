"""`jumbe broadcasts`: what an operator types to send, and what is said before it goes."""

import json
from datetime import datetime

import pytest
from sqlalchemy import update

from bot.cli import main
from bot.gateways.base import Inbound
from bot.inbound import listeners
from storage import console, schema
from storage.broadcasts import broadcasts, previews
from storage.contacts import groups
from storage.operations import confirmations
from tests.patience import until, work
from tests.world import TEST, World


@pytest.fixture
def jumbe(world: World, monkeypatch, capsys):
    """Run a command on a programme of one group; returns exit status, what it printed, and what it complained of."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{world.db.file}")
    world.group("anc", world.case("ama", "233244123456"))

    def run(*words):
        world.db.close()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def launch(jumbe, text):
    return jumbe("broadcasts", "launch", "--group", "anc", "--text", text, "--yes", "--json")


def test_a_word_to_look_at_twice_is_said_before_the_question(jumbe):
    status, out, err = launch(jumbe, "Your HIV test is on Friday")
    assert (status, err) == (0, "Look twice: it says HIV, which others may read or a network act on.\n")
    assert json.loads(out)["recipients"] == 1


def test_a_programme_has_its_own_list_of_such_words(jumbe, monkeypatch):
    monkeypatch.setenv("JUMBE_HEALTH_WORDS", "sugar clinic")
    assert launch(jumbe, "Your HIV test is on Friday")[2] == ""
    assert "it says Sugar clinic," in launch(jumbe, "The Sugar clinic is open")[2]
    monkeypatch.setenv("JUMBE_HEALTH_WORDS", "off")
    assert launch(jumbe, "The Sugar clinic opens")[2] == ""
    assert "it says YES," in launch(jumbe, "Do you come? Reply YES")[2]


def test_a_text_that_is_no_text_is_refused_in_one_sentence(jumbe):
    status, out, err = launch(jumbe, "  ")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


def test_the_hour_of_a_broadcast_stands_where_broadcasts_are_looked_at(jumbe, world):
    with world.db.transaction() as tx:
        number = previews.draft(tx, {"en": "Hello"}, group_ids=[1], by=TEST)
        previews.amend(tx, number, send_at=datetime.fromisoformat("2027-01-04T09:00"))
    assert json.loads(jumbe("broadcasts", "show", number, "--json")[1])["send_at"] == "2027-01-04T09:00"
    assert "2027-01-04T09:00" in jumbe("broadcasts", "list")[1]


def test_what_nobody_confirmed_in_time_is_called_expired_in_lists_and_exports(jumbe, world, clock, tmp_path):
    with world.db.transaction() as tx:
        number = previews.draft(tx, {"en": "Come"}, group_ids=[groups.group(tx, "anc").id], by=TEST)
    clock.advance(hours=1)
    with world.db.transaction() as tx:
        broadcasts.put_away_unconfirmed(tx)
    assert json.loads(jumbe("broadcasts", "show", number, "--json")[1])["state"] == "expired"
    assert [row["state"] for row in json.loads(jumbe("broadcasts", "list", "--json")[1])] == ["expired"]
    assert jumbe("export", "broadcasts", "--to", tmp_path / "b.csv")[0] == 0
    assert ",expired," in (tmp_path / "b.csv").read_text()


def test_a_script_that_says_yes_is_the_first_ok_of_the_system_s_own_user(jumbe, world):
    number = json.loads(launch(jumbe, "The clinic is closed")[1])["id"]
    with world.db.reading() as tx:
        assert [(row.place, row.person_id, row.door) for row in confirmations.of(tx, number)] == [(1, None, "cli")]


def test_a_broadcast_is_called_by_its_state_from_the_launch_on(jumbe, world, monkeypatch):
    monkeypatch.setenv("JUMBE_HOLD_S", "60")
    number = json.loads(launch(jumbe, "The clinic is closed")[1])["id"]

    def state_after(*words):
        return json.loads(jumbe("broadcasts", *words, number, "--json")[1])["state"]

    assert state_after("show") == "held"
    assert [state_after(verb) for verb in ("pause", "pause", "resume")] == ["paused", "paused", "held"]
    assert [state_after(verb) for verb in ("halt", "halt", "show")] == ["halted"] * 3
    monkeypatch.setenv("JUMBE_HOLD_S", "0")
    assert json.loads(launch(jumbe, "The clinic is open")[1])["state"] == "expanding"


def test_a_group_that_was_deleted_on_the_command_line_is_taken_back_by_a_text(jumbe, world):
    """A lead read of it in the digest and could do nothing about it."""
    world.person("Esi", "233241110001")
    status, out, _ = jumbe("groups", "delete", "anc", "--yes")
    assert (status, out) == (0, "anc is deleted. A lead who texts 'undo 1' within 24 hours has it back\n")
    listeners.take(world.db, "simulator", Inbound("in1", "233241110001", "1", "undo 1"))
    with world.db.reading() as tx:
        assert [group.short for group in groups.list_all(tx)] == ["anc"]


def test_no_name_or_sentence_steers_the_terminal(jumbe, world, capsys):
    world.person("Kofi", "233241110002")
    world.person("Esi", "233241110001")
    with world.db.transaction() as tx:
        tx.execute(update(schema.people).where(schema.people.c.name == "Esi").values(name="Esi\x1b[2J"))
    status, out, _ = jumbe("people", "remove", "233241110001")
    assert (status, out) == (0, "Esi\\x1b[2J may not text commands any more\n")
    assert jumbe("cases", "show", "\x1b[2J\u202e")[2].isprintable() is False
    assert "\x1b" not in jumbe("cases", "show", "\x1b[2J\u202e")[2]


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\r", "\n", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028"])
def test_what_steers_a_terminal_is_shown_and_not_done(sign):
    assert console.printable(f"a{sign}b").isprintable()
    assert console.printable("Ñandú 🙏 ሰላም a\u200db") == "Ñandú 🙏 ሰላም a\u200db"


def test_nothing_is_drawn_on_a_terminal_where_json_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(console, "QUIET_S", 0.0)
    with console.working("x", json_=True):
        work(0.05)
    assert capsys.readouterr().err == ""
    with console.working("\x1b]0;x\x07"):
        shown = until(lambda: capsys.readouterr().err, "it is drawn")
    assert "\\x1b]0;x\\x07, 0 s" in shown


def test_who_mistyped_a_setting_is_shown_the_right_names_all_the_same(jumbe, monkeypatch):
    monkeypatch.setenv("JUMBE_LANGUAG", "es")
    status, out, err = jumbe("settings")
    assert status == 2
    assert "JUMBE_LANGUAGE" in out
    assert err.startswith("jumbe: JUMBE_LANGUAG is no setting of Jumbe")
