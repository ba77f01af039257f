"""Long lists in little memory: a million rows with a verdict each are gigabytes as objects, and tens of megabytes as bytes.

Packed      a sequence whose members are kept in pieces, as bytes, and made one by one when somebody looks
PackedRows  one whose members are each made of a tuple of plain values; the desk keeps the rows of a file by column
"""

from __future__ import annotations

import bisect
import itertools
import marshal
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

PIECE = 4_096
"""Tuples that are kept, and read again, together."""


class Packed(Sequence[T], Generic[T]):
    """Members kept in pieces of plain values (text, numbers, None, and tuples and lists of these), in order.

    What a piece holds is for each kind of it to say: `_members` makes all of a piece, `_member` one of them.
    To go through it costs little more than through a list; to pick single members here and there costs a piece each.
    """

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._ends: list[int] = []
        self._near: tuple[int, int, Any] = (0, 0, None)

    def keep(self, piece: Any, length: int) -> None:
        """Put a piece of so many members below."""
        self._kept.append(marshal.dumps(piece))
        self._ends.append(len(self) + length)

    def pieces(self) -> Iterator[Any]:
        """The pieces themselves."""
        return map(marshal.loads, self._kept)  # our own bytes

    def __len__(self) -> int:  # noqa: D105
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[T]:
        """One after another, in order."""
        return itertools.chain.from_iterable(map(self._members, self.pieces()))

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        """One of them, or some as a tuple."""
        if isinstance(place, slice):
            return tuple(self[n] for n in range(*place.indices(len(self))))
        place = range(len(self))[place]
        first, end, piece = self._near
        if not first <= place < end:
            which = bisect.bisect_right(self._ends, place)
            first, end = self._ends[which - 1] if which else 0, self._ends[which]
            piece = marshal.loads(self._kept[which])  # noqa: S302 (our own bytes)
            self._near = first, end, piece
        return self._member(piece, place - first)

    @abstractmethod
    def _members(self, piece: Any) -> Iterable[T]:
        """All members of a piece."""

    @abstractmethod
    def _member(self, piece: Any, n: int) -> T:
        """The member at a place of a piece."""


class PackedRows(Packed[T]):
    """What `make` makes of some tuples of plain values."""

    def __init__(self, rows: Iterable[tuple[Any, ...]], make: Callable[..., T]) -> None:
        super().__init__()
        self._make = make
        rows = iter(rows)
        while piece := list(itertools.islice(rows, PIECE)):
            self.keep(piece, len(piece))

    def plain(self) -> Iterator[tuple[Any, ...]]:
        """The tuples themselves."""
        return itertools.chain.from_iterable(self.pieces())

    def _members(self, piece: Any) -> Iterable[T]:
        return itertools.starmap(self._make, piece)

    def _member(self, piece: Any, n: int) -> T:
        return self._make(*piece[n])
