"""What is true, and how it may change: the shared database and every rule about it.

A room is a folder, a module a noun.  `schema.py` is the page to read first, `database.py` how to open it.  A verb takes the transaction
first and `by=` (who, through which door) last, changes rows, writes its audit line, and never commits.

Importing this package also chooses the SQLite library of the whole process.  The SQLite inside most Pythons of 2026
has the WAL-reset bug (before 3.51.3), and two SQLite libraries that open one file in one process lose committed rows:
POSIX locks belong to the process, so the second library believes that it is the last user and removes the log.
`sqlite3` is therefore made a name for the safe library before anything else can import it.
"""

import sys

try:
    import pysqlite3
    from pysqlite3 import dbapi2
except ImportError:  # no wheel for this machine: database.py then falls back to the rollback journal
    pass
else:
    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = dbapi2
