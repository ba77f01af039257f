"""Celery as its pages teach it: one task a message, acknowledged late, Redis as the broker; run by the peers' own Python.

As a program it hands over so many tasks while nobody takes any, lets the worker begin, and tells how long it took until all
were written down.
"""

import json
import os
import sqlite3
import sys
import time
from functools import cache

import requests
from celery import Celery

app = Celery("celery_peer", broker=os.environ["BENCH_REDIS"])
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=4)
session = requests.Session()


@cache
def journal():
    """The table of the messages; first asked for in a task, so that each process has a connection of its own."""
    db = sqlite3.connect(os.environ["BENCH_JOURNAL"], timeout=30, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, phone, body, state, sid)")
    return db


@app.task
def send(url, number):
    """Send one message, and write down its state."""
    phone, body = journal().execute("SELECT phone, body FROM message WHERE id = ?", (number,)).fetchone()
    form = {
        "To": f"+{phone}",
        "From": "+15005550006",
        "Body": body,
        "StatusCallback": f"https://jumbe.example.org/{number}",
    }
    answer = session.post(f"{url}/2010-04-01/Accounts/AC/Messages.json", data=form, timeout=15)
    sid = answer.json()["sid"]
    journal().execute("UPDATE message SET state = 'accepted', sid = ? WHERE id = ?", (sid, number))


def main():
    """Hand over, let it begin, wait."""
    url, many = sys.argv[1], int(sys.argv[2])
    db = journal()
    db.execute("DELETE FROM message")
    rows = [
        (n, str(254_720_000_000 + n), "Hello, your visit to the clinic is tomorrow. Bring your card.", "queued")
        for n in range(many)
    ]
    db.executemany("INSERT INTO message (id, phone, body, state) VALUES (?, ?, ?, ?)", rows)
    end = time.monotonic() + 30
    while not app.control.inspect(timeout=1).ping():
        if time.monotonic() > end:
            raise SystemExit("the worker does not answer")
    app.control.cancel_consumer("celery", reply=True)
    from celery_peer import send as task  # under the name that the worker knows

    for n in range(many):
        task.delay(url, n)
    began = time.monotonic()
    app.control.add_consumer("celery", reply=True)
    while db.execute("SELECT count(*) FROM message WHERE state = 'accepted'").fetchone()[0] < many:
        if time.monotonic() > began + 240:
            raise SystemExit("it takes more than four minutes")
        time.sleep(0.02)
    print(json.dumps({"seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
