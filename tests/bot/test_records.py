"""`jumbe broadcasts`: what an operator types to send, and what is said before it goes."""

import json

import pytest

from bot.cli import main
from tests.world import World


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
