"""A broadcast from its preview to the rows of its recipients, one step at a time."""

from storage.broadcasts import broadcasts, expansion, previews
from tests.world import TEST


def draft(world, *group_ids, texts=None, **more):
    texts = {"en": texts or "Clinic closed Friday"} if not isinstance(texts, dict) else texts
    with world.db.transaction() as tx:
        return previews.draft(tx, texts, group_ids=group_ids, words="tell", by=TEST, **more)


def launch(world, number, hold_s=0):
    with world.db.transaction() as tx:
        return broadcasts.launch(tx, number, hold_s=hold_s, by=TEST)


def expand(world):
    """End the holds that are over and expand to the end, each range in a transaction of its own; returns how many there were."""
    ranges = 0
    with world.db.transaction() as tx:
        broadcasts.end_holds(tx)
    while True:
        with world.db.transaction() as tx:
            if not expansion.expand_next(tx):
                return ranges
        ranges += 1
