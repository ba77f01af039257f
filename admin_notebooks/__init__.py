"""The door for bulk work: sheets in and out, over the same verbs of `storage` that the bot uses."""

import storage  # noqa: F401  chooses the SQLite library before any other import can
