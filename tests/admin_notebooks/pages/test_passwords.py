import pytest

from tests.parts import library

argon2 = library("argon2")

from admin_notebooks.pages import passwords
from admin_notebooks.pages.passwords import PER_ADDRESS, PER_NAME, Tries, hashed, sign_in
from storage import audit
from storage.audit import Actor
from storage.contacts import passwords as store
from storage.contacts import people
from storage.errors import Problem

CLI = Actor("cli", None, "test")
RIGHT = "four words of hers"


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """A hash that costs next to nothing: a test asks hundreds of times what a guesser may ask five."""
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    monkeypatch.setattr(passwords, "_NOBODY", hasher.hash("nobody"))


@pytest.fixture
def amina(db, world):
    row = world.person("Amina Yusuf", "233244000001", "viewer")
    with db.transaction() as tx:
        store.keep(tx, row, hashed(RIGHT, row), by=CLI)
    return row


@pytest.mark.parametrize("typed", ["Amina Yusuf", "  amina   YUSUF ", "233244000001", "+233 244 000 001"])
def test_a_person_signs_in_by_name_or_number(db, amina, clock, typed):
    assert sign_in(db, Tries(clock), typed, RIGHT, "10.0.0.1").id == amina.id


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("Amina Yusuf", "four words of his"),
        ("Amina Yusuf", ""),
        ("Nobody", RIGHT),
        ("", RIGHT),
        ("Amina Yusuf", RIGHT + " "),
    ],
)
def test_whoever_has_not_both_is_told_the_same(db, amina, clock, name, password):
    with pytest.raises(Problem) as told:
        sign_in(db, Tries(clock), name, password, "10.0.0.1")
    assert (told.value.key, told.value.values) == ("sign-in-wrong", {})


def test_two_people_of_one_name_each_have_their_own_password(db, amina, world, clock):
    other = world.person("Amina Yusuf", "233244000002", "lead")
    with db.transaction() as tx:
        store.keep(tx, other, hashed("another four words", other), by=CLI)
    assert sign_in(db, Tries(clock), "Amina Yusuf", "another four words", "10.0.0.1").id == other.id
    assert sign_in(db, Tries(clock), "Amina Yusuf", RIGHT, "10.0.0.1").id == amina.id
    with db.transaction() as tx:
        store.keep(tx, other, hashed(RIGHT, other), by=CLI)
    with pytest.raises(Problem, match="sign-in-wrong"):
        sign_in(db, Tries(clock), "Amina Yusuf", RIGHT, "10.0.0.1")
    assert sign_in(db, Tries(clock), "233244000002", RIGHT, "10.0.0.1").id == other.id


def test_who_has_no_password_or_no_access_any_more_does_not_come_in(db, amina, world, clock):
    world.person("Kofi", "233244000003", "lead")
    for name in ("Kofi", "Amina Yusuf"):
        if name == "Amina Yusuf":
            with db.transaction() as tx:
                people.remove(tx, amina, by=CLI)
        with pytest.raises(Problem, match="sign-in-wrong"):
            sign_in(db, Tries(clock), name, RIGHT, "10.0.0.1")


def test_guessing_waits_and_nobody_else_does(db, amina, clock):
    tries = Tries(clock)
    for _ in range(PER_NAME):
        with pytest.raises(Problem, match="sign-in-wrong"):
            sign_in(db, tries, "Amina Yusuf", "a guess a guess", "10.0.0.1")
    with pytest.raises(Problem, match="sign-in-wait") as told:
        sign_in(db, tries, "amina yusuf", RIGHT, "10.0.0.1")
    assert told.value.values["until"] == clock.now + passwords.WAIT
    assert sign_in(db, tries, "Amina Yusuf", RIGHT, "10.0.0.2").id == amina.id, "she sits elsewhere"
    clock.advance(minutes=15)
    assert sign_in(db, tries, "Amina Yusuf", RIGHT, "10.0.0.1").id == amina.id


def test_an_address_that_tries_many_names_waits_for_all_of_them(db, amina, clock):
    tries = Tries(clock)
    for n in range(PER_ADDRESS):
        with pytest.raises(Problem, match="sign-in-wrong"):
            sign_in(db, tries, f"name {n}", "a guess a guess", "10.0.0.1")
    with pytest.raises(Problem, match="sign-in-wait"):
        sign_in(db, tries, "Amina Yusuf", RIGHT, "10.0.0.1")


def test_a_slip_before_the_right_one_is_forgotten(db, amina, clock):
    tries = Tries(clock)
    for _ in range(3):
        for _ in range(PER_NAME - 1):
            with pytest.raises(Problem, match="sign-in-wrong"):
                sign_in(db, tries, "Amina Yusuf", "a slip of hers", "10.0.0.1")
        assert sign_in(db, tries, "Amina Yusuf", RIGHT, "10.0.0.1")


@pytest.mark.parametrize(
    ("typed", "key"),
    [("short", "password-short"), ("x" * 201, "password-long"), ("Amina  yusuf", "password-theirs"), ("233244000001", "password-theirs")],
)  # fmt: skip
def test_a_password_that_anybody_could_guess_is_refused(amina, typed, key):
    with pytest.raises(Problem, match=key):
        hashed(typed, amina)


def test_a_new_password_ends_what_was_signed_in_with_the_old_one_and_stands_in_the_log_without_itself(db, amina):
    with db.transaction() as tx:
        before = passwords.stamp(store.hash_of(tx, amina.id))
        store.keep(tx, amina, hashed("quite another one", amina), by=CLI)
        assert passwords.stamp(store.hash_of(tx, amina.id)) != before
        told = [line for line in audit.list_last(tx) if line.verb == "people.password"]
    assert len(told) == 2 and "argon2" not in repr(told) and "another" not in repr(told)


def test_passwords_that_are_made_up_differ_and_are_taken(amina):
    made = {passwords.made_up() for _ in range(200)}
    assert len(made) == 200
    assert all(hashed(password, amina) for password in list(made)[:1]) and {len(p) for p in made} == {19}
