"""What can go wrong in a way that somebody can put right.

    Problem        a person's mistake; the door chooses the sentence in the person's language
    Misconfigured  a fault in the settings or the database file, found at start, every one listed at once

Anything else is a bug: it propagates, is logged with a reference, and costs nobody else anything.
"""

from __future__ import annotations

from collections.abc import Iterable


class Problem(Exception):
    """Something a person can put right.

    `key` names the sentence (`group-unknown`), `values` fill its holes.
    The sentence itself lives at the door, in the person's language.
    """

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values

    def __str__(self) -> str:
        """The key and its values, for a developer."""
        return f"{self.key} {self.values}" if self.values else self.key


class Misconfigured(Exception):
    """The settings or the database cannot be used as they are; `faults` has one sentence for each fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))
