"""Staff are told by one way, which asks each time who may be texted and in which language.

Each place in the source from which staff are told has an act here, and each act is played for somebody who may be texted
and for somebody who may not.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from bot.commands import broadcasts as broadcast_commands
from bot.gateways.base import Inbound
from bot.inbound import listeners
from bot.worker import digest, reconciler
from storage import schema
from storage.audit import Actor
from storage.broadcasts import approvals, broadcasts, expansion, previews
from storage.contacts import consent, groups, people
from storage.conversations import conversations
from storage.database import Database
from storage.errors import Problem
from storage.messages import lookups
from storage.messages.openings import Turn
from storage.operations import codes
from storage.rules.hours_and_limits import Rules
from tests.breaking import break_rows
from tests.world import TEST, World

ROOT = Path(__file__).resolve().parents[2]
LENA, MARIA, SAMUEL, AMA = "233244000901", "233244000902", "233244000903", "233244000101"


class Stage:
    """Lena and Maria lead, Samuel is supervisor of anc, where Ama is; people text, and the worker's chores are called."""

    def __init__(self, db: Database, world: World, clock: Any) -> None:
        self.db, self.world, self.clock = db, world, clock
        self.ama = world.case("ama", AMA)
        self.anc = world.group("anc", self.ama)
        self.lena, self.maria = world.person("Lena", LENA), world.person("Maria", MARIA)
        self.samuel = world.person("Samuel", SAMUEL, "supervisor", "anc")
        self._texts = 0

    def says(self, phone: str, text: str) -> None:
        self._texts += 1
        listeners.take(self.db, "simulator", Inbound(f"in-{self._texts}", phone, "", text))

    def code(self, person: Any) -> str:
        """The code that this person was sent last."""
        with self.db.reading() as tx:
            own = select(schema.codes).where(schema.codes.c.person_id == person.id).order_by(schema.codes.c.id.desc())
            row = tx.execute(own).first()
            assert row is not None
            return codes.digits(codes.secret_of(tx), row.nonce, row.length)

    def limit(self, second_person_above: int) -> None:
        self.db.rules = replace(self.db.rules, second_person_above=second_person_above)

    def to_maria(self, since: int = 0) -> list[Any]:
        """The notices to Maria's phone, in whatever state."""
        with self.db.reading() as tx:
            rows = lookups.list_all(tx, phone=MARIA, direction="out")
        return [row for row in rows if row.kind == "notice" and row.id > since]

    def newest(self) -> int:
        with self.db.reading() as tx:
            return int(tx.scalar(select(func.max(schema.messages.c.id))) or 0)


# Each act brings Maria to where the next thing that happens is told to her, stops, and lets it happen.
Act = Callable[[Stage], Iterator[None]]


def a_digest(s: Stage) -> Iterator[None]:
    digest.send(s.db)
    by = Actor("sms", s.samuel.id)
    with s.db.transaction() as tx:
        number = previews.draft(tx, {"en": "Clinic closed"}, group_ids=[s.anc], words="tell", by=by)
        approvals.go(tx, number, by=by)
    s.clock.advance(minutes=61)
    yield
    digest.send(s.db)


def some_stay_in_doubt(s: Stage) -> Iterator[None]:
    with s.db.transaction() as tx:
        number = previews.draft(tx, {"en": "Clinic closed"}, group_ids=[s.anc], words="tell", by=TEST)
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
        expansion.expand_next(tx)
        doubtful = schema.messages.c.broadcast_id == number
        tx.execute(update(schema.messages).where(doubtful).values(state="unresolved", attempts=1))
    yield
    with s.db.transaction() as tx:
        reconciler.tell_leads(tx)


def a_restore(s: Stage) -> Iterator[None]:
    with s.db.transaction() as tx:
        tx.execute(update(schema.programme).values(backed_up_at=tx.now - timedelta(hours=2), restored_at=tx.now))
    yield
    with s.db.transaction() as tx:
        reconciler.tell_of_restore(tx)


