"""What the tests of `confined` let a child do: a module of its own, because the child has to import it."""

import os
import signal
from collections.abc import Iterator

from storage.errors import Problem


def count(data: bytes, upto: int) -> Iterator[int]:
    yield from range(upto)
    yield len(data)


def eat(_data: bytes) -> Iterator[int]:
    yield len("x" * 2**30)


def hang(_data: bytes) -> Iterator[int]:
    signal.pause()
    yield 1


def crash(_data: bytes) -> Iterator[int]:
    yield 1
    os.abort()


def stumble(_data: bytes) -> Iterator[int]:
    yield 1 // 0


def refuse(_data: bytes) -> Iterator[int]:
    raise Problem("sheet-empty", path="x")
    yield


def peek(_data: bytes) -> Iterator[list[str]]:
    print("what a library prints is no answer")
    yield sorted(os.environ)
