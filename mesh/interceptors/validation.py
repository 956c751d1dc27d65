"""Checks requests against the protovalidate rules in the contracts, and one rule for all texts: none has a NUL."""

from __future__ import annotations

from collections.abc import Iterator

import protovalidate
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mesh.errors import InvalidArgument, Violation
from mesh.interceptors.base import Answer, Context, Next, Rpc


class Validation:
    """INVALID_ARGUMENT with a violation for each rule that was broken.

    PostgreSQL keeps no NUL in a text and other stores do. It is refused for all of them, so that a request means the
    same on each, and what one store holds can be moved to another.
    """

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
            else:
                # Hardly any request has such a byte, and looking at all of them at once costs under 1 us.
                violations = list(_nuls(request)) if b"\0" in request.SerializeToString() else []
            if violations:
                raise InvalidArgument("One or more parameters to your request was invalid.", violations=violations)
            return await following(request, context)

        return handle


def _nuls(message: Message, path: str = "") -> Iterator[Violation]:
    """A violation for each text with a NUL, wherever in a message it is."""
    for field, value in message.ListFields():
        name = path + field.name
        if field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            continue
        for each in value if field.is_repeated else (value,):
            if isinstance(each, Message):
                yield from _nuls(each, f"{name}.")
            elif "\0" in each:
                yield Violation(name, "must have no NUL")
