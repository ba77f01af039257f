"""Who can sign in at the desk: those with a password, as long as they are registered."""

from storage import audit
from storage.contacts import passwords, people
from tests.world import TEST


def keep(db, person, hashed="$argon2id$x"):
    with db.transaction() as tx:
        passwords.keep(tx, person, hashed, by=TEST)


def listed(db, typed):
    with db.reading() as tx:
        return [(row.name, row.hash) for row in passwords.list_for(tx, typed)]


def test_a_person_is_found_by_name_or_number_and_only_with_a_password(db, world):
    esi = world.person("Esi Mensah", "233241110001")
    assert listed(db, "Esi Mensah") == []
    keep(db, esi)
    for typed in ("Esi Mensah", " esi  mensah ", "233241110001", "+233 24 111 0001", "0241110001"):
        assert listed(db, typed) == [("Esi Mensah", "$argon2id$x")], typed
    for typed in ("Esi", "", "%", "233241110002"):
        assert listed(db, typed) == [], typed


def test_a_new_password_takes_the_place_of_the_old(db, world):
    esi = world.person("Esi", "233241110001")
    keep(db, esi, "old")
    keep(db, esi, "new")
    assert listed(db, "Esi") == [("Esi", "new")]


def test_whose_access_has_ended_cannot_sign_in(db, world):
    world.person("Efua", "233241110003")
    esi = world.person("Esi", "233241110001")
    keep(db, esi)
    with db.transaction() as tx:
        assert len(passwords.list_all(tx)) == 1
        people.remove(tx, esi, by=TEST)
        assert passwords.list_all(tx) == []
    assert listed(db, "Esi") == []


def test_two_people_of_one_name_are_both_found(db, world):
    for n in (1, 2):
        keep(db, world.person("Ama", f"23324111000{n}"), f"hash {n}")
    assert [hashed for _, hashed in listed(db, "Ama")] == ["hash 1", "hash 2"]


def test_a_password_is_taken_away_once_and_every_change_is_in_the_log_without_it(db, world):
    esi = world.person("Esi", "233241110001")
    keep(db, esi, "$argon2id$secret")
    with db.transaction() as tx:
        assert passwords.forget(tx, esi, by=TEST)
        assert not passwords.forget(tx, esi, by=TEST)
        lines = audit.list_last(tx, 2)
    assert [line.verb for line in lines] == ["people.password-forgotten", "people.password"]
    assert "secret" not in str([line._mapping for line in lines])
