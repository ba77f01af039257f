"""What a line of the audit log, and each change under it, is reduced to: canonical JSON, sha256, and a salt of its own.

A change's digest is over its salt, its place, whose it is and its values; a line's digest is over the place, the subject
and the digest of each of its changes.  To forget the values of a change is to set `before`, `after` and `salt` to NULL:
the digest stays, so that the line's digest still fits, and without the salt nobody finds the values by guessing them.

A line of a release before revision 0011 keeps the digest that it was written with, one over the values of all its changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

SALTED = "salted:"
"""How the digest of a line begins that is over the digests of its changes; without it, it is over their values."""

SALT_BYTES = 16


def hash_of(entry: Mapping[str, Any]) -> str:
    """The hash of a line: sha256 over the hash before it and its own columns in canonical JSON."""
    own = {name: value for name, value in entry.items() if name not in ("id", "hash")}
    return hashlib.sha256(_canonical(own)).hexdigest()


def digest_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """The digest of a line of before revision 0011: over the values of its changes, in order."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(_canonical(row) + b"\n")
    return whole.hexdigest()


def salted(rows: Sequence[dict[str, Any]]) -> str:
    """Give each change under a line its `salt` and its `digest`; returns the digest of the line.

    The rows are in order and have `position`, `subject`, `subject_id`, `before` and `after`, and nothing else.
    """
    salts = os.urandom(SALT_BYTES * len(rows)).hex()
    whole = hashlib.sha256()
    for n, row in enumerate(rows):
        salt = salts[2 * SALT_BYTES * n : 2 * SALT_BYTES * (n + 1)]
        digest = _of_a_change(salt, _canonical(row))
        whole.update(_place(row, digest))
        row["salt"], row["digest"] = salt, digest
    return SALTED + whole.hexdigest()


@dataclass(frozen=True, slots=True)
class Under:
    """What stands under a line now.

    `intact`: each change fits its own digest, or is forgotten as a whole.  `plain` is the digest that a line of before
    revision 0011 has of the same, where nothing is forgotten, and `salted` the digest of a line of today.
    """

    intact: bool
    plain: str
    salted: str
    forgotten: int


UNREADABLE = Under(intact=False, plain="unreadable", salted="unreadable", forgotten=0)
"""What could never have been written."""


def under(rows: Iterable[Mapping[str, Any]], *, has_digests: bool = True) -> Under:
    """The digests of what stands under a line; its rows in order, with `is_forgotten` where both values are NULL.

    `has_digests` is False in a database of before revision 0011.
    """
    plain, whole = hashlib.sha256(), hashlib.sha256()
    intact, forgotten = True, 0
    for row in rows:
        salt, digest = row["salt"], row["digest"]
        if row["is_forgotten"]:
            forgotten += 1
            intact = intact and salt is None and isinstance(digest, str) and len(digest) == whole.digest_size * 2
        else:
            own = _canonical({name: row[name] for name in OF_A_CHANGE})
            plain.update(own + b"\n")
            # A salt of another length could lend letters to the values, or borrow some from them.
            fits = isinstance(salt, str) and len(salt) == 2 * SALT_BYTES and _of_a_change(salt, own) == digest
            intact = intact and (fits or not has_digests)
        whole.update(_place(row, digest))
    return Under(intact, plain.hexdigest(), SALTED + whole.hexdigest(), forgotten)


OF_A_CHANGE = ("position", "subject", "subject_id", "before", "after")


def _of_a_change(salt: str, own: bytes) -> str:
    return hashlib.sha256(salt.encode() + own).hexdigest()


def _place(row: Mapping[str, Any], digest: str) -> bytes:
    """What the digest of a line is over: all of a change that stays when its values are forgotten, in canonical JSON."""
    position, subject, subject_id = row["position"], row["subject"], row["subject_id"]
    if type(position) is type(subject_id) is int and type(subject) is type(digest) is str:
        # The same by hand, in a fifth of the time: there may be 300,000 under a line.
        return f"[{position},{_quoted(subject)},{subject_id},{_quoted(digest)}]\n".encode()
    return _canonical([position, subject, subject_id, digest]) + b"\n"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} cannot stand in an audit line")


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)


def _canonical(value: Any) -> bytes:
    return _JSON.encode(value).encode()
