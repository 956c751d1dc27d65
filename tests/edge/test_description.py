"""The document that describes the REST face, as the edge serves it."""

from __future__ import annotations

import httpx
import pytest

from cli.edge import EdgeConfig
from tests.edge.harness import Tokens, Toys, check_nothing_internal, check_problem

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATH = "/openapi.json"


async def test_anybody_reads_the_document_as_it_was_generated(
    client: httpx.AsyncClient, config: EdgeConfig, toys: Toys
) -> None:
    answer = await client.get(PATH)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == config.openapi.read_bytes()
    assert answer.headers["cache-control"] == "public, max-age=300"
    check_nothing_internal(answer.headers, "")
    assert not toys.calls


async def test_who_has_the_document_does_not_get_it_again(client: httpx.AsyncClient) -> None:
    tag = (await client.get(PATH)).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        answer = await client.get(PATH, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert (await client.get(PATH, headers={"if-none-match": '"other"'})).status_code == 200


async def test_the_document_takes_no_other_method(client: httpx.AsyncClient, tokens: Tokens) -> None:
    head = await client.head(PATH)
    assert (head.status_code, head.content) == (200, b"")
    answer = await client.post(PATH, json={}, headers=tokens.bearer())
    check_problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
