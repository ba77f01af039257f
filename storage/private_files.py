"""Every file that this product writes is its owner's alone: 0600 from its first byte, a folder of ours 0700.

What we write holds names, numbers, texts and secrets, and a machine may have other users.  The mode is given to the call
that creates the file, so that at no moment it is open and the umask can only take from it; a `chmod` afterwards would
leave a window.  SQLite gives `-wal`, `-shm` and `-journal` the mode of the database, so the database is made here before
SQLite opens it.  A test refuses every other way to open a file for writing.

What an older release left open is closed by `tighten` when a command opens the database (`console.named_database`);
`jumbe doctor` names what is open all the same.

    make, create, append, copy, folder   make one
    for_libraries                        what others than us write in the meantime
    of_programme                         the files that lie beside a database
    tighten, open_to_others              close them, and see which are not
    shared_folders                       where a stranger may put a file
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO as File
from typing import Final, NamedTuple, cast

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
OTHERS: Final = 0o077
"""Every right of the group and of everybody."""

_OF_A_SPOOL: Final = ("", "-playing", "-aside", "-lock")
_OF_A_DATABASE: Final = ("", "-wal", "-shm", "-journal", "-phones", "-phones-journal", ".worker-lock")
_SET_ASIDE: Final = ".before-restore-*"


# -- making ------------------------------------------------------------------------------------------------------------


def opener(name: str | os.PathLike[str], flags: int) -> int:
    """The `opener=` of an `open` that may create its file; the umask can only make the file less open."""
    return os.open(name, flags, FILE_MODE)


def make(path: str | os.PathLike[str]) -> None:
    """Make an empty file where there is none, for a library that opens it by its name.

    One that is there is not even opened: who closes a file lets go of every lock of SQLite that the process has on it.
    """
    with contextlib.suppress(FileExistsError):
        os.close(opener(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))


def create(path: str | os.PathLike[str]) -> File:
    """A new file, open for writing; raises FileExistsError where there is one."""
    return cast(File, open(path, "xb", opener=opener))


def append(path: str | os.PathLike[str]) -> File:
    """A file open for writing at its end, made where there is none; nothing is buffered, and no link is followed."""
    return cast(
        File,
        open(path, "ab", buffering=0, opener=lambda name, flags: opener(name, flags | os.O_NOFOLLOW)),
    )


def copy(source: Path, to: Path) -> Path:
    """A copy of what is in a file, and not of its mode; `to` must not be there yet."""
    create(to).close()
    shutil.copyfile(source, to)
    return to


def folder(path: Path) -> None:
    """Make a folder and what is missing above it; one that is there stays as it is."""
    for one in [*reversed(path.parents), path]:
        if not one.is_dir():
            one.mkdir(FOLDER_MODE, exist_ok=True)


@contextlib.contextmanager
def for_libraries() -> Iterator[None]:
    """What a library or a child of this process writes inside is its owner's alone too.

    The umask is the whole process's, so this is for a server that begins with it, and not for a moment between others.
    """
    before = os.umask(OTHERS)
    try:
        yield
    finally:
        os.umask(before)


# -- what is there -----------------------------------------------------------------------------------------------------


def spool_of(database: Path | None, named: str | None = None) -> Path:
    """The spool: the file that is named, or one beside a SQLite file, or one in the folder of the process.

    Only the name that somebody gave may be a link.
    """
    if named:
        return Path(os.path.realpath(named))
    return Path(f"{os.path.realpath(database)}-spool" if database else "jumbe-spool").absolute()


def of_programme(database: Path | None, spool: str | None = None) -> list[Path]:
    """The files of a programme that are there: the database (None on PostgreSQL), all that lies beside it, the spool."""
    names = [f"{spool_of(database, spool)}{end}" for end in _OF_A_SPOOL]
    if database is not None:
        # Some lie beside the name that was given, others beside the file to which that leads.
        for file in (os.path.realpath(database), str(database.absolute())):
            names += [f"{file}{end}" for end in _OF_A_DATABASE]
            names += sorted(glob.glob(f"{glob.escape(file)}{_SET_ASIDE}"))  # noqa: PTH207  a name is not a pattern
    return [path for path in map(Path, dict.fromkeys(names)) if _file(path) is not None]


class Open(NamedTuple):
    """A file that others may use: which, its mode, and the name of its owner."""

    path: Path
    mode: int
    owner: str


def open_to_others(paths: Iterable[Path]) -> list[Open]:
    """Of these files those that another user of this machine may read or write."""
    found = ((path, _file(path)) for path in paths)
    return [
        Open(path, stat.S_IMODE(there.st_mode), user(there.st_uid))
        for path, there in found
        if there is not None and there.st_mode & OTHERS
    ]


def tighten(paths: Iterable[Path]) -> None:
    """Take every right on these files from others; what cannot be changed stays, and `open_to_others` finds it.

    A link is left alone: only who may write in the folder could have put it there.
    """
    for path, mode, _ in open_to_others(paths):
        with contextlib.suppress(OSError):  # another user's, or a file system that does not know it
            path.chmod(mode & ~OTHERS)


def shared_folders(paths: Iterable[Path]) -> list[Path]:
    """The folders of these files in which every user of this machine may write, and so put another file in their place."""
    return sorted({path.parent for path in paths if path.parent.stat().st_mode & stat.S_IWOTH})


def shut_out_by(path: Path) -> str | None:
    """The owner of a file that is there, where it is another user's and this process may not read and write it."""
    there = path.stat().st_uid
    if there == os.geteuid() or os.access(
        path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        return None
    return user(there)


def user(number: int) -> str:
    """The name of a user, or the number where it has none here."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _file(path: Path) -> os.stat_result | None:
    """What the system knows of a file; None where there is none (any more), or something else than a file."""
    try:
        there = path.lstat()
    except OSError:
        return None
    return there if stat.S_ISREG(there.st_mode) else None
