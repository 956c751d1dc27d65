"""Rules of lists of people, and which of their members an answer has."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rookery.api.v2.envelope_pb2 import Fields

from mesh.errors import InvalidArgument
from services.graph.list_domain import PeopleList, clean, list_shows, no_list, resource
from services.graph.listings import lists_plan

OWNER, READER = 1, 2
LIST = PeopleList(382505541735284736, OWNER, "birds", "", False, 3, 0)


@dataclass
class Chosen:
    """A request that chooses members."""

    list: Fields = field(default_factory=Fields)
    user: Fields = field(default_factory=Fields)
    expansions: str = ""


@pytest.mark.parametrize("owner_seen", [True, False])
@pytest.mark.parametrize("private", [True, False])
def test_a_list_shows_as_its_owners_tweets_do_and_a_private_one_to_its_owner(owner_seen: bool, private: bool) -> None:
    listed = replace(LIST, private=private)
    assert list_shows(OWNER, listed, owner_seen=owner_seen)
    assert list_shows(READER, listed, owner_seen=owner_seen) is (owner_seen and not private)


def test_a_list_that_is_not_there_and_one_that_does_not_show_have_one_error() -> None:
    assert no_list(7).problem() == no_list(7).problem()
    assert "[7]" in no_list(7).detail


@given(st.text(max_size=40))
def test_a_clean_name_is_one_line_without_control_characters(text: str) -> None:
    try:
        name = clean("name", text)
    except InvalidArgument:
        return
    assert name and name == name.strip()
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name)


def test_a_description_may_be_empty_and_have_lines() -> None:
    assert clean("description", " \n ") == ""
    assert clean("description", "one\ntwo ") == "one\ntwo"
    for wrong in ("a\0b", "a\x7fb", "a\u0085b"):
        with pytest.raises(InvalidArgument):
            clean("description", wrong)


def test_a_resource_has_every_member_and_prints_zeros() -> None:
    made = resource(LIST)
    assert {one.name for one, _ in made.ListFields()} == {one.name for one in made.DESCRIPTOR.fields}
    assert (made.follower_count, made.private, made.description) == (0, False, "")


def test_a_plan_has_the_default_members_and_those_asked_for() -> None:
    assert lists_plan(Chosen()).members == {"id", "name"}
    assert lists_plan(Chosen(Fields(fields=" private, member_count,"))).members == {
        "id",
        "name",
        "private",
        "member_count",
    }
    expanded = lists_plan(Chosen(expansions="owner_id"))
    assert expanded.owners and expanded.members == {"id", "name", "owner_id"}


@pytest.mark.parametrize(
    "wrong",
    [
        Chosen(Fields(fields="members")),
        Chosen(Fields(fields="id," * 400)),
        Chosen(user=Fields(fields="password")),
        Chosen(expansions="author_id"),
    ],
)
def test_a_name_that_lists_do_not_have_is_refused(wrong: Chosen) -> None:
    with pytest.raises(InvalidArgument):
        lists_plan(wrong)
