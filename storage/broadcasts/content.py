"""What a broadcast says: its words per language, checked when they are saved, and as SQL where they meet a case."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Row,
    Text,
    bindparam,
    case,
    func,
    literal,
    select,
)

from storage.database import Transaction
from storage.errors import Problem
from storage.rules import optout, templates
from storage.schema import (
    broadcast_audience,
    broadcast_texts,
    broadcasts,
    cases,
)

TOO_LONG = 1600
"""Characters that a gateway takes in one message (Twilio: error 21617 beyond)."""


def broadcast(tx: Transaction, number: int) -> Row[Any]:
    """One broadcast; raises Problem `broadcast-unknown`."""
    row = tx.execute(select(broadcasts).where(broadcasts.c.id == number)).first()
    if row is None:
        raise Problem("broadcast-unknown", number=number)
    return row


def text_of(tx: Transaction, number: int) -> str:
    """The words of a broadcast in its own language."""
    return texts_of(tx, number)[broadcast(tx, number).language]


def check_text(body: str) -> None:
    """Refuse words that cannot be sent: Problem `text-blank`, `text-too-long`, `text-reserved`, `field-unknown` or `brace-stray`."""
    if not body.strip():
        raise Problem("text-blank")
    if len(body) > TOO_LONG:
        raise Problem("text-too-long", length=len(body), limit=TOO_LONG)
    if (word := optout.read(body)) is not None:
        # A text that is a gateway word alone is acted on by the network, at our end or at theirs.
        raise Problem("text-reserved", word=body.strip()[:20], kind=word)
    templates.parse(body)


_TEXTS = select(broadcast_texts).where(broadcast_texts.c.broadcast_id == bindparam("number"))


def texts_of(tx: Transaction, number: int) -> dict[str, str]:
    """The words of a broadcast, by the language they are in."""
    return {row.language: row.text for row in tx.execute(_TEXTS, {"number": number})}


class Content(NamedTuple):
    """What a broadcast says to whom: its words by language, the language of whoever has no better one, and since when."""

    number: int
    texts: tuple[tuple[str, str], ...]
    language: str
    frozen_at: datetime


_LANGUAGE_AND_FREEZING = (
    select(broadcasts.c.language, func.max(broadcast_audience.c.frozen_at).label("frozen_at"))
    .join(broadcast_audience, broadcast_audience.c.broadcast_id == broadcasts.c.id)
    .where(broadcasts.c.id == bindparam("number"))
    .group_by(broadcasts.c.id)
)


def content_of(tx: Transaction, number: int) -> Content:
    """What a broadcast says and since when its recipients stand."""
    frozen = tx.execute(_LANGUAGE_AND_FREEZING, {"number": number}).one()
    return Content(number, tuple(texts_of(tx, number).items()), frozen.language, frozen.frozen_at)


def by_language(each: Mapping[str, ColumnElement[str]], default: str) -> ColumnElement[str]:
    """What goes with the language that a case reads: its own, else its base (`pt-BR` reads `pt`), else the default."""
    if len(each) == 1:
        return each[default]
    code = func.lower(func.coalesce(cases.c.language_code, ""))
    exactly = [(code == name.lower(), what) for name, what in each.items()]
    by_base = [(code.like(f"{name.lower()}-%"), what) for name, what in each.items()]
    return case(*exactly, *by_base, else_=each[default])


def body_of(words: str) -> ColumnElement[str]:
    """A text with its fields, as one SQL concatenation: rendered in the set, and no value is ever rendered again."""
    body: ColumnElement[str] = literal("", Text())
    for part in templates.parse(words):
        if isinstance(part, str):
            body = body.concat(part)
        else:
            body = body.concat(
                func.coalesce(case((func.trim(cases.c[part.name]) != "", cases.c[part.name])), part.default)
            )
    return body