def an_upgrade_that_finds_two_to_be_one_phone(s: Stage) -> Iterator[None]:
    with s.db.transaction() as tx:
        tx.execute(update(schema.phone_plans).where(schema.phone_plans.c.code == "52").values(cases=1))
    yield
    with s.db.transaction() as tx:
        reconciler.tell_of_one_phone(tx)


def a_phone_answers_what_she_asked(s: Stage) -> Iterator[None]:
    phone = "233244000199"
    s.world.group("tb", s.world.case("zola", phone, verified=False))
    s.says(MARIA, "invite zola")
    s.says(MARIA, f"ok {s.code(s.maria)}")
    with s.db.transaction() as tx:  # it has left
        left = {"state": "sent", "handed_over_at": tx.now}
        (asked,) = conversations.live_on(tx, phone)
        conversations.open_by(tx, [Turn(asked.message_id, asked.id)])
        tx.execute(update(schema.messages).where(schema.messages.c.phone == phone).values(left))
    s.clock.advance(seconds=9)
    yield
    s.says(phone, "1")


def a_reply_of_a_case_that_she_cares_for(s: Stage) -> Iterator[None]:
    with s.db.transaction() as tx:
        people.change(tx, s.maria, role="supervisor", shorts=["anc"], by=TEST)
    yield
    s.says(AMA, "My baby kicks")


def a_reply_for_which_nobody_cares(s: Stage) -> Iterator[None]:
    with s.db.transaction() as tx:
        groups.remove(tx, s.anc, [s.ama], by=TEST)
    yield
    s.says(AMA, "My baby kicks")


def a_text_that_cannot_be_handled(s: Stage) -> Iterator[None]:
    with s.db.transaction() as tx:
        break_rows(tx, "replies", says="not today")
    yield
    s.says(AMA, "My baby kicks")
    for _ in range(3):
        s.clock.advance(minutes=20)
        listeners.try_again(s.db)
    with s.db.reading() as tx:
        assert lookups.list_all(tx, phone=AMA, direction="in")[0].state == "set_aside"


def a_supervisor_says_stop(s: Stage) -> Iterator[None]:
    yield
    s.says(SAMUEL, "stop")


def small_acts_add_up(s: Stage) -> Iterator[None]:
    for n in range(10):
        s.says(SAMUEL, f"new g{n} Group {n}")
    yield
    s.says(SAMUEL, "new g10 Group 10")


def codes_are_guessed(s: Stage) -> Iterator[None]:
    s.says(SAMUEL, "tell anc Clinic closed")
    right = s.code(s.samuel)
    yield
    wrong = str((int(right) + 1) % 10 ** len(right)).zfill(len(right))
    for n in range(5):
        s.says(SAMUEL, f"ok {wrong}")
        if n == 2:  # three end what waits
            s.says(SAMUEL, "tell anc Clinic open")


def a_group_that_grew_before_its_hour(s: Stage) -> Iterator[None]:
    s.limit(1)
    by = Actor("sms", s.maria.id)
    at = s.clock().replace(tzinfo=None) + timedelta(hours=1)
    with s.db.transaction() as tx:
        number = previews.draft(tx, {"en": "Clinic closed"}, group_ids=[s.anc], words="tell", by=by)
        previews.amend(tx, number, send_at=at)
        approvals.go(tx, number, by=by)
    kofi = s.world.case("kofi", "233244000102")
    with s.db.transaction() as tx:
        groups.add(tx, s.anc, [kofi], by=TEST)
    s.clock.advance(minutes=61)
    yield
    with s.db.transaction() as tx:
        broadcast_commands.begin(tx, number)


def _waits_for_lena(s: Stage) -> None:
    """Maria has confirmed a large broadcast, and Lena has the code of the second ok."""
    s.limit(0)
    s.says(MARIA, "tell anc Clinic closed")
    s.says(MARIA, f"ok {s.code(s.maria)}")


