"""Every file of `bot/locales` says all that English says, in texts as short and in verbs that no slip confuses.

Each check names what is wrong with a file in a sentence, so that a new language is finished when nothing is named.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from bot.commands.dispatch import _fill, verbs_of
from bot.commands.registry import COMMANDS
from bot.replies import FOLDER, TABLES, Names, Sentences, read, sentences
from storage.contacts.groups import VERBS
from storage.rules import optout, segments
from storage.rules.identifiers import near
from storage.rules.normalize import key as compared
from tests.bot.longest_values import CODE, longest, values_for

FILES = sorted(FOLDER.glob("*.toml"))
ENGLISH = tomllib.loads((FOLDER / "en.toml").read_text(encoding="utf-8"))
QUIET = {"remove"}
"""Understood where it has arguments, and never taught."""
ALMOST = {("also", "alto")}
"""An English verb and the Spanish stop word one slip away: who slips says more than the one word, and is not stopped."""
TAUGHT_BY_LAW = {"stop", "start", "help"}
KEYPAD = {
    letter: key
    for key, letters in zip("23456789", ["abc", "def", "ghi", "jkl", "mno", "pqrs", "tuv", "wxyz"], strict=True)
    for letter in letters
}


@dataclass(frozen=True)
class Language:
    """A file of a language: what stands in it, and how the bot speaks by it."""

    told: dict[str, Any]
    sentences: Sentences

    def table(self, name: str) -> dict[str, Any]:
        return self.told.get(name, {})

    @property
    def gsm(self) -> bool:
        return bool(self.told.get("gsm", True))

    @property
    def words(self) -> dict[str, str]:
        """Every word that names a verb, in this language and in English, with its command."""
        both = (ENGLISH["verbs"], self.table("verbs"))
        return {word: command for verbs in both for command, spoken in verbs.items() for word in spoken}

    def own(self, command: str) -> list[str]:
        return list(self.table("verbs").get(command, ()))


def language(path: Path) -> Language:
    return Language(tomllib.loads(path.read_text(encoding="utf-8")), read(path))


# -- what is checked of a file: each check yields a sentence for every fault -------------------------------------------


def says_all_that_english_says(it: Language) -> Iterator[str]:
    for table in TABLES:
        for key in ENGLISH.get(table, {}).keys() - it.table(table).keys():
            yield f"[{table}] lacks {key}"
        for key in it.table(table).keys() - ENGLISH.get(table, {}).keys():
            yield f"[{table}] has {key}, which English has not"
    if superfluous := it.told.keys() - {*TABLES, "example", "gsm"}:
        yield f"nothing is known of {sorted(superfluous)}"
    if not it.told.get("example"):
        yield "example is missing: the words that stand before an example"


def has_the_same_holes(it: Language) -> Iterator[str]:
    for key in ENGLISH["sentences"].keys() & it.table("sentences").keys():
        wanted, found = _holes(ENGLISH["sentences"][key]), _holes(it.table("sentences")[key])
        if wanted != found:
            yield f"{key} has the holes {sorted(found)}, English has {sorted(wanted)}"
    for table in ("usage", "reasons"):
        for key, text in it.table(table).items():
            if "{" in text:
                yield f"[{table}] {key} has a bracket, and nothing is filled in there"


PROVING = ("too-many-texts", "lookups-paused")
"""They ask whose texts these are: nothing waits there that could be dropped."""


def fits_one_text_with_its_longest_values(it: Language) -> Iterator[str]:
    for table in ("usage", "sentences", "reasons"):
        for key, text in it.table(table).items():
            if it.gsm and not segments.is_gsm(text):
                yield f"{key} has {segments.count(text).forced_by!r}, which no plain text can hold"
    for key in it.table("sentences").keys() & ENGLISH["sentences"].keys():
        if _holes(it.table("sentences")[key]) != _holes(ENGLISH["sentences"][key]):
            continue
        values = values_for(it.sentences, key)
        text = it.sentences.say((key, values))
        yield from _too_long(it, key, text)
        shape = ".*".join(re.escape(said) for said, *_ in Formatter().parse(f"{{}}{it.sentences.sentences[key]}{{}}"))
        if not re.fullmatch(shape, text):
            yield f"{key} is too long: with its longest values it is cut to {text!r}"
        if "code" in values and key != "reason-code":
            if f"ok {CODE} " not in text:
                yield f"{key} teaches no 'ok {CODE}': {text!r}"
            if f"no {values.get('number')}" not in text and key not in ("second-asked", *PROVING):
                yield f"{key} teaches no 'no {values.get('number')}': {text!r}"
    for command, text in it.table("usage").items():
        yield from _too_long(it, f"the usage of {command}", text)


def keeps_its_end_when_much_is_told_at_once(it: Language) -> Iterator[str]:
    said = it.sentences
    for keys in (
        ("added", "already-in", "not-found", "several-fit", "closed", "no-number", "said-stop", "take-back"),
        ("dropped", "not-in", "not-found", "several-fit", "take-back"),
        ("halted", "halted-unknown", "halted-fix"),
        ("check-not", "check-last"),
        ("check-not", "check-never"),
    ):
        told = [(key, values_for(said, key)) for key in keys]
        if keys[0] in ("added", "dropped"):  # at most ten are put in or taken out at once
            told = [(key, values | {"count": 10} if "count" in values else values) for key, values in told]
        text = said.say(*told)
        yield from _too_long(it, " + ".join(keys), text)
        last = said.sentences[keys[-1]].format(**told[-1][1])
        if not text.endswith(segments.to_gsm(last) if it.gsm else last):
            yield f"{' + '.join(keys)} is too long: it is cut to {text!r}"


def has_verbs_that_a_keypad_can_type(it: Language) -> Iterator[str]:
    for command, spoken in it.table("verbs").items():
        if not spoken:
            yield f"{command} has no word"
        for word in spoken:
            if not (re.fullmatch(r"[a-z0-9]+", word) if it.gsm else word == compared(word) and word.isalnum()):
                yield f"{word!r} is no verb: small letters and digits that need no accent, and no space"


def has_verbs_that_no_slip_confuses(it: Language) -> Iterator[str]:
    meant: dict[str, set[str]] = defaultdict(set)
    for verbs in (ENGLISH["verbs"], it.table("verbs")):
        for command, spoken in verbs.items():
            for word in spoken:
                meant[word].add(command)
    for word, commands in meant.items():
        if len(commands) > 1:
            yield f"{word!r} means {' and '.join(sorted(commands))}"
    for a, b in itertools.combinations(meant, 2):
        if (b in near(a) or a in near(b)) and meant[a] != meant[b]:
            yield f"{a!r} is one slip from {b!r}"
    keys: dict[str, set[str]] = defaultdict(set)
    for word in (*meant, *optout.GATEWAY_WORDS):
        keys["".join(KEYPAD.get(letter, letter) for letter in word)].add(word)
    for words in keys.values():
        if len({frozenset(meant.get(word, {word})) for word in words}) > 1:
            yield f"{sorted(words)} are the same keys"


def has_verbs_far_from_the_words_that_stop_and_start(it: Language) -> Iterator[str]:
    """As far as English: no word of it may be acted on by a gateway or by us, nor may what one slip makes of it."""
    for word in {word for spoken in it.table("verbs").values() for word in spoken} - QUIET:
        for typed in _acted_on(word):
            if (word, typed) not in ALMOST:
                yield f"{word!r} is no verb: {typed!r} would be taken for stop, start or help"


def teaches_no_word_that_is_acted_on(it: Language) -> Iterator[str]:
    code = it.sentences.language
    acted = {*optout.GATEWAY_WORDS, *optout.STOP_WORDS.get(code, ()), *optout.START_WORDS.get(code, ())}
    for key, text, english in _beside_english(it):
        said = _words(text)
        if code == "en":  # where `yes` and `end` are words like others, unless one is asked to text them
            said = _words(" ".join(re.findall(r"\b[A-Z]+\b|(?:[Tt]ext|[Rr]eply|e\.g\.) \w+|\w+ \{", text)))
        for word in sorted(said & (acted - TAUGHT_BY_LAW)):
            yield f"{key} says {word!r}, on which the network or the bot would act"
        lost = {word for word in TAUGHT_BY_LAW if re.search(rf"\b{word.upper()}\b", english)} - _words(text)
        for word in sorted(lost):
            yield f"{key} does not say {word.upper()}"


def teaches_its_own_verbs(it: Language) -> Iterator[str]:
    """Where English says `halt {number}` or `Text menu`, the language says that command by a word of its own."""
    for key, text, english in _beside_english(it):
        own_words = set(itertools.chain(*it.table("verbs").values()))
        for command, hole in sorted(_taught(english)):
            own = it.own(command)
            shapes = [rf"(?<![\w{{]){re.escape(word)}(?![\w}}])" + (f" {hole}" if hole else "") for word in own]
            if own and not any(re.search(shape, text) for shape in shapes):
                yield f"{key} teaches {command} in English, and none of {own} stands here as it does there: {text!r}"
        for word in sorted({word for word, _ in _before_a_hole(text)} & (it.words.keys() - own_words)):
            yield f"{key} teaches the English {word!r}"


def has_examples_that_mean_what_they_explain(it: Language) -> Iterator[str]:
    spoken = it.words
    for command, text in it.table("usage").items():
        if command not in COMMANDS or not it.own(command):
            continue
        taught = it.own(command)[0]
        if not text.startswith(f"{taught.upper()}: "):
            yield f"the usage of {command} does not begin with {taught.upper()}:"
        _, marker, shown = text.rpartition(f"{it.told.get('example')} ")
        words = shown.split()
        if not marker or not words:
            yield f"the usage of {command} has no example after {it.told.get('example')!r}"
        elif spoken.get(words[0]) != command or words[0] not in it.own(command):
            yield f"the example of {command} begins with {words[0]!r}"
        elif _fill(COMMANDS[command], words[1:], shown) is None:
            yield f"the example of {command} is no whole command: {shown!r}"


def has_verbs_that_no_group_can_be_called_by(it: Language) -> Iterator[str]:
    for word in sorted({word for spoken in it.table("verbs").values() for word in spoken} - VERBS):
        if word.isascii():
            yield f"{word!r} is a verb and is not among VERBS in storage/contacts/groups.py"


def has_days_and_answers_that_mean_one_thing(it: Language) -> Iterator[str]:
    for table in ("days", "answers"):
        meant: dict[str, str] = {}
        for words in (ENGLISH.get(table, {}), it.table(table)):
            for key, spoken in words.items():
                if not spoken:
                    yield f"[{table}] {key} has no word"
                for word in spoken:
                    if compared(word) != word.lower() or not word.isalnum():
                        yield f"[{table}] {word!r} is no word as it is compared: small letters, no space"
                    if meant.setdefault(word, key) != key:
                        yield f"[{table}] {word!r} means {meant[word]} and {key}"


def can_say_a_date(it: Language) -> Iterator[str]:
    for month in range(1, 13):
        shown = it.sentences.date(datetime(2026, month, 30 if month != 2 else 28, 14, 3, tzinfo=UTC))
        if it.gsm and not segments.is_gsm(segments.to_gsm(shown)):
            yield f"{shown!r} is no plain text"


CHECKS: list[Callable[[Language], Iterator[str]]] = [
    says_all_that_english_says,
    has_the_same_holes,
    fits_one_text_with_its_longest_values,
    keeps_its_end_when_much_is_told_at_once,
    has_verbs_that_a_keypad_can_type,
    has_verbs_that_no_slip_confuses,
    has_verbs_far_from_the_words_that_stop_and_start,
    teaches_no_word_that_is_acted_on,
    teaches_its_own_verbs,
    has_examples_that_mean_what_they_explain,
    has_verbs_that_no_group_can_be_called_by,
    has_days_and_answers_that_mean_one_thing,
    can_say_a_date,
]


@cache
def _acted_on(word: str) -> list[str]:
    """What one slip at most makes of a word, that a gateway or we would act on."""
    typed = sorted({word, *near(word)})
    return [slip for slip in typed if slip in optout.GATEWAY_WORDS or optout.read(slip, whole=True)]


def _holes(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def _too_long(it: Language, what: str, text: str) -> Iterator[str]:
    size = segments.count(text)
    if size.parts > (1 if it.gsm else 2):
        yield f"{what} is too long, {size.units} for a text: {text!r}"


def _beside_english(it: Language) -> Iterator[tuple[str, str, str]]:
    """Every sentence and usage of a language beside that of English."""
    for table in ("sentences", "usage"):
        for key, text in it.table(table).items():
            yield key, text, ENGLISH[table].get(key, "")


def _words(text: str) -> set[str]:
    """The words of a sentence in small letters, without its holes."""
    return {word.lower() for word in re.findall(r"[^\W\d_]+", re.sub(r"\{\w+\}", " ", text))}


def _before_a_hole(text: str) -> set[tuple[str, str]]:
    """The words that stand before a number, a code or a word in capitals, as a verb does where it is taught; and that."""
    # But not "there is no 42 of yours".
    taught = r"(?<![\w{])(?<!is )(?<!know )([^\W\d_A-Z]+) (\{(?:number|code|group|first|fixed)\}|[A-Z]{2,})"
    return {(word, hole if hole.startswith("{") else "[A-Z]{2,}") for word, hole in re.findall(taught, text)}


def _taught(text: str) -> set[tuple[str, str]]:
    """The commands that an English sentence teaches, each with what stands behind it."""
    said = re.findall(r"(?:[Tt]ext|e\.g\.) ([a-z]+)", text)
    words = _before_a_hole(text) | {(word, "") for word in said}
    meant = {word: command for command, spoken in ENGLISH["verbs"].items() for word in spoken}
    return {(meant[word], hole) for word, hole in words if word in meant}


# -- every language that there is --------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_language(path: Path, check: Callable[[Language], Iterator[str]]) -> None:
    faults = sorted(check(language(path)))
    assert not faults, "\n" + "\n".join(faults)


def test_one_is_never_said_in_the_plural() -> None:
    """A count that can be 1 stands with no plural noun, except where it is never 1 or `one-person` is said instead."""
    never_one = {
        "people",
        "needs-second",
        "needs-second-none",
        "code-wrong",
        "lookups-paused",
        "codes-guessed",
    }
    plurals = {
        "en": "people|tries|texts|codes|groups",
        "es": r"personas|intentos|mensajes|codigos|grupos|\w+[ao]dos|\w+ron",
    }
    for code, nouns in plurals.items():
        told = sentences(code).sentences.items()
        assert {key for key, text in told if re.search(rf"\{{\w+\}} ({nouns})\b", text)} <= never_one


# -- a language that is not finished -----------------------------------------------------------------------------------


def test_a_language_that_is_half_done_is_told_all_that_it_lacks(tmp_path: Path) -> None:
    lines = (FOLDER / "es.toml").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "fr.toml"
    path.write_text("\n".join(line for n, line in enumerate(lines) if n % 2 or line.startswith("[")), encoding="utf-8")
    it = language(path)
    lacking = {f"[{t}] lacks {key}" for t in TABLES for key in ENGLISH.get(t, {}).keys() - it.table(t).keys()}
    assert len(lacking) > 100
    faults = {fault for check in CHECKS for fault in check(it)}
    assert lacking <= faults


def test_what_a_language_lacks_is_said_in_english(tmp_path: Path) -> None:
    path = tmp_path / "fr.toml"
    path.write_text('[verbs]\nhalt = ["freine"]\n[sentences]\nno-none = "Rien n\'attend"\n', encoding="utf-8")
    french = read(path)
    assert french.say(("no-none", {})) == "Rien n'attend"
    assert french.say(("halt-none", {})) == "Nothing is running, nothing to halt"
    assert french.verb("halt") == "freine"
    assert french.verb("tell") == "tell"


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ('halt = ["frena"', 'halt = ["Frena!"', "'Frena!' is no verb"),
        ('halt = ["frena"', 'halt = ["freña"', "'freña' is no verb"),
        ('halt = ["frena"', 'halt = ["cancel"', "'cancel' would be taken for stop, start or help"),
        ('halt = ["frena"', 'halt = ["alt"', "'alto' would be taken for stop, start or help"),
        ('halt = ["frena"', 'halt = ["sacas"', "'sacar' is one slip from 'sacas'"),
        ('halt = ["frena"', 'halt = ["sac2"', "'saca' is one slip from 'sac2'"),
        ('halt = ["frena"', 'halt = ["acord"', "'acord' is a verb and is not among VERBS"),
        ('halt = ["frena"', 'halt = ["menu"', "'menu' means halt and menu"),
        ('who = ["quien"', 'who = ["undp"', "'undo' is one slip from 'undp'"),
        ("no {number} para dejarlo", "{number} para dejarlo", "ask-delete teaches no 'no 123456'"),
        ("Envie frena {number} para pararlo", "Envie halt {number} para pararlo", "going teaches the English 'halt'"),
        ("Envie frena {number} para pararlo", "Envie {number} para pararlo", "going teaches halt in English"),
        ("deshaz {number}\"\nadded", "deshas {number}\"\nadded", "made teaches undo in English"),
        ("Envie menu para ver mas", "Envie algo para ver mas", "plain-text teaches menu in English"),
        ("Nadie recibio {number}", "Nadie recibio", "fix-nobody has the holes []"),
        ("la lista completa", "la lista completa " + "x" * 150, "who is too long"),
        ("Deshace lo que usted", "Deshace lo que usted " * 4, "the usage of undo is too long"),
        ("espera su turno", "espera su turno en la fila" * 8, "is too long"),
        ("Este telefono dijo", "Este teléfono díjo", "phone-stopped has 'í'"),
        ("nada que frenar\"\nhalt-several", "nada que cancelar\"\nhalt-several", "halt-none says 'cancelar'"),
        ("nada que frenar\"\nhalt-several", "o quite, quit\"\nhalt-several", "halt-none says 'quit'"),
        ("envie START\"\nstart", "envie otro\"\nstart", "stop-confirmed does not say START"),
        ("p. ej. saca anc p-104", "p. ej. saca anc", "the example of drop is no whole command"),
        ("p. ej. saca anc p-104", "p. ej. agrega anc p-104", "the example of drop begins with 'agrega'"),
        ("p. ej. saca anc p-104", "saca anc p-104", "the usage of drop has no example"),
        ("SACA: saca", "QUITA: saca", "the usage of drop does not begin with SACA:"),
        ("gsm = true", "gsm = true\ncolour = 'red'", "nothing is known of ['colour']"),
        ('example = "p. ej."', "", "example is missing"),
        ("queued = ", "waits = ", "[reasons] lacks queued"),
        ("queued = ", "waits = ", "[reasons] has waits, which English has not"),
    ],
)  # fmt: skip
def test_each_check_can_fail(tmp_path: Path, right: str, wrong: str, fault: str) -> None:
    spanish = (FOLDER / "es.toml").read_text(encoding="utf-8")
    assert right in spanish
    path = tmp_path / "es.toml"
    path.write_text(spanish.replace(right, wrong, 1), encoding="utf-8")
    faults = [fault for check in CHECKS for fault in check(language(path))]
    assert any(fault in found for found in faults), faults


def test_a_language_in_another_script_may_take_two_texts(tmp_path: Path) -> None:
    path = tmp_path / "am.toml"
    told = 'example = "e.g."\ngsm = {gsm}\n[verbs]\nhalt = ["አቁመው"]\n[sentences]\nno-none = "{said}"\n'

    def faults(gsm: str, said: str) -> set[str]:
        path.write_text(told.format(gsm=gsm, said=said), encoding="utf-8")
        checks = set(CHECKS) - {says_all_that_english_says}
        return {fault for check in checks for fault in check(language(path))}

    assert faults("false", "ምንም የሚጠብቅ የለም") == set()
    assert any("no-none is too long" in fault for fault in faults("false", "ምንም የሚጠብቅ የለም " * 10))
    assert "no-none has 'ም', which no plain text can hold" in faults("true", "ምንም የሚጠብቅ የለም")


# -- who hears which language ------------------------------------------------------------------------------------------


def test_a_language_falls_back_to_its_base_and_to_english() -> None:
    for code, heard in {
        "en-GH": "en", "es": "es", "es-MX": "es", "ES_mx": "es", "es-Latn-419": "es", "xx": "en", "": "en", None: "en",
        "../../etc/passwd": "en", "es/../en": "en", "español": "en",
    }.items():  # fmt: skip
        assert sentences(code).language == heard, code


def test_english_verbs_are_understood_in_every_language() -> None:
    for path in FILES:
        spoken = verbs_of(read(path))
        assert all(spoken[word] == command for command, words in ENGLISH["verbs"].items() for word in words)


def test_a_date_is_written_as_the_language_writes_it() -> None:
    at = datetime(2026, 1, 9, 7, 5, tzinfo=UTC)
    assert sentences("en").date(at) == "9 Jan 07:05"
    assert sentences("es").date(at) == "9 ene 07:05"


def test_an_unknown_reason_is_shown_as_it_is_in_every_language() -> None:
    for path in FILES:
        assert read(path).reason("a-new-one").startswith("a-new-one")
        assert "30003" in read(path).reason("gateway-code", "30003")
    assert isinstance(longest(sentences("es"))["numbers"], Names)
