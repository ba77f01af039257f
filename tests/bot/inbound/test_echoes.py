"""Our own words that come back act on nothing; what they teach does."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from bot.commands.dispatch import verbs_of
from bot.commands.registry import COMMANDS
from bot.gateways.base import Inbound
from bot.inbound import echoes, listeners
from bot.replies import FOLDER, Sentences, read
from storage import schema
from storage.contacts import consent
from storage.database import Database
from storage.messages import lookups, outbox
from storage.operations import codes
from tests.bot.longest_values import values_for
from tests.world import World

LENA, AMA = "233244000901", "233244000101"
LANGUAGES = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.fixture
def town(db: Database, world: World) -> Database:
    ama = world.case("ama", AMA)
    world.group("anc", ama)
    for n in range(12):
        world.case(f"p{n}", f"2332440002{n:02}")
    world.person("Lena", LENA)
    return db


def sent(db: Database, phone: str, body: str) -> None:
    """A text of ours that has reached a phone."""
    with db.transaction() as tx:
        number = outbox.queue(tx, phone, body, "reply")
        there = {"state": "delivered", "handed_over_at": tx.now, "settled_at": tx.now}
        tx.execute(update(schema.messages).where(schema.messages.c.id == number).values(there))


def text(db: Database, phone: str, body: str) -> Any:
    """The row of a text that comes in from a phone, handled."""
    listeners.take(db, "simulator", Inbound(secrets.token_hex(8), phone, "", body))
    with db.reading() as tx:
        return lookups.list_all(tx, direction="in", phone=phone)[0]


def answers(db: Database, phone: str) -> list[str]:
    with db.reading() as tx:
        return [row.body for row in lookups.list_all(tx, direction="out", phone=phone) if row.handed_over_at is None]


def said_by(language: Sentences) -> list[str]:
    """Every answer that this language can give, with its longest values, and how each verb is used."""
    given = [language.say((key, values_for(language, key))) for key in language.sentences]
    return [one for one in [*given, *language.usage.values()] if len(echoes._compared(one)) >= echoes.WHOLE]


def come_back(body: str) -> list[str]:
    """One of ours as phones bring it back, with a code in place of its mask."""
    digits = body.replace(codes.mask(codes.LONG), "4821930000").replace(codes.mask(codes.SHORT), "482193")
    curly = digits.replace('"', "”").replace("'", "’").replace(" ", "\u00a0", 1)
    lines = "\n".join(f"> {line}" for line in digits.replace(". ", ".\n").splitlines())
    return [
        digits, digits.upper(), f"Fwd: {digits}", f"RE: FW: {digits}", f'"{digits}"', f"“{curly}”", lines, f"{digits}\nSent from my iPhone",
        digits.replace(" ", "  "), f"{digits[: max(30, len(digits) * 3 // 4)]}...",
    ]  # fmt: skip


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_answer_of_ours_is_known_again_however_it_comes_back(code: str) -> None:
    missed = [
        back
        for body in said_by(read(FOLDER / f"{code}.toml"))
        for back in come_back(body)
        if not echoes._is(echoes.quotations.without_signature(back), echoes._compared(body))
    ]
    assert not missed


@pytest.mark.parametrize("code", LANGUAGES)
def test_what_an_answer_teaches_is_no_echo(code: str) -> None:
    """Whoever texts the example of a verb, or the words that an answer says to send next, means it."""
    language = read(FOLDER / f"{code}.toml")
    ours = [echoes._compared(body) for body in said_by(language)]
    taught = [example for command in COMMANDS.values() for example in command.examples]
    taught += [
        usage.rsplit(f"{stop} ", 1)[1]
        for usage in language.usage.values()
        for stop in ("e.g.", "p. ej.")
        if f"{stop} " in usage
    ]
    taught += [f"{verb} 482193" for verb in verbs_of(language)]
    assert not [words for words in taught if any(echoes._is(words, one) for one in ours)]


def test_an_answer_that_comes_back_does_nothing_and_is_said_to_do_nothing(town: Database) -> None:
    body = "1 ADD anc: 12 people. Reply ok ****** to do it, no 1 to drop. Good for 15 min"
    sent(town, LENA, body)
    for back in come_back(body):
        assert text(town, LENA, back).handled_as == "echo"
    with town.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(schema.operations)) == 0
        assert tx.scalar(select(func.count()).select_from(schema.memberships)) == 1
    assert len(answers(town, LENA)) == listeners.ECHOES_ANSWERED


def test_what_went_to_another_phone_or_long_ago_is_no_echo(town: Database, clock: Any) -> None:
    sent(town, AMA, "Visit us on Monday at nine, please")
    assert text(town, LENA, "Visit us on Monday at nine, please").handled_as == "command"
    assert text(town, AMA, "Visit us on Monday at nine, please").handled_as == "echo"
    clock.advance(seconds=(echoes.LATELY + timedelta(hours=1)).total_seconds())
    assert text(town, AMA, "Visit us on Monday at nine, please").handled_as == "inbox"


def test_short_words_that_we_said_too_are_an_answer(town: Database) -> None:
    sent(town, AMA, "Thank you")
    assert text(town, AMA, "Thank you").handled_as == "inbox"


def test_a_reaction_or_a_quotation_of_ours_stops_and_holds_nobody(town: Database) -> None:
    sent(town, AMA, "Visit Monday. Text STOP to end.")
    for said in (
        "Liked “Visit Monday. Text STOP to end.”", "Le gustó \"Visit Monday. Text STOP to end.\"", "👍 to “ Visit Monday. Text STOP to end. ”",
        "Abo “Visit Monday. Text STOP to end.”", "> Visit Monday.\n> Text STOP to end.", "Visit Monday. Text STOP to end.\n\nthank you nurse",
        "ok\nOn Tue, Nov 3, 2026 at 9:00 AM Clinic wrote:\n> Visit Monday. Text STOP to end.",
    ):  # fmt: skip
        assert text(town, AMA, said).handled_as in ("reaction", "echo", "inbox"), said
        with town.reading() as tx:
            assert consent.newest(tx, AMA) is None, said


def test_a_stop_above_a_quotation_of_ours_is_a_stop(town: Database) -> None:
    sent(town, AMA, "Visit Monday. Text HELP for help.")
    assert text(town, AMA, "STOP\n> Visit Monday. Text HELP for help.").handled_as == "stop"


def test_a_command_keeps_its_text_although_we_said_the_same(town: Database) -> None:
    sent(town, LENA, "Clinic closed on Friday and Monday")
    text(town, LENA, 'tell anc "Clinic closed on Friday and Monday"')
    text(town, LENA, "tell anc Clinic closed on Friday and Monday")
    with town.reading() as tx:
        told = (
            tx.execute(select(schema.broadcast_texts.c.text).order_by(schema.broadcast_texts.c.broadcast_id))
            .scalars()
            .all()
        )
    assert told == ['"Clinic closed on Friday and Monday"', "Clinic closed on Friday and Monday"]


def test_only_so_many_texts_of_a_phone_are_looked_through(town: Database) -> None:
    for n in range(3 * echoes.AT_MOST + 5):
        sent(town, AMA, f"The clinic is open today from nine, number {n}")
    with town.reading() as tx:
        window = (tx.now - echoes.LATELY, tx.now)
        assert len(lookups.bodies_to(tx, AMA, *window, at_most=echoes.AT_MOST)) == echoes.AT_MOST
    assert text(town, AMA, "The clinic is open today from nine, number 124").handled_as == "echo"


def test_a_staff_phones_automatic_answer_drops_nothing_and_is_soon_left_alone(town: Database) -> None:
    text(town, LENA, "tell anc Clinic closed Friday")
    for _ in range(61):
        text(town, LENA, "No puedo hablar ahora. ¿Qué sucede?")
    with town.reading() as tx:
        assert tx.scalar(select(schema.operations.c.state)) == "waiting"
    assert len(answers(town, LENA)) == 1 + listeners.SAME_REFUSALS