def another_lead_says_ok(s: Stage) -> Iterator[None]:
    _waits_for_lena(s)
    yield
    s.says(LENA, f"ok {s.code(s.lena)}")


def a_list_that_changed_before_the_second_ok(s: Stage) -> Iterator[None]:
    _waits_for_lena(s)
    s.world.change(s.ama, contact_phone_number="233244000177", contact_phone_number_is_verified=True)
    yield
    s.says(LENA, f"ok {s.code(s.lena)}")


def another_lead_asks_for_an_ok(s: Stage) -> Iterator[None]:
    s.limit(0)
    s.says(LENA, "tell anc Clinic closed")
    yield
    s.says(LENA, f"ok {s.code(s.lena)}")


def she_tries_a_text_at_the_desk(s: Stage) -> Iterator[None]:
    yield
    with s.db.transaction() as tx:
        try:
            approvals.try_on(tx, s.maria, "Clinic closed", by=Actor("desk", s.maria.id))
        except Problem as problem:
            assert problem.key == "try-stopped"


ACTS: dict[Act, str] = {
    a_digest: "bot/worker/digest.py _tell",
    some_stay_in_doubt: "bot/worker/reconciler.py tell_leads",
    a_restore: "bot/worker/reconciler.py tell_of_restore",
    an_upgrade_that_finds_two_to_be_one_phone: "bot/worker/reconciler.py tell_of_one_phone",
    a_phone_answers_what_she_asked: "bot/inbound/questions.py _tell_asker",
    a_reply_of_a_case_that_she_cares_for: "bot/inbound/forwarding.py forward",
    a_reply_for_which_nobody_cares: "bot/inbound/forwarding.py forward",
    a_text_that_cannot_be_handled: "bot/inbound/listeners.py _put_off",
    a_supervisor_says_stop: "bot/inbound/opt_outs.py _tell_others",
    small_acts_add_up: "bot/commands/groups.py _tell_leads",
    codes_are_guessed: "bot/commands/operations.py _tell_leads_of_guessing",
    a_group_that_grew_before_its_hour: "bot/commands/broadcasts.py begin",
    another_lead_says_ok: "bot/commands/broadcasts.py _tell_asker",
    a_list_that_changed_before_the_second_ok: "bot/commands/broadcasts.py _ask_again",
    another_lead_asks_for_an_ok: "bot/commands/broadcasts.py ask_leads",
    she_tries_a_text_at_the_desk: "storage/broadcasts/approvals.py try_on",
}
"""Each act, and the function in the source that tells."""


@pytest.fixture
def rules(rules: Rules) -> Rules:
    return replace(rules, hold_s=0)


@pytest.fixture
def stage(db: Database, world: World, clock: Any) -> Stage:
    return Stage(db, world, clock)


def played(stage: Stage, act: Act, becomes: Callable[[Stage], None] = lambda _: None) -> list[Any]:
    """The notices queued to Maria by what happens, after she `becomes` what she is then."""
    playing = act(stage)
    next(playing)
    becomes(stage)
    before = stage.newest()
    assert list(playing) == []
    return stage.to_maria(before)


def says_stop(stage: Stage) -> None:
    with stage.db.transaction() as tx:
        consent.hear(tx, MARIA, "stop", words="STOP", message_id=None, by=TEST)


def may_have_said_stop(stage: Stage) -> None:
    with stage.db.transaction() as tx:
        consent.hear(tx, MARIA, "doubt", words="no more please", message_id=None, by=TEST)


def leaves(stage: Stage) -> None:
    with stage.db.transaction() as tx:
        people.remove(tx, stage.maria, by=TEST)


every_act = pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)


@every_act
def test_staff_who_may_be_texted_are_told(stage: Stage, act: Act) -> None:
    (row,) = played(stage, act)
    assert (row.state, row.person_id) == ("queued", stage.maria.id)


@every_act
@pytest.mark.parametrize("becomes", [says_stop, may_have_said_stop, leaves])
def test_a_lead_who_said_stop_or_may_have_or_has_left_is_not_told(
    stage: Stage, act: Act, becomes: Callable[[Stage], None]
) -> None:
    assert played(stage, act, becomes) == []


