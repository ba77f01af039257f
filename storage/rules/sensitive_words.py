"""What a careful person would look at twice before a text goes to many: asked about, never forbidden.

Health words of the programme's own list, which others may read over a shoulder; and words on which a network acts by
itself when somebody answers with them.  STOP and HELP are everybody's right to be told of, so they are no caution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from storage.rules.normalize import searched
from storage.rules.optout import GATEWAY_WORDS

_TAUGHT = frozenset({"stop", "help", "info"})
_ASKING = frozenset(
    {
        "reply", "text", "send", "answer", "respond", "type", "write",
        "responda", "responder", "conteste", "contestar", "envie", "enviar", "escriba", "mande",
        "repondez", "envoyez", "tapez", "jibu", "tuma", "andika",
    }
)  # fmt: skip
"""After these a text asks for the next word as an answer."""

_EDGES = "\"'.,:;!?()[]<>*-"


def found_in(texts: Iterable[str], health_words: Sequence[str]) -> list[str]:
    """The words of these texts that are worth a second look, as they are written, each once."""
    found: dict[str, None] = {}
    for text in texts:
        words = [word.strip(_EDGES) for word in text.split()]
        keys = [searched(word) for word in words]
        found |= dict.fromkeys(_health(words, keys, health_words))
        found |= dict.fromkeys(_asked_for(words, keys))
    return list(found)


def _health(words: Sequence[str], keys: Sequence[str], listed: Iterable[str]) -> Iterable[str]:
    for entry in listed:
        wanted = searched(entry).split()
        for n in range(len(keys) - len(wanted) + 1):
            if wanted and keys[n : n + len(wanted)] == wanted:
                yield " ".join(words[n : n + len(wanted)])
                break


def _asked_for(words: Sequence[str], keys: Sequence[str]) -> Iterable[str]:
    """Words of the network in capitals, or right after a word that asks for an answer."""
    for n, (word, key) in enumerate(zip(words, keys, strict=True)):
        asked = word.isupper() or (n > 0 and keys[n - 1] in _ASKING)
        if key in GATEWAY_WORDS - _TAUGHT and asked:
            yield word
