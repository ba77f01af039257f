"""Bulk work on the rows of a sheet: an import is planned, then applied; an export is read row by row.

Rows are plain text here.  File formats belong to the notebooks' door.
"""
