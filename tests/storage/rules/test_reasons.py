"""Why a message is where it is: the desk and the phone say it in the same words."""

import tomllib

from storage.rules.reasons import REASONS, said
from tests.pages import ROOT


def test_the_desk_and_the_phone_give_a_reason_in_the_same_words():
    on_the_phone = tomllib.loads((ROOT / "bot/locales/en.toml").read_text("utf-8"))["reasons"]
    assert on_the_phone == REASONS


def test_a_gateways_own_code_is_told_with_its_meaning_and_an_unknown_word_as_it_is():
    assert said("gateway-code", "30003") == "the phone was off or out of reach (gateway 30003)"
    assert said("gateway-code", "99") == "the network gave a code (gateway 99)"
    assert said("solar-flare") == "solar-flare"
    assert said(None) == ""
