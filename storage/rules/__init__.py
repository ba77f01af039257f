"""Rules that need no database: how words, numbers, times and texts are read, compared, measured and judged.

Pure functions and tables of data; nothing here opens, reads or writes anything.  `database.py` stands above this room,
because a transaction carries the hours and limits of the programme.
"""
