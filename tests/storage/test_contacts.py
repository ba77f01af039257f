"""Who owns a number, and who waits for it."""

from storage import contacts


def test_the_first_to_verify_a_number_owns_it(world):
    first = world.look(world.case("ama", "233241234567"))
    second = world.look(world.case("kofi", "233241234567"))

    assert first.two_way
    assert not second.two_way
    with world.db.reading() as tx:
        standing = contacts.standing(tx, second)
    assert standing.owner == first.case_id
    assert standing.waiting == (second.case_id,)
