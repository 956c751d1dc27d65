"""Elasticsearch as it is built here: it indexes, finds, and keeps what it said it had."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from scripts.engines.control import Control
from scripts.engines.elasticsearch import Elasticsearch

ANALYSIS = {
    "tokenizer": {"lines": {"type": "pattern", "pattern": "\n"}},
    "filter": {
        "beginnings": {"type": "edge_ngram", "min_gram": 2, "max_gram": 5},
        "tags": {"type": "word_delimiter_graph", "type_table": ["# => ALPHA", "@ => ALPHA"], "catenate_all": True},
        "without_sign": {"type": "pattern_capture", "preserve_original": True, "patterns": ["#(\\w+)"]},
    },
    "analyzer": {
        "names": {"tokenizer": "whitespace", "filter": ["lowercase", "asciifolding", "beginnings"]},
        "folded": {"tokenizer": "whitespace", "filter": ["lowercase", "asciifolding"]},
        "texts": {"tokenizer": "whitespace", "filter": ["lowercase", "tags", "without_sign"]},
        "lines": {"tokenizer": "lines"},
    },
}
MAPPINGS = {
    "properties": {
        "name": {"type": "text", "analyzer": "names", "search_analyzer": "folded"},
        "text": {"type": "text", "analyzer": "texts"},
        "at": {"type": "long"},
    }
}


@pytest.fixture(scope="module")
def server(engine: Callable[[str], Control]) -> Control:
    """A server that runs."""
    return engine("elasticsearch")


@pytest.fixture
async def http(server: Control) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    address = Elasticsearch().address(server.place())
    async with httpx.AsyncClient(base_url=address, timeout=30.0, trust_env=False) as client:
        yield client


@pytest.fixture
async def index(http: httpx.AsyncClient) -> AsyncIterator[str]:
    """An index of the test's own."""
    name = f"test-{uuid.uuid4().hex}"
    made = await http.put(
        f"/{name}", json={"settings": {"number_of_replicas": 0, "analysis": ANALYSIS}, "mappings": MAPPINGS}
    )
    assert made.status_code == 200, made.text
    yield name
    assert (await http.delete(f"/{name}")).status_code == 200


async def fill(http: httpx.AsyncClient, index: str, documents: dict[str, dict[str, object]]) -> None:
    """Indexes them in one request, and makes them findable."""
    lines = [line for key, document in documents.items() for line in ({"index": {"_id": key}}, document)]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    answer = await http.post(
        f"/{index}/_bulk?refresh=true", content=body, headers={"content-type": "application/x-ndjson"}
    )
    assert answer.status_code == 200 and not answer.json()["errors"], answer.text


async def found(http: httpx.AsyncClient, index: str, query: dict[str, object]) -> list[str]:
    """The ids that a query finds, the latest first."""
    answer = await http.post(f"/{index}/_search", json={"query": query, "sort": [{"at": "desc"}], "size": 100})
    assert answer.status_code == 200, answer.text
    return [hit["_id"] for hit in answer.json()["hits"]["hits"]]


async def test_it_says_what_clients_ask_for(http: httpx.AsyncClient) -> None:
    told = await http.get("/")
    assert told.json()["version"]["number"].startswith("8.")
    assert told.json()["tagline"] == "You Know, for Search"
    assert told.headers["x-elastic-product"] == "Elasticsearch"
    assert (await http.head("/")).status_code == 200


async def test_what_is_indexed_is_found_by_words_tags_and_beginnings(http: httpx.AsyncClient, index: str) -> None:
    await fill(
        http,
        index,
        {
            "1": {"name": "Zoë Brown", "text": "Good morning #Rookery", "at": 1},
            "2": {"name": "Bob", "text": "rookery is a word here", "at": 2},
            "3": {"name": "Carol", "text": "thanks @bob", "at": 3},
        },
    )
    assert await found(http, index, {"match": {"name": "zoe"}}) == ["1"]
    assert await found(http, index, {"match": {"name": "bro"}}) == ["1"]
    assert await found(http, index, {"match": {"text": "#rookery"}}) == ["2", "1"]
    assert await found(http, index, {"term": {"text": "#rookery"}}) == ["1"]
    assert await found(http, index, {"term": {"text": "@bob"}}) == ["3"]
    both = {"bool": {"must": [{"match": {"text": "rookery"}}], "filter": [{"range": {"at": {"gt": 1}}}]}}
    assert await found(http, index, both) == ["2"]


async def test_an_older_version_of_a_document_does_not_replace_a_newer_one(http: httpx.AsyncClient, index: str) -> None:
    async def write(version: int, text: str) -> int:
        query = {"version": version, "version_type": "external"}
        return (await http.put(f"/{index}/_doc/1", params=query, json={"text": text, "at": version})).status_code

    assert await write(5, "newer") == 201
    assert await write(4, "older") == 409
    assert (await http.get(f"/{index}/_doc/1")).json()["_source"]["text"] == "newer"


async def test_what_was_accepted_is_there_after_a_kill(http: httpx.AsyncClient, index: str, server: Control) -> None:
    accepted = [f"{number}" for number in range(50)]
    for key in accepted:
        assert (await http.put(f"/{index}/_doc/{key}", json={"text": "kept", "at": int(key)})).status_code == 201
    await asyncio.to_thread(server.kill, "elasticsearch-1")
    await asyncio.to_thread(server.up)
    assert (await http.post(f"/{index}/_refresh")).status_code == 200
    assert await found(http, index, {"match": {"text": "kept"}}) == accepted[::-1]
