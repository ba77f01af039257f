"""Texts with holes in them: `Hello {name|friend}, your number is {external_id}`.

Only the fields named here can be filled, and a text is refused when it is saved, not when it is sent.  A value is put
in as it is and never read again, so a case named `{external_id}` is greeted by that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from storage.errors import Problem

FIELDS: tuple[str, ...] = ("name", "external_id", "case_id")

_FIELD = re.compile(r"\{(?P<name>[^{}|]*)(?:\|(?P<default>[^{}]*))?\}")


@dataclass(frozen=True, slots=True)
class Field:
    """A hole: the field that fills it, and the words that do when a case has none."""

    name: str
    default: str


def parse(text: str) -> tuple[str | Field, ...]:
    """The text as literal stretches and fields, in order.

    A field's name may be written in any case and with spaces round it, as phones do by themselves.
    Raises Problem `field-unknown` (`field`, `known`) or `brace-stray` (`near`).
    """
    parts: list[str | Field] = []
    end = 0
    for hole in _FIELD.finditer(text):
        parts.append(_literal(text, end, hole.start()))
        parts.append(_field(text, hole))
        end = hole.end()
    parts.append(_literal(text, end, len(text)))
    return tuple(part for part in parts if part != "")


def render(parts: Iterable[str | Field], values: Mapping[str, str | None]) -> str:
    """The text for one case; a value that is missing or blank is replaced by the field's default."""
    return "".join(part if isinstance(part, str) else _filled(part, values) for part in parts)


def _filled(field: Field, values: Mapping[str, str | None]) -> str:
    value = values.get(field.name)
    return value if value and not value.isspace() else field.default


def _field(text: str, hole: re.Match[str]) -> Field:
    name = hole["name"].strip().lower()
    if not name:
        raise _stray(text, hole.start())
    if name not in FIELDS:
        raise Problem("field-unknown", field=hole["name"].strip(), known=", ".join(FIELDS))
    return Field(name, (hole["default"] or "").strip())


def _literal(text: str, start: int, end: int) -> str:
    stray = re.compile(r"[{}]").search(text, start, end)
    if stray:
        raise _stray(text, stray.start())
    return text[start:end]


def _stray(text: str, at: int) -> Problem:
    return Problem("brace-stray", near=text[max(0, at - 8) : at + 9].strip())
