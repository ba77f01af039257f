"""What a page may ask of a panel: verbs that are declared, each with a right and typed arguments.

Whatever a page sends is a stranger's: anybody who is signed in can send anything.  So a question is read here, before
any code of a panel sees it.  A verb is found in a table and never by its name on an object; an argument has the type, the
length and the range that the method's own annotation declares; and whatever else comes is refused by a sentence.  What a
verb gets is therefore a value to look up or to store.  No argument is ever a piece of a path, of a template, of SQL, or
the name of an attribute: names of files are ours.

    verb       declares a method of a panel as a verb, and the right that it takes
    declared   the verbs of a panel, from the annotations of its methods; a method without them is a TypeError at import
    read       a question of a page as a verb and its arguments; raises Problem `ask-...`

No part of a panel's widget is known here, so that another host can ask the same panels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from storage.contacts.people import RIGHTS
from storage.errors import Problem

F = TypeVar("F", bound=Callable[..., Any])

LARGEST_NUMBER: Final = 2**31 - 1
"""The largest id that a row can have."""

LARGEST_OPERATION: Final = 2**53 - 1
"""The largest number of an operation that a script can hold."""

LARGEST_SHEET: Final = 8 * 2**20
"""Bytes of a sheet that a page may send; the browser refuses a larger one before it is sent."""

ANYBODY: Final = ""
"""The right of a verb that touches no data."""


# -- the shapes that a value may have ----------------------------------------------------------------------------------


class Shape(NamedTuple):
    """What a value has to be: its Python type, in words after "has to be", and whether a value, any at all, `fits`."""

    of: type
    wanted: str
    fits: Callable[[Any], bool]


def text(at_most: int) -> Shape:
    """A text of so many characters at most, which every database can hold."""

    def fits(value: Any) -> bool:
        return type(value) is str and len(value) <= at_most and _is_storable(value)

    return Shape(str, f"a text of at most {at_most:,} characters", fits)


def choice(*words: str) -> Shape:
    """One of some words."""
    wanted = f"one of {', '.join(word or 'blank' for word in words)}"
    return Shape(str, wanted, lambda value: type(value) is str and value in words)


def whole(at_most: int) -> Shape:
    """A whole number from 0 on; true and false are none."""
    wanted = f"a whole number from 0 to {at_most:,}"
    return Shape(int, wanted, lambda value: type(value) is int and 0 <= value <= at_most)


def measure(at_most: int) -> Shape:
    """A number from 0 on, with or without a fraction; what is not finite is none."""

    def fits(value: Any) -> bool:
        return type(value) in (int, float) and 0 <= value <= at_most  # which no NaN is, and no infinity

    return Shape(float, f"a number from 0 to {at_most:,}", fits)


def moment() -> Shape:
    """Blank, or a day or a moment of our times as in ISO 8601, such as 2026-11-03 or 2026-11-03T14:30."""

    def fits(value: Any) -> bool:
        if type(value) is not str or len(value) > 40:
            return False
        try:
            return not value or 1970 <= datetime.fromisoformat(value).year <= 2199
        except ValueError:
            return False

    return Shape(str, "a day such as 2026-11-03", fits)


def many(each: Shape, at_most: int) -> Shape:
    """A list of so many values at most."""

    def fits(value: Any) -> bool:
        return type(value) is list and len(value) <= at_most and all(map(each.fits, value))

    return Shape(list, f"a list of at most {at_most:,}, each {each.wanted}", fits)


def named(name: Shape, each: Shape, at_most: int) -> Shape:
    """So many values at most, each under a name."""

    def fits(value: Any) -> bool:
        return (
            type(value) is dict
            and len(value) <= at_most
            and all(name.fits(under) and each.fits(one) for under, one in value.items())
        )

    return Shape(dict, f"at most {at_most:,} values, each {each.wanted}, under a name", fits)


def file(at_most: int) -> Shape:
    """The one file that comes with a question, in bytes; never a value among its arguments."""
    return Shape(bytes, f"a file of at most {at_most // 2**20} MB", lambda value: memoryview(value).nbytes <= at_most)


_YES_OR_NO: Final = Shape(bool, "yes or no", lambda value: type(value) is bool)


def _or_nothing(shape: Shape) -> Shape:
    return Shape(shape.of, f"{shape.wanted}, or nothing", lambda value: value is None or shape.fits(value))


def _is_storable(value: str) -> bool:
    """PostgreSQL holds no NUL, and half a character of two (a lone surrogate) is no text in UTF-8."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


# What the panels declare.  Roomier than any rule of the store, whose own sentences say more; these are only ends.
Short = Annotated[str, text(100)]
"""A short name, an id, a mark, a word of a list."""

Line = Annotated[str, text(500)]
"""What stands in a field of one line: a name, something to search, a number of a phone."""

Words = Annotated[str, text(10_000)]
"""What stands in a box: the text of a broadcast, a list of single cases."""

Pasted = Annotated[str, text(1_000_000)]
"""What may be pasted from a sheet."""

Number = Annotated[int, whole(LARGEST_NUMBER)]
"""A row id, a place in a list."""

