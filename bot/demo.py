"""A small programme to rehearse with: three languages, four time zones, sixty people with names, three groups.

Two cases share a phone, one said stop, one has no number.  Every number is made up.
"""

from __future__ import annotations

from storage.audit import Actor
from storage.contacts import cases, consent, groups, people
from storage.contacts.cases import Wanted
from storage.database import Database, Transaction, is_rehearsal
from storage.errors import Misconfigured
from storage.rules import numbers
from storage.upkeep import migrate

DEMO = Actor("demo", None, "jumbe demo")

LEAD, SUPERVISOR = "15550100001", "15550100002"

_COUNTRIES = (
    # prefix, language, time zone, names
    ("23324412", "en", "Africa/Accra", "Ama Kofi Akua Yaw Abena Kwame Efua Kojo Adwoa Kwesi Esi Kwabena Afia Nana Araba"),
    ("25471234", "sw", "Africa/Nairobi", "Wanjiru Otieno Achieng Kamau Njeri Mwangi Atieno Kiprop Chebet Juma Halima Baraka Zawadi Neema Amani"),
    ("22177123", "fr", "Africa/Dakar", "Awa Moussa Fatou Ibrahima Aminata Cheikh Mariama Ousmane Khady Mamadou Binta Modou Ndeye Lamine Coumba"),
    ("91981234", "en", "Asia/Kolkata", "Asha Ravi Priya Arjun Meena Vijay Lakshmi Sanjay Kavita Anil Sunita Rahul Geeta Mohan Radha"),
)  # fmt: skip
_GROUPS = (("anc", "Antenatal care"), ("tb", "TB treatment"), ("mothers", "New mothers"))


def make(db: Database) -> bool:
    """Make the demo programme; False if it is there already.  Raises Misconfigured on a database for real use."""
    migrate.upgrade(db, rehearsal=True)
    with db.transaction() as tx:
        if not is_rehearsal(tx):
            raise Misconfigured([f"{db.shown} is for real use: give the demo another file by --database"])
        if people.list_all(tx):
            return False
        _fill(tx)
    return True


def _fill(tx: Transaction) -> None:
    wanted: list[Wanted] = []
    for prefix, language, zone, names in _COUNTRIES:
        for name in names.split():
            number = f"{prefix}{len(wanted) % 15 + 101:0{12 - len(prefix)}}"
            wanted.append(_case(len(wanted) + 1, name, number, language, zone))
    # Kofi uses his sister Ama's phone, and Yaw has none.
    wanted[1] = _case(2, "Kofi", str(wanted[0].values["contact_phone_number"]), "en", "Africa/Accra")
    wanted[3] = Wanted(None, {"external_id": "p-104", "name": "Yaw", "language_code": "en"})
    ids = cases.save(tx, wanted, by=DEMO)
    for (short, name), members in zip(_GROUPS, (ids[0:30], ids[20:40], ids[35:60]), strict=True):
        row = groups.create(tx, short, name, by=DEMO)
        groups.add(tx, row.id, members, by=DEMO)
    people.add(tx, "Lena", LEAD, "lead", language="en", by=DEMO)
    people.add(tx, "Samuel", SUPERVISOR, "supervisor", shorts=["anc", "tb"], language="en", by=DEMO)
    stopped = str(wanted[5].values["contact_phone_number"])
    consent.hear(tx, stopped, "stop", words="STOP", message_id=None, by=DEMO)


def _case(number: int, name: str, phone: str, language: str, zone: str) -> Wanted:
    read = numbers.read(phone)
    values = {
        "external_id": f"p-{100 + number}",
        "name": name,
        "contact_phone_number": read.digits,
        "contact_phone_number_is_verified": True,
        "number_warning": read.warnings[0] if read.warnings else None,
        "language_code": language,
        "time_zone": zone,
    }
    return Wanted(None, values)
