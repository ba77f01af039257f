"""Texts with holes: refused when saved, filled once when sent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import Problem
from storage.rules.templates import FIELDS, Field, parse, render


def filled(text: str, **values: str | None) -> str:
    return render(parse(text), values)


def refusal(text: str) -> Problem:
    with pytest.raises(Problem) as caught:
        parse(text)
    return caught.value


def test_a_text_is_its_words_and_its_fields_in_order() -> None:
    assert parse("Hi {name|friend}, no. {external_id}") == (
        "Hi ",
        Field("name", "friend"),
        ", no. ",
        Field("external_id", ""),
    )
    assert parse("plain") == ("plain",)
    assert parse("") == ()
    assert parse("{name}{case_id}") == (Field("name", ""), Field("case_id", ""))


def test_a_field_may_be_written_as_phones_write_it() -> None:
    assert parse("{ Name | dear friend }") == (Field("name", "dear friend"),)
    assert parse("{name|he|she}") == (Field("name", "he|she"),)


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_missing_value_is_replaced_by_the_default(value: str | None) -> None:
    assert filled("Hi {name|friend}", name=value) == "Hi friend"
    assert filled("Hi {name}", name=value) == "Hi "
    assert filled("Hi {name|friend}") == "Hi friend"


def test_a_value_is_never_read_as_a_template() -> None:
    assert filled("Hi {name}", name="{external_id}", external_id="7") == "Hi {external_id}"
    assert filled("Hi {name}", name="{0.__class__}%s") == "Hi {0.__class__}%s"


@pytest.mark.parametrize(
    ("text", "field"), [("{nam}", "nam"), ("{phone|x}", "phone"), ("{name.upper}", "name.upper"), ("{0}", "0")]
)
def test_an_unknown_field_is_refused_with_the_known_ones(text: str, field: str) -> None:
    problem = refusal(text)
    assert problem.key == "field-unknown"
    assert problem.values == {"field": field, "known": "name, external_id, case_id"}


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("Hello {name", "Hello {name"),
        ("name}", "name}"),
        ("a {} b", "a {} b"),
        ("{{name}}", "{{name}}"),
        ("{name} and then some } more", "en some } more"),
        (":-}", ":-}"),
    ],
)
def test_a_stray_brace_is_refused_with_what_stands_near_it(text: str, near: str) -> None:
    problem = refusal(text)
    assert problem.key == "brace-stray"
    assert problem.values == {"near": near}


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="{}")), st.sampled_from(FIELDS), st.text(), st.text())
def test_what_is_no_field_is_sent_as_it_was_written(before: str, field: str, value: str, after: str) -> None:
    after = after.replace("{", "").replace("}", "")
    expected = value if value and not value.isspace() else ""
    assert filled(before + "{" + field + "}" + after, **{field: value}) == before + expected + after


@settings(max_examples=200, deadline=None)
@given(st.text("ab{}| name", max_size=20))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parts = parse(text)
    except Problem:
        return
    assert all(isinstance(part, Field) or not set(part) & set("{}") for part in parts)
