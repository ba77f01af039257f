"""`make prove`: kill the processes at every step and at random, let the gateway fail in every way, and count.

The gateway's own book is the truth; `counting.py` holds it against the database.  A message that is shown as unknown is
not lost; one that stands twice in the book was sent twice, whatever the database says.
"""
