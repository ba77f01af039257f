"""A phone's signature, a quotation and a reaction are not what their sender says."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.rules import doubts, optout, quotations
from tests.pages import ROOT

SIGNATURES = """
    Sent from my iPhone | Sent from my iPad | Sent from my Samsung Galaxy smartphone. | Sent from my Huawei Mobile | Sent from my phone
    Sent from Yahoo Mail | Sent from Yahoo Mail on Android | Sent from Yahoo Mail for iPhone | Sent from Outlook for iOS | Sent from Gmail Mobile
    Sent from Mail for Windows 10 | Sent via the Samsung Galaxy S21 5G | Sent from my T-Mobile 4G LTE Device | Sent with Proton Mail secure email.
    Sent via BlackBerry from T-Mobile | Get Outlook for Android | Get Outlook for iOS<https://aka.ms/o0ukef> | sent from my tecno
    Enviado desde mi iPhone | Enviado desde Yahoo Mail | Enviado desde mi Samsung Galaxy | Obtener Outlook para Android | Obtén Outlook para iOS
    Enviado do meu iPhone | Enviado a partir do meu smartphone Samsung Galaxy. | Obter o Outlook para Android
    Envoyé de mon iPhone | Envoyé depuis mon iPhone | Envoyé à partir de Outlook pour Android | Obtenez Outlook pour Android
    Von meinem iPhone gesendet | Gesendet von meinem Samsung Galaxy | Inviato da iPhone | Inviato dal mio iPhone | Verzonden vanaf mijn iPhone
    Dikirim dari iPhone saya | iPhone'umdan gönderildi | Отправлено с iPhone | Надіслано з iPhone | Imetumwa kutoka iPhone yangu | 发自我的iPhone
    मेरे iPhone से भेजा गया | أرسلت من الـ iPhone
"""
REACTIONS = """
    Liked “{}” | Loved “{}” | Disliked “{}” | Laughed at “{}” | Emphasized “{}” | Emphasised "{}" | Questioned “{}” | Liked "{}"
    Reacted 👍 to “{}” | Reacted ❤️ to "{}" | 👍 to “ {} ” | ❤️ to "{}" | Removed a heart from “{}” | Removed a like from “{}”
    Le gustó "{}" | Le encantó “{}” | No le gustó “{}” | Enfatizó “{}” | Reaccionó con 👍 a “{}” | Ha reaccionado con 👍 a "{}"
    A aimé « {} » | A adoré “{}” | A réagi par 👍 à « {} » | Curtiu “{}” | Amou “{}” | Gostou de “{}” | Reagiu com 👍 a “{}”
    Gefällt „{}“ | Ha messo Mi piace a “{}” | Amependa “{}” | Menyukai “{}” | Понравилось «{}» | “{}” को पसंद किया
"""


def listed(block: str) -> list[str]:
    return [one.strip() for line in block.strip().splitlines() for one in line.split(" | ") if one.strip()]


@pytest.mark.parametrize("signature", listed(SIGNATURES))
def test_a_word_with_a_phones_signature_behind_it_is_the_word(signature: str) -> None:
    for between in (" ", "\n", "\n\n", " - ", "\n--\n", ". "):
        for word, meant in (("STOP", "stop"), ("help", "help"), ("Start", "start"), ("ARRET", "stop")):
            text = f"{word}{between}{signature}"
            assert optout.read(quotations.own_words(text)) == meant, text
            assert optout.read(quotations.own_words(text), whole=True) == meant, text


@pytest.mark.parametrize(
    "text",
    [
        "I was sent from my village to your clinic", "The letter was sent from the phone company", "my results were sent by my mother",
        "Sent from my iPhone", "Get outlook on life", "the parcel I sent from my phone was not received today", "stop by later", "",
        "fue enviado desde mi casa al hospital", "a > b", "ama said: hello", "-- ", "my phone is a Samsung",
    ],
)  # fmt: skip
def test_words_of_ones_own_stay(text: str) -> None:
    assert quotations.own_words(text) == text


@pytest.mark.parametrize("reaction", listed(REACTIONS))
def test_a_reaction_says_nothing(reaction: str) -> None:
    text = reaction.format("Visit Monday.\nText STOP to end.")
    assert quotations.is_reaction(text)
    assert quotations.own_words(text) == ""


@pytest.mark.parametrize(
    "text",
    ['She said "stop texting me"', 'I liked "stop"', 'please "stop"', "Liked it, stop", "Liked “x” stop texting me"],
)
def test_what_a_person_says_of_a_quotation_is_no_reaction(text: str) -> None:
    assert not quotations.is_reaction(text)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("> Reply STOP to unsubscribe\nThanks got it", "Thanks got it"),
        ("Thanks\n\nOn Tue, Nov 3, 2026 at 9:00 Clinic wrote:\n> Text STOP", "Thanks"),
        ("Gracias\nEl mar, 3 nov 2026 a las 9:00, Clinica escribió:\n> envie STOP", "Gracias"),
        ("yes\n-----Original Message-----\nText STOP to end", "yes"),
        ("> STOP", ""),
        ("STOP\n> Visit Monday", "STOP"),
    ],
)
def test_quoted_lines_are_left_out(text: str, own: str) -> None:
    assert quotations.own_words(text) == own


@given(st.text(max_size=300) | st.sampled_from(listed(SIGNATURES) + listed(REACTIONS)))
def test_whatever_a_text_is_its_own_words_are_part_of_it_and_settle(text: str) -> None:
    own = quotations.own_words(text)
    assert len(own) <= len(text)
    assert set(own) <= set(text) | {"\n"}
    if not any(sign in text for sign in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        assert own in text


@pytest.mark.parametrize(
    "piece", ["sent from my ", '"', "“", "> ", 'liked "', "\n", "-- \n", "👍", "a\n> ", "On a wrote:\n"]
)
def test_a_long_text_costs_little(piece: str) -> None:
    """By the processor's time, and a bound that only something quadratic goes beyond."""
    began = process_time()
    quotations.own_words((piece * 20_000)[:20_000])
    quotations.own_words("Liked “" + (piece * 20_000)[:20_000])
    assert process_time() - began < 2


def examples() -> Path:
    """The labelled texts; skips where this machine has no copy, but never under CI."""
    named = os.environ.get("CONSENT_EXAMPLES")
    path = Path(named) if named else ROOT.parent / "shared" / "data" / "consent_examples.csv"
    if not path.is_file():
        sentence = "The labelled texts are not here: set CONSENT_EXAMPLES to consent_examples.csv."
        if os.environ.get("CI") == "true":
            pytest.fail(sentence + "  CI must not pass without them.")
        pytest.skip(sentence)
    return path


def test_what_people_really_write_is_read_as_they_mean_it() -> None:
    """Of labelled texts (columns text and label) that do not stand here, by which this was measured."""
    with examples().open(encoding="utf-8", newline="") as file:
        texts = [(row["label"], quotations.own_words(row["text"])) for row in csv.DictReader(file)]
    ordinary = [text for label, text in texts if label == "ordinary"]
    stopped = [text for text in ordinary if optout.read(text) == "stop"]
    held = [text for text in ordinary if doubts.is_doubtful(text)]
    print(f"of {len(ordinary)} ordinary texts {len(stopped)} stop and {len(held)} are asked back:", *held, sep="\n")
    assert len(stopped) <= 0.005 * len(ordinary)
    assert len(held) <= 0.03 * len(ordinary)
