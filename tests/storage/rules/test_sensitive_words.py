"""Words that are worth a second look before a text goes to many."""

import pytest

from storage.rules.hours_and_limits import HEALTH_WORDS
from storage.rules.sensitive_words import found_in


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Your HIV test is on Friday", ["HIV"]),
        ("su prueba de (vih)", ["vih"]),
        ("Come to the ART clinic.", ["ART clinic"]),
        ("hiv, HIV and Hiv", ["hiv"]),
        ("Do you come? Reply YES", ["YES"]),
        ('Reply "yes" if you come', ["yes"]),
        ("Responda start", ["start"]),
        ("CANCEL", ["CANCEL"]),
        ("We start at 9, the end is at 12; yes, info at the gate", []),
        ("To get no texts, text STOP. For help, text HELP", []),
        ("hives are itchy; art is long", []),
        ("", []),
    ],
)
def test_what_others_should_not_read_or_a_network_acts_on_is_found_as_it_is_written(text, words):
    assert found_in([text], HEALTH_WORDS) == words


def test_each_word_is_named_once_over_all_languages():
    assert found_in(["HIV test", "prueba de VIH, HIV"], HEALTH_WORDS) == ["HIV", "VIH"]
