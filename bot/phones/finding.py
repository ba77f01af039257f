"""To find whose phone to take out: a person or a case by name, id or number, or the number of a stranger."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, or_, select

from storage.contacts import people
from storage.database import Transaction
from storage.rules import numbers
from storage.rules.normalize import key, searched
from storage.schema import cases

MOST_FOUND = 8
LONGEST_QUESTION = 80


def find(tx: Transaction, asked: str) -> list[dict[str, Any]]:
    """Whom these words may mean, people before cases, and last the number itself where it is nobody's.

    Each has `phone` (None for a case without one), `name`, `about` and `kind`.
    """
    asked = asked[:LONGEST_QUESTION].strip()
    number = numbers.find(asked, country=tx.rules.country) if asked else None
    digits = number.digits if number else "".join(character for character in asked if character.isdecimal())
    if any(character.isalpha() for character in asked):
        digits = ""  # an id such as p-301 is no part of a number
    found = [
        {"phone": p.phone, "name": p.name, "about": f"{p.role}, +{p.phone}", "kind": "person"}
        for p in people.list_all(tx)
        if searched(asked) in searched(p.name) or (len(digits) > 2 and digits in p.phone)
    ]
    fits = [cases.c.name_key.contains(searched(asked), autoescape=True)]
    fits += [
        column.startswith(key(asked), autoescape=True) for column in (cases.c.external_id_key, cases.c.case_id_key)
    ]
    if len(digits) > 2:
        fits.append(cases.c.contact_phone_number.contains(digits, autoescape=True))
    exact = or_(cases.c.external_id_key == key(asked), cases.c.case_id_key == key(asked))
    best_first = (case((exact, 0), else_=1), cases.c.name_key, cases.c.id)
    rows = tx.execute(select(cases).where(or_(*fits)).order_by(*best_first).limit(MOST_FOUND))
    for row in rows:
        number_told = f"+{row.contact_phone_number}" if row.contact_phone_number else "no phone"
        ids = [name for name in (row.external_id, row.case_id) if name]
        told = ", ".join([*ids, number_told] if row.status == "open" else [*ids, number_told, row.status])
        name = row.name or row.external_id or row.case_id
        found.append({"phone": row.contact_phone_number, "name": name, "about": told, "kind": "case"})
    found = found[:MOST_FOUND]
    if number is not None and all(one["phone"] != number.digits for one in found):
        about = f"+{number.digits}, nobody's: a stranger's phone"
        found.append({"phone": number.digits, "name": "A stranger", "about": about, "kind": "stranger"})
    return found
