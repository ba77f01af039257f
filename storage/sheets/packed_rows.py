"""Long lists in little memory: a million rows with a verdict each are gigabytes as objects, and tens of megabytes as bytes.

Packed   a sequence whose members are kept as plain values, in bytes, and made one by one when somebody looks
"""

from __future__ import annotations

import itertools
import marshal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

PIECE = 4_096
"""Members that are kept, and read again, together."""


class Packed(Sequence[T], Generic[T]):
    """What `make` makes of some tuples of plain values (text, numbers, None, and tuples and lists of these).

    To go through it costs little more than through a list; to pick single members here and there costs a piece each.
    """

    def __init__(self, rows: Iterable[tuple[Any, ...]], make: Callable[..., T]) -> None:
        self._make = make
        self._pieces: list[bytes] = []
        self._length = 0
        self._near: tuple[int, Sequence[tuple[Any, ...]]] = (-1, ())
        rows = iter(rows)
        while piece := list(itertools.islice(rows, PIECE)):
            self._pieces.append(marshal.dumps(piece))
            self._length += len(piece)

    def __len__(self) -> int:  # noqa: D105
        return self._length

    def __iter__(self) -> Iterator[T]:
        """One after another, in order."""
        return (self._make(*row) for row in self.plain())

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        """One of them, or some as a tuple."""
        if isinstance(place, slice):
            return tuple(self[n] for n in range(*place.indices(self._length)))
        which, within = divmod(range(self._length)[place], PIECE)
        if self._near[0] != which:
            self._near = which, marshal.loads(self._pieces[which])  # noqa: S302 (our own bytes)
        return self._make(*self._near[1][within])

    def plain(self) -> Iterator[tuple[Any, ...]]:
        """The tuples themselves."""
        for piece in self._pieces:
            yield from marshal.loads(piece)  # noqa: S302 (our own bytes)
