"""Bodies of the OAuth endpoints: forms, as RFC 6749 has them, and JSON, as clients of the X API send them too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from google.api.httpbody_pb2 import HttpBody

from mesh.errors import InvalidArgument

_LONGEST = 16_384
_MOST = 32
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"


def oauth_error(error: str, description: str) -> InvalidArgument:
    """An error as RFC 6749, 5.2, has it, inside of a problem."""
    return InvalidArgument(
        description, reason=error.upper(), members={"error": error, "error_description": description}
    )


def parse(body: HttpBody) -> Mapping[str, str]:
    """The members of a form or of a JSON object of texts.

    Raises InvalidArgument (`invalid_request`) for anything else, and for a member that is there twice (RFC 6749, 3.2).
    """
    kind = body.content_type.partition(";")[0].strip().lower()
    if len(body.data) > _LONGEST:
        raise oauth_error("invalid_request", "The body is too long.")
    try:
        text = body.data.decode()
        if kind == _JSON:
            pairs = json.loads(text or "{}", object_pairs_hook=list)
        elif kind == _FORM or not text:
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=_MOST)
        else:
            raise oauth_error("invalid_request", f"The body must be {_FORM} or {_JSON}.")
        found: dict[str, str] = {}
        for name, value in pairs:
            if name in found or not isinstance(value, str) or "\0" in value:
                raise oauth_error("invalid_request", "Each parameter must be there once, as a text.")
            found[name] = value
    except (ValueError, TypeError, RecursionError):
        raise oauth_error("invalid_request", "The body cannot be read.") from None
    return found
