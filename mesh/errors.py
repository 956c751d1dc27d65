"""One hierarchy of errors: what a handler raises, and what a caller sees of it.

Each class fixes a gRPC code, a machine-readable reason (google.rpc.ErrorInfo), an HTTP status and a problem type
(RFC 9457). `mesh.interceptors.errors` turns them into a status; `from_rpc_error` turns a status back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "rookery"
PROBLEM_KEY = "x-problem-json"
DETAILS_KEY = "grpc-status-details-bin"
# gRPC refuses metadata from 8 KiB on, at random up to 16 KiB (grpc.max_metadata_size), and puts an error of its own in
# place of the answer's: the problem, the status and the message must stay below that together.
_STATUS_BYTES = 2560
_MAX_VIOLATIONS = 20
_PROBLEM_BYTES = 4096  # response headers are bounded by the edge (60 KiB in all); one problem stays far below


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that one member of a request broke."""

    field: str
    """Path of the member, such as `options.limit`; empty for the request as a whole."""
    message: str
    """A sentence for people."""


class MeshError(Exception):
    """Base of everything a handler raises on purpose.

    Args:
        detail: one sentence about this occurrence; it reaches the caller, so nothing internal belongs in it.
        violations: what was wrong with the request, member by member.
        reason: overrides the class's reason when a machine must tell two causes apart (UPPER_SNAKE_CASE).
        headers: of the answer at the edge, lower case, such as `retry-after`.
        members: of the problem, besides those that every problem has; short.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: str = "INTERNAL"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Error"
    type: ClassVar[str] = "about:blank"
    headers: Mapping[str, str] = MappingProxyType({})
    members: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        detail: str,
        *,
        violations: Sequence[Violation] = (),
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.violations = tuple(violations)
        self.headers = dict(headers or {})
        if reason is not None:
            self.reason = reason
        if members:
            self.members = members

    def problem(self) -> str:
        """The problem document as ASCII JSON, at most 4 KiB: violations are left out, then the detail is cut."""
        violations = list(self.violations)
        detail = self.detail[:512]
        while True:
            errors: list[dict[str, object]] = [
                {"message": f"{v.field}: {v.message}" if v.field else v.message, "parameters": {v.field: []}}
                if v.field
                else {"message": v.message}
                for v in violations
            ] or [{"message": detail}]
            document = {"title": self.title, "detail": detail, "type": self.type, "status": self.status}
            text = json.dumps({**document, "errors": errors, **self.members}, separators=(",", ":"))
            if len(text) <= _PROBLEM_BYTES:
                return text
            if violations:
                violations.pop()
            else:  # JSON writes one code point with up to 12 characters
                detail = detail[: len(detail) // 2]

    def metadata(self, extra: Mapping[str, str] | None = None) -> tuple[tuple[str, str | bytes], ...]:
        """Trailing metadata: the problem and headers for the edge, google.rpc.Status for callers in the mesh."""
        violations = list(self.violations[:_MAX_VIOLATIONS])
        while True:
            status = self._status(violations)
            if status.ByteSize() <= _STATUS_BYTES or not violations:
                break
            violations.pop()
        pairs: list[tuple[str, str | bytes]] = [
            (DETAILS_KEY, status.SerializeToString()),
            (PROBLEM_KEY, self.problem()),
        ]
        pairs.extend({**self.headers, **(extra or {})}.items())
        return tuple(pairs)

    def _status(self, violations: Sequence[Violation]) -> status_pb2.Status:
        details: list[Message] = [error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)]
        if violations:
            details.append(_bad_request(violations))
        status = status_pb2.Status(code=self.code.value[0], message=self.detail[:512])
        for detail in details:
            status.details.add().Pack(detail)
        return status


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.message) for v in violations
        ]
    )


class InvalidArgument(MeshError):
    """The request can never work as it is."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"
    status = 400
    title = "Invalid Request"
    type = "https://api.x.com/2/problems/invalid-request"


class Unauthenticated(MeshError):
    """Nobody, or nobody that can be believed, asks."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"
    status = 401
    title = "Unauthorized"


class PermissionDenied(MeshError):
    """The viewer may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"
    status = 403
    title = "Forbidden"
    type = "https://api.x.com/2/problems/not-authorized-for-resource"


class NotFound(MeshError):
    """What the request names is not there, or not for this viewer to know of."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "NOT_FOUND"
    status = 404
    title = "Not Found Error"
    type = "https://api.x.com/2/problems/resource-not-found"


class AlreadyExists(MeshError):
    """Something unique is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"
    status = 409
    title = "Conflict"


class FailedPrecondition(MeshError):
    """The request is well formed, but the state of things forbids it."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"
    status = 400
    title = "Invalid Request"
    type = "https://api.x.com/2/problems/invalid-request"


class ResourceExhausted(MeshError):
    """The viewer used up a limit of their own; never a sign of an ill service."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"
    status = 429
    title = "Too Many Requests"


class Unavailable(MeshError):
    """This service, or one that it cannot do without, cannot answer now; trying again later may work."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"
    status = 503
    title = "Service Unavailable"


class DeadlineExceeded(MeshError):
    """There was not enough time."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"
    status = 504
    title = "Gateway Timeout"


class Unimplemented(MeshError):
    """The request is well formed, and this version does not do what it asks for."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNIMPLEMENTED"
    status = 501
    title = "Not Implemented"


class Internal(MeshError):
    """A defect. The detail carries an id that is also in the log, and nothing else."""


_BY_CODE: dict[grpc.StatusCode, type[MeshError]] = {
    cls.code: cls
    for cls in (
        InvalidArgument,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Unimplemented,
        Internal,
    )
}

STATUSES: Mapping[str, int] = {code.name: error.status for code, error in _BY_CODE.items()}
"""HTTP status by the name of a gRPC code."""


def from_rpc_error(error: grpc.aio.AioRpcError) -> MeshError:
    """The error that another service raised, so that a handler can pass it on by not catching it.

    A code outside the hierarchy (CANCELLED, UNKNOWN, ...) is Unavailable: this call gave no answer, and whether the
    next one does is open.
    """
    code = error.code()
    cls = _BY_CODE.get(code, Unavailable)
    if cls is Unavailable:
        return Unavailable("A service that this request needs is not available.")
    if cls is Internal:
        return Internal("A service that this request needs failed.")
    reason = None
    violations: list[Violation] = []
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            for item in status_pb2.Status.FromString(value).details:
                info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                if item.Unpack(info):
                    reason = info.reason
                elif item.Unpack(bad):
                    violations.extend(Violation(v.field, v.description) for v in bad.field_violations)
    return cls(error.details() or cls.title, violations=violations, reason=reason)
