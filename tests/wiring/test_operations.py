"""Which REST operations there must be, and that each has a test that proves it."""

from __future__ import annotations

import pytest

from scripts.operations import PAGE, known_operations, name_of, page, proofs
from tests.called import Called, operation_of

REQUIRED: dict[str, tuple[str, ...]] = {
    "auth": (
        "POST /v1/auth/register",
        "POST /v1/auth/login",
        "POST /v1/auth/refresh",
        "POST /v1/auth/logout",
        "POST /2/oauth2/token",
        "POST /2/oauth2/revoke",
        "GET /.well-known/jwks.json",
    ),
    "users": (
        "GET /2/users/me",
        "GET /2/users/{id}",
        "GET /2/users",
        "GET /2/users/by/username/{username}",
        "GET /2/users/by",
        "GET /2/users/search",
        "PATCH /v1/users/me",
    ),
    "tweets": (
        "POST /2/tweets",
        "DELETE /2/tweets/{id}",
        "GET /2/tweets/{id}",
        "GET /2/tweets",
        "GET /v1/tweets/{id}/conversation",
    ),
    "timelines": (
        "GET /2/users/{id}/tweets",
        "GET /2/users/{id}/mentions",
        "GET /2/users/{id}/timelines/reverse_chronological",
    ),
    "engagement": (
        "POST /2/users/{id}/retweets",
        "DELETE /2/users/{id}/retweets/{tweet_id}",
        "GET /2/tweets/{id}/retweeted_by",
        "GET /2/tweets/{id}/liking_users",
        "GET /2/tweets/{id}/quote_tweets",
        "GET /2/tweets/{id}/retweets",
        "POST /2/users/{id}/likes",
        "DELETE /2/users/{id}/likes/{tweet_id}",
        "GET /2/users/{id}/liked_tweets",
        "GET /2/users/{id}/bookmarks",
        "POST /2/users/{id}/bookmarks",
        "DELETE /2/users/{id}/bookmarks/{tweet_id}",
    ),
    "relations": (
        "POST /2/users/{id}/following",
        "DELETE /2/users/{id}/following/{target_user_id}",
        "POST /2/users/{id}/blocking",
        "DELETE /2/users/{id}/blocking/{target_user_id}",
        "POST /2/users/{id}/muting",
        "DELETE /2/users/{id}/muting/{target_user_id}",
        "GET /v1/follow_requests",
        "POST /v1/follow_requests/{id}/accept",
        "POST /v1/follow_requests/{id}/decline",
    ),
    "people": (
        "GET /2/users/{id}/followers",
        "GET /2/users/{id}/following",
        "GET /2/users/{id}/blocking",
        "GET /2/users/{id}/muting",
    ),
    "lists": (
        "POST /2/lists",
        "GET /2/lists/{id}",
        "PUT /2/lists/{id}",
        "DELETE /2/lists/{id}",
        "GET /2/lists/{id}/tweets",
        "GET /2/lists/{id}/members",
        "POST /2/lists/{id}/members",
        "DELETE /2/lists/{id}/members/{target_user_id}",
        "GET /2/lists/{id}/followers",
        "GET /2/users/{id}/owned_lists",
        "GET /2/users/{id}/followed_lists",
        "POST /2/users/{id}/followed_lists",
        "DELETE /2/users/{id}/followed_lists/{list_id}",
        "GET /2/users/{id}/list_memberships",
        "GET /2/users/{id}/pinned_lists",
        "POST /2/users/{id}/pinned_lists",
        "DELETE /2/users/{id}/pinned_lists/{list_id}",
    ),
    "plain": (
        "POST /tweets",
        "GET /feed",
        "GET /timeline",
    ),
}
"""The operations that the product asks of these domains. Search, counts, trends, direct messages, media and the
filtered stream come with services of their own; so does `GET /search`."""


def test_every_operation_has_a_test_that_proves_it() -> None:
    proved = {name for proof in proofs() for name in proof.operations}
    missing = [name_of(one) for one in known_operations() if name_of(one) not in proved]
    assert not missing, f"mark the test of each with pytest.mark.proves (tests/README.md): {missing}"


def test_marks_name_operations_that_are_there() -> None:
    known = {name_of(one) for one in known_operations()}
    assert not [(proof.name, name) for proof in proofs() for name in proof.operations if name not in known]


def test_the_table_of_operations_is_fresh() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "run: .venv/bin/python scripts/operations.py"


@pytest.mark.parametrize("domain", REQUIRED)
def test_every_operation_that_is_asked_for_is_there(domain: str) -> None:
    known = {name_of(one) for one in known_operations()}
    assert {name for name in REQUIRED[domain] if name not in known} == set()


def test_a_call_is_told_from_another_by_its_path() -> None:
    assert operation_of("GET", "/2/users/me") == "GET /2/users/me"
    assert operation_of("GET", "/2/users/12") == "GET /2/users/{id}"
    assert operation_of("GET", "/2/users/by/username/a") == "GET /2/users/by/username/{username}"
    assert operation_of("DELETE", "/2/users/12") is None
    assert operation_of("GET", "/2/users/12/tweets/") is None


def test_only_good_answers_prove_an_operation() -> None:
    called = Called()
    called.note("GET", "http://127.0.0.1:1/2/users/5?user.fields=name", 404)
    called.note("GET", "http://127.0.0.1:1/2/tweets/5?ids=1", 200)
    assert called.missing(["GET /2/users/{id}", "GET /2/tweets/{id}"]) == ["GET /2/users/{id}"]
