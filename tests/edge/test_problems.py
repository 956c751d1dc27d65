"""Every error is a problem, and its body agrees with its status line."""

from __future__ import annotations

import json

import grpc
import httpx
import pytest
from rookery.api.v2 import tweet_pb2
from rookery.tweet.v1 import tweet_service_pb2

from mesh import errors
from tests.edge.harness import Call, Context, Edge, Tokens, Toys, answer, check_nothing_internal, check_problem, failure

pytestmark = pytest.mark.asyncio(loop_scope="session")

GET_TWEET = "/rookery.tweet.v1.TweetService/GetTweet"
CREATE_TWEET = "/rookery.tweet.v1.TweetService/CreateTweet"
ERRORS = [
    errors.InvalidArgument("no", violations=[errors.Violation("text", "too long")]),
    errors.Unauthenticated("who"),
    errors.PermissionDenied("you may not"),
    errors.NotFound("gone"),
    errors.AlreadyExists("taken"),
    errors.FailedPrecondition("not now"),
    errors.ResourceExhausted("slow down"),
    errors.Unavailable("later"),
    errors.DeadlineExceeded("late"),
    errors.Internal("the incident is 1"),
]
SECRET = "rookery.tweet.v1 unix:/tmp/tweet.sock Traceback"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_services_problem_is_the_answer(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, error: errors.MeshError
) -> None:
    toys.answers[GET_TWEET] = failure(error.code, error.detail, error.metadata())
    response = await client.get("/2/tweets/1", headers=tokens.bearer())
    assert check_problem(response, error.status) == json.loads(error.problem())
    assert response.headers["content-length"] == str(len(error.problem()))
    assert ("www-authenticate" in response.headers) == (error.status == 401)
    if error.status == 503:
        return  # may be tried again only if no handler saw it; this one did
    assert len(toys.calls) == 1


async def test_an_answer_with_a_problem_keeps_its_other_headers(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    limits = {"x-rate-limit-limit": "15", "x-rate-limit-remaining": "0", "x-rate-limit-reset": "1795000000"}
    error = errors.ResourceExhausted("slow down")
    toys.answers[GET_TWEET] = failure(error.code, error.detail, error.metadata(limits))
    response = await client.get("/2/tweets/1", headers=tokens.bearer())
    check_problem(response, 429)
    assert {name: response.headers[name] for name in limits} == limits


async def test_the_documents_status_is_the_answers(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    """A status that gRPC has no code for; and the number is not looked for inside of a text."""
    problem = json.dumps(
        {
            "title": "Gone",
            "detail": 'it said "status":500, and "status": 501}',
            "type": "about:blank",
            "status": 410,
            "errors": [{"message": "gone"}],
        }
    )
    toys.answers[GET_TWEET] = failure(grpc.StatusCode.NOT_FOUND, "gone", [("x-problem-json", problem)])
    check_problem(await client.get("/2/tweets/1", headers=tokens.bearer()), 410)


async def test_the_longest_problem_arrives_whole(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    violations = [errors.Violation(f"field_{i}", "x" * 200) for i in range(100)]
    error = errors.InvalidArgument("d" * 600, violations=violations)
    assert len(error.problem()) > 3500
    toys.answers[GET_TWEET] = failure(error.code, error.detail[:100], error.metadata())
    document = check_problem(await client.get("/2/tweets/1", headers=tokens.bearer()), 400)
    assert document == json.loads(error.problem())


@pytest.mark.parametrize("initial", [(), (("x-rate-limit-limit", "15"),)], ids=["trailers-only", "after-headers"])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.CANCELLED, 503),
        (grpc.StatusCode.UNKNOWN, 500),
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.ALREADY_EXISTS, 409),
        (grpc.StatusCode.PERMISSION_DENIED, 403),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.FAILED_PRECONDITION, 400),
        (grpc.StatusCode.ABORTED, 409),
        (grpc.StatusCode.OUT_OF_RANGE, 400),
        (grpc.StatusCode.UNIMPLEMENTED, 501),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.DATA_LOSS, 500),
        (grpc.StatusCode.UNAUTHENTICATED, 401),
    ],
    ids=str,
)
async def test_a_status_without_a_problem_gets_one_that_tells_nothing(
    client: httpx.AsyncClient,
    toys: Toys,
    tokens: Tokens,
    code: grpc.StatusCode,
    status: int,
    initial: tuple[tuple[str, str], ...],
) -> None:
    toys.answers[GET_TWEET] = failure(code, SECRET, [("grpc-status-details-bin", b"\x08\x05")], initial=initial)
    check_problem(await client.get("/2/tweets/1", headers=tokens.bearer()), status)


@pytest.mark.parametrize("raw", [b"\x0a\x7fabc", b"\x0a\x03\x0a\x7fab", b"\x0f"])
async def test_an_answer_that_is_no_message_is_an_error(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, raw: bytes
) -> None:
    async def garbage(call: Call, context: Context) -> bytes:
        return raw

    toys.answers[GET_TWEET] = garbage
    response = await client.get("/2/tweets/1", headers=tokens.bearer())
    assert response.status_code >= 500, (response.headers, response.text)
    check_problem(response, response.status_code)


