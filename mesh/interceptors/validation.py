"""Checks requests against the protovalidate rules in the contracts."""

from __future__ import annotations

import protovalidate
from google.protobuf.message import Message

from mesh.errors import InvalidArgument, Violation
from mesh.interceptors.base import Answer, Context, Next, Rpc


class Validation:
    """INVALID_ARGUMENT with a violation for each rule that was broken."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """See Interceptor.wrap. Rules that do not compile fail here, when the server is built."""
        validator = self._validator
        validator.collect_violations(rpc.request())

        async def handle(request: Message, context: Context) -> Answer:
            found = validator.collect_violations(request)
            if found:
                violations = [
                    Violation(
                        ".".join(element.field_name for element in item.proto.field.elements)
                        if item.proto.field
                        else "",
                        item.proto.message or item.proto.rule_id,
                    )
                    for item in found
                ]
                raise InvalidArgument("One or more parameters to your request was invalid.", violations=violations)
            return await following(request, context)

        return handle
