"""Texts that open something as they leave: the room of conversations says here what becomes of it.

The outbox knows no conversation.  It asks, in the transaction in which texts are handed over, which of them must wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Turn:
    """A text that is about to leave, and the conversation that it is a turn of."""

    message_id: int
    conversation_id: int


Opens = Callable[[Transaction, Sequence[Turn]], set[int]]
_registered: list[Opens] = []


def register(opens: Opens) -> None:
    """Say who opens conversations: it returns the messages that must wait."""
    _registered[:] = [opens]


def must_wait(tx: Transaction, turns: Sequence[Turn]) -> set[int]:
    """Which of these texts must wait because something else is open on their phone; what the others open is open now."""
    return _registered[0](tx, turns) if turns else set()
