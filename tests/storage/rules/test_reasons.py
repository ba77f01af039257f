"""Why a message is where it is: the desk and the phone say it in the same words."""

import ast
import re
import subprocess
import sys
import tomllib
from typing import get_args

import pytest

from bot.gateways.base import Scope
from storage.rules.reasons import REASONS, gateway_codes, said
from tests.pages import ROOT

LANGUAGES = sorted((ROOT / "bot/locales").glob("*.toml"))


def spoken(language):
    return tomllib.loads(language.read_text("utf-8"))["reasons"]


def test_the_desk_and_the_phone_give_a_reason_in_the_same_words():
    codes = {known.key: known.words for known in gateway_codes().values()}
    assert spoken(ROOT / "bot/locales/en.toml") == REASONS | codes
    assert {key: said(key) for key in REASONS} == REASONS
    assert {known.key: said("gateway-code", code) for code, known in gateway_codes().items()} == {
        known.key: f"{known.words} (gateway {code})" for code, known in gateway_codes().items()
    }


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda path: path.stem)
def test_each_language_has_words_for_every_reason_of_ours_and_every_code_of_a_gateway(language):
    assert spoken(language).keys() == REASONS.keys() | {known.key for known in gateway_codes().values()}
    assert all(spoken(language).values())


def constants(node):
    """The texts that a value may be: `"left" if row.left else "changed"` may be two."""
    branches = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
    return {each.value for each in branches if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def test_whatever_a_message_is_given_as_its_reason_is_declared():
    given = set(get_args(Scope))
    for path in (*(ROOT / "storage").rglob("*.py"), *(ROOT / "bot").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "reason":
                given |= constants(node.value)
            elif isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                given |= {
                    text for key, value in pairs if key and "reason" in constants(key) for text in constants(value)
                }
    assert {"left", "changed", "absent", "quiet-hours", "no-answer", "gateway-code", "throttled"} <= given
    assert given - {""} <= REASONS.keys()


def test_a_gateways_own_code_is_told_with_its_meaning_and_an_unknown_word_as_it_is():
    assert said("gateway-code", "30003") == "the phone was off or out of reach (gateway 30003)"
    assert said("gateway-code", "30007") == "the network filtered it (gateway 30007)"
    assert said("gateway-code", "99") == "the network gave a code (gateway 99)"
    assert said("solar-flare") == "solar-flare"
    assert said(None) == ""


def test_a_code_of_a_gateway_has_words_in_the_gateways_own_kind():
    assert {known.key for known in gateway_codes().values()} == {f"twilio-{n}" for n in range(30003, 30009)}


def test_the_store_knows_no_codes_of_a_gateway():
    codes = re.compile(rf"\b({'|'.join(gateway_codes())})\b")
    files = [path for path in (ROOT / "storage").rglob("*") if path.suffix in (".py", ".toml", ".md")]
    assert files
    assert [str(path.relative_to(ROOT)) for path in files if codes.search(path.read_text("utf-8"))] == []


def test_a_screen_that_shows_a_code_loads_no_library_of_a_gateway():
    show = "from storage.rules.reasons import said; import sys; print(said('gateway-code', '30003'), 'twilio' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.split("\n")[0] == "the phone was off or out of reach (gateway 30003) False"
