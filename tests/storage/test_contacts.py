"""Who owns a number, and who waits for it."""

from storage import contacts


def test_the_first_to_verify_a_number_owns_it(world):
    first = world.case("ama", "233241234567")
    second = world.case("kofi", "233241234567")

    assert world.look(first).two_way
    assert not world.look(second).two_way
    with world.db.reading() as tx:
        standing = contacts.standing(tx, world.look(second))
    assert standing.owner == world.look(first).case_id
    assert standing.waiting == (world.look(second).case_id,)