def test_a_lead_who_said_stop_gets_no_code_and_is_not_named_as_asked(stage: Stage) -> None:
    """Who asked would wait a quarter of an hour for somebody whom nobody could ask."""
    played(stage, another_lead_asks_for_an_ok, says_stop)
    with stage.db.reading() as tx:
        assert stage.maria.id not in tx.execute(select(schema.codes.c.person_id)).scalars().all()
        (answer,) = lookups.list_all(tx, phone=LENA, direction="out")[:1]
    assert answer.body.endswith("needs the ok of a second lead, and none can be texted. It waits 15 min; no 1 drops it")


def test_a_lead_who_comes_back_by_start_is_asked_while_it_still_waits(stage: Stage) -> None:
    played(stage, another_lead_asks_for_an_ok, says_stop)
    with stage.db.transaction() as tx:
        consent.hear(tx, MARIA, "start", words="START", message_id=None, by=TEST)
        broadcast_commands.ask_second_leads(tx)
        broadcast_commands.ask_second_leads(tx)
    assert [row.body.partition(" Reply")[0] for row in stage.to_maria()] == [
        '1 by Lena: TELL anc, 1 person: "Clinic closed"'
    ]


def test_each_is_told_in_their_own_language_and_else_in_the_programme_s(stage: Stage) -> None:
    stage.db.rules = replace(stage.db.rules, language="es")
    with stage.db.transaction() as tx:
        people.change(tx, stage.maria, language="en", by=TEST)
    (row,) = played(stage, a_supervisor_says_stop)
    assert row.body == "Samuel texted STOP and cannot be answered any more, until START from that phone"
    with stage.db.reading() as tx:
        (other,) = lookups.list_all(tx, phone=LENA, direction="out")
    assert other.body != row.body
    assert "START" in other.body


# -- in the source -----------------------------------------------------------------------------------------------------


def sources() -> Iterator[tuple[str, ast.Module]]:
    for room in ("bot", "storage", "admin_notebooks"):
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def name_of(call: ast.Call) -> str:
    """`notices.tell` of `notices.tell(...)`."""
    return ast.unparse(call.func)


def test_only_one_place_queues_a_notice() -> None:
    """By whatever name the outbox goes there: the kind is an argument of no other call."""
    found = {
        (name, name_of(call))
        for name, tree in sources()
        for call in calls(tree)
        for argument in arguments(call)
        if isinstance(argument, ast.Constant) and argument.value == "notice"
    }
    assert found == {("storage/messages/staff.py", "outbox.queue")}


def test_each_text_that_is_queued_says_its_kind_where_it_is_queued() -> None:
    """A kind in a variable could be a notice, and nobody would see it here."""
    for name, tree in sources():
        for call in calls(tree):
            if name_of(call).endswith("outbox.queue"):
                kind = call.args[3] if len(call.args) > 3 else {k.arg: k.value for k in call.keywords}["kind"]
                assert isinstance(kind, ast.Constant), f"{name}:{call.lineno}"


def test_only_its_own_look_ups_make_somebody_who_may_be_texted() -> None:
    made = {name for name, tree in sources() for call in calls(tree) if name_of(call).endswith("Reachable")}
    assert made == {"storage/messages/staff.py"}


def test_each_place_from_which_staff_are_told_has_an_act_here() -> None:
    verbs = ("notices.tell", "notices.tell_person", "notices.tell_leads", "staff.queue")
    found = {
        f"{name} {function.name}"
        for name, tree in sources()
        if name != "bot/notices.py"
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for call in calls(function)
        if name_of(call) in verbs
    }
    anywhere = sum(
        name_of(call) in verbs for name, tree in sources() if name != "bot/notices.py" for call in calls(tree)
    )
    assert found == set(ACTS.values())
    assert anywhere == len(found), "each stands in a function of a module"
