"""How text typed by people is made comparable.

Phones and spreadsheets write one word in many ways: full-width letters, Arabic-Indic digits, curly quotes, dashes of
five lengths, invisible joiners pasted from a chat.  A Unicode normal form mends only some of these, so the rest are
named here.  Everything that compares typed text compares what `fold` or `key` gives, and nothing else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´`ʹʻʼˈ＇", "'"),
        **dict.fromkeys("“”„‟″«»＂", '"'),
        **dict.fromkeys("−⁃˗", "-"),  # the minus, the hyphen bullet, the modifier minus: dashes outside category Pd
        "⁄": "/",  # what a normal form leaves in the middle of ½
        "\u2800": " ",  # a braille cell with no dots
        # Letters and marks by category, yet nothing is seen of them.
        **dict.fromkeys("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"),
        **dict.fromkeys(chr(code) for code in range(0xFE00, 0xFE10)),
        **dict.fromkeys(chr(code) for code in range(0xE0100, 0xE01F0)),
    }
)


def fold(text: str) -> str:
    """The text as a plain keypad would have written it: one line, single spaces, trimmed.

    Every script's digits become 0-9, curly quotes and dashes become plain, invisible and control characters go, and a
    tab or a new line is a space.  Half a surrogate pair becomes U+FFFD, so that the result can always be stored.
    Letters keep their case and accents.  Folding twice changes nothing.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.replace("`", "'").split())
    return _settled(_fold_once, text)


def key(text: str) -> str:
    """What identifiers are compared by: `fold`, without case."""
    folded = fold(text)
    return folded.lower() if folded.isascii() else _settled(lambda it: _fold_once(it.casefold()), folded)


def searched(text: str) -> str:
    """What names are searched by: `key`, without accents and other marks above or below a letter."""
    folded = key(text)
    if folded.isascii():
        return folded
    apart = unicodedata.normalize("NFD", folded)
    return unicodedata.normalize("NFC", "".join(char for char in apart if unicodedata.combining(char) < 200))


def _settled(step: Callable[[str], str], text: str) -> str:
    """`step` applied until it changes nothing: dropping a joiner may let two characters compose anew."""
    while (after := step(text)) != text:
        text = after
    return text


def _fold_once(text: str) -> str:
    # Before the normal form as well as after it: NFKC takes some quotes apart into a space and an accent.
    normal = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    return " ".join("".join(map(_plain, normal)).split())


def _plain(char: str) -> str:
    """One character by what Unicode says it is."""
    digit = unicodedata.decimal(char, None)
    if digit is None:
        digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"
    if category in {"Zs", "Zl", "Zp"} or char in "\t\n\r\v\f\x85":
        return " "
    if category in {"Cc", "Cf"}:
        return ""
    return "-" if category == "Pd" else char
