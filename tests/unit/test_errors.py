"""What a caller sees of an error, and what of it survives the way back through another service."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from mesh import errors
from mesh.errors import (
    DETAILS_KEY,
    PROBLEM_KEY,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    MeshError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Violation,
    from_rpc_error,
)

CLASSES = sorted(
    (cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, MeshError) and cls != MeshError),
    key=lambda cls: cls.__name__,
)


def problem_of(error: MeshError) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(error.problem())
    return document


def as_received(error: MeshError) -> grpc.aio.AioRpcError:
    """As gRPC hands a caller the error that a handler of another service raised."""
    return grpc.aio.AioRpcError(
        error.code, grpc.aio.Metadata(), grpc.aio.Metadata(*error.metadata()), details=error.detail
    )


def test_every_code_belongs_to_one_class_and_every_class_has_its_http_status() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(codes) == len(set(codes)) == 11
    # google.rpc.Code's own table of HTTP statuses, but for FAILED_PRECONDITION, which is 400 there too.
    assert {cls.code.name: cls.status for cls in CLASSES} == {
        "INVALID_ARGUMENT": 400,
        "FAILED_PRECONDITION": 400,
        "UNAUTHENTICATED": 401,
        "PERMISSION_DENIED": 403,
        "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409,
        "RESOURCE_EXHAUSTED": 429,
        "INTERNAL": 500,
        "UNIMPLEMENTED": 501,
        "UNAVAILABLE": 503,
        "DEADLINE_EXCEEDED": 504,
    }


def test_a_problem_names_each_member_that_was_wrong() -> None:
    error = InvalidArgument("Bad.", violations=[Violation("tweet.fields", "is unknown"), Violation("", "is odd")])
    assert problem_of(error) == {
        "title": "Invalid Request",
        "detail": "Bad.",
        "type": "https://api.x.com/2/problems/invalid-request",
        "status": 400,
        "errors": [
            {"message": "tweet.fields: is unknown", "parameters": {"tweet.fields": []}},
            {"message": "is odd"},
        ],
    }


def test_a_problem_without_violations_says_its_detail_in_errors_too() -> None:
    assert problem_of(NotFound("Gone."))["errors"] == [{"message": "Gone."}]


def test_a_problem_is_ascii_and_ends_at_4_kib_whatever_it_is_made_of() -> None:
    many = InvalidArgument("Bad.", violations=[Violation(f"field{n}", "é" * 100) for n in range(100)])
    text = many.problem()
    assert text.isascii()
    assert len(text) <= 4096
    kept = problem_of(many)["errors"]
    assert 0 < len(kept) < 100
    assert kept[0]["parameters"] == {"field0": []}
    # One that is too long alone gives way to the detail; and the detail itself may be all astral code points,
    # each of which JSON writes as 12 ASCII characters.
    assert problem_of(InvalidArgument("Bad.", violations=[Violation("f", "x" * 5000)]))["errors"] == [
        {"message": "Bad."}
    ]
    assert len(InvalidArgument("\U0001f600" * 3000).problem()) <= 4096
    assert problem_of(InvalidArgument("\U0001f600" * 3000))["detail"].startswith("\U0001f600")


def test_a_reason_can_be_told_apart_without_changing_the_class() -> None:
    assert PermissionDenied("No.", reason="REPLIES_LIMITED").reason == "REPLIES_LIMITED"
    assert PermissionDenied("No.").reason == "PERMISSION_DENIED"


def test_metadata_carries_the_problem_and_a_status_with_error_info() -> None:
    error = InvalidArgument("Bad.", violations=[Violation("id", "is none")], reason="BAD_ID")
    pairs = dict(error.metadata({"retry-after": "3"}))
    assert pairs["retry-after"] == "3"
    assert pairs[PROBLEM_KEY] == error.problem()
    packed = pairs[DETAILS_KEY]
    assert isinstance(packed, bytes)
    status = status_pb2.Status.FromString(packed)
    assert (status.code, status.message) == (3, "Bad.")
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.reason, info.domain) == ("BAD_ID", "rookery")
    assert [(v.field, v.description) for v in bad.field_violations] == [("id", "is none")]


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls not in (Internal, Unavailable)])
def test_an_error_survives_the_way_through_another_service(cls: type[MeshError]) -> None:
    sent = cls("What happened.", violations=[Violation("id", "is none")], reason="SPECIAL")
    got = from_rpc_error(as_received(sent))
    assert type(got) is cls
    assert (got.detail, got.reason, got.violations) == (sent.detail, sent.reason, sent.violations)


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS])
def test_a_code_outside_the_hierarchy_is_unavailable_and_tells_nothing_of_the_neighbour(code: grpc.StatusCode) -> None:
    got = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="at 10.0.0.7"))
    assert type(got) is Unavailable
    assert "10.0.0.7" not in got.problem()


@pytest.mark.parametrize("cls", [Internal, Unavailable])
def test_what_a_neighbour_says_of_its_own_state_is_not_passed_on(cls: type[MeshError]) -> None:
    got = from_rpc_error(as_received(cls("connection to /secret/path failed")))
    assert type(got) is cls
    assert "/secret/path" not in repr(got.metadata())


def test_an_error_without_details_is_read_by_its_code() -> None:
    bare = grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata())
    got = from_rpc_error(bare)
    assert (type(got), got.detail, got.violations) == (ResourceExhausted, "Too Many Requests", ())
    late = grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata())
    assert type(from_rpc_error(late)) is DeadlineExceeded