async def test_a_handler_that_dies_is_an_error(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    async def die(call: Call, context: Context) -> bytes:
        raise RuntimeError(SECRET)

    toys.answers[GET_TWEET] = die
    check_problem(await client.get("/2/tweets/1", headers=tokens.bearer()), 500)


@pytest.mark.parametrize("status", ["201", "202", "302", "303"])
async def test_a_service_chooses_the_status_of_its_success(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, status: str
) -> None:
    message = tweet_service_pb2.CreateTweetResponse(data=tweet_pb2.Tweet(id=9007199254740993, text="hello"))
    toys.answers[CREATE_TWEET] = answer(message, initial=[("x-http-status", status)])
    response = await client.post("/2/tweets", json={"text": "hello"}, headers=tokens.bearer())
    assert response.status_code == int(status)
    assert response.json()["data"]["id"] == "9007199254740993"
    assert response.headers["content-type"] == "application/json"
    check_nothing_internal(response.headers, "")


@pytest.mark.parametrize("status", ["500", "301", "99", "2011", "x", "200 OK"])
async def test_a_success_is_not_turned_into_anything_else(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, status: str
) -> None:
    toys.answers[CREATE_TWEET] = answer(tweet_service_pb2.CreateTweetResponse(), initial=[("x-http-status", status)])
    response = await client.post("/2/tweets", json={"text": "hello"}, headers=tokens.bearer())
    assert response.status_code == 200
    check_nothing_internal(response.headers, response.text)


async def test_a_successs_headers_name_nothing_internal(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    response = await client.get("/2/tweets/1", headers=tokens.bearer())
    assert response.status_code == 200
    assert response.headers["server"] == "rookery"
    check_nothing_internal(response.headers, response.text)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"text": nope', "Unexpected token"),
        (b'{"text": "x"', ""),
        (b'{"text": "x"}}', ""),
        (b"[]", ""),
        (b'"text"', ""),
        (b"text=hello", ""),
        (b"\x00\x01\x02", ""),
        (b'{"text": "\xff\xfe"}', ""),
        (b'{"text": {"a": 1}}', "text"),
        (b'{"text": ["a"]}', "list"),
        (b'{"user_id": "seven"}', "user_id"),
        (b'{"user_id": 1e300}', "user_id"),
        (b'{"possibly_sensitive": "perhaps"}', "possibly_sensitive"),
        (b'{"poll": "which"}', 'poll: invalid value "which"'),
        (b'{"reply": 7}', "reply"),
    ],
    ids=str,
)
async def test_a_body_that_cannot_be_read_is_400_and_says_why(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, body: bytes, says: str
) -> None:
    headers = {**tokens.bearer(), "content-type": "application/json"}
    document = check_problem(await client.post("/2/tweets", content=body, headers=headers), 400)
    assert says in str(document["detail"])
    assert not toys.calls


async def test_a_long_value_is_not_repeated_in_the_problem(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    body = {"user_id": "s" * 500_000}
    response = await client.post("/2/tweets", json=body, headers=tokens.bearer())
    check_problem(response, 400)
    assert len(response.content) < 4096


@pytest.mark.parametrize("query", ["max_results=many", "max_results=99999999999", "since_id=x"])
async def test_a_parameter_of_a_wrong_type_is_400(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, query: str
) -> None:
    check_problem(await client.get(f"/2/users/7/tweets?{query}", headers=tokens.bearer()), 400)
    assert not toys.calls


async def test_an_unknown_parameter_is_ignored(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    query = {"tweet.fields": "id,text", "nonsense": "1", "place.fields": "x", "user.nope": "y"}
    response = await client.get("/2/tweets/1", params=query, headers=tokens.bearer())
    assert response.status_code == 200, response.text
    request = tweet_service_pb2.GetTweetRequest.FromString(toys.calls[0].request)
    assert request.tweet.fields == "id,text"
    assert request.id == 1


async def test_a_problem_from_envoy_and_one_from_a_service_look_alike(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    toys.answers[GET_TWEET] = failure(grpc.StatusCode.NOT_FOUND)
    of_service = check_problem(await client.get("/2/tweets/1", headers=tokens.bearer()), 404)
    of_envoy = check_problem(await client.get("/nope", headers=tokens.bearer()), 404)
    assert of_service == of_envoy


async def test_the_access_log_has_the_request_but_neither_token_nor_query(
    client: httpx.AsyncClient, edge: Edge, toys: Toys, tokens: Tokens
) -> None:
    token = tokens.make("4711")
    headers = {"authorization": f"Bearer {token}", "user-agent": "log-test/1"}
    response = await client.get("/2/tweets/5?tweet.fields=secret-query", headers=headers)
    request_id = response.headers["x-request-id"]
    text = await edge.logged(request_id)
    (entry,) = [json.loads(line) for line in text.splitlines() if request_id in line]
    expected = {
        "method": "GET",
        "path": "/2/tweets/5",
        "protocol": "HTTP/1.1",
        "status": 200,
        "flags": "-",
        "upstream": "tweet",
        "user_agent": "log-test/1",
        "subject": "4711",
        "bytes_received": 0,
        "bytes_sent": 2,
    }
    assert {key: entry[key] for key in expected} == expected
    assert entry["time"].endswith("Z") and entry["duration_ms"] >= 0
    assert "secret-query" not in text
    assert token not in text and token.split(".")[2] not in text and "Bearer" not in text