Operation = Annotated[int, whole(LARGEST_OPERATION)]
"""The number of an operation or a broadcast."""

Pixels = Annotated[float, measure(100_000)]

Day = Annotated[str, moment()]

Sheet = Annotated[bytes, file(LARGEST_SHEET)]


# -- verbs -------------------------------------------------------------------------------------------------------------


class Verb(NamedTuple):
    """One thing that a page can ask of a panel: the `method` that answers, the `right` it takes, and what it is given."""

    name: str
    method: str
    right: str
    shapes: Mapping[str, Shape]
    needed: frozenset[str]

    @property
    def file(self) -> str | None:
        """The argument that is the file of a question, if it takes one."""
        return next((name for name, shape in self.shapes.items() if shape.of is bytes), None)


def verb(right: str) -> Callable[[F], F]:
    """Declare a method `do_VERB` as a verb that takes a right of a role, or `ANYBODY`.

    The verbs of the store still check what they change; this is the first door and not the only one.
    """
    if right != ANYBODY and not any(right in rights for rights in RIGHTS.values()):
        raise TypeError(f"{right} is a right of no role")

    def declare(method: F) -> F:
        method.right_of_verb = right  # type: ignore[attr-defined]
        return method

    return declare


def declared(panel: type) -> Mapping[str, Verb]:
    """The verbs of a panel by name.

    Raises TypeError for a `do_...` that is not declared by `verb`, takes any argument whatever, or takes one without a
    bounded type: such a panel cannot be imported.
    """
    found = {}
    for method in sorted(name for name in dir(panel) if name.startswith("do_")):
        act = inspect.getattr_static(panel, method)
        right = getattr(act, "right_of_verb", None)
        if not inspect.isfunction(act) or right is None:
            raise TypeError(f"{panel.__name__}.{method} is not declared by @verb")
        hints = get_type_hints(act, include_extras=True)
        _self, *parameters = inspect.signature(act).parameters.values()
        shapes = {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise TypeError(f"{panel.__name__}.{method} takes {parameter}, which nobody declared")
            shapes[parameter.name] = _shape(hints.get(parameter.name), f"{panel.__name__}.{method}({parameter.name})")
        needed = frozenset(parameter.name for parameter in parameters if parameter.default is parameter.empty)
        name = method.removeprefix("do_")
        found[name] = Verb(name, method, right, shapes, needed)
    return found


def _shape(hint: Any, where: str) -> Shape:
    """The shape that an annotation declares."""
    if hint is bool:
        return _YES_OR_NO
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal and all(type(word) is str for word in inside):
        return choice(*inside)
    if origin in (Union, UnionType) and len(inside) == 2 and NoneType in inside:
        (other,) = (one for one in inside if one is not NoneType)
        return _or_nothing(_shape(other, where))
    if origin is Annotated:
        shapes = [one for one in inside[1:] if isinstance(one, Shape)]
        if len(shapes) == 1 and shapes[0].of is (get_origin(inside[0]) or inside[0]):
            return shapes[0]
    raise TypeError(f"{where} has no bounded type: {hint}")


# -- a question --------------------------------------------------------------------------------------------------------


def read(verbs: Mapping[str, Verb], asked: Any, buffers: Any = ()) -> tuple[Verb, dict[str, Any]]:
    """The verb that a page asks for, and its arguments; `asked` and `buffers` may be anything at all.

    Raises Problem `ask-shape`, `ask-verb`, `ask-unknown`, `ask-missing`, `ask-wrong`, `ask-no-file`, `ask-file-missing`
    or `ask-file-large`.
    """
    if type(asked) is not dict:
        raise Problem("ask-shape")
    name, args = asked.get("verb"), asked.get("args", {})
    if type(name) is not str or name not in verbs:
        raise Problem("ask-verb")
    if type(args) is not dict:
        raise Problem("ask-shape")
    found = verbs[name]
    for given, value in args.items():
        if given == found.file or given not in found.shapes:
            raise Problem("ask-unknown")
        if not found.shapes[given].fits(value):
            raise Problem("ask-wrong", name=_spoken(given), wanted=found.shapes[given].wanted)
    values = {**args, **_file(buffers, found)}
    for missing in sorted(found.needed - set(values)):
        raise Problem("ask-file-missing") if missing == found.file else Problem("ask-missing", name=_spoken(missing))
    return found, values


def _file(buffers: Any, of: Verb) -> dict[str, bytes]:
    """The one file of a question, if there is one, as an argument; its size is looked at before it is copied."""
    if not isinstance(buffers, list | tuple):
        raise Problem("ask-shape")
    if not buffers:
        return {}
    if of.file is None or len(buffers) > 1:
        raise Problem("ask-no-file")
    if not isinstance(buffers[0], bytes | bytearray | memoryview):
        raise Problem("ask-shape")
    if not of.shapes[of.file].fits(buffers[0]):
        raise Problem("ask-file-large", limit=LARGEST_SHEET // 2**20)
    return {of.file: bytes(buffers[0])}


def _spoken(name: str) -> str:
    """`case_id` is "Case id": the name is one of ours."""
    return name.replace("_", " ").capitalize()
