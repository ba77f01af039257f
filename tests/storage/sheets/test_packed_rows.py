"""What is kept in little memory is the same sequence that a list would be."""

import pytest

from storage.sheets.packed_rows import PIECE, Packed, PackedRows


class Letters(Packed[str]):
    """Letters kept as texts of any length: pieces that are not of one size."""

    def _members(self, piece):
        return piece

    def _member(self, piece, n):
        return piece[n]


def letters(*texts):
    kept = Letters()
    for text in texts:
        kept.keep(text, len(text))
    return kept


def is_the_same(kept, plain):
    places = range(-len(plain), len(plain))
    assert len(kept) == len(plain)
    assert list(kept) == plain
    assert [kept[place] for place in places] == [plain[place] for place in places]
    assert [kept[place] for place in reversed(places)] == [plain[place] for place in reversed(places)]
    for cut in (slice(None), slice(1, -1), slice(None, None, -2), slice(3, 1), slice(-2, None)):
        assert kept[cut] == tuple(plain[cut])
    for place in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            kept[place]


@pytest.mark.parametrize("texts", [(), ("",), ("a",), ("abc", "d"), ("a", "bcd", "", "ef", ""), ("", "xy", "z")])
def test_pieces_of_any_size_are_one_sequence(texts):
    is_the_same(letters(*texts), list("".join(texts)))


@pytest.mark.parametrize("length", [0, 1, 2, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 1])
def test_rows_are_made_of_the_tuples_that_were_kept(length):
    rows = [(n, f"p-{n}", (None, [n / 2])) for n in range(length)]
    kept = PackedRows(iter(rows), lambda *row: {"made": row})
    is_the_same(kept, [{"made": row} for row in rows])
    assert list(kept.plain()) == rows


def test_pieces_are_made_when_somebody_looks_and_a_piece_at_a_time():
    made = []
    kept = PackedRows(((n,) for n in range(3 * PIECE)), made.append)
    assert made == []
    next(iter(kept))
    kept[2 * PIECE]
    assert made == [0, 2 * PIECE]
