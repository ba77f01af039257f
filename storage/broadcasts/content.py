"""What a broadcast says and by which channel: its words per language, checked when they are saved, and as SQL where they meet a case."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Row,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal,
    select,
)

from storage.database import Transaction
from storage.errors import Problem
from storage.rules import optout, templates
from storage.rules.channels import CHANNELS, SMS, Channel
from storage.schema import (
    broadcast_audience,
    broadcast_texts,
    broadcasts,
    cases,
)


def broadcast(tx: Transaction, number: int) -> Row[Any]:
    """One broadcast; raises Problem `broadcast-unknown`."""
    row = tx.execute(select(broadcasts).where(broadcasts.c.id == number)).first()
    if row is None:
        raise Problem("broadcast-unknown", number=number)
    return row


def text_of(tx: Transaction, number: int) -> str:
    """The words of a broadcast in its own language."""
    return texts_of(tx, number)[broadcast(tx, number).language]


def check_text(body: str, channel: Channel = SMS) -> None:
    """Refuse words that cannot be sent: Problem `text-blank`, `text-too-long`, `text-reserved`, `field-unknown` or `brace-stray`."""
    if not body.strip():
        raise Problem("text-blank")
    if len(body) > channel.limit:
        raise Problem("text-too-long", length=len(body), limit=channel.limit)
    if (word := optout.read(body)) is not None:
        # A text that is a gateway word alone is acted on by the network, at our end or at theirs.
        raise Problem("text-reserved", word=body.strip()[:20], kind=word)
    templates.parse(body)


_other = broadcast_texts.alias("other")

ITS_WORDS = and_(
    broadcast_texts.c.broadcast_id == broadcasts.c.id,
    broadcast_texts.c.language == broadcasts.c.language,
    broadcast_texts.c.channel
    == select(func.min(_other.c.channel)).where(_other.c.broadcast_id == broadcasts.c.id).scalar_subquery(),
)
"""Joins a broadcast to its words in its own language: one row, also where it had words for more than one channel."""

_TEXTS = select(broadcast_texts).where(broadcast_texts.c.broadcast_id == bindparam("number"))


def texts_of(tx: Transaction, number: int) -> dict[str, str]:
    """The words of a broadcast on its channel, by the language they are in."""
    return _channel_and_texts(tx, number)[1]


def channel_of(tx: Transaction, number: int) -> Channel:
    """The channel by which a broadcast goes."""
    return _channel_and_texts(tx, number)[0]


def _channel_and_texts(tx: Transaction, number: int) -> tuple[Channel, dict[str, str]]:
    rows = tx.execute(_TEXTS, {"number": number}).all()
    name = min(row.channel for row in rows)
    return CHANNELS[name], {row.language: row.text for row in rows if row.channel == name}


class Content(NamedTuple):
    """What a broadcast says to whom: its words by language, the language of whoever has no better one, since when, and how."""

    number: int
    texts: tuple[tuple[str, str], ...]
    language: str
    frozen_at: datetime
    channel: Channel


_LANGUAGE_AND_FREEZING = (
    select(broadcasts.c.language, func.max(broadcast_audience.c.frozen_at).label("frozen_at"))
    .join(broadcast_audience, broadcast_audience.c.broadcast_id == broadcasts.c.id)
    .where(broadcasts.c.id == bindparam("number"))
    .group_by(broadcasts.c.id)
)


def content_of(tx: Transaction, number: int) -> Content:
    """What a broadcast says and since when its recipients stand."""
    frozen = tx.execute(_LANGUAGE_AND_FREEZING, {"number": number}).one()
    channel, texts = _channel_and_texts(tx, number)
    return Content(number, tuple(texts.items()), frozen.language, frozen.frozen_at, channel)


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
