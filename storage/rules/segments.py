"""What a text costs: its encoding and the parts a gateway will cut it into.

A text whose every character is in the GSM 03.38 alphabet goes as GSM-7, 160 to a message or 153 to each of several
parts; one character outside it turns the whole text into UCS-2, with 70 and 67.  The figures are those of Twilio's
calculator, but for emoji made of several characters, which it keeps in one part and we may cut.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPED = "^{}\\[~]|€\f"
_GSM_UNITS = {**dict.fromkeys(_BASIC, 1), **dict.fromkeys(_ESCAPED, 2)}

_NEAREST = {
    **dict.fromkeys("‘’‚‛′´`ʹʻʼ‹›", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−•·", "-"),
    "…": "...",
    "\t": " ",
    "\u2028": "\n",
    "\u2029": "\n",
    "×": "x",
    "Œ": "OE",
    "œ": "oe",
    **dict(zip("ŁłĐđıŊŋƁɓƊɗƘƙƳƴ", "LlDdiNnBbDdKkYy", strict=True)),
}


@dataclass(frozen=True, slots=True)
class Segments:
    """A text as a gateway counts it.

    `units` are septets or UTF-16 units, `parts` the messages that are paid for (none for an empty text), and
    `forced_by` is the first character that GSM-7 lacks, None when it lacks none.
    """

    encoding: Literal["GSM-7", "UCS-2"]
    units: int
    parts: int
    forced_by: str | None


@lru_cache(maxsize=256)
def count(text: str) -> Segments:
    """How a text is encoded and cut; no part ever ends inside an escape or a surrogate pair."""
    forced_by = next((char for char in text if char not in _GSM_UNITS), None)
    if forced_by is None:
        widths = [_GSM_UNITS[char] for char in text]
        return Segments("GSM-7", sum(widths), _parts(widths, alone=160, joined=153), None)
    widths = [2 if ord(char) > 0xFFFF else 1 for char in text]
    return Segments("UCS-2", sum(widths), _parts(widths, alone=70, joined=67), forced_by)


def is_gsm(text: str) -> bool:
    """Whether a text can be sent without UCS-2."""
    return all(char in _GSM_UNITS for char in text)


def to_gsm(text: str) -> str:
    """The nearest text that GSM-7 can write, for the bot's own sentences.

    Quotes, dashes and the ellipsis become plain, accents that GSM-7 lacks are dropped, invisible characters too;
    whatever has no likeness becomes `?`.  Never for a text that a person wrote to be sent: those go as they are.
    """
    return "".join(_nearest(char) for char in unicodedata.normalize("NFC", text))


def _parts(widths: Iterable[int], *, alone: int, joined: int) -> int:
    widths = list(widths)
    if sum(widths) <= alone:
        return 1 if widths else 0
    parts, room = 1, joined
    for width in widths:
        if width > room:
            parts, room = parts + 1, joined
        room -= width
    return parts


def _nearest(char: str) -> str:
    if char in _GSM_UNITS:
        return char
    if char in _NEAREST:
        return _NEAREST[char]
    if unicodedata.category(char) in {"Cc", "Cf", "Mn", "Me"}:
        return ""
    pieces = [piece for piece in unicodedata.normalize("NFKD", char) if not unicodedata.combining(piece)]
    return "".join(piece if piece in _GSM_UNITS else "?" for piece in pieces) or "?"
