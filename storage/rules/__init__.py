"""Rules that need no database: how words, numbers, times and texts are read, compared, measured and judged.

Pure functions and tables of data; nothing here knows a database.  Words are read from the files beside the modules, and the
meaning of gateways' codes from what their adapters declare.  `database.py` stands above this room,
because a transaction carries the hours and limits of the programme.
"""
